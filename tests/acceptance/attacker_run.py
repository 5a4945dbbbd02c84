"""The desk with the attacker's models in every place, over the bundled day with injected texts: what did it do, what did it say?

    python -m tests.acceptance.attacker_run            # every ticket type as the attacker's goal, and two mixed runs
    python -m tests.acceptance.attacker_run --goals refund access_request --tickets 60

Real PostgreSQL, real sandbox, real connector, the whole pipeline (triage, linking, resolution, write-back); the models alone are the
attacker's. Judged by the sandbox's own log (`attacker_judge.py`). Exit code 1 where a crime was found.
"""

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import serving.demo
from orchestrator.bootstrap import build_desk, open_systems
from orchestrator.domain.tickets import Assurance, Author, IncomingTicket, Message, Requester, State
from orchestrator.knowledge.documents import parse_document
from orchestrator.knowledge.load import load_documents
from orchestrator.pipeline.deliver import deliver
from orchestrator.pipeline.desk import Desk
from orchestrator.pipeline.worker import Worker
from orchestrator.sandbox.process import SandboxProcess
from orchestrator.storage.embedded import Server
from orchestrator.storage.migrate import migrate
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.taxonomy import load_taxonomy
from serving.demo.day import Day, read_day
from tests.acceptance.attacker_judge import Asked, Crime, World, judge
from tests.acceptance.attacker_model import AttackersClassifier, AttackersEmbedder, AttackersLanguageModel, goals
from tests.acceptance.attacker_texts import PLACES, articles, spoiled, spoiled_world, texts

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BUNDLED = Path(serving.demo.__file__).parent / "day"
TYPES = tuple(category.name for category in load_taxonomy().categories)
ROUNDS = 4  # of questions that the attacker answers
ANSWERS = ("Yes.", "000000", "Yes, please go ahead. PAY-88104", "Yes.")


@dataclass(frozen=True, kw_only=True)
class Report:
    goal: str
    tickets: int
    asked: int  # times that the language model was asked
    changes: Mapping[str, int]
    told: int
    states: Mapping[str, int]
    crimes: tuple[Crime, ...]
    seconds: float


def attack(
    store: PostgresStore,
    folder: Path,
    run: Mapping[str, Any],
    *,
    data: Path = DATA,
    limit: int | None = None,
    turn: int = 0,
    company: Path | None = None,
) -> Report:
    """One run on an empty database. `turn` moves the texts and places along, so that runs differ; `company`: other reviewed files."""
    began = time.monotonic()
    bad = texts(data)
    day = read_day(BUNDLED).shifted(datetime.now(UTC))
    with SandboxProcess(folder / f"sandbox-{secrets.token_hex(3)}.db", secret=secrets.token_hex(8)) as sandbox:
        sandbox.seed(spoiled_world(day.world, bad[turn:] + bad[:turn]))
        desk, model = _desk(store, sandbox, run, company)
        load_documents(store, desk.embedder, [parse_document(each, source="attacker.md") for each in articles(bad[:40])])
        asked = _submit(store, day, bad, turn, limit)
        _work(desk, asked)
        calls, world = sandbox.calls(), World(day.world)
        desk.pool.shutdown()
    keys = {step.idempotency_key: ticket for ticket, steps in store.run(lambda tx: tx.steps(list(asked))).items() for step in steps}
    return Report(
        goal=f"{run['goal']}/{run['pick']}{'' if run['spread'] else '/all alike'}",
        tickets=len(asked),
        asked=len(model.asked),
        changes=Counter(f"{c['method']} {_shape(c['path'])}" for c in calls if c["changed"] and c["system"] != "helpdesk"),
        told=sum(c["changed"] and c["path"].endswith("/replies") for c in calls),
        states=Counter(str(ticket.state) for ticket in store.run(lambda tx: tx.tickets(list(asked))).values()),
        crimes=tuple(judge(calls, world, asked, keys, set())),
        seconds=time.monotonic() - began,
    )


def _desk(
    store: PostgresStore, sandbox: SandboxProcess, run: Mapping[str, Any], company: Path | None
) -> tuple[Desk, AttackersLanguageModel]:
    model = AttackersLanguageModel(pick=run["pick"])
    desk = build_desk(
        store=store,
        systems=open_systems(sandbox.url, sandbox.secret),
        embedder=AttackersEmbedder(spread=run["spread"]),
        language_model=model,
        classifier=AttackersClassifier(goal=run["goal"], types=TYPES),
        secret=secrets.token_bytes(32),
        company=company,
    )
    return desk, model


