"""A shadow run: the whole pipeline over an export of tickets, with every side effect blocked.

Knows files of tickets and the desk's parts; knows no running stack. It has a database of its own, which is thrown away, and models
in this process. Systems of record are absent, or a sandbox with a given world whose look-ups are let through; what would change
anything is refused before it is sent, and counted.
"""

import asyncio
import json
import os
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from models.local import ADAPTER, BASE, STORE
from models.manifest import read
from orchestrator.bootstrap import build_desk, load_classifier, open_store, open_systems
from orchestrator.domain.actions import Action
from orchestrator.domain.directory import instant
from orchestrator.domain.errors import BadInput, CloisterError, ModelUnavailable
from orchestrator.domain.resolution import Linked, Observation, ObservationStatus
from orchestrator.domain.tickets import IncomingTicket, Requester, Ticket
from orchestrator.domain.triage import Triage
from orchestrator.intake.read_tickets import TicketRow
from orchestrator.knowledge.documents import read_documents
from orchestrator.knowledge.load import load_documents
from orchestrator.pipeline.desk import Desk
from orchestrator.pipeline.triage import LINK_WINDOW
from orchestrator.ports import Clock, Embedder, LanguageModel, ScoreRequest, ScoreResult, SystemsOfRecord
from orchestrator.resolution.catalog import load_catalog
from orchestrator.resolution.drive import Work, drive
from orchestrator.resolution.shadow import foresee
from orchestrator.sandbox.process import SandboxFailed, SandboxProcess
from orchestrator.storage.embedded import Server
from orchestrator.triage.taxonomy import load_taxonomy
from serving.adapters import DesiredAdapter
from serving.embedding import SentenceEmbedder, bundled
from serving.engine import Engine, EngineConfig

BATCH = 64
SPACING = timedelta(seconds=1)  # between rows that have no time of their own
SOURCE = "shadow"
Progress = Callable[[str, int, int], None]  # (what, done, of)


# --- what stands in for the outside ---------------------------------------------------------------------------------


@dataclass
class Blocked:
    """Systems of record behind a wall: look-ups go to `behind` (nothing there: unavailable), changes go nowhere and are counted."""

    actions: Mapping[str, Action]
    clock: Clock
    behind: SystemsOfRecord | None = None
    refused: Counter[str] = field(default_factory=Counter)

    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        known = self.actions.get(action)
        if known is None or known.writes:
            self.refused[action] += 1
            return self._nothing(ObservationStatus.REFUSED, {"detail": "A shadow run changes nothing."})
        if self.behind is None:
            return self._nothing(ObservationStatus.UNAVAILABLE, None)
        return self.behind.call(action, arguments)

    def _nothing(self, status: ObservationStatus, body: Any) -> Observation:
        return Observation(status=status, http_status=None, body=body, at=self.clock())


class LocalLanguageModel:
    """`orchestrator.ports.LanguageModel` on an engine in this process, with the bundled base and adapter."""

    def __init__(self, *, store: Path = STORE) -> None:
        """Loads and warms up, 20 to 60 s on two cores. Raises ConfigurationError, BadInput."""
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # standard output is the command's own
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()
        self._engine: Engine = self._wait(self._start(store))

    async def _start(self, store: Path) -> Engine:
        base, adapter = store / BASE, store / ADAPTER
        engine = await Engine.start(EngineConfig(name=read(base).name, path=base))
        problems = await engine.reconcile([DesiredAdapter(alias="live", name=read(adapter).full_name, path=adapter)])
        if problems:
            engine.shutdown()
            raise BadInput(" ".join(problems))
        return engine

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        return self._wait(self._engine.score(requests, model=model))

    def close(self) -> None:
        async def stop() -> None:
            self._engine.shutdown()

        self._wait(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)


class NoLanguageModel:
    """The head alone: every question to the model says that there is none."""

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        raise ModelUnavailable("This run has no language model.", hint="Leave out --no-model.")


@dataclass(frozen=True, kw_only=True)
class Room:
    """Everything a shadow run works with."""

    desk: Desk
    systems: Blocked
    looks_up: bool  # there is a world to look things up in


