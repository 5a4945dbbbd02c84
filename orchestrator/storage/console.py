"""What the console and the waiting callers ask beyond the port: logins, sessions, the queue as a page. Knows their tables only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.storage import audit
from orchestrator.storage.connection import execute, row, rows, tickets_of
from orchestrator.storage.serialize import clean
from orchestrator.storage.tickets import summary
from orchestrator.storage.transaction import PostgresTransaction

QUEUE = """
    SELECT t.*, i.id AS incident_id,
        EXISTS (SELECT FROM approval a WHERE a.ticket = t.number AND a.status = 'waiting') AS wants_approval,
        g.body -> 'priority' ->> 'sla_due_at' AS sla_due_at
    FROM ticket t LEFT JOIN triage g ON g.ticket = t.number
    LEFT JOIN incident_member m ON m.ticket = t.number AND m.left_at IS NULL LEFT JOIN incident i ON i.number = m.incident
    WHERE (%(states)s::text[] IS NULL OR t.state = ANY(%(states)s))
      AND (%(category)s::text IS NULL OR t.category = %(category)s)
      AND (%(group)s::text IS NULL OR t.assignment_group = %(group)s)
      AND (%(priority)s::int IS NULL OR t.priority = %(priority)s)
      AND (%(q)s::text IS NULL OR t.id = upper(%(q)s) OR t.requester_email = lower(%(q)s) OR t.subject ILIKE %(like)s
           OR t.description ILIKE %(like)s)
    ORDER BY coalesce(t.priority, 5), t.created_at, t.number LIMIT %(limit)s OFFSET %(offset)s
"""
COUNTS = "SELECT state, count(*) AS tickets FROM ticket GROUP BY state"
USE_LOGIN = "UPDATE console_login SET used_at = %s WHERE digest = %s AND used_at IS NULL AND expires_at > %s RETURNING name, role"


@dataclass(frozen=True, kw_only=True)
class SessionRow:
    name: str
    role: str
    expires_at: datetime


# --- logins and sessions ---


def add_login(tx: PostgresTransaction, *, digest: str, name: str, role: str, expires_at: datetime, by: str) -> None:
    """Old ones are swept out on the way."""
    connection = tx._connection
    execute(connection, "DELETE FROM console_login WHERE expires_at < now() - interval '7 days'")
    statement = "INSERT INTO console_login (digest, name, role, expires_at) VALUES (%s, %s, %s, %s)"
    execute(connection, statement, [digest, clean(name), role, expires_at])
    audit.append(connection, [(None, "console_login_made", clean(by), {"name": name, "role": role, "expires_at": expires_at})])


def use_login(tx: PostgresTransaction, *, digest: str, session: str, now: datetime, lifetime: timedelta) -> SessionRow | None:
    """Opens the session in the same transaction that uses the password up; None where it was used, has expired or never was."""
    connection = tx._connection
    found = row(connection, USE_LOGIN, [now, digest, now])
    if found is None:
        return None
    execute(connection, "DELETE FROM console_session WHERE expires_at < %s", [now])
    opened = SessionRow(name=found["name"], role=found["role"], expires_at=now + lifetime)
    statement = "INSERT INTO console_session (digest, name, role, expires_at) VALUES (%s, %s, %s, %s)"
    execute(connection, statement, [session, opened.name, opened.role, opened.expires_at])
    audit.append(connection, [(None, "console_session_opened", opened.name, {"role": opened.role})])
    return opened


def session(tx: PostgresTransaction, *, digest: str, now: datetime) -> SessionRow | None:
    query = "SELECT name, role, expires_at FROM console_session WHERE digest = %s AND expires_at > %s"
    found = row(tx._connection, query, [digest, now])
    return None if found is None else SessionRow(name=found["name"], role=found["role"], expires_at=found["expires_at"])


def end_session(tx: PostgresTransaction, *, digest: str) -> None:
    found = row(tx._connection, "DELETE FROM console_session WHERE digest = %s RETURNING name, role", [digest])
    if found is not None:
        audit.append(tx._connection, [(None, "console_session_ended", found["name"], {"role": found["role"]})])


# --- the queue ---


def settled(tx: PostgresTransaction, ids: Sequence[str]) -> list[str]:
    """Those of these tickets that have an outcome: they are no longer active."""
    found = rows(tx._connection, "SELECT id FROM ticket WHERE number = ANY(%s) AND state <> 'active'", [tickets_of(ids)])
    return [record["id"] for record in found]


def queue_page(
    tx: PostgresTransaction,
    *,
    states: Sequence[str] | None = None,
    category: str | None = None,
    group: str | None = None,
    priority: int | None = None,
    q: str | None = None,
    offset: int = 0,
    limit: int = 50,
) -> tuple[list[dict[str, Any]], bool]:
    """Most urgent first, then oldest; and whether there are more."""
    like = None if q is None else "%" + clean(q).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    filters: Mapping[str, Any] = {
        "states": None if states is None else list(states),
        "category": category,
        "group": group,
        "priority": priority,
        "q": None if q is None else clean(q),
        "like": like,
    }
    found = rows(tx._connection, QUEUE, {**filters, "limit": limit + 1, "offset": offset})  # type: ignore[arg-type]
    shown = [{**summary(r), "wants_approval": r["wants_approval"], "sla_due_at": r["sla_due_at"]} for r in found[:limit]]
    return shown, len(found) > limit


def state_counts(tx: PostgresTransaction) -> dict[str, int]:
    return {record["state"]: record["tickets"] for record in rows(tx._connection, COUNTS)}


def groups(tx: PostgresTransaction) -> list[str]:
    """Assignment groups that have, or had, a ticket."""
    query = "SELECT DISTINCT assignment_group AS name FROM ticket WHERE assignment_group IS NOT NULL ORDER BY 1"
    return [record["name"] for record in rows(tx._connection, query)]


def waiting_approvals(tx: PostgresTransaction, *, now: datetime) -> int:
    found = row(tx._connection, "SELECT count(*) AS n FROM approval WHERE status = 'waiting' AND expires_at > %s", [now])
    return 0 if found is None else int(found["n"])
