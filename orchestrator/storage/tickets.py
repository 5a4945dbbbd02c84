"""Tickets, their messages and states.

Knows the tables ticket, message, feedback; the database refuses illegal states and writes their events.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.domain.errors import BadInput, Conflict, NotFound
from orchestrator.domain.tickets import IncomingTicket, Message, Requester, Stage, State, Ticket
from orchestrator.ports import Accepted
from orchestrator.storage import audit, queue
from orchestrator.storage.connection import Connection, Row, columns, execute, number_of, page, position_of, row, rows, tickets_of
from orchestrator.storage.serialize import clean, dumps, instant, load

KNOWN = """
    SELECT k.place, t.id, t.state
    FROM unnest(%s::int[], %b::text[], %b::text[]) AS k (place, source, external_id) JOIN ticket t USING (source, external_id)
"""
NUMBERS = "SELECT nextval('ticket_number') AS number FROM generate_series(1, %s)"
OPEN = """
    WITH opened AS (
        INSERT INTO ticket (number, source, external_id, subject, description, requester, requester_email, channel, context,
                            created_at, received_at, updated_at)
        SELECT number, source, external_id, subject, description, requester::jsonb, email, channel, context::jsonb,
            created_at, now, now
        FROM unnest(%s::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[],
                    %s::timestamptz[], %s::timestamptz[])
             AS n (number, source, external_id, subject, description, requester, email, channel, context, created_at, now)
        ON CONFLICT (source, external_id) DO NOTHING
        RETURNING number
    ), queued AS (
        INSERT INTO job (ticket) SELECT number FROM opened
    )
    SELECT number FROM opened
"""
READ = """
    SELECT t.*, coalesce(m.messages, '[]') AS messages
    FROM ticket t LEFT JOIN LATERAL (
        SELECT jsonb_agg(jsonb_build_object('author', author, 'body', body, 'at', at, 'by', by) ORDER BY id) AS messages
        FROM message WHERE ticket = t.number) AS m ON true
    WHERE t.number = ANY(%s)
"""
LIST = """
    SELECT t.*, i.id AS incident_id FROM ticket t
    LEFT JOIN incident_member m ON m.ticket = t.number AND m.left_at IS NULL LEFT JOIN incident i ON i.number = m.incident
    WHERE (%(before)s::bigint IS NULL OR t.number < %(before)s)
      AND (%(state)s::text IS NULL OR t.state = %(state)s)
      AND (%(category)s::text IS NULL OR t.category = %(category)s)
      AND (%(group)s::text IS NULL OR t.assignment_group = %(group)s)
      AND (%(requester)s::text IS NULL OR t.requester_email = lower(%(requester)s))
      AND (%(incident)s::text IS NULL OR i.id = %(incident)s)
      AND (%(source)s::text IS NULL OR t.source = %(source)s)
      AND (%(q)s::text IS NULL OR t.id = upper(%(q)s) OR t.subject ILIKE %(like)s OR t.description ILIKE %(like)s)
    ORDER BY t.number DESC LIMIT %(limit)s
"""
MESSAGE = "INSERT INTO message (ticket, author, body, at, by) SELECT number, %s, %s, %s, %s FROM ticket WHERE number = %s"
MOVE = """
    UPDATE ticket SET state = %(state)s, state_reason = %(reason)s, state_by = %(by)s, updated_at = now(),
        resolved_at = CASE WHEN %(state)s = 'resolved' THEN now() WHEN %(state)s = 'closed' THEN resolved_at END,
        linked_to = CASE WHEN %(state)s = 'active' THEN NULL ELSE linked_to END
    WHERE number = %(number)s AND state <> %(state)s
"""
ACTIVATE = """
    UPDATE ticket SET state = 'active', state_reason = %s, state_by = %s, updated_at = now()
    WHERE number = ANY(%s) AND state = 'pending'
"""
REOPEN = """
    UPDATE ticket SET state = 'active', state_reason = %(reason)s, state_by = %(by)s, updated_at = now(), resolved_at = NULL,
        reopened_count = reopened_count + 1, linked_to = NULL,
        stage = CASE WHEN EXISTS (SELECT FROM triage WHERE ticket = ticket.number) THEN 'triaged' ELSE 'accepted' END
    WHERE number = %(number)s AND state <> 'active'
"""
OVERRIDE = """
    UPDATE ticket SET category = coalesce(%(category)s, category), assignment_group = coalesce(%(group)s, assignment_group),
        assignee = CASE WHEN %(reassign)s THEN %(assignee)s WHEN coalesce(%(group)s, assignment_group) = assignment_group THEN assignee END,
        priority = coalesce(%(priority)s, priority),
        abstained = CASE WHEN %(category)s::text IS NULL THEN abstained ELSE false END, updated_at = now()
    WHERE number = %(number)s