@contextmanager
def open_room(
    folder: Path,
    *,
    now: datetime,
    link_window: timedelta,
    world: Path | None = None,
    embedder: Embedder | None = None,
    language_model: LanguageModel | None = None,
) -> Iterator[Room]:
    """A desk with its own database in `folder`, gone afterwards. `language_model` None: the head alone."""
    with ExitStack() as closing:
        server = Server(folder / "postgres")
        closing.callback(server.destroy)
        store = open_store(server.start().dsn, pool_size=4)
        closing.callback(store.close)
        behind = closing.enter_context(_sandbox(folder, world, now)) if world else None
        systems = Blocked(load_catalog(), clock=lambda: now, behind=behind)
        desk = build_desk(
            store=store,
            systems=systems,
            embedder=embedder or SentenceEmbedder(bundled()),
            language_model=language_model or NoLanguageModel(),
            classifier=load_classifier(language_model),
            secret=b"a shadow run sends no codes",
            clock=lambda: now,
            link_window=link_window,
            reads_in_shadow=behind is not None,
        )
        closing.callback(desk.pool.shutdown)
        if behind is not None and desk.knowledge:
            load_documents(store, desk.embedder, read_documents(desk.knowledge))
        yield Room(desk=desk, systems=systems, looks_up=behind is not None)


@contextmanager
def _sandbox(folder: Path, world: Path, now: datetime) -> Iterator[SystemsOfRecord]:
    try:
        with SandboxProcess(folder / "world.sqlite", world=world) as sandbox:
            yield open_systems(sandbox.url, sandbox.secret, clock=lambda: now)
    except SandboxFailed as error:
        raise BadInput(f"{world} cannot be used as a world: {error}") from error


# --- times ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Times:
    """When each row came: its own time where the file tells it, else in the order of the rows."""

    created_at: tuple[datetime, ...]
    link_window: timedelta  # the usual one where all times are known, else the whole file
    now: datetime


def times_of(rows: Sequence[TicketRow], *, now: datetime) -> Times:
    """Rows without a time follow the row before them, a second later."""
    known = [row.created_at for row in rows if row.created_at]
    end = max([*known, now]) if known else now
    if len(known) == len(rows):
        return Times(created_at=tuple(known), link_window=LINK_WINDOW, now=end)
    at = (known[0] if known else end) - SPACING * len(rows)
    found = []
    for row in rows:
        at = row.created_at or at + SPACING
        found.append(at)
    return Times(created_at=tuple(found), link_window=max(found) - min(found) + LINK_WINDOW, now=max(end, *found))


# --- the run --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Run:
    decisions: tuple[dict[str, Any], ...]  # one per row, in the order of the file
    refused: Mapping[str, int]  # changing calls that were stopped, by action
    seconds: float


def shadow(rows: Sequence[TicketRow], times: Times, room: Room, progress: Progress) -> list[dict[str, Any]]:
    """One decision per row, in the order of the file. Rows are taken in the order of their times, as they came in."""
    order = sorted(range(len(rows)), key=lambda place: times.created_at[place])
    decided: dict[int, dict[str, Any]] = {}
    names: dict[str, str] = {}  # our ticket's id -> the file's
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        tickets = _accept([_incoming(rows[p], times.created_at[p]) for p in places], room, now=times.now)
        names |= {ticket.id: rows[p].id for p, ticket in zip(places, tickets, strict=True)}
        for place, decision in zip(places, _decide(tickets, room), strict=True):
            decided[place] = {"id": rows[place].id, **decision}
        progress("tickets decided", start + len(places), len(rows))
    lines = [_in_the_files_words(decided[place], names) for place in range(len(rows))]
    _with_their_lead(lines)
    return lines


def _incoming(row: TicketRow, created_at: datetime) -> IncomingTicket:
    return IncomingTicket(
        subject=row.subject,
        description=row.description,
        requester=Requester(email=row.requester or ""),
        source=SOURCE,
        external_id=row.id,
        channel=SOURCE,
        created_at=created_at,
        context={"line": row.line},
    )


def _accept(incoming: Sequence[IncomingTicket], room: Room, *, now: datetime) -> list[Ticket]:
    store = room.desk.store
    ids = [accepted.ticket_id for accepted in store.run(lambda tx: tx.accept(incoming, now=now))]
    found = store.run(lambda tx: tx.tickets(ids))
    return [replace(found[ticket_id], autonomy_rung=SOURCE) for ticket_id in ids]


