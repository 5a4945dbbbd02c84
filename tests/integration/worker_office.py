"""A worker with its desk on the real store, connector and sandbox, for tests: submit, work, look at the end state of the world.

Models are the stand-ins. What a test wants to go wrong wraps a real part: an embedder that is away, systems whose worker dies.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from orchestrator.bootstrap import build_desk, open_systems
from orchestrator.domain.errors import ModelUnavailable
from orchestrator.domain.resolution import Observation
from orchestrator.domain.tickets import Assurance, Author, IncomingTicket, Message, Requester, State
from orchestrator.pipeline.deliver import deliver
from orchestrator.pipeline.worker import Worker
from orchestrator.ports import SystemsOfRecord
from orchestrator.sandbox.process import SandboxProcess
from orchestrator.standins import CountingLanguageModel, HashEmbedder, NamedClassifier
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.taxonomy import load_taxonomy
from tests.acceptance.kill_cases import world
from tests.integration.people import decide

SECRET = "a-secret-of-these-tests"
LEASE_S = 30.0


class Died(BaseException):
    """The process is gone: nothing after it runs, as after kill -9."""


@dataclass
class MortalSystems:
    """The real systems, reached by a worker that dies at a certain call."""

    systems: SystemsOfRecord
    dies_at: Callable[[str, str], bool] = lambda action, moment: False  # (action, "before" or "after")

    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        if self.dies_at(action, "before"):
            raise Died(action)
        observation = self.systems.call(action, arguments, idempotency_key=idempotency_key)
        if self.dies_at(action, "after"):
            raise Died(action)
        return observation


@dataclass
class FickleEmbedder:
    """The stand-in embedder with a switch, and with something that happens meanwhile."""

    inner: HashEmbedder = field(default_factory=HashEmbedder)
    away: bool = False
    meanwhile: Callable[[], None] = lambda: None
    calls: list[int] = field(default_factory=list)  # texts per call

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def dimensions(self) -> int:
        return self.inner.dimensions

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> np.ndarray:
        if self.away:
            raise ModelUnavailable("The embedder is away.", hint="It comes back.")
        self.calls.append(len(texts))
        self.meanwhile()
        if any("poison" in text for text in texts):
            raise RuntimeError("this text breaks the embedder")
        return self.inner.embed(texts)


class Office:
    """One desk with one worker; `another()` is a second worker on the same store and systems."""

    def __init__(self, store: PostgresStore, sandbox: SandboxProcess, dsn: str) -> None:
        self.store, self.sandbox, self.dsn = store, sandbox, dsn
        self.embedder = FickleEmbedder()
        self.systems = MortalSystems(open_systems(sandbox.url, sandbox.secret))
        self.desk = build_desk(
            store=store,
            systems=self.systems,
            embedder=self.embedder,
            language_model=CountingLanguageModel(),
            classifier=NamedClassifier(names=tuple(category.name for category in load_taxonomy().categories)),
            secret=SECRET.encode(),
        )
        self.worker = Worker(self.desk, lease_s=LEASE_S, name="first")

    def another(self) -> Worker:
        return Worker(self.desk, lease_s=LEASE_S, name="second")

    def submit(self, matter: str, by: str, *, text: str = "", portal: bool = True) -> str:
        """A ticket of this category (its name stands in the subject, where the stand-in classifier finds it)."""
        assurance = Assurance.AUTHENTICATED if portal else Assurance.CLAIMED
        description = text or f"My matter is {matter} and this is all that I know of it."
        ticket = IncomingTicket(
            subject=f"{matter}: please help",
            description=description,
            requester=Requester(email=f"{by}@crash.example", assurance=assurance),
            source="test",
            external_id=f"{matter}-{by}",
        )
        return self.store.run(lambda tx: tx.accept([ticket], now=now()))[0].ticket_id

    def work(self) -> int:
        """Until nothing is ready to be claimed; gives the number of batches."""
        batches = 0
        while self.worker.work_once():
            batches += 1
        return batches

    @contextmanager
    def running(self) -> Iterator[None]:
        """The worker's own loop, in a thread; asked to stop when the block ends, and it does."""
        stopping = threading.Event()
        thread = threading.Thread(target=self.worker.run, args=(stopping,))
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(timeout=60)
        assert not thread.is_alive()

    def wait_until(self, holds: Callable[[], bool], *, patience_s: float = 60.0) -> None:
        deadline = time.monotonic() + patience_s
        while not holds():
            assert time.monotonic() < deadline, "it did not come to be"
            time.sleep(0.05)

    def deliver(self) -> int:
        return deliver(self.store, self.desk.systems, self.desk.pool, self.desk.clock)

    def answer(self, ticket_id: str, body: str) -> None:
        with self.store.transaction() as tx:
            tx.wake([ticket_id])
            tx.add_message(ticket_id, Message(author=Author.REQUESTER, body=body, at=now(), by=""))
            tx.set_state(ticket_id, State.ACTIVE, reason="the requester answered")

    def decide(self, ticket_id: str, *, approve: bool) -> None:
        with self.store.transaction() as tx:
            (approval,) = tx.approvals_of([ticket_id])[ticket_id]
            decide(tx, approval.id, approve=approve, reason="looked at it", by="lena", now=now())

    def record(self, ticket_id: str) -> dict[str, Any]:
        return self.store.run(lambda tx: tx.ticket_record(ticket_id))

    def state(self, ticket_id: str) -> str:
        return str(self.record(ticket_id)["state"])

    def told(self, ticket_id: str) -> list[str]:
        return [message["body"] for message in self.record(ticket_id)["messages"] if message["author"] == "desk"]

    def kinds(self, ticket_id: str) -> Counter[str]:
        """Events of the ticket's timeline, by kind."""
        return Counter(event["kind"] for event in self.record(ticket_id)["timeline"])

    def effects(self) -> Counter[str]:
        """What changed in the world, mails and write-back aside."""
        calls = [call for call in self.sandbox.calls() if call["changed"] and call["system"] not in {"mail", "helpdesk"}]
        return Counter(f"{call['method']} {call['path']}" for call in calls)

    def code(self, by: str) -> str:
        """The one-time code that was mailed to this person."""
        mails = [mail for mail in self.sandbox.state()["mail"] if mail["to"] == f"{by}@crash.example" and mail["by"] == "mail"]
        return next(word.strip(".") for word in mails[-1]["body"].split() if word.strip(".").isdigit() and len(word) >= 6)

    # time and mischief

    def let_leases_end(self) -> None:
        self._sql("UPDATE job SET lease_until = clock_timestamp() - interval '1 s' WHERE lease_until IS NOT NULL")

    def let_pauses_end(self) -> None:
        """What was given back is ready again, and what could not be delivered is due."""
        self._sql("UPDATE job SET run_at = clock_timestamp() - interval '1 s'")
        self._sql("UPDATE outbox SET due_at = clock_timestamp() - interval '1 s' WHERE sent_at IS NULL")

    def job(self, ticket_id: str) -> dict[str, Any]:
        with psycopg.connect(self.dsn) as connection:
            cursor = connection.execute("SELECT * FROM job WHERE ticket = %s", [int(ticket_id.removeprefix("T-"))])
            row = cursor.fetchone()
            assert row is not None and cursor.description is not None
            return dict(zip([column.name for column in cursor.description], row, strict=True))

    def _sql(self, statement: str) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement.encode())


def now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def open_office(store: PostgresStore, dsn: str, folder: Path) -> Iterator[Office]:
    with SandboxProcess(folder / "sandbox.db") as sandbox:
        sandbox.seed(world(9))
        office = Office(store, sandbox, dsn)
        try:
            yield office
        finally:
            office.desk.pool.shutdown()
