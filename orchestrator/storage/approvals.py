"""Approvals: asked for by a ticket, decided by people, each word a row, executed once or expired to *no*. Knows the tables approval,
approval_vote, approval_link. Separation of duties is kept here, whatever door somebody comes through."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.errors import Conflict, Forbidden, NotFound
from orchestrator.domain.resolution import Approval, ApprovalStatus, AwaitingApproval, Proposal, Verdict, Vote, person_of
from orchestrator.storage import audit, queue
from orchestrator.storage.connection import Connection, Row, columns, execute, number_of, page, position_of, row, rows, tickets_of
from orchestrator.storage.serialize import clean, dumps, instant, load
from orchestrator.storage.tickets import activate_pending

LIFETIME_S = 24 * 3600.0  # where neither the rule nor the notes say otherwise
VALID_FOR = timedelta(hours=8)  # what was approved and not carried out by then is a no
REVIEW_WITHIN = timedelta(days=3)  # an emergency change is looked at again
ASK = """
    INSERT INTO approval (ticket, proposal, digest, approvers, rule, reason, requested_at, expires_at, quorum, change, proposed_by,
                          wants_review)
    SELECT ticket, proposal::jsonb, digest, approvers, rule, reason, now, expires_at, quorum, change, proposed_by, review
    FROM unnest(%s::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %s::timestamptz[], %s::timestamptz[],
                %s::int[], %b::text[], %b::text[], %s::boolean[])
         AS a (ticket, proposal, digest, approvers, rule, reason, now, expires_at, quorum, change, proposed_by, review)
    ON CONFLICT (ticket, digest) WHERE status = 'waiting' DO NOTHING
    RETURNING id, number, ticket, digest, approvers, rule, reason, expires_at, proposal, quorum, change
"""
WITH_VOTES = """
    SELECT a.*, s.id AS superseded_id, v.votes FROM approval a LEFT JOIN approval s ON s.number = a.superseded_by
    LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_object('by', by, 'role', role, 'approve', approve, 'reason', reason, 'at', at)
                         ORDER BY at, person) AS votes
        FROM approval_vote WHERE approval = a.number) v ON true
"""
LISTED = f"""{WITH_VOTES}
    WHERE (%(status)s::text IS NULL OR a.status = %(status)s) AND (%(before)s::bigint IS NULL OR a.number < %(before)s)
        AND (NOT %(to_review)s OR (a.review_due_at IS NOT NULL AND a.reviewed_at IS NULL AND a.status = 'executed'))
    ORDER BY a.number DESC LIMIT %(limit)s
"""
VOTE = "INSERT INTO approval_vote (approval, person, by, role, approve, reason, at) VALUES (%s, %s, %s, %s, %s, %s, %s)"
DECIDE = """
    UPDATE approval SET status = %s, decided_by = %s, decided_at = %s, decision_reason = %s, valid_until = %s
    WHERE number = %s AND status = 'waiting'
"""
DUE = """
    SELECT number, ticket FROM approval
    WHERE (status = 'waiting' AND expires_at <= %(now)s) OR (status = 'approved' AND valid_until <= %(now)s)
"""
EXPIRE = """
    UPDATE approval SET status = 'expired', decided_at = coalesce(decided_at, %(now)s) WHERE number = ANY(%(numbers)s)
        AND ((status = 'waiting' AND expires_at <= %(now)s) OR (status = 'approved' AND valid_until <= %(now)s)) RETURNING *
"""
EXECUTED = """
    UPDATE approval SET status = 'executed', review_due_at = CASE WHEN wants_review THEN e.review_due_at END
    FROM unnest(%s::bigint[], %b::text[], %s::timestamptz[]) AS e (ticket, digest, review_due_at)
    WHERE approval.ticket = e.ticket AND approval.digest = e.digest AND approval.status = 'approved'
"""
REVIEW = """
    UPDATE approval SET reviewed_by = %s, reviewed_at = %s, review = %s
    WHERE number = %s AND status = 'executed' AND review_due_at IS NOT NULL AND reviewed_at IS NULL