def _decide(tickets: Sequence[Ticket], room: Room) -> list[dict[str, Any]]:
    """A batch; where it fails, each ticket alone; where one fails alone, the decision that says so. None is lost."""
    try:
        triages = room.desk.triager.triage(tickets)
        foreseen = _look_up(tickets, triages, room) if room.looks_up else _from_wording(tickets, triages, room)
        return [_decision(triages[t.id], foreseen[t.id]) for t in tickets]
    except CloisterError as error:
        if len(tickets) > 1:
            return [decision for ticket in tickets for decision in _decide([ticket], room)]
        return [_undecided(error)]


def _from_wording(tickets: Sequence[Ticket], triages: Mapping[str, Triage], room: Room) -> dict[str, dict[str, Any]]:
    playbook, now = room.desk.resolution.playbook, room.desk.clock()
    return {t.id: asdict(foresee(t, triages[t.id], playbook, now=now)) for t in tickets}


def _look_up(tickets: Sequence[Ticket], triages: Mapping[str, Triage], room: Room) -> dict[str, dict[str, Any]]:
    """The runbooks' way as far as looking goes."""
    driven = drive([Work(ticket=t, triage=triages[t.id]) for t in tickets], room.desk.resolution_now())
    found = {}
    for ticket in tickets:
        notes, outcome = driven.notes.get(ticket.id, {}), driven.outcomes.get(ticket.id)
        found[ticket.id] = {
            "runbook": notes.get("runbook"),
            "proposed_actions": notes.get("proposed_actions", []),
            "would_resolve": bool(notes.get("would_resolve")) or isinstance(outcome, Linked),
            "explanation": [*notes.get("checked", []), *notes.get("reasons", []), *_if_any(driven.retry.get(ticket.id))],
        }
    return found


def _if_any(text: str | None) -> list[str]:
    return [text] if text else []


# --- decision lines -------------------------------------------------------------------------------------------------


def _decision(triage: Triage, foreseen: Mapping[str, Any]) -> dict[str, Any]:
    found, link = triage.classification, triage.link
    return {
        "category": found.category,
        "confidence": found.confidence,
        "abstained": found.abstained,
        "alternatives": [[name, probability] for name, probability in found.alternatives],
        "stage": found.stage,
        "link": None
        if link is None
        else {
            "ticket_id": link.ticket_id,
            "incident_id": link.incident_id,
            "kind": str(link.kind),
            "similarity": link.similarity,
            "score": link.score,
            "evidence": [asdict(each) for each in link.evidence],
        },
        "priority": f"P{int(triage.priority.level)}",
        "group": triage.assignment.group,
        "runbook": foreseen["runbook"],
        "proposed_actions": list(foreseen["proposed_actions"]),
        "would_resolve": foreseen["would_resolve"],
        "language": triage.signals.language,
        "signals": list(triage.signals.cues),
        "explanation": [*triage.explanation, *foreseen["explanation"]],
    }


def _undecided(error: CloisterError) -> dict[str, Any]:
    others = load_taxonomy().others
    return {
        "category": others.name,
        "confidence": 0.0,
        "abstained": True,
        "alternatives": [],
        "stage": "head",
        "link": None,
        "priority": "P4",
        "group": others.group,
        "runbook": None,
        "proposed_actions": [],
        "would_resolve": False,
        "language": "",
        "signals": [],
        "explanation": [f"Could not be decided, goes to a person: {error}"],
    }


