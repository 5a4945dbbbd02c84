"""What the desk needs from outside, as protocols: models, systems of record, the store, a clock. Imports domain only.

Implementations: models in `serving` (and small stand-ins in `orchestrator/standins.py`), systems of record in
`orchestrator/connectors`, the store in `orchestrator/storage`. `orchestrator/bootstrap.py` joins them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol, TypeVar

import numpy as np

from orchestrator.audit.checkpoints import Checkpoint
from orchestrator.audit.events import EventRow
from orchestrator.domain.aliases import DesiredAlias
from orchestrator.domain.autonomy import ChaosDay, Evidence, Move, Standing
from orchestrator.domain.resolution import (
    Approval,
    Child,
    ChildOrder,
    Frozen,
    Observation,
    Outcome,
    ParentOf,
    Proposal,
    Rung,
    Snapshot,
    StepRecord,
    Target,
    Touch,
    Turn,
    Verdict,
    Verification,
)
from orchestrator.domain.spending import Spend
from orchestrator.domain.tickets import Assurance, IncomingTicket, Message, Requester, State, Ticket
from orchestrator.domain.triage import Classification, Entities, Triage

Result = TypeVar("Result")
Clock = Callable[[], datetime]  # UTC, aware


# --- models ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """One closed choice. `prompt` ends where the option's code would come; every option is a single-token code."""

    prompt: str
    options: tuple[str, ...]  # 2..64 codes


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    logprobs: tuple[float, ...]  # natural log, in the order of the options
    model: str  # what answered: "cloister-nano" or an adapter's "name@sha256-..."


class LanguageModel(Protocol):
    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        """Log-probability of each option. `model` is a base, an adapter's name or an alias (`live`).

        Raises ModelUnavailable while the engine is down, AdapterMissing when that adapter is not served.
        """
        ...


class Embedder(Protocol):
    @property
    def name(self) -> str: ...  # goes beside every stored vector; vectors of two models are never compared

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> np.ndarray:
        """[len(texts), dimensions] float32, rows of unit length, by the model of this full name (None: this one, `name`).

        Raises ModelUnavailable, AdapterMissing where that model is not served.
        """
        ...