"""


# --- asked for ---


def ask(
    connection: Connection, asking: Mapping[str, AwaitingApproval], notes: Mapping[str, Mapping[str, Any]], now: datetime
) -> list[audit.Event]:
    """A proposal that waits already is not asked for twice. Gives the events."""
    table = [
        _asking(ticket_id, o.proposal, o.verdict, now, lifetime_s=notes.get(ticket_id, {}).get("approval_lifetime_s"))
        for ticket_id, o in asking.items()
    ]
    return _ask(connection, table)


def _ask(connection: Connection, table: Sequence[tuple[Any, ...]]) -> list[audit.Event]:
    if not table:
        return []
    shown = ("digest", "approvers", "rule", "reason", "expires_at", "proposal", "quorum", "change")
    return [
        (f"T-{new['ticket']}", "approval_requested", audit.CLOISTER, {"approval": new["id"], **{name: new[name] for name in shown}})
        for new in rows(connection, ASK, columns(table, 12))
    ]


def _asking(
    ticket_id: str,
    proposal: Proposal,
    verdict: Verdict,
    now: datetime,
    *,
    lifetime_s: float | None = None,
    by: str = audit.CLOISTER,
) -> tuple[Any, ...]:
    of_rule = verdict.expires_minutes * 60.0 if verdict.expires_minutes is not None else LIFETIME_S
    expires_at = now + timedelta(seconds=float(lifetime_s if lifetime_s is not None else of_rule))
    who = (verdict.approvers or "approver", verdict.rule, clean(verdict.reason))
    more = (verdict.quorum, verdict.change, clean(by), verdict.review)
    return (number_of(ticket_id, "T"), dumps(proposal), proposal.digest, *who, now, expires_at, *more)


# --- read ---


def of_tickets(connection: Connection, ids: Sequence[str]) -> dict[str, list[Approval]]:
    """Oldest first."""
    answer: dict[str, list[Approval]] = {ticket_id: [] for ticket_id in ids}
    for found in rows(connection, f"{WITH_VOTES} WHERE a.ticket = ANY(%s) ORDER BY a.number", [tickets_of(ids)]):
        answer[f"T-{found['ticket']}"].append(_approval(found))
    return answer


def one(connection: Connection, approval_id: str) -> Approval:
    found = row(connection, f"{WITH_VOTES} WHERE a.number = %s", [number_of(approval_id, "A")])
    if found is None:
        raise NotFound(f"There is no approval {approval_id!r}.", hint="Look it up in the list of approvals.")
    return _approval(found)


def listed(
    connection: Connection, *, status: str | None, cursor: str | None, limit: int, to_review: bool = False
) -> tuple[list[Approval], str | None]:
    """Newest first."""
    parameters = {"status": status, "before": position_of(cursor), "limit": limit + 1, "to_review": to_review}
    found = [_approval(record) for record in rows(connection, LISTED, parameters)]
    return page(found, limit, lambda item: number_of(item.id, "A"))


# --- decided ---


def decide(
    connection: Connection, approval_id: str, *, approve: bool, reason: str, by: str, now: datetime, role: str = "approver"
) -> Approval:
    """One person's word. One *no* ends it; a *yes* counts towards the quorum. The ticket is woken when it is decided.

    Raises Conflict when it was decided before, has expired, or this person has spoken already; Forbidden for one's own matter.
    """
    asked = _held(connection, approval_id)
    if asked.status is not ApprovalStatus.WAITING or asked.expires_at <= now:
        raise _undecidable(asked)
    if why := own_matter(asked, by, requester=_requester(connection, asked)):
        raise Forbidden(why)
    person, number = person_of(by), number_of(approval_id, "A")
    if any(person_of(vote.by) == person for vote in asked.votes):
        raise Conflict(f"{by} has spoken on {asked.id} already.", hint=f"{asked.quorum} different people must approve it.")
    execute(connection, VOTE, [number, person, clean(by), role, approve, clean(reason), now])
    said = {"approval": asked.id, "digest": asked.proposal.digest, "reason": reason, "role": role}
    audit.append(connection, [(asked.ticket_id, "approval_voted", clean(by), {**said, "approve": approve})])
    votes = (*asked.votes, Vote(by=by, role=role, approve=approve, reason=reason, at=now))
    if not approve or len(votes) >= asked.quorum:
        _decided(connection, asked, votes, approve=approve, now=now)
    return one(connection, approval_id)


def _decided(connection: Connection, asked: Approval, votes: Sequence[Vote], *, approve: bool, now: datetime) -> None:
    status = ApprovalStatus.APPROVED if approve else ApprovalStatus.REJECTED
    counted = votes if approve else votes[-1:]
    by, reason = ", ".join(vote.by for vote in counted), "; ".join(vote.reason for vote in counted)
    valid_until = now + VALID_FOR if approve else None
    execute(connection, DECIDE, [status.value, clean(by), now, clean(reason), valid_until, number_of(asked.id, "A")])
    ticket = number_of(asked.ticket_id, "T")
    queue.wake(connection, [ticket])
    activate_pending(connection, [ticket], reason=f"{asked.id} {status} by {by}: {reason}", by=counted[-1].by)
    body = {
        "approval": asked.id,
        "status": status,
        "digest": asked.proposal.digest,
        "reason": reason,
        "by": [v.by for v in counted],
    }
    audit.append(connection, [(asked.ticket_id, "approval_decided", clean(by), body)])


def own_matter(asked: Approval, by: str, *, requester: str) -> str:
    """Why this person may not decide it; empty where they may. The requester, the owner and whoever proposed it may not."""
    person = person_of(by)
    if person in {person_of(requester), person_of(asked.proposal.owner or "")} and person:
        return f"{asked.id} concerns {requester}'s own request; somebody else must decide it."
    if person == person_of(asked.proposed_by):
        return f"{by} proposed {asked.id}; somebody else must decide it."
    return ""


def _held(connection: Connection, approval_id: str) -> Approval:
    """Locks in the order of all: the job, the ticket, then the approval."""
    asked = one(connection, approval_id)
    queue.lock(connection, [number_of(asked.ticket_id, "T")])
    connection.execute("SELECT FROM approval WHERE number = %s FOR UPDATE", [number_of(approval_id, "A")])
    return one(connection, approval_id)


def _requester(connection: Connection, asked: Approval) -> str:
    found = row(connection, "SELECT requester_email FROM ticket WHERE number = %s", [number_of(asked.ticket_id, "T")])
    return str(found["requester_email"]) if found else ""


def _undecidable(found: Approval) -> Conflict:
    if found.status is ApprovalStatus.WAITING:
        return Conflict(
            f"{found.id} expired at {instant(found.expires_at)}.", hint="The ticket asks again if it still needs the action."
        )
    if found.status is ApprovalStatus.SUPERSEDED:
        return Conflict(f"{found.id} was edited: {found.superseded_by} stands in its place.", hint=f"Decide {found.superseded_by}.")
    who = f" by {found.decided_by}" if found.decided_by else ""
    return Conflict(f"{found.id} was decided before: {found.status}{who}.", hint="Nothing was changed.")


def expire(connection: Connection, *, now: datetime) -> int:
    """What nobody decided, and what was approved and not carried out in time, is a no. Their tickets are woken."""
    due = rows(connection, DUE, {"now": now})
    if not due:
        return 0
    queue.lock(connection, {found["ticket"] for found in due})
    expired = rows(connection, EXPIRE, {"now": now, "numbers": sorted(found["number"] for found in due)})
    tickets = sorted({found["ticket"] for found in expired})
    queue.wake(connection, tickets)
    activate_pending(connection, tickets, reason="the approval expired", by=audit.CLOISTER)
    audit.append(
        connection,
        [(f"T-{e['ticket']}", "approval_expired", audit.CLOISTER, {"approval": e["id"], "digest": e["digest"]}) for e in expired],
    )
    return len(expired)


# --- executed, and looked at again ---


def executed(connection: Connection, done: Sequence[tuple[int, str]], *, now: datetime) -> None:
    """(ticket number, digest) of acts that were observed as done: their approvals are used up."""
    execute(connection, EXECUTED, columns([(ticket, digest, now + REVIEW_WITHIN) for ticket, digest in done], 3))


def review(connection: Connection, approval_id: str, *, finding: str, by: str, now: datetime) -> Approval:
    """What somebody else found in an emergency change afterwards. Raises Conflict, Forbidden."""
    asked = _held(connection, approval_id)
    if person_of(by) in {person_of(vote.by) for vote in asked.votes}:
        raise Forbidden(f"{by} decided {asked.id}; somebody else must look at it again.")
    if execute(connection, REVIEW, [clean(by), now, clean(finding), number_of(approval_id, "A")]) == 0:
        raise Conflict(
            f"{asked.id} is {asked.status} and has nothing to be reviewed.", hint="GET /v1/approvals?to_review=true lists them."
        )
    audit.append(connection, [(asked.ticket_id, "approval_reviewed", clean(by), {"approval": asked.id, "review": finding})])
    return one(connection, approval_id)


# --- edited ---


def supersede(
    connection: Connection, asked: Approval, proposal: Proposal, verdict: Verdict, *, reason: str, by: str, now: datetime
) -> Approval:
    """Another proposal in its place, by a person, for others to decide. Raises Conflict when it is too late."""
    held = _held(connection, asked.id)
    if held.status is not ApprovalStatus.WAITING or held.expires_at <= now:
        raise _undecidable(held)
    if why := own_matter(held, by, requester=_requester(connection, held)):
        raise Forbidden(why)
    execute(connection, "UPDATE approval SET status = 'superseded' WHERE number = %s", [number_of(asked.id, "A")])
    made = _ask(connection, [_asking(asked.ticket_id, proposal, verdict, now, by=by)])
    if not made:
        raise Conflict("Exactly this is waiting for a decision already.", hint="Look it up in the list of approvals.")
    new_id = str(made[0][3]["approval"])  # type: ignore[index]
    execute(
        connection,
        "UPDATE approval SET superseded_by = %s WHERE number = %s",
        [number_of(new_id, "A"), number_of(asked.id, "A")],
    )
    body = {"approval": asked.id, "by": new_id, "digest": proposal.digest, "reason": reason}
    audit.append(connection, [*made, (asked.ticket_id, "approval_superseded", clean(by), body)])
    return one(connection, new_id)


# --- links ---


class Links:
    """Signed links to single approvals: each is for one person, and decides once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, asked: Approval, *, nonce: str, person: str, role: str, expires_at: datetime, by: str) -> None:
        execute(
            self._connection,
            "INSERT INTO approval_link (nonce, approval, digest, person, role, expires_at, made_by) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [nonce, number_of(asked.id, "A"), asked.proposal.digest, clean(person), role, expires_at, clean(by)],
        )
        body = {"approval": asked.id, "digest": asked.proposal.digest, "to": person, "role": role, "expires_at": expires_at}
        audit.append(self._connection, [(asked.ticket_id, "approval_link_made", clean(by), body)])

    def find(self, nonce: str) -> Row | None:
        """{approval (its id), digest, person, role, expires_at, used_at}."""
        query = """
            SELECT a.id AS approval, l.digest, l.person, l.role, l.expires_at, l.used_at
            FROM approval_link l JOIN approval a ON a.number = l.approval WHERE l.nonce = %s
        """
        return row(self._connection, query, [nonce])

    def use(self, nonce: str, *, now: datetime) -> bool:
        """True once."""
        return (
            execute(self._connection, "UPDATE approval_link SET used_at = %s WHERE nonce = %s AND used_at IS NULL", [now, nonce])
            == 1
        )


def _erased(found: Row) -> Proposal:
    """What is left of a proposal whose ticket was erased: its digest."""
    nothing: dict[str, Any] = {"runbook": "", "step": "", "arguments": {}, "provenance": {}, "owner": None, "idempotency_key": ""}
    return Proposal(
        ticket_id=f"T-{found['ticket']}", action="erased", preview={"what": "erased"}, digest=found["digest"], **nothing
    )


def _approval(found: Row) -> Approval:
    plain = ("approvers", "rule", "reason", "requested_at", "expires_at", "decided_by", "decided_at", "decision_reason", "quorum")
    more = ("change", "valid_until", "proposed_by", "review_due_at", "reviewed_by", "reviewed_at", "review")
    return Approval(
        id=found["id"],
        ticket_id=f"T-{found['ticket']}",
        proposal=load(Proposal, found["proposal"]) if found["proposal"] else _erased(found),
        status=ApprovalStatus(found["status"]),
        votes=tuple(load(Vote, vote) for vote in found["votes"] or ()),
        superseded_by=found["superseded_id"],
        **{name: found[name] for name in (*plain, *more)},
    )