"""
CONTACTS = """
    SELECT requester_email, id, subject, category, state, created_at FROM ticket
    WHERE requester_email = ANY(%s) AND created_at >= %s AND parent IS NULL ORDER BY created_at, number
"""
OPEN_LOAD = """
    SELECT assignee, count(*) AS open FROM ticket
    WHERE assignee IS NOT NULL AND state IN ('active', 'pending', 'escalated') GROUP BY assignee
"""


# --- coming in ---


def accept(connection: Connection, incoming: Sequence[IncomingTicket], *, now: datetime) -> list[Accepted]:
    """In the order given. The rows, their jobs and the events *opened* (written by the database) come and go together."""
    answers = _known(connection, dict(enumerate(incoming)))
    new = {place: ticket for place, ticket in enumerate(incoming) if place not in answers}
    if new:
        numbers = [found["number"] for found in rows(connection, NUMBERS, [len(new)])]
        table = [_opening(number, ticket, now) for number, ticket in zip(numbers, new.values(), strict=True)]
        opened = {found["number"] for found in rows(connection, OPEN, columns(table, 11))}
        for place, number in zip(new, numbers, strict=True):
            if number in opened:
                answers[place] = Accepted(ticket_id=f"T-{number}", state=State.ACTIVE, created=True)
        queue.notify(connection)
        answers |= _known(connection, {place: ticket for place, ticket in new.items() if place not in answers})
    return [answers[place] for place in range(len(incoming))]


def _known(connection: Connection, tickets: Mapping[int, IncomingTicket]) -> dict[int, Accepted]:
    keys = [
        (place, clean(ticket.source), clean(ticket.external_id))
        for place, ticket in tickets.items()
        if ticket.external_id is not None
    ]
    if not keys:
        return {}
    found = rows(connection, KNOWN, columns(keys, 3))
    return {known["place"]: Accepted(ticket_id=known["id"], state=State(known["state"]), created=False) for known in found}


def _opening(number: int, ticket: IncomingTicket, now: datetime) -> tuple[Any, ...]:
    external_id = None if ticket.external_id is None else clean(ticket.external_id)
    email = clean(ticket.requester.email).lower()
    words = (
        clean(ticket.subject),
        clean(ticket.description),
        dumps(ticket.requester),
        email,
        clean(ticket.channel),
        dumps(ticket.context),
    )
    return (number, clean(ticket.source), external_id, *words, ticket.created_at or now, now)


# --- reading ---


def tickets(connection: Connection, ids: Sequence[str]) -> dict[str, Ticket]:
    """Those that exist, in the order asked."""
    found = {record["id"]: _ticket(record) for record in rows(connection, READ, [tickets_of(ids)])}
    return {identity: found[identity] for identity in ids if identity in found}


def ticket(connection: Connection, ticket_id: str) -> Ticket:
    found = tickets(connection, [ticket_id])
    if ticket_id not in found:
        raise no_such_ticket(ticket_id)
    return found[ticket_id]


def no_such_ticket(ticket_id: str) -> NotFound:
    return NotFound(f"There is no ticket {ticket_id!r}.", hint="Look it up in the list of tickets.")


def _ticket(record: Row) -> Ticket:
    return Ticket(
        id=record["id"],
        number=record["number"],
        source=record["source"],
        external_id=record["external_id"],
        subject=record["subject"],
        description=record["description"],
        requester=load(Requester, record["requester"]),
        channel=record["channel"],
        context=record["context"],
        state=State(record["state"]),
        stage=Stage(record["stage"]),
        created_at=record["created_at"],
        received_at=record["received_at"],
        updated_at=record["updated_at"],
        reopened_count=record["reopened_count"],
        messages=tuple(load(Message, message) for message in record["messages"]),
        autonomy_rung=record["autonomy_rung"],
    )


def list_tickets(
    connection: Connection, filters: Mapping[str, str | None], *, cursor: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Newest first, JSON-ready. `q` finds words of subject and description, or an id."""
    q = filters.get("q")
    like = None if q is None else "%" + q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    parameters = {**filters, "like": like, "before": position_of(cursor), "limit": limit + 1}
    return page([summary(found) for found in rows(connection, LIST, parameters)], limit, lambda item: item["number"])