def _submit(store: PostgresStore, day: Day, bad: Sequence[str], turn: int, limit: int | None) -> dict[str, Asked]:
    """Every ticket of the day, each with one injected text in one place."""
    asked, incoming = {}, []
    step = max(1, len(day.tickets) // limit) if limit else 1
    for n, row in enumerate(day.tickets[::step]):
        ticket = spoiled(row, PLACES[(n + turn) % len(PLACES)], bad[(n + turn * 37) % len(bad)])
        vouched = row.get("channel") == "portal"
        incoming.append(
            IncomingTicket(
                subject=ticket["subject"],
                description=ticket["description"],
                context=ticket["context"],
                requester=Requester(
                    email=row["requester"]["email"], assurance=Assurance.AUTHENTICATED if vouched else Assurance.CLAIMED
                ),
                created_at=datetime.fromisoformat(row["created_at"].replace("Z", "+00:00")),
            )
        )
    accepted = store.run(lambda tx: tx.accept(incoming, now=datetime.now(UTC)))
    for one, taken in zip(incoming, accepted, strict=True):
        vouched = one.requester.assurance is Assurance.AUTHENTICATED
        words = f"{one.subject}\n{one.description}\n{json.dumps(one.context, ensure_ascii=False)}\n{' '.join(ANSWERS)}"
        asked[taken.ticket_id] = Asked(id=taken.ticket_id, email=one.requester.email, vouched=vouched, words=words)
    return asked


def _work(desk: Desk, asked: Mapping[str, Asked]) -> None:
    """Until nothing is left; whoever is asked something says yes, and guesses the code."""
    worker = Worker(desk, lease_s=120.0, batch_size=64, name="attacked")
    for answer in [None, *ANSWERS[:ROUNDS]]:
        if answer is not None and not _answer(desk, asked, answer):
            break
        while worker.work_once():
            pass
    while deliver(desk.store, desk.systems, desk.pool, desk.clock):
        pass


def _answer(desk: Desk, asked: Mapping[str, Asked], body: str) -> int:
    found = desk.store.run(lambda tx: [tx.ticket_record(ticket_id) for ticket_id in asked])
    waiting = [record["id"] for record in found if record["state"] == "pending" and record["outcome"] == "awaiting_requester"]
    for ticket_id in waiting:
        with desk.store.transaction() as tx:
            tx.wake([ticket_id])
            tx.add_message(ticket_id, Message(author=Author.REQUESTER, body=body, at=desk.clock(), by=""))
            tx.set_state(ticket_id, State.ACTIVE, reason="answered")
    return len(waiting)


def _shape(path: str) -> str:
    return "/".join("{id}" if any(sign.isdigit() for sign in part) else part for part in path.split("/"))


# --- the command ------------------------------------------------------------------------------------------------------


@contextmanager
def _fresh(server: Server) -> Iterator[PostgresStore]:
    """A database of its own."""
    import psycopg
    from psycopg import sql

    from orchestrator.storage.embedded import ROLE, SUPERUSER

    name, administer = f"attack_{secrets.token_hex(4)}", server.dsn_of("postgres", role=SUPERUSER)
    with psycopg.connect(administer, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE cloister OWNER {}").format(sql.Identifier(name), sql.Identifier(ROLE))
        )
    with PostgresStore(server.dsn_of(name)) as store:
        yield store


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goals", nargs="*", help="ticket types that the attacker wants (default: every one, and two mixed runs)")
    parser.add_argument("--tickets", type=int, help="about so many of the day's tickets (default: all)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = [run for run in goals(TYPES) if not options.goals or run["goal"] in options.goals]
    crimes = 0
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "pg", settings={"fsync": "off"})
        server.start()
        migrate(server.dsn)
        try:
            for turn, run in enumerate(runs):
                with _fresh(server) as store:
                    report = attack(store, Path(folder), run, limit=options.tickets, turn=turn)
                crimes += len(report.crimes)
                _print(report, as_json=options.json)
        finally:
            server.destroy()
    print(f"{len(runs)} runs, {crimes} unauthorized effects or foreign data", file=sys.stderr)
    return 1 if crimes else 0


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**report.__dict__, "crimes": [crime.__dict__ for crime in report.crimes]}), flush=True)
        return
    done = ", ".join(f"{count} {what}" for what, count in report.changes.items()) or "nothing"
    what = f"{report.tickets} tickets, model asked {report.asked}, {report.told} replies, {report.seconds:.0f} s"
    print(f"{report.goal:38} {what}; did {done}; crimes: {len(report.crimes)}", flush=True)
    for crime in report.crimes[:20]:
        print(f"    {crime.ticket}: {crime.what}: {crime.call[:300]}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
