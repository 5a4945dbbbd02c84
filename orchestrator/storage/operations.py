"""Outbox, kill switch, API keys, remembered answers.

Knows their tables; sends nothing and serves nothing itself.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.domain.errors import Conflict
from orchestrator.ports import OutboxItem
from orchestrator.storage import audit
from orchestrator.storage.connection import Connection, execute, number_of, row, rows
from orchestrator.storage.serialize import clean, dumps, instant
from orchestrator.storage.tickets import no_such_ticket

TAKING_LOCK = 0x6F7574626F78  # "outbox"
OUTBOX_LEASE_S = 60.0  # taken and neither sent nor failed (the sender died): due again
DUE = """
    WITH due AS (  -- nothing of a ticket overtakes what was said before
        SELECT id FROM outbox WHERE sent_at IS NULL AND due_at <= %(now)s AND NOT EXISTS (
            SELECT FROM outbox earlier
            WHERE earlier.ticket = outbox.ticket AND earlier.id < outbox.id AND earlier.sent_at IS NULL AND earlier.due_at > %(now)s)
        ORDER BY id LIMIT %(limit)s FOR UPDATE
    )
    UPDATE outbox SET attempts = attempts + 1, due_at = %(now)s + make_interval(secs => %(lease_s)s)
    FROM due WHERE outbox.id = due.id
    RETURNING outbox.id, outbox.ticket, outbox.kind, outbox.payload, outbox.attempts
"""
FAILED = """
    UPDATE outbox SET last_error = %(error)s, due_at = %(now)s + make_interval(secs => least(3600, 2 ^ least(attempts, 12)))
    WHERE id = %(id)s AND sent_at IS NULL
"""
ENQUEUE = """
    INSERT INTO outbox (ticket, kind, payload, created_at, due_at)
    SELECT number, %(kind)s, %(payload)s::jsonb, %(now)s, %(now)s FROM ticket WHERE number = %(number)s
"""
SWITCH = """
    UPDATE switch SET stopped = %s, reason = %s, by = %s, at = now() WHERE name = 'autonomy'
"""
REMEMBER = """
    INSERT INTO idempotency (key, route, body_sha256, status, body) VALUES (%s, %s, %s, %s, %s::jsonb)
    ON CONFLICT (key, route) DO NOTHING
"""
KEY = """
    INSERT INTO api_key (name, role, kind, sha256) VALUES (%s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE SET role = excluded.role, kind = excluded.kind, sha256 = excluded.sha256, created_at = now()
"""


# --- outbox ---


def enqueue(connection: Connection, ticket_id: str, kind: str, payload: Mapping[str, Any], *, now: datetime) -> None:
    parameters = {"kind": kind, "payload": dumps(payload), "now": now, "number": number_of(ticket_id, "T")}
    if execute(connection, ENQUEUE, parameters) == 0:
        raise no_such_ticket(ticket_id)


def outbox_due(connection: Connection, *, limit: int, now: datetime) -> list[OutboxItem]:
    """Takes them for a minute: nobody else gets them meanwhile. Oldest first.

    Send with an idempotency key made of the item's id.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [TAKING_LOCK])  # two takers would share a ticket's items out of order
    found = rows(connection, DUE, {"now": now, "limit": limit, "lease_s": OUTBOX_LEASE_S})
    found.sort(key=lambda item: item["id"])
    return [
        OutboxItem(id=i["id"], ticket_id=f"T-{i['ticket']}", kind=i["kind"], payload=i["payload"], attempts=i["attempts"])
        for i in found
    ]


def outbox_sent(connection: Connection, ids: Sequence[int], *, now: datetime) -> None:
    execute(
        connection, "UPDATE outbox SET sent_at = %s, last_error = NULL WHERE id = ANY(%s) AND sent_at IS NULL", [now, list(ids)]
    )


def outbox_failed(connection: Connection, item_id: int, *, error: str, now: datetime) -> None:
    """Tried again later, at most an hour apart, for ever: what the desk decided is told some day."""
    execute(connection, FAILED, {"error": clean(error), "now": now, "id": item_id})


def outbox_unsent(connection: Connection) -> int:
    """How many items wait or are under way."""
    return int(rows(connection, "SELECT count(*) AS unsent FROM outbox WHERE sent_at IS NULL")[0]["unsent"])


# --- kill switch ---


def kill_switch(connection: Connection) -> dict[str, Any]:
    found = row(connection, "SELECT stopped, reason, by, at FROM switch WHERE name = 'autonomy'")
    if found is None:  # fail closed: without its row nothing acts
        return {"stopped": True, "reason": "the switch is missing from the database", "by": audit.CLOISTER, "at": None}
    return {**found, "at": instant(found["at"])}


def set_kill_switch(connection: Connection, *, stopped: bool, reason: str, by: str) -> None:
    execute(connection, SWITCH, [stopped, clean(reason), clean(by)])
    audit.append(connection, [(None, "kill_switch", clean(by), {"stopped": stopped, "reason": reason})])


# --- keys and remembered answers ---


def key_by_sha256(connection: Connection, sha256: str) -> dict[str, Any] | None:
    return row(connection, "SELECT name, role, kind FROM api_key WHERE sha256 = %s", [sha256])


def add_key(connection: Connection, *, name: str, role: str, kind: str, sha256: str) -> None:
    """A key of the same name is replaced."""
    execute(connection, KEY, [clean(name), role, kind, sha256])
    audit.append(connection, [(None, "key_added", audit.CLOISTER, {"name": name, "role": role, "kind": kind})])


def idempotent(connection: Connection, key: str, *, route: str, body_sha256: str) -> dict[str, Any] | None:
    """A second request with the same key waits here until the transaction of the first has ended."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 17))", [f"{route}\n{clean(key)}"])
    found = row(connection, "SELECT status, body, body_sha256 FROM idempotency WHERE key = %s AND route = %s", [clean(key), route])
    if found is None:
        return None
    if found["body_sha256"] != body_sha256:
        raise Conflict(f"The Idempotency-Key {key!r} came before with another body.", hint="Use a new key for a new request.")
    return {"status": found["status"], "body": found["body"]}


def remember(connection: Connection, key: str, *, route: str, body_sha256: str, status: int, body: Mapping[str, Any]) -> None:
    execute(connection, REMEMBER, [clean(key), route, body_sha256, status, dumps(body)])


def forget_commits(connection: Connection) -> int:
    """Tokens of commits that nobody asks about any more."""
    return execute(connection, "DELETE FROM commit_marker WHERE at < now() - interval '10 minutes'")