def summary(record: Row) -> dict[str, Any]:
    """What a list shows of a ticket."""
    plain = (
        "id",
        "number",
        "source",
        "external_id",
        "subject",
        "state",
        "state_reason",
        "stage",
        "channel",
        "category",
        "confidence",
    )
    more = ("abstained", "priority", "assignee", "outcome", "reopened_count", "incident_id")
    shown = {name: record[name] for name in plain + more}
    linked_to = None if record["linked_to"] is None else f"T-{record['linked_to']}"
    times = {
        name: None if record[name] is None else instant(record[name])
        for name in ("created_at", "received_at", "updated_at", "resolved_at")
    }
    parent = None if record["parent"] is None else f"T-{record['parent']}"
    return {
        **shown,
        "group": record["assignment_group"],
        "linked_to": linked_to,
        "parent": parent,
        "requester": record["requester"],
        **times,
    }


def contacts(connection: Connection, emails: Sequence[str], *, since: datetime) -> dict[str, list[dict[str, Any]]]:
    """By e-mail as asked, oldest first; `created_at` is a datetime."""
    asked: dict[str, list[str]] = {}
    for email in dict.fromkeys(emails):
        asked.setdefault(email.lower(), []).append(email)
    answer: dict[str, list[dict[str, Any]]] = {email: [] for email in emails}
    for found in rows(connection, CONTACTS, [list(asked), since]):
        for email in asked[found.pop("requester_email")]:
            answer[email].append(dict(found))
    return answer


def open_load(connection: Connection) -> dict[str, int]:
    return {found["assignee"]: found["open"] for found in rows(connection, OPEN_LOAD)}


# --- changing ---


def add_message(connection: Connection, ticket_id: str, message: Message) -> None:
    number = number_of(ticket_id, "T")
    if execute(connection, MESSAGE, [message.author.value, clean(message.body), message.at, clean(message.by), number]) == 0:
        raise no_such_ticket(ticket_id)
    actor = message.by or ("requester" if message.author == "requester" else audit.CLOISTER)
    audit.append(
        connection, [(ticket_id, "message", clean(actor), {"author": message.author, "body": message.body, "at": message.at})]
    )


def set_state(connection: Connection, ticket_id: str, state: State, *, reason: str, by: str = audit.CLOISTER) -> None:
    """The same state again is no transition and writes nothing."""
    number = number_of(ticket_id, "T")
    queue.lock(connection, [number])
    moved = execute(connection, MOVE, {"state": state.value, "reason": clean(reason), "by": clean(by), "number": number})
    if moved == 0:
        _must_exist(connection, ticket_id)


def activate_pending(connection: Connection, numbers: Iterable[int], *, reason: str, by: str) -> None:
    """Those of these tickets that wait (pending) are active again."""
    execute(connection, ACTIVATE, [clean(reason), clean(by), list(numbers)])


def reopen(connection: Connection, ticket_id: str, *, reason: str, by: str) -> None:
    """Back to active, counted, and the job is woken. Raises Conflict when it is active already."""
    number = number_of(ticket_id, "T")
    queue.wake(connection, [number])
    reopened = execute(connection, REOPEN, {"reason": clean(reason), "by": clean(by), "number": number})
    if reopened == 0:
        _must_exist(connection, ticket_id)
        raise Conflict(f"{ticket_id} is active already.", hint="Send a message to it instead.")
    audit.append(connection, [(ticket_id, "reopened", clean(by), {"reason": reason})])


def record_feedback(connection: Connection, ticket_id: str, kind: str, body: Mapping[str, Any], *, by: str) -> None:
    """Kept as training data. An `override` also takes effect: category, group, priority (1..4) and assignee, where given."""
    number = number_of(ticket_id, "T")
    statement = "INSERT INTO feedback (ticket, kind, body, by) SELECT number, %s, %s::jsonb, %s FROM ticket WHERE number = %s"
    if kind == "override":
        queue.lock(connection, [number])
        execute(connection, OVERRIDE, _overriding(number, body))
        execute(connection, "UPDATE job SET priority = coalesce(%s, priority) WHERE ticket = %s", [body.get("priority"), number])
    if execute(connection, statement, [clean(kind), dumps(body), clean(by), number]) == 0:
        raise no_such_ticket(ticket_id)
    audit.append(connection, [(ticket_id, "override" if kind == "override" else "feedback", clean(by), {"kind": kind, **body})])


def _overriding(number: int, body: Mapping[str, Any]) -> dict[str, Any]:
    priority = body.get("priority")
    if priority is not None and priority not in (1, 2, 3, 4):
        raise BadInput(f"The priority {priority!r} is none.", hint="Give 1, 2, 3 or 4.")
    fields = {name: body.get(name) for name in ("category", "group", "assignee")}
    return {**fields, "priority": priority, "reassign": "assignee" in body, "number": number}


def _must_exist(connection: Connection, ticket_id: str) -> None:
    if row(connection, "SELECT FROM ticket WHERE number = %s", [number_of(ticket_id, "T")]) is None:
        raise no_such_ticket(ticket_id)