def _in_the_files_words(decision: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Tickets are named as the file names them, not as our database did."""
    if decision["link"]:
        ours = decision["link"]["ticket_id"]
        theirs = names.get(ours, ours)
        decision["link"]["ticket_id"] = theirs
        decision["explanation"] = [line.replace(f"{ours} ", f"{theirs} ") for line in decision["explanation"]]
    return decision


def _with_their_lead(lines: Sequence[dict[str, Any]]) -> None:
    """A linked ticket is resolved with the ticket that it leads to, or not at all."""
    by_id = {line["id"]: line for line in lines}
    for line in lines:
        lead, seen = line, {line["id"]}
        while lead["link"] and lead["link"]["ticket_id"] in by_id and lead["link"]["ticket_id"] not in seen:
            lead = by_id[lead["link"]["ticket_id"]]
            seen.add(lead["id"])
        if lead is not line:
            line["would_resolve"] = line["would_resolve"] and lead["would_resolve"]


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """All of them or nothing: the file appears when it is whole."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False) as part:
        for line in lines:
            part.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    Path(part.name).replace(path)
    path.chmod(0o644)


# --- beside what people decided -------------------------------------------------------------------------------------


def summary(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the desk would have done with the file."""
    groups = _groups(lines)
    return {
        "tickets": len(lines),
        "sure": sum(not line["abstained"] for line in lines),
        "handed_to_people": sum(line["abstained"] for line in lines),
        "asked_the_model": sum(line["stage"] == "model" for line in lines),
        "linked": sum(line["link"] is not None for line in lines),
        "incidents": sum(len(members) > 1 for members in groups.values()),
        "would_resolve": sum(bool(line["would_resolve"]) for line in lines),
        "categories": dict(Counter(_acted_on(line) for line in lines).most_common()),
        "priorities": dict(sorted(Counter(line["priority"] for line in lines).items())),
        "groups": dict(Counter(line["group"] for line in lines).most_common()),
    }


def _acted_on(line: Mapping[str, Any]) -> str:
    return "Others" if line["abstained"] else line["category"]


def _groups(lines: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    lead = {line["id"]: line["link"]["ticket_id"] for line in lines if line["link"]}
    groups: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        at, seen = line["id"], set()
        while at in lead and at not in seen:
            seen.add(at)
            at = lead[at]
        groups[at].append(line["id"])
    return groups


def compare(rows: Sequence[TicketRow], lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What people had decided beside what the desk decides; only for the labels that the file has."""
    return {
        name: found
        for name, people, desk in (
            ("category", [row.category for row in rows], [_acted_on(line) for line in lines]),
            ("group", [row.group for row in rows], [line["group"] for line in lines]),
            ("priority", [_level(row.priority) for row in rows], [line["priority"] for line in lines]),
        )
        if (found := _compared(people, desk))
    }


def _level(text: str | None) -> str | None:
    """ "2", "P2", "2 - High" are P2; what has no figure stays as it is."""
    digit = next((c for c in text or "" if c in "12345"), None)
    return f"P{digit}" if digit else text


def _compared(people: Sequence[str | None], desk: Sequence[str]) -> dict[str, Any] | None:
    pairs = [(theirs, ours) for theirs, ours in zip(people, desk, strict=True) if theirs]
    if not pairs:
        return None
    by_ours: dict[str, Counter[str]] = defaultdict(Counter)
    for theirs, ours in pairs:
        by_ours[ours][theirs] += 1
    result: dict[str, Any] = {
        "labeled": len(pairs),
        "labels": len({theirs for theirs, _ in pairs}),
        "most_common_label": round(Counter(theirs for theirs, _ in pairs).most_common(1)[0][1] / len(pairs), 4),
        # knowing our decision, how often the label that most such tickets have is right: comparable where names differ
        "predictable": round(sum(labels.most_common(1)[0][1] for labels in by_ours.values()) / len(pairs), 4),
        "beside": {ours: dict(labels.most_common(5)) for ours, labels in sorted(by_ours.items())},
    }
    if {theirs for theirs, _ in pairs} & set(desk):
        result["same"] = round(sum(theirs == ours for theirs, ours in pairs) / len(pairs), 4)
        sure = [(theirs, ours) for theirs, ours in pairs if ours != "Others"]
        result["same_where_sure"] = round(sum(theirs == ours for theirs, ours in sure) / len(sure), 4) if sure else None
    return result


def world_now(world: Path | None) -> datetime | None:
    """The instant that a world file speaks of."""
    if world is None:
        return None
    try:
        found = json.loads(world.read_text(encoding="utf-8")).get("now")
        return instant(str(found)) if found else None
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(
            f"{world} is not a world file: {error}", hint="Its format is described in orchestrator/sandbox/WORLD.md."
        ) from error


def utc_now() -> datetime:
    return datetime.now(UTC)
