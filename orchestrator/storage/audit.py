"""The append-only log: appending, reading, checking that it is whole. The exact bytes of a hash are told in 0001_audit.sql."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from orchestrator.storage.connection import Connection, columns, page, position_of, row, rows
from orchestrator.storage.serialize import dumps, instant

CLOISTER = "cloister"
GENESIS = bytes(32)

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
ALL = "SELECT seq, at, ticket, kind, actor, body, hash FROM event WHERE seq <= {} ORDER BY seq"


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


def verify_chain(connection: Connection) -> dict[str, Any]:
    """{whole, events, head, problem}: every hash recomputed, in one pass, thousands of rows at a time.

    `problem` is None or {seq, what}: the first event that does not fit. A cut tail is seen by the recorded head alone, so whoever
    can rewrite both must be caught by a checkpoint that is kept elsewhere.
    """
    connection.execute(CHAIN_NOW)
    head = row(connection, HEAD)
    if head is None:
        return _finding(0, GENESIS, 0, "the head of the chain is gone")
    count, last = 0, GENESIS
    for event in _stream(connection, head["seq"]):
        if event["seq"] != count + 1:
            return _finding(count, last, count + 1, f"event {count + 1} is missing: the next one is {event['seq']}")
        expected = event_hash(last, event)
        if expected != bytes(event["hash"]):
            return _finding(count, last, event["seq"], "the event or the one before it was changed: its hash does not fit")
        count, last = event["seq"], expected
    if count != head["seq"] or last != bytes(head["hash"]):
        return _finding(count, last, count + 1, f"the tail is cut off: the head stands at {head['seq']}, the last event is {count}")
    return _finding(count, last, None, "")


def event_hash(before: bytes, event: Mapping[str, Any]) -> bytes:
    """sha256 over the hash before and the event's own lines, as 0001_audit.sql documents."""
    stamp = event["at"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    body = hashlib.sha256(event["body"].encode()).hexdigest()
    lines = "\n".join([str(event["seq"]), stamp, event["ticket"] or "", event["kind"], event["actor"], body])
    return hashlib.sha256(before + lines.encode()).digest()


def _stream(connection: Connection, up_to: int) -> Iterator[dict[str, Any]]:
    with connection.cursor(name="verify_chain") as cursor:
        cursor.itersize = 5000
        cursor.execute(sql.SQL(ALL).format(sql.Literal(up_to)))
        yield from cursor


def _finding(count: int, head: bytes, seq: int | None, what: str) -> dict[str, Any]:
    problem = None if seq is None else {"seq": seq, "what": what}
    return {"whole": problem is None, "events": count, "head": head.hex(), "problem": problem}


def _shown(event: Mapping[str, Any]) -> dict[str, Any]:
    at: datetime = event["at"]
    shown = {"seq": event["seq"], "at": instant(at), "ticket_id": event["ticket"], "kind": event["kind"], "actor": event["actor"]}
    return {**shown, "body": json.loads(event["body"]), "hash": bytes(event["hash"]).hex()}


def about(ticket_ids: Sequence[str], kind: str, bodies: Sequence[Mapping[str, Any] | str], *, actor: str = CLOISTER) -> list[Event]:
    """The same kind of event for several tickets."""
    return [(ticket_id, kind, actor, body) for ticket_id, body in zip(ticket_ids, bodies, strict=True)]