class Reranker(Protocol):
    @property
    def name(self) -> str: ...

    def rank(self, question: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the question; only their order means something. Raises ModelUnavailable."""
        ...


# --- systems of record ----------------------------------------------------------------------------------------------


class SystemsOfRecord(Protocol):
    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        """Carry out one catalogue action by exact name. Never raises for what the world answered: see Observation.status.

        Thread-safe. A writing action needs an idempotency key.
        """
        ...


# --- the store ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A leased job. `token` fences: a write that carries an old token is refused by the database."""

    ticket_id: str
    token: int
    lease_until: datetime
    attempts: int


@dataclass(frozen=True, kw_only=True)
class Accepted:
    ticket_id: str
    state: State
    created: bool  # False: the same source + external_id had come before


@dataclass(frozen=True, kw_only=True)
class Similar:
    """An earlier ticket near a new one, with what linking needs to know about it."""

    ticket_id: str
    cosine: float
    subject: str
    description: str
    requester_email: str
    category: str | None
    entities: Entities
    incident_id: str | None
    created_at: datetime
    state: State


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A piece of a knowledge document, as retrieved."""

    document_id: str
    passage_id: int
    title: str
    heading: str
    text: str
    source: str
    effective_on: str | None  # ISO date
    reviewed_on: str | None
    score: float  # cosine or fused score, as documented by the search
    version: str = ""  # as the document says, else the first of its digest
    authority: str = "article"  # "policy" beats the others
    sensitive: bool = False  # for requesters `text` is the reviewed summary
    vector_rank: int | None = None  # place among the nearest in meaning, from 1; None: not among those that count
    text_rank: int | None = None  # the same by words


@dataclass(frozen=True, kw_only=True)
class Reader:
    """For whom knowledge is searched. A document that names groups, regions or plans is found only by readers who have one of them."""

    audience: str = "requester"  # anything else finds internal documents as well
    groups: tuple[str, ...] = ()
    region: str = ""
    plan: str = ""


ANYBODY = Reader()
"""A requester of whom nothing is known."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A question that knowledge did not answer."""

    ticket_id: str
    question: str  # the first of its words
    why: str  # below_threshold, nothing_found, no_reading, not_helpful
    best: float | None  # cosine of the nearest passage
    nearest_id: str  # its document
    nearest_title: str
    at: datetime
    vector: np.ndarray | None  # of the ticket, unit length


@dataclass(frozen=True, kw_only=True)
class OutboxItem:
    id: int
    ticket_id: str
    kind: str  # "reply", "status", "note", "one_time_code"
    payload: Mapping[str, Any]
    attempts: int


class LadderBook(Protocol):
    """Where each ticket type stands on the autonomy ladder, in one transaction."""

    def begin(self, rungs: Mapping[str, Rung], *, now: datetime) -> list[str]:
        """Types without a standing get this one; gives those."""
        ...

    def rungs(self) -> dict[str, Rung]: ...
    def standings(self) -> list[Standing]: ...
    def stopped_types(self, *, now: datetime) -> dict[str, dict[str, Any]]:
        """{type: {reason, by, at}} of the types that nothing acts on now: switched off, or on a chaos day."""
        ...

    def recent_evidence(self, *, last: int) -> dict[str, Evidence]: ...
    def move(self, judged: Move, *, evidence: Evidence | None, by: str, reason: str, now: datetime) -> None:
        """Raises Conflict where the type is no longer on the rung that was judged."""
        ...

    def chaos_days(self) -> list[ChaosDay]: ...
    def waiting(self, types: Sequence[str]) -> dict[str, tuple[int, int]]:
        """{type: (open tickets, of those P1)}."""
        ...

    def cancel_chaos_day(self, day_id: str, *, because: str, by: str, now: datetime) -> None: ...


class Transaction(Protocol):
    """One PostgreSQL transaction; leaves by commit when the block ends cleanly, by rollback otherwise.

    Lock order, to stay free of deadlocks: job rows, then ticket rows by number, then everything else, the audit chain last.
    """

    # tickets
    def accept(self, incoming: Sequence[IncomingTicket], *, now: datetime) -> list[Accepted]:
        """Insert tickets (state active), their job and the audit event *opened*; the same source + external_id only once."""
        ...

    def tickets(self, ids: Sequence[str]) -> dict[str, Ticket]: ...
    def ticket(self, ticket_id: str) -> Ticket: ...  # raises NotFound
    def ticket_record(self, ticket_id: str) -> dict[str, Any]: ...  # the whole JSON record of GET /v1/tickets/{id}; NotFound
    def list_tickets(
        self,
        *,
        state: str | None = None,
        category: str | None = None,
        group: str | None = None,
        requester: str | None = None,
        incident: str | None = None,
        source: str | None = None,
        q: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> tuple[list[dict[str, Any]], str | None]: ...
    def add_message(self, ticket_id: str, message: Message) -> None: ...
    def set_state(self, ticket_id: str, state: State, *, reason: str) -> None:
        """The database refuses an illegal transition (raises Conflict) and writes the event of a legal one."""
        ...

    def reopen(self, ticket_id: str, *, reason: str, by: str) -> None: ...
    def record_feedback(self, ticket_id: str, kind: str, body: Mapping[str, Any], *, by: str) -> None: ...

    # the queue
    def claim(self, *, worker: str, limit: int, lease_s: float) -> list[Claim]: ...
    def heartbeat(self, claims: Sequence[Claim], *, lease_s: float) -> list[Claim]:
        """Prolong leases; the claims that were lost meanwhile are missing from the answer."""
        ...

    def hold(self, claims: Sequence[Claim]) -> None:
        """Lock the jobs of these claims for this transaction; raises FencedOut when any lease went to another worker."""
        ...

    def finish(self, claims: Sequence[Claim]) -> None:
        """Done with what was wanted when they were claimed; a wake-up that came meanwhile makes the job ready again."""
        ...

    def retry(self, claims: Sequence[Claim], *, error: str, now: datetime, counted: bool = True) -> None:
        """Back off exponentially; after the last attempt the job goes to `dead` and the ticket is escalated to a person.

        Not `counted` is what the ticket has no part in (the models are away): it comes back after a pause, however often.
        """
        ...

    def lease_holders(self) -> list[str]:
        """Names of the workers whose leases run."""
        ...

    def end_leases(self, workers: Sequence[str]) -> int:
        """For workers that are known to be dead: what they hold may be claimed at once. Gives the number of leases."""
        ...

    def wake(self, ticket_ids: Iterable[str]) -> None: ...
    def queue_depth(self) -> int: ...

    # triage
    def save_triage(self, triages: Mapping[str, Triage], *, now: datetime) -> None: ...
    def triage(self, ticket_id: str) -> Triage | None: ...
    def triages(self, ids: Sequence[str]) -> dict[str, Triage]: ...
    def save_embeddings(self, model: str, rows: Sequence[tuple[str, np.ndarray, Entities]]) -> None: ...
    def embeddings(self, model: str, ids: Sequence[str]) -> dict[str, np.ndarray]: ...
    def linking_lock(self) -> None:
        """Serializes linking across workers until the end of this transaction."""
        ...

    def similar(
        self, model: str, ids: Sequence[str], *, window_s: float, at_least: float, limit: int, own_only: Collection[str] = ()
    ) -> dict[str, list[Similar]]:
        """For each (already embedded) ticket: earlier tickets (by created_at, number) within the window, best cosine first.

        Exact. For those in `own_only`, earlier tickets of the same requester alone.
        """
        ...

    def first_of_causes(self, causes: Sequence[str], *, since: datetime) -> dict[str, Similar]:
        """The earliest open ticket that each cause (see `Triage.causes`) explains; its cosine is 0."""
        ...

    def contacts(self, emails: Sequence[str], *, since: datetime) -> dict[str, list[dict[str, Any]]]:
        """Earlier tickets of these requesters: id, subject, category, state, created_at."""
        ...

    def spending(self, *, day: datetime, hour: datetime, since: datetime) -> list[Spend]:
        """What acts with an amount gave away from `day` on, and how many there were since `hour` and since `since`."""
        ...

    def open_load(self) -> dict[str, int]:
        """Open tickets per assignee e-mail."""
        ...

    # incidents
    def join_incident(self, ticket_id: str, to_ticket_id: str, *, title: str, now: datetime) -> str:
        """Put a ticket into the incident of the other one (opening it if there is none); gives the incident's id."""
        ...

    def split_incident(self, incident_id: str, ticket_ids: Sequence[str], *, reason: str, by: str) -> None: ...
    def incident(self, incident_id: str) -> dict[str, Any]: ...
    def incidents(self, *, cursor: str | None = None, limit: int = 50) -> tuple[list[dict[str, Any]], str | None]: ...
    def incidents_to_explain(
        self, *, limit: int = 20
    ) -> list[dict[str, Any]]: ...  # [{id, members, reports: [{at, entities, causes}]}]
    def save_causes(self, found: Sequence[tuple[str, int, Sequence[Mapping[str, Any]]]], *, now: datetime) -> None:
        """(incident, its number of tickets then, causes best first). Audit *incident_explained*."""
        ...

    def incident_of(self, ticket_id: str) -> str | None: ...
    def stranded(self) -> list[str]:
        """Tickets that wait for one that is resolved already: it was, while they were being linked to it. To be woken."""
        ...

    def linked_to(self, ticket_id: str) -> list[str]:
        """Tickets that wait for this one: escalated, linked to it (as duplicate, or as members of the incident it leads)."""
        ...

    def linked_to_any(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """The same for many tickets; those that nobody waits for are missing."""
        ...

    # resolution
    def steps(self, ids: Sequence[str]) -> dict[str, list[StepRecord]]: ...
    def save_intended(
        self,
        claims: Sequence[Claim],
        intents: Sequence[tuple[Proposal, Verdict]],
        *,
        now: datetime,
        targets: Mapping[str, Target] = ...,
    ) -> None:
        """Steps and audit *intended*, fenced by the claims; committed before any of the actions is carried out.

        `targets`, by idempotency key: what each act is about, as it was seen just before.
        """
        ...

    def save_observed(
        self,
        observations: Sequence[tuple[str, str, Observation]],
        *,
        now: datetime,
        checked: Mapping[tuple[str, str], tuple[Snapshot | None, Verification | None]] = ...,
    ) -> None:
        """(ticket id, idempotency key, observation): completes the step and writes audit *observed*.

        `checked`, by ticket and key: the state after, and what the action's own probe says.
        """
        ...

    def unresolved(self) -> list[dict[str, Any]]:
        """Acts whose end nobody knows and no worker is looking for: with the exact call, for a person."""
        ...

    # limits and the circuit breaker
    def lock(self, names: Sequence[str]) -> None:
        """Hold these names until the end of the transaction; whoever asks for one of them waits. After `hold`, in sorted order."""
        ...

    def touches(self, targets: Sequence[str], *, since: datetime) -> dict[str, list[Touch]]:
        """Acts on each target, oldest first."""
        ...

    def acts_since(self, actions: Sequence[str], *, since: datetime) -> dict[str, int]:
        """How often the desk did each; refused ones do not count."""
        ...

    def frozen(self, targets: Sequence[str] | None = None) -> list[Frozen]:
        """What the circuit breaker holds: on these targets, or all of it."""
        ...

    def freeze(self, found: Sequence[Frozen]) -> None:
        """Audit *frozen*. What is frozen already stays as it is."""
        ...

    def unfreeze(self, action: str, target: str, *, reason: str, by: str) -> Frozen:
        """Audit *unfrozen*. Raises NotFound."""
        ...

    def turns(self, ids: Sequence[str]) -> dict[str, list[Turn]]:
        """What the loops of these tickets' runbooks decided, in order; tickets without a turn are left out."""
        ...

    def save_turns(self, claims: Sequence[Claim], taken: Sequence[tuple[str, Turn]], *, now: datetime) -> None:
        """Fenced; audit *turn*. The same turn again replaces what was decided before."""
        ...

    def children(self, ids: Sequence[str]) -> dict[str, list[Child]]: ...  # by parent; in the order of opening
    def parents(self, ids: Sequence[str]) -> dict[str, ParentOf]: ...  # of those that are parts
    def open_children(
        self,
        claim: Claim,
        orders: Sequence[tuple[ChildOrder, Triage]],
        *,
        opened_by: str,
        requester: Requester,
        now: datetime,
    ) -> list[Child]:
        """Each part once, with its job and its triage; gives all parts of the claimed ticket. Fenced; Conflict where one is squatted."""
        ...

    def wake_parents(self) -> int:
        """Parents that wait for parts of which one has ended since: active again and woken. Gives how many."""
        ...

    def save_outcomes(self, outcomes: Mapping[str, Outcome], *, notes: Mapping[str, Mapping[str, Any]], now: datetime) -> None:
        """State, reply, packet, approval or question, outbox rows and audit, for many tickets at once."""
        ...

    # approvals
    def approvals_of(self, ids: Sequence[str]) -> dict[str, list[Approval]]: ...
    def approval(self, approval_id: str) -> Approval: ...
    def approvals(
        self, *, status: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> tuple[list[Approval], str | None]: ...
    def decide(self, approval_id: str, *, approve: bool, reason: str, by: str, now: datetime, role: str = "approver") -> Approval:
        """Raises Conflict when it was decided before or has expired. Wakes the ticket."""
        ...

    def expire_approvals(self, *, now: datetime) -> int: ...

    # one-time codes
    def issue_code(self, ticket_id: str, *, email: str, code_sha256: str, expires_at: datetime) -> None: ...
    def live_code(self, ticket_id: str) -> dict[str, Any] | None: ...  # {code_sha256, expires_at, attempts, email}
    def prove_identity(self, ticket_id: str) -> None:
        """Raise the requester's assurance on this ticket to *proven*."""
        ...

    def doubt_identity(self, ticket_id: str, held: Sequence[Assurance], *, by: str) -> None:
        """Lower it to *claimed* where it is one of `held`: somebody spoke in their name who vouches for nobody."""
        ...

    # knowledge
    def put_document(self, document: Mapping[str, Any], passages: Sequence[tuple[str, str, np.ndarray]], *, model: str) -> None:
        """(heading, text, vector) per passage; replaces the document of the same id when its digest changed."""
        ...

    def document_digests(self, ids: Sequence[str] | None = None, *, model: str | None = None) -> dict[str, str]:
        """By id, of these (None: of all); with `model`, of those alone whose passages all have a vector of it."""
        ...

    def search_knowledge(
        self, model: str, vector: np.ndarray, words: str, *, limit: int, reader: Reader = ANYBODY, on: date | None = None
    ) -> list[Passage]:
        """What this reader may see on that day (None: today), best first by meaning and words together."""
        ...

    def gaps(self, model: str, *, since: datetime, limit: int) -> list[Gap]: ...  # newest first
    def sensitive_texts(self) -> list[str]: ...  # of documents that may be summarized and never quoted
    def internal_texts(self) -> list[str]:
        """Headings and passages of documents that requesters must not read, in force or not."""
        ...

    # outbox, audit, switches, keys
    def enqueue(self, ticket_id: str, kind: str, payload: Mapping[str, Any], *, now: datetime) -> None:
        """One outbox item beside those that save_outcomes writes: "note", "one_time_code"."""
        ...

    def forget_commits(self) -> int:
        """Housekeeping of the store's own bookkeeping."""
        ...

    def outbox_due(self, *, limit: int, now: datetime) -> list[OutboxItem]: ...
    def outbox_sent(self, ids: Sequence[int], *, now: datetime) -> None: ...
    def outbox_failed(self, item_id: int, *, error: str, now: datetime) -> None: ...
    def outbox_unsent(self) -> int:
        """How many items were not delivered yet."""
        ...

    def audit(self, events: Sequence[tuple[str | None, str, str, Mapping[str, Any]]]) -> None:
        """(ticket id or None, kind, actor, body) appended to the hash chain."""
        ...

    def events(
        self, *, ticket_id: str | None, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[dict[str, Any]], str | None]: ...
    def decisions(
        self, *, ticket_id: str | None = None, since: datetime | None = None, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Recorded decisions of governance, oldest first: {seq, at, ticket_id, basis}. `limit` counts the events that carry them."""
        ...

    def verify_chain(
        self, checkpoints: Sequence[Checkpoint] | None = None, *, head: tuple[int, bytes] | None = None
    ) -> dict[str, Any]: ...
    def chain_rows(self, *, after: int, up_to: int) -> Iterator[EventRow]: ...  # as stored, in their order
    def seqs_of(self, ticket_id: str, *, up_to: int) -> list[int]: ...  # of a ticket's events, in their order
    def chain_head(self) -> tuple[int, bytes] | None: ...  # seq and hash of the last event; none: the database lost it
    def has_news(self, after: int) -> bool: ...  # any event after that one, but for word of checkpoints
    def erase(self, ticket_id: str, *, reason: str, by: str) -> dict[str, Any]:
        """Every text of a resolved or closed ticket goes, its events' too; the event *erased* names them. Raises Conflict."""
        ...

    def erase_old(self, *, before: datetime) -> list[str]: ...  # retention: closed tickets untouched since; some at a time
    @property
    def ladder(self) -> LadderBook: ...
    def kill_switch(self) -> dict[str, Any]: ...  # {stopped, reason, by, at}
    def set_kill_switch(self, *, stopped: bool, reason: str, by: str) -> None: ...
    def key_by_sha256(self, sha256: str) -> dict[str, Any] | None: ...  # {name, role, kind}
    def add_key(self, *, name: str, role: str, kind: str, sha256: str) -> None: ...
    def idempotent(self, key: str, *, route: str, body_sha256: str) -> dict[str, Any] | None:
        """The stored answer {status, body} of an earlier request with this Idempotency-Key; Conflict if its body differed."""
        ...

    def remember(self, key: str, *, route: str, body_sha256: str, status: int, body: Mapping[str, Any]) -> None: ...

    # models
    def desired_adapters(self) -> list[dict[str, Any]]: ...  # [{alias, name, path}] of the task triage
    def set_adapter(self, alias: str, name: str) -> None: ...
    def desired_aliases(self, task: str | None = None) -> list[DesiredAlias]: ...
    def project_aliases(self, read: Callable[[], Sequence[DesiredAlias]]) -> list[str]:
        """Make the desired aliases those that `read` gives; "task/alias" of each that changed. Each change is audited."""
        ...

    def report_models(self, part: str, replica: str, body: Mapping[str, Any]) -> None:
        """What this replica really serves; counts while it is repeated."""
        ...

    def model_reports(self, *, fresh_s: float) -> list[dict[str, Any]]: ...  # [{part, replica, body, at}]
    def save_shadow_predictions(self, name: str, found: Mapping[str, Classification]) -> None:
        """By ticket id, of the model `name`. Changes no ticket."""
        ...

    def shadow_predictions(
        self, *, ticket_id: str | None = None, name: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]: ...

    # vectors of another embedding model
    def tickets_without(self, model: str, *, since: datetime, limit: int) -> list[tuple[str, Entities]]:
        """Tickets that another model embedded and this one did not, newest first."""
        ...

    def add_embeddings(self, model: str, entries: Sequence[tuple[str, np.ndarray, Entities]]) -> None:
        """As `save_embeddings`, but what is there stays."""
        ...

    def passages_without(self, model: str, *, limit: int) -> list[tuple[int, str]]: ...  # (passage id, text to embed)
    def move_passages(self, model: str, entries: Sequence[tuple[int, np.ndarray]]) -> None: ...
    def left_without(self, model: str, *, since: datetime) -> dict[str, int]: ...  # {tickets, passages}

    # figures
    def kpis(self) -> dict[str, Any]: ...


class Store(Protocol):
    def transaction(self) -> AbstractContextManager[Transaction]: ...

    def run(self, work: "Callable[[Transaction], Result]") -> "Result":
        """`work` in a transaction of its own, tried again after a deadlock or while the database restarts; committed once.

        `work` may run several times and must do nothing but use the transaction.
        """
        ...

    def wait_for_work(self, timeout_s: float) -> bool:
        """LISTEN until a job is ready or the time is up."""
        ...
