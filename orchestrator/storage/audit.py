"""The append-only log: appending, reading, checking that it is whole. The exact bytes of a hash are told in orchestrator.audit.events."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg.rows import tuple_row

from orchestrator.audit import walk
from orchestrator.audit.checkpoints import Checkpoint
from orchestrator.audit.events import CHECKPOINTED, EventRow
from orchestrator.storage.connection import Connection, columns, page, position_of, row, rows
from orchestrator.storage.serialize import dumps, instant

CLOISTER = "cloister"
ERASED_TEXT = {"erased": True}  # shown for the body of an event whose text was erased

Event = tuple[
    str | None, str, str, Mapping[str, Any] | str
]  # ticket id, kind, actor, body (or its JSON text, where that is made already)

APPEND = "SELECT audit_append(%b::text[], %b::text[], %b::text[], %b::text[])"
CHAIN_NOW = "SET CONSTRAINTS event_draft_chained IMMEDIATE"
EVENTS = """
    SELECT seq, at, ticket, kind, actor, body, hash FROM event
    WHERE (%(ticket)s::text IS NULL OR ticket = %(ticket)s) AND seq > %(after)s ORDER BY seq LIMIT %(limit)s
"""
HEAD = "SELECT seq, hash FROM chain_head"
STREAM = """
    SELECT seq, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), coalesce(ticket, ''), kind, actor,
        salt, body_sha256, body, hash
    FROM event WHERE seq > %s AND seq <= %s ORDER BY seq
"""
SEQS = "SELECT seq FROM event WHERE ticket = %s AND seq <= %s ORDER BY seq"
NEWS = "SELECT EXISTS (SELECT FROM event WHERE seq > %s AND kind <> %s) AS any"


def append(connection: Connection, events: Iterable[Event]) -> None:
    """One statement for all of them; the chain itself is written when the transaction commits."""
    table = [
        (ticket, kind, actor.replace("\n", " "), body if isinstance(body, str) else dumps(body))
        for ticket, kind, actor, body in events
    ]
    if table:
        connection.execute(APPEND, columns(table, 4))


def events(
    connection: Connection, *, ticket_id: str | None, cursor: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Oldest first, this transaction's own included. JSON-ready."""
    connection.execute(CHAIN_NOW)
    found = rows(connection, EVENTS, {"ticket": ticket_id, "after": position_of(cursor) or 0, "limit": limit + 1})
    return page([_shown(event) for event in found], limit, lambda event: event["seq"])


def verify_chain(
    connection: Connection, checkpoints: Sequence[Checkpoint] | None = None, *, head: tuple[int, bytes] | None = None
) -> dict[str, Any]:
    """`orchestrator.audit.walk.verify` over all events up to `head` (none: the present one), thousands of rows at a time."""
    head = head or chain_head(connection)
    return walk.verify(chain_rows(connection, after=0, up_to=head[0] if head else 0), head=head, checkpoints=checkpoints)


def chain_head(connection: Connection) -> tuple[int, bytes] | None:
    """Seq and hash of the last event, this transaction's own included; none where the row is gone."""
    connection.execute(CHAIN_NOW)
    head = row(connection, HEAD)
    return None if head is None else (head["seq"], bytes(head["hash"]))


def chain_rows(connection: Connection, *, after: int, up_to: int = 2**62) -> Iterator[EventRow]:
    """As they are stored, in their order; read in pieces."""
    with connection.cursor(name="chain_rows", row_factory=tuple_row) as cursor:
        cursor.itersize = 5000
        cursor.execute(STREAM, [after, up_to], binary=True)
        for event in cursor:
            yield EventRow._make(event)


def seqs_of(connection: Connection, ticket_id: str, *, up_to: int) -> list[int]:
    return [found["seq"] for found in rows(connection, SEQS, [ticket_id, up_to])]


def has_news(connection: Connection, after: int) -> bool:
    """Whether anything but word of checkpoints was written after that event."""
    found = row(connection, NEWS, [after, CHECKPOINTED])
    return bool(found and found["any"])


def _shown(event: Mapping[str, Any]) -> dict[str, Any]:
    at: datetime = event["at"]
    shown = {"seq": event["seq"], "at": instant(at), "ticket_id": event["ticket"], "kind": event["kind"], "actor": event["actor"]}
    return {**shown, "body": shown_body(event["body"]), "hash": bytes(event["hash"]).hex()}


def shown_body(body: str | None) -> Any:
    return ERASED_TEXT if body is None else json.loads(body)


def about(ticket_ids: Sequence[str], kind: str, bodies: Sequence[Mapping[str, Any] | str], *, actor: str = CLOISTER) -> list[Event]:
    """The same kind of event for several tickets."""
    return [(ticket_id, kind, actor, body) for ticket_id, body in zip(ticket_ids, bodies, strict=True)]
