"""Parts of parent requests. Knows the tables child and ticket.parent; decides nothing itself.

The primary key (parent, key) is what makes opening a part idempotent; the database also refuses a part of a part and an eleventh one.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.domain.errors import Conflict
from orchestrator.domain.resolution import Child, ChildOrder, ParentOf
from orchestrator.domain.tickets import CHILD_SOURCE, IncomingTicket, Requester
from orchestrator.domain.triage import Triage
from orchestrator.ports import Claim
from orchestrator.storage import audit, queue, triage
from orchestrator.storage.connection import Connection, Row, columns, execute, number_of, rows, tickets_of
from orchestrator.storage.serialize import clean, dumps
from orchestrator.storage.tickets import accept, activate_pending

CHILDREN = """
    SELECT c.parent, c.key, c.opened_by, t.id, t.state, t.state_reason, o.kind, o.notes ->> 'confirmation' AS confirmation,
        o.kind = 'resolved' AND t.state IN ('resolved', 'closed') AND (o.body -> 'verification' ->> 'confirmed')::boolean AS verified
    FROM child c JOIN ticket t ON t.number = c.ticket LEFT JOIN outcome o ON o.ticket = t.number
    WHERE c.parent = ANY(%s) ORDER BY c.parent, c.ticket
"""
PARENTS = "SELECT ticket, parent, key, runbook, facts FROM child WHERE ticket = ANY(%s)"
OPEN = """
    WITH n AS (
        SELECT * FROM unnest(%s::bigint[], %b::text[], %s::bigint[], %b::text[], %b::text[], %b::text[], %s::timestamptz[])
            AS n (parent, key, ticket, runbook, opened_by, facts, now)
    ), kept AS (
        INSERT INTO child (parent, key, ticket, runbook, opened_by, facts, opened_at)
        SELECT parent, key, ticket, runbook, opened_by, facts::jsonb, now FROM n
    )
    UPDATE ticket SET parent = n.parent FROM n WHERE ticket.number = n.ticket
"""
TO_WAKE = """
    WITH waiting AS (
        SELECT number FROM ticket WHERE outcome = 'awaiting_children' AND state = 'pending'
    ), ended AS (
        UPDATE child SET seen = true FROM ticket t, waiting w
        WHERE child.parent = w.number AND t.number = child.ticket AND NOT child.seen AND t.state IN ('resolved', 'escalated', 'closed')
        RETURNING child.parent
    )
    SELECT number FROM waiting WHERE number IN (SELECT parent FROM ended)
        OR NOT EXISTS (SELECT FROM ticket c WHERE c.parent = waiting.number AND c.state IN ('active', 'pending'))
"""


def children(connection: Connection, ids: Sequence[str]) -> dict[str, list[Child]]:
    """By parent, in the order of opening; tickets without parts are left out."""
    answer: dict[str, list[Child]] = {}
    for found in rows(connection, CHILDREN, [tickets_of(ids)]) if ids else ():
        answer.setdefault(f"T-{found['parent']}", []).append(_child(found))
    return answer


def _child(found: Row) -> Child:
    return Child(
        key=found["key"],
        ticket_id=found["id"],
        opened_by=found["opened_by"],
        state=found["state"],
        outcome=found["kind"],
        why=found["state_reason"],
        verified=bool(found["verified"]),
        confirmation=found["confirmation"],
    )


def parents(connection: Connection, ids: Sequence[str]) -> dict[str, ParentOf]:
    """Those of these tickets that are parts, each with what it was given."""
    found = rows(connection, PARENTS, [tickets_of(ids)]) if ids else []
    return {
        f"T-{each['ticket']}": ParentOf(
            ticket_id=f"T-{each['parent']}", key=each["key"], runbook=each["runbook"], facts=each["facts"]
        )
        for each in found
    }


def open_children(
    connection: Connection,
    claim: Claim,
    orders: Sequence[tuple[ChildOrder, Triage]],
    *,
    opened_by: str,
    requester: Requester,
    now: datetime,
) -> list[Child]:
    """Those not there yet, in one transaction with their jobs and their triage; gives all parts. Fenced by the parent's claim.

    Raises Conflict where somebody else holds a part's external id.
    """
    queue.hold(connection, [claim])
    parent = claim.ticket_id
    known = {child.key for child in children(connection, [parent]).get(parent, [])}
    new = [(order, found) for order, found in orders if order.key not in known]
    if new:
        accepted = accept(connection, [_incoming(parent, order, requester) for order, _ in new], now=now)
        if squatters := [each.ticket_id for each in accepted if not each.created]:
            raise Conflict(f"{squatters[0]} has the external id of a part of {parent}.", hint="A person opens that part.")
        ids = [each.ticket_id for each in accepted]
        execute(connection, OPEN, columns([_row(parent, i, o, opened_by, now) for i, (o, _) in zip(ids, new, strict=True)], 7))
        triage.save_triage(connection, {i: found for i, (_, found) in zip(ids, new, strict=True)}, now=now)
        parts: Mapping[str, Any] = {
            i: {"key": o.key, "runbook": o.runbook, "facts": o.facts} for i, (o, _) in zip(ids, new, strict=True)
        }
        audit.append(connection, [(parent, "children_opened", audit.CLOISTER, {"opened_by": opened_by, "parts": parts})])
    return children(connection, [parent]).get(parent, [])


def _incoming(parent: str, order: ChildOrder, requester: Requester) -> IncomingTicket:
    return IncomingTicket(
        subject=order.subject,
        description=order.description,
        requester=requester,
        source=CHILD_SOURCE,
        external_id=f"{parent}/{order.key}",
        channel="desk",
    )


def _row(parent: str, child: str, order: ChildOrder, opened_by: str, now: datetime) -> tuple[Any, ...]:
    key = clean(order.key)
    return (number_of(parent, "T"), key, number_of(child, "T"), clean(order.runbook), clean(opened_by), dumps(order.facts), now)


def wake_parents(connection: Connection) -> int:
    """Parents that wait and of which a part has ended since they looked; they are active again. Gives how many."""
    numbers = sorted(found["number"] for found in rows(connection, TO_WAKE))
    queue.wake(connection, numbers)
    if numbers:
        activate_pending(connection, numbers, reason="a part of it has ended", by=audit.CLOISTER)
    return len(numbers)
