"""Throughput of the orchestrator with stand-in models: from accepting a ticket to its delivered reply, everything durable.

    python -m tests.benchmarks.bench_orchestrator --tickets 6000 --workers 3

What counts: accepting (in batches, inside the measured time), claiming, embedding, classifying, linking, prioritizing, routing,
resolving by runbook with every intention and observation committed, outcomes, audit chain, and the outbox until the last reply is
delivered. PostgreSQL runs on this machine's disk with fsync, full_page_writes and synchronous_commit on. What does not: the models
(stand-ins), the systems of record (answered in memory, one world per worker process) and HTTP at the door.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import platform
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg

from orchestrator.bootstrap import build_desk, open_store, utc_now
from orchestrator.domain.tickets import Assurance, IncomingTicket, Requester
from orchestrator.intake.accept import accept
from orchestrator.pipeline.worker import Worker
from orchestrator.resolution.catalog import load_catalog
from orchestrator.standins import CountingLanguageModel, HashEmbedder, InstantSystems, NamedClassifier
from orchestrator.storage.embedded import Server
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.taxonomy import load_taxonomy
from tests.acceptance import kill_cases

TARGET = 300.0  # tickets per second
ACCEPTED_TOGETHER = 50
COMPANY_WORLD = Path(__file__).resolve().parents[2] / "serving" / "demo" / "day" / "world.json"

MIX: Mapping[str, tuple[int, str]] = {  # category -> (of 20 tickets, who writes: p employee, c customer)
    "password_reset": (3, "p"),
    "mfa_reset": (2, "p"),
    "vpn": (2, "p"),
    "software_license": (2, "p"),
    "order_status": (3, "c"),
    "how_to": (2, "c"),
    "hardware": (2, "p"),
    "something else": (2, "p"),  # no category: Others
    "service_outage": (2, "p"),
}
WHERE = ("at my desk", "at home", "in the train", "in the Lyon office", "in Turin", "at a customer's site", "on my phone")
WHEN = ("since this morning", "since the update", "for two days", "after lunch", "again and again", "whenever I start work")
HOW = (
    "nothing happens",
    "a message comes and goes",
    "it says to try later",
    "the page stays empty",
    "it asks me again",
    "it takes ages",
)
ASK = (
    "Please help soon.",
    "Who can look at it?",
    "I need it for a customer at noon.",
    "No hurry.",
    "Thank you for a quick answer.",
)


@dataclass(frozen=True, kw_only=True)
class Load:
    tickets: int
    workers: int
    batch: int
    threads: int
    seed: int


def incoming(load: Load) -> list[IncomingTicket]:
    """The tickets of a seeded day, mixed. Nobody asks for the same thing twice: the third time the circuit breaker would hold it."""
    chance = random.Random(load.seed)
    kinds = [name for name, (share, _) in MIX.items() for _ in range(share)]
    persons = {name: itertools.count() for name in MIX}
    return [_ticket(chance, number, kind := kinds[number % len(kinds)], next(persons[kind])) for number in range(load.tickets)]


def _ticket(chance: random.Random, number: int, kind: str, person: int) -> IncomingTicket:
    sentences = [
        f"{chance.choice(WHEN).capitalize()} {chance.choice(WHERE)}: {chance.choice(HOW)}, room {chance.randrange(900)}."
        f" {chance.choice(ASK)}"
        for _ in range(chance.randint(1, 3))
    ]
    words = f" The service svc-{person % 40} does not answer." if kind == "service_outage" else ""
    return IncomingTicket(
        subject=f"{kind}: number {number}",
        description=" ".join([*sentences, words]).strip(),
        requester=Requester(email=f"{MIX[kind][1]}{person}@crash.example", assurance=Assurance.AUTHENTICATED),
        source="bench",
        external_id=f"b-{number}",
    )


def world(load: Load) -> dict[str, Any]:
    """The bundled company's catalogue and telemetry, with as many more people as there are tickets of a kind."""
    made = kill_cases.world((load.tickets // 20 + 1) * max(share for share, _ in MIX.values()))
    company = json.loads(COMPANY_WORLD.read_text(encoding="utf-8"))
    services = [service | {"tier": 2} for service in made["services"][:40]]
    return {
        **company,
        **{
            kind: _joined(company.get(kind, []), made[kind]) for kind in ("users", "accounts", "vpn_sessions", "licenses", "orders")
        },
        "services": [*company["services"], *services],
        "alerts": [*company["alerts"], *made["alerts"][:40]],
    }


def _joined(company: list[dict[str, Any]], made: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both; where the company and the made-up rows have the same id, the made-up row."""
    taken = {row["id"] for row in made}
    return [*(row for row in company if row["id"] not in taken), *made]


# --- the processes ------------------------------------------------------------------------------------------------------


def work(dsn: str, load: Load, ready: Any, go: Any, stop: Any, answers: Any) -> None:
    """One worker process; says its processor time and stages at the end."""
    store = open_store(dsn)
    desk = build_desk(
        store=store,
        systems=InstantSystems(load_catalog(), world(load), clock=utc_now),
        embedder=HashEmbedder(),
        language_model=CountingLanguageModel(),
        classifier=NamedClassifier(names=tuple(category.name for category in load_taxonomy().categories)),
        secret=b"benchmark-secret",
        threads=load.threads,
    )
    worker = Worker(desk, batch_size=load.batch)
    worker.prepare(threading.Event())
    ready.release()
    go.wait()
    began = time.process_time()
    stopping = threading.Event()
    threading.Thread(target=lambda: (stop.wait(), stopping.set()), daemon=True).start()
    worker.run(stopping)
    answers.put({"cpu_s": time.process_time() - began, "stages": worker.status()["stage_seconds"]})
    store.close()


def accept_all(store: PostgresStore, tickets: list[IncomingTicket]) -> None:
    for start in range(0, len(tickets), ACCEPTED_TOGETHER):
        part = tickets[start : start + ACCEPTED_TOGETHER]
        store.run(lambda tx, part=part: accept(tx, part, now=utc_now()))  # type: ignore[misc]


def finished(store: PostgresStore) -> bool:
    return not any(store.run(lambda tx: (tx.queue_depth(), tx.outbox_unsent())))


# --- measuring ----------------------------------------------------------------------------------------------------------


def fsync_ms(folder: Path, times: int = 100) -> float:
    """Milliseconds of one 8 KiB append with fdatasync, on average."""
    with (folder / "fsync-probe").open("wb") as file:
        began = time.perf_counter()
        for _ in range(times):
            file.write(bytes(8192))
            file.flush()
            os.fdatasync(file.fileno())
        return (time.perf_counter() - began) / times * 1000


def postgres_cpu_s(pid: int) -> float:
    """Processor time of the server and all its children, the ended ones included."""
    main = psutil.Process(pid)
    spent = main.cpu_times()
    total = spent.user + spent.system + spent.children_user + spent.children_system
    for child in main.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def counters(dsn: str) -> dict[str, float]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        commits = connection.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").fetchone()
        wal = connection.execute("SELECT wal_records, wal_bytes FROM pg_stat_wal").fetchone()
    assert commits is not None and wal is not None
    return {"commits": float(commits[0]), "wal_bytes": float(wal[1])}


def measure(load: Load, *, folder: Path) -> dict[str, Any]:
    tickets = incoming(load)
    with Server(folder / "postgres") as database, open_store(database.dsn) as store:
        context = multiprocessing.get_context("forkserver")
        ready, go, stop, answers = context.Semaphore(0), context.Event(), context.Event(), context.Queue()
        arguments = (database.dsn, load, ready, go, stop, answers)
        workers = [context.Process(target=work, args=arguments, daemon=True) for _ in range(load.workers)]
        for process in workers:
            process.start()
        for _ in workers:
            if not ready.acquire(timeout=120):
                raise SystemExit("A worker did not get ready.")
        assert database.pid is not None
        before, database_cpu, own_cpu = counters(database.dsn), postgres_cpu_s(database.pid), time.process_time()
        began = time.perf_counter()
        go.set()
        accept_all(store, tickets)
        accepted_s = time.perf_counter() - began
        while not finished(store):
            time.sleep(0.05)
        wall_s = time.perf_counter() - began
        own_cpu = time.process_time() - own_cpu
        stop.set()
        told = [answers.get(timeout=60) for _ in workers]
        for process in workers:
            process.join(timeout=30)
        time.sleep(1.5)  # the server's statistics come a second late
        after = counters(database.dsn)
        return {
            "wall_s": wall_s,
            "accepted_s": accepted_s,
            "worker_cpu_s": sum(each["cpu_s"] for each in told),
            "accept_cpu_s": own_cpu,
            "postgres_cpu_s": postgres_cpu_s(database.pid) - database_cpu,
            "stages": [each["stages"] for each in told],
            "fsync_ms": fsync_ms(folder),
            "outcomes": outcomes(database.dsn),
            "whole": store.run(lambda tx: tx.verify_chain())["whole"],
            **{name: after[name] - before[name] for name in after},
        }


def outcomes(dsn: str) -> Counter[str]:
    with psycopg.connect(dsn) as connection:
        return Counter(dict(connection.execute("SELECT coalesce(outcome, 'none'), count(*) FROM ticket GROUP BY 1").fetchall()))


def report(load: Load, found: Mapping[str, Any]) -> None:
    each = load.tickets
    cpu = {name: found[f"{name}_cpu_s"] / each * 1000 for name in ("worker", "postgres", "accept")}
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"
    )
    print(f"workload  {each} tickets: " + ", ".join(f"{name} {share}/20" for name, (share, _) in MIX.items()))
    print(
        f"          {load.workers} worker process(es), batches of {load.batch}, {ACCEPTED_TOGETHER} tickets accepted per transaction"
    )
    print(f"ends      {dict(found['outcomes'])}, log whole: {found['whole']}")
    print(f"durable   fsync, full_page_writes, synchronous_commit on; one fdatasync {found['fsync_ms']:.2f} ms")
    print(
        f"          {found['commits'] / each:.2f} commits and {found['wal_bytes'] / each / 1024:.1f} KiB of WAL per ticket;"
        f" accepting took {found['accepted_s']:.1f} s of the {found['wall_s']:.1f} s"
    )
    told = ", ".join(f"{name} {ms:.2f}" for name, ms in cpu.items())
    print(
        f"processor {sum(cpu.values()):.2f} ms per ticket ({told}): two undisturbed cores could do {2000 / sum(cpu.values()):.0f}/s"
    )
    print("stages    " + "; ".join(", ".join(f"{name} {s:.1f} s" for name, s in stages.items()) for stages in found["stages"]))
    rate = each / found["wall_s"]
    print(f"rate      {rate:.0f} tickets/s from the first accepted to the last delivered")
    print(f"target >= {TARGET:.0f} tickets/s: {'met' if rate >= TARGET else 'MISSED'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=3, help="worker processes")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=8, help="calls to systems of record under way at once, per worker")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    options = parser.parse_args()
    load = Load(tickets=options.tickets, workers=options.workers, batch=options.batch, threads=options.threads, seed=options.seed)
    with tempfile.TemporaryDirectory(prefix="cloister-bench-") as folder:
        found = measure(load, folder=Path(folder))
    report(load, found)
    if options.json:
        options.json.write_text(
            json.dumps({**found, "tickets": load.tickets, "rate": load.tickets / found["wall_s"]}, indent=1) + "\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
