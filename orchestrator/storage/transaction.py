"""One PostgreSQL transaction as the ports describe it.

Holds a connection and hands every question to the module that knows its tables.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import Any

import numpy as np

from orchestrator.audit.checkpoints import Checkpoint
from orchestrator.audit.events import EventRow
from orchestrator.domain.aliases import TRIAGE, DesiredAlias
from orchestrator.domain.resolution import (
    Approval,
    Child,
    ChildOrder,
    Frozen,
    HandedOver,
    Handover,
    Observation,
    Outcome,
    ParentOf,
    Proposal,
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
from orchestrator.ports import ANYBODY, Accepted, Claim, Gap, OutboxItem, Passage, Reader, Similar
from orchestrator.storage import (
    aliases,
    approvals,
    audit,
    causes,
    children,
    decisions,
    erasure,
    gaps,
    internal,
    knowledge,
    kpis,
    operations,
    queue,
    record,
    reembed,
    resolution,
    similar,
    spending,
    tickets,
    touches,
    triage,
    turns,
)
from orchestrator.storage.approvals import Links
from orchestrator.storage.autonomy import LadderBook
from orchestrator.storage.connection import Connection, tickets_of


class PostgresTransaction:
    """`orchestrator.ports.Transaction`. Made by `PostgresStore.transaction`, which commits or rolls back."""

    def __init__(self, connection: Connection, windows: similar.VectorWindows) -> None:
        self._connection = connection
        self._windows = windows

    # --- tickets ---

    def accept(self, incoming: Sequence[IncomingTicket], *, now: datetime) -> list[Accepted]:
        return tickets.accept(self._connection, incoming, now=now)

    def tickets(self, ids: Sequence[str]) -> dict[str, Ticket]:
        return tickets.tickets(self._connection, ids)

    def ticket(self, ticket_id: str) -> Ticket:
        return tickets.ticket(self._connection, ticket_id)

    def ticket_record(self, ticket_id: str) -> dict[str, Any]:
        return record.ticket_record(self._connection, ticket_id)

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
    ) -> tuple[list[dict[str, Any]], str | None]:
        named = {"state": state, "category": category, "group": group, "requester": requester}
        filters = {**named, "incident": incident, "source": source, "q": q}
        return tickets.list_tickets(self._connection, filters, cursor=cursor, limit=limit)

    def add_message(self, ticket_id: str, message: Message) -> None:
        tickets.add_message(self._connection, ticket_id, message)

    def set_state(self, ticket_id: str, state: State, *, reason: str, by: str = audit.CLOISTER) -> None:
        tickets.set_state(self._connection, ticket_id, state, reason=reason, by=by)

    def reopen(self, ticket_id: str, *, reason: str, by: str) -> None:
        tickets.reopen(self._connection, ticket_id, reason=reason, by=by)

    def record_feedback(self, ticket_id: str, kind: str, body: Mapping[str, Any], *, by: str) -> None:
        tickets.record_feedback(self._connection, ticket_id, kind, body, by=by)

    # --- the queue ---

    def claim(self, *, worker: str, limit: int, lease_s: float) -> list[Claim]:
        claims, worn_out = queue.claim(self._connection, worker=worker, limit=limit, lease_s=lease_s)
        if worn_out:
            error = "its worker stopped without a word every time"
            self._hand_over(queue.retry(self._connection, worn_out, error=error, bury=True), now=worn_out[0].lease_until)
        return claims

    def heartbeat(self, claims: Sequence[Claim], *, lease_s: float) -> list[Claim]:
        return queue.heartbeat(self._connection, claims, lease_s=lease_s)

    def hold(self, claims: Sequence[Claim]) -> None:
        queue.hold(self._connection, claims)

    def finish(self, claims: Sequence[Claim]) -> None:
        queue.finish(self._connection, claims)

    def retry(self, claims: Sequence[Claim], *, error: str, now: datetime, counted: bool = True) -> None:
        self._hand_over(queue.retry(self._connection, claims, error=error, counted=counted), now=now)

    def lease_holders(self) -> list[str]:
        return queue.lease_holders(self._connection)

    def end_leases(self, workers: Sequence[str]) -> int:
        return queue.end_leases(self._connection, workers)

    def wake(self, ticket_ids: Iterable[str]) -> None:
        queue.wake(self._connection, tickets_of(ticket_ids))

    def queue_depth(self) -> int:
        return queue.depth(self._connection)

    def _hand_over(self, given_up: Mapping[str, str], *, now: datetime) -> None:
        """The dead letter: the ticket goes to a person, with the reason."""
        packets = {ticket_id: HandedOver(packet=_given_up(reason), reply="") for ticket_id, reason in given_up.items()}
        if packets:
            resolution.save_outcomes(self._connection, packets, notes={}, now=now)

    # --- triage ---

    def save_triage(self, triages: Mapping[str, Triage], *, now: datetime) -> None:
        triage.save_triage(self._connection, triages, now=now)

    def triage(self, ticket_id: str) -> Triage | None:
        return triage.triages(self._connection, [ticket_id]).get(ticket_id)

    def triages(self, ids: Sequence[str]) -> dict[str, Triage]:
        return triage.triages(self._connection, ids)

    def save_embeddings(self, model: str, rows: Sequence[tuple[str, np.ndarray, Entities]]) -> None:
        triage.save_embeddings(self._connection, model, rows)

    def embeddings(self, model: str, ids: Sequence[str]) -> dict[str, np.ndarray]:
        return triage.embeddings(self._connection, model, ids)

    def linking_lock(self) -> None:
        triage.linking_lock(self._connection)

    def similar(
        self,
        model: str,
        ids: Sequence[str],
        *,
        window_s: float,
        at_least: float,
        limit: int,
        own_only: Collection[str] = (),
    ) -> dict[str, list[Similar]]:
        connection, windows = self._connection, self._windows
        return similar.similar(
            connection, windows, model, ids, window_s=window_s, at_least=at_least, limit=limit, own_only=own_only
        )

    def contacts(self, emails: Sequence[str], *, since: datetime) -> dict[str, list[dict[str, Any]]]:
        return tickets.contacts(self._connection, emails, since=since)

    def spending(self, *, day: datetime, hour: datetime, since: datetime) -> list[Spend]:
        return spending.spending(self._connection, day=day, hour=hour, since=since)

    def open_load(self) -> dict[str, int]:
        return tickets.open_load(self._connection)

    # --- incidents ---

    def join_incident(self, ticket_id: str, to_ticket_id: str, *, title: str, now: datetime) -> str:
        return triage.join_incident(self._connection, ticket_id, to_ticket_id, title=title, now=now)

    def split_incident(self, incident_id: str, ticket_ids: Sequence[str], *, reason: str, by: str) -> None:
        triage.split_incident(self._connection, incident_id, ticket_ids, reason=reason, by=by)

    def incident(self, incident_id: str) -> dict[str, Any]:
        return triage.incident(self._connection, incident_id)

    def incidents(self, *, cursor: str | None = None, limit: int = 50) -> tuple[list[dict[str, Any]], str | None]:
        return triage.incidents(self._connection, cursor=cursor, limit=limit)

    def incidents_to_explain(self, *, limit: int = 20) -> list[dict[str, Any]]:
        return causes.incidents_to_explain(self._connection, limit=limit)

    def save_causes(self, found: Sequence[tuple[str, int, Sequence[Mapping[str, Any]]]], *, now: datetime) -> None:
        causes.save_causes(self._connection, found, now=now)

    def incident_of(self, ticket_id: str) -> str | None:
        return triage.incident_of(self._connection, ticket_id)

    def first_of_causes(self, causes: Sequence[str], *, since: datetime) -> dict[str, Similar]:
        return triage.first_of_causes(self._connection, causes, since=since)

    def stranded(self) -> list[str]:
        return triage.stranded(self._connection)

    def linked_to(self, ticket_id: str) -> list[str]:
        return triage.linked_to(self._connection, [ticket_id]).get(ticket_id, [])

    def linked_to_any(self, ids: Sequence[str]) -> dict[str, list[str]]:
        return triage.linked_to(self._connection, ids)

    # --- resolution ---

    def steps(self, ids: Sequence[str]) -> dict[str, list[StepRecord]]:
        return resolution.steps(self._connection, ids)

    def save_intended(
        self,
        claims: Sequence[Claim],
        intents: Sequence[tuple[Proposal, Verdict]],
        *,
        now: datetime,
        targets: Mapping[str, Target] = MappingProxyType({}),
    ) -> None:
        resolution.save_intended(self._connection, claims, intents, now=now, targets=targets)

    def lock(self, names: Sequence[str]) -> None:
        touches.lock(self._connection, names)

    def touches(self, targets: Sequence[str], *, since: datetime) -> dict[str, list[Touch]]:
        return touches.touches(self._connection, targets, since=since)

    def acts_since(self, actions: Sequence[str], *, since: datetime) -> dict[str, int]:
        return touches.acts_since(self._connection, actions, since=since)

    def unresolved(self) -> list[dict[str, Any]]:
        return touches.unresolved(self._connection)

    def frozen(self, targets: Sequence[str] | None = None) -> list[Frozen]:
        return touches.frozen(self._connection, targets)

    def freeze(self, found: Sequence[Frozen]) -> None:
        touches.freeze(self._connection, found)

    def unfreeze(self, action: str, target: str, *, reason: str, by: str) -> Frozen:
        return touches.unfreeze(self._connection, action, target, reason=reason, by=by)

    def save_observed(
        self,
        observations: Sequence[tuple[str, str, Observation]],
        *,
        now: datetime,
        checked: Mapping[tuple[str, str], tuple[Snapshot | None, Verification | None]] = MappingProxyType({}),
    ) -> None:
        resolution.save_observed(self._connection, observations, now=now, checked=checked)

    def turns(self, ids: Sequence[str]) -> dict[str, list[Turn]]:
        return turns.turns(self._connection, ids)

    def save_turns(self, claims: Sequence[Claim], taken: Sequence[tuple[str, Turn]], *, now: datetime) -> None:
        turns.save_turns(self._connection, claims, taken, now=now)

    def children(self, ids: Sequence[str]) -> dict[str, list[Child]]:
        return children.children(self._connection, ids)

    def parents(self, ids: Sequence[str]) -> dict[str, ParentOf]:
        return children.parents(self._connection, ids)

    def open_children(
        self,
        claim: Claim,
        orders: Sequence[tuple[ChildOrder, Triage]],
        *,
        opened_by: str,
        requester: Requester,
        now: datetime,
    ) -> list[Child]:
        return children.open_children(self._connection, claim, orders, opened_by=opened_by, requester=requester, now=now)

    def wake_parents(self) -> int:
        return children.wake_parents(self._connection)

    def save_outcomes(self, outcomes: Mapping[str, Outcome], *, notes: Mapping[str, Mapping[str, Any]], now: datetime) -> None:
        resolution.save_outcomes(self._connection, outcomes, notes=notes, now=now)

    # --- approvals and one-time codes ---

    def approvals_of(self, ids: Sequence[str]) -> dict[str, list[Approval]]:
        return approvals.of_tickets(self._connection, ids)

    def approval(self, approval_id: str) -> Approval:
        return approvals.one(self._connection, approval_id)

    def approvals(
        self, *, status: str | None = None, cursor: str | None = None, limit: int = 50, to_review: bool = False
    ) -> tuple[list[Approval], str | None]:
        return approvals.listed(self._connection, status=status, cursor=cursor, limit=limit, to_review=to_review)

    def decide(self, approval_id: str, *, approve: bool, reason: str, by: str, now: datetime, role: str = "approver") -> Approval:
        return approvals.decide(self._connection, approval_id, approve=approve, reason=reason, by=by, now=now, role=role)

    def review_approval(self, approval_id: str, *, finding: str, by: str, now: datetime) -> Approval:
        return approvals.review(self._connection, approval_id, finding=finding, by=by, now=now)

    def supersede(self, asked: Approval, proposal: Proposal, verdict: Verdict, *, reason: str, by: str, now: datetime) -> Approval:
        return approvals.supersede(self._connection, asked, proposal, verdict, reason=reason, by=by, now=now)

    @property
    def approval_links(self) -> Links:
        return Links(self._connection)

    def expire_approvals(self, *, now: datetime) -> int:
        return approvals.expire(self._connection, now=now)

    def issue_code(self, ticket_id: str, *, email: str, code_sha256: str, expires_at: datetime) -> None:
        resolution.issue_code(self._connection, ticket_id, email=email, code_sha256=code_sha256, expires_at=expires_at)

    def live_code(self, ticket_id: str) -> dict[str, Any] | None:
        return resolution.live_code(self._connection, ticket_id)

    def prove_identity(self, ticket_id: str) -> None:
        resolution.prove_identity(self._connection, ticket_id)

    def doubt_identity(self, ticket_id: str, held: Sequence[Assurance], *, by: str) -> None:
        resolution.doubt_identity(self._connection, ticket_id, held, by=by)

    # --- knowledge ---

    def put_document(self, document: Mapping[str, Any], passages: Sequence[tuple[str, str, np.ndarray]], *, model: str) -> None:
        knowledge.put_document(self._connection, document, passages, model=model)

    def document_digests(self, ids: Sequence[str] | None = None, *, model: str | None = None) -> dict[str, str]:
        return knowledge.document_digests(self._connection, ids, model=model)

    def search_knowledge(
        self, model: str, vector: np.ndarray, words: str, *, limit: int, reader: Reader = ANYBODY, on: date | None = None
    ) -> list[Passage]:
        return knowledge.search(self._connection, model, vector, words, limit=limit, reader=reader, on=on)

    def gaps(self, model: str, *, since: datetime, limit: int) -> list[Gap]:
        return gaps.read(self._connection, model, since=since, limit=limit)

    def sensitive_texts(self) -> list[str]:
        return knowledge.sensitive_texts(self._connection)

    def internal_texts(self) -> list[str]:
        return internal.texts(self._connection)

    # --- outbox, audit, switches, keys ---

    def enqueue(self, ticket_id: str, kind: str, payload: Mapping[str, Any], *, now: datetime) -> None:
        operations.enqueue(self._connection, ticket_id, kind, payload, now=now)

    def forget_commits(self) -> int:
        return operations.forget_commits(self._connection)

    def outbox_due(self, *, limit: int, now: datetime) -> list[OutboxItem]:
        return operations.outbox_due(self._connection, limit=limit, now=now)

    def outbox_sent(self, ids: Sequence[int], *, now: datetime) -> None:
        operations.outbox_sent(self._connection, ids, now=now)

    def outbox_failed(self, item_id: int, *, error: str, now: datetime) -> None:
        operations.outbox_failed(self._connection, item_id, error=error, now=now)

    def outbox_unsent(self) -> int:
        return operations.outbox_unsent(self._connection)

    def audit(self, events: Sequence[tuple[str | None, str, str, Mapping[str, Any]]]) -> None:
        audit.append(self._connection, events)

    def events(
        self, *, ticket_id: str | None, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[dict[str, Any]], str | None]:
        return audit.events(self._connection, ticket_id=ticket_id, cursor=cursor, limit=limit)

    def decisions(
        self, *, ticket_id: str | None = None, since: datetime | None = None, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[dict[str, Any]], str | None]:
        return decisions.decisions(self._connection, ticket_id=ticket_id, since=since, cursor=cursor, limit=limit)

    def verify_chain(
        self, checkpoints: Sequence[Checkpoint] | None = None, *, head: tuple[int, bytes] | None = None
    ) -> dict[str, Any]:
        return audit.verify_chain(self._connection, checkpoints, head=head)

    def chain_head(self) -> tuple[int, bytes] | None:
        return audit.chain_head(self._connection)

    def chain_rows(self, *, after: int, up_to: int = 2**62) -> Iterator[EventRow]:
        return audit.chain_rows(self._connection, after=after, up_to=up_to)

    def seqs_of(self, ticket_id: str, *, up_to: int) -> list[int]:
        return audit.seqs_of(self._connection, ticket_id, up_to=up_to)

    def has_news(self, after: int) -> bool:
        return audit.has_news(self._connection, after)

    def erase(self, ticket_id: str, *, reason: str, by: str) -> dict[str, Any]:
        return erasure.erase(self._connection, ticket_id, reason=reason, by=by)

    def erase_old(self, *, before: datetime) -> list[str]:
        return erasure.erase_old(self._connection, before=before)

    @property
    def ladder(self) -> LadderBook:
        return LadderBook(self._connection)

    def kill_switch(self) -> dict[str, Any]:
        return operations.kill_switch(self._connection)

    def set_kill_switch(self, *, stopped: bool, reason: str, by: str) -> None:
        operations.set_kill_switch(self._connection, stopped=stopped, reason=reason, by=by)

    def key_by_sha256(self, sha256: str) -> dict[str, Any] | None:
        return operations.key_by_sha256(self._connection, sha256)

    def add_key(self, *, name: str, role: str, kind: str, sha256: str) -> None:
        operations.add_key(self._connection, name=name, role=role, kind=kind, sha256=sha256)

    def idempotent(self, key: str, *, route: str, body_sha256: str) -> dict[str, Any] | None:
        return operations.idempotent(self._connection, key, route=route, body_sha256=body_sha256)

    def remember(self, key: str, *, route: str, body_sha256: str, status: int, body: Mapping[str, Any]) -> None:
        operations.remember(self._connection, key, route=route, body_sha256=body_sha256, status=status, body=body)

    # --- models ---

    def desired_adapters(self) -> list[dict[str, Any]]:
        return aliases.adapters(self._connection)

    def set_adapter(self, alias: str, name: str, *, path: str | None = None) -> None:
        aliases.set_alias(self._connection, DesiredAlias(task=TRIAGE, alias=alias, name=name, path=path or ""))

    def desired_aliases(self, task: str | None = None) -> list[DesiredAlias]:
        return aliases.desired(self._connection, task)

    def project_aliases(self, read: Callable[[], Sequence[DesiredAlias]]) -> list[str]:
        return aliases.project(self._connection, read)

    def report_models(self, part: str, replica: str, body: Mapping[str, Any]) -> None:
        aliases.report(self._connection, part, replica, body)

    def model_reports(self, *, fresh_s: float) -> list[dict[str, Any]]:
        return aliases.reports(self._connection, fresh_s=fresh_s)

    def save_shadow_predictions(self, name: str, found: Mapping[str, Classification]) -> None:
        aliases.save_predictions(self._connection, name, found)

    def shadow_predictions(
        self, *, ticket_id: str | None = None, name: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        return aliases.predictions(self._connection, ticket_id=ticket_id, name=name, limit=limit)

    def tickets_without(self, model: str, *, since: datetime, limit: int) -> list[tuple[str, Entities]]:
        return reembed.tickets_without(self._connection, model, since=since, limit=limit)

    def add_embeddings(self, model: str, entries: Sequence[tuple[str, np.ndarray, Entities]]) -> None:
        reembed.add_embeddings(self._connection, model, entries)

    def passages_without(self, model: str, *, limit: int) -> list[tuple[int, str]]:
        return reembed.passages_without(self._connection, model, limit=limit)

    def move_passages(self, model: str, entries: Sequence[tuple[int, np.ndarray]]) -> None:
        reembed.move_passages(self._connection, model, entries)

    def left_without(self, model: str, *, since: datetime) -> dict[str, int]:
        return reembed.left(self._connection, model, since=since)

    def kpis(self) -> dict[str, Any]:
        return kpis.kpis(self._connection)


def _given_up(reason: str) -> Handover:
    return Handover(
        summary="The desk could not finish this ticket on its own.",
        why_stopped=reason,
        suggested_next_action="Look at the steps taken so far, then finish the ticket by hand or reopen it.",
    )
