"""What the loops of runbooks decided, turn by turn. Knows the table turn; decides nothing itself."""

from collections.abc import Sequence
from datetime import datetime

from orchestrator.domain.resolution import Turn
from orchestrator.ports import Claim
from orchestrator.storage import audit, queue
from orchestrator.storage.connection import Connection, columns, execute, number_of, rows, tickets_of
from orchestrator.storage.serialize import dumps, load

READ = "SELECT ticket, body FROM turn WHERE ticket = ANY(%s) ORDER BY ticket, epoch, number"
WRITE = """
    INSERT INTO turn (ticket, epoch, runbook, number, body, decided_at)
    SELECT ticket, epoch, runbook, number, body::jsonb, now
    FROM unnest(%s::bigint[], %s::int[], %b::text[], %s::int[], %b::text[], %s::timestamptz[])
         AS n (ticket, epoch, runbook, number, body, now)
    ON CONFLICT (ticket, epoch, runbook, number) DO UPDATE SET body = excluded.body, decided_at = excluded.decided_at
"""


def turns(connection: Connection, ids: Sequence[str]) -> dict[str, list[Turn]]:
    """By ticket, in order; no query where nothing is asked."""
    answer: dict[str, list[Turn]] = {}
    for found in rows(connection, READ, [tickets_of(ids)]) if ids else ():
        answer.setdefault(f"T-{found['ticket']}", []).append(load(Turn, found["body"]))
    return answer


def save_turns(connection: Connection, claims: Sequence[Claim], taken: Sequence[tuple[str, Turn]], *, now: datetime) -> None:
    """Fenced by the claims. A turn decided anew replaces the row; both stand in the audit log."""
    if not taken:
        return
    queue.hold(connection, claims)
    table = [(number_of(ticket_id, "T"), turn.epoch, turn.runbook, turn.number, dumps(turn), now) for ticket_id, turn in taken]
    execute(connection, WRITE, columns(table, 6))
    audit.append(connection, [(ticket_id, "turn", audit.CLOISTER, {"turn": turn}) for ticket_id, turn in taken])
