"""Questions that knowledge did not answer. Knows the tables knowledge_gap, feedback, outcome and embedding; groups nothing itself."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.ports import Gap
from orchestrator.storage.connection import Connection, Row, columns, execute, number_of, rows
from orchestrator.storage.serialize import clean

RECORD = """
    INSERT INTO knowledge_gap (ticket, question, why, best, nearest, at)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::float8[], %s::text[], %s::timestamptz[])
    ON CONFLICT (ticket) DO UPDATE SET question = excluded.question, why = excluded.why, best = excluded.best,
        nearest = excluded.nearest, at = excluded.at
"""
# What failed while it was tried, and what was answered from knowledge and did not help: rated bad, or reopened since.
READ = """
    WITH unhelpful AS (
        SELECT t.number AS ticket, left(t.subject || chr(10) || t.description, 300) AS question, 'not_helpful' AS why, NULL::float8 AS best,
            coalesce(o.notes ->> 'answered_from', '') AS nearest, max(f.at) AS at
        FROM feedback f JOIN ticket t ON t.number = f.ticket JOIN outcome o ON o.ticket = t.number
        WHERE f.body ->> 'rating' = 'bad' AND o.body ->> 'resolution_code' = 'answered_from_knowledge' AND f.at >= %(since)s
        GROUP BY t.number, o.notes
    ), asked AS (
        SELECT ticket, question, why, best, nearest, at FROM knowledge_gap WHERE at >= %(since)s
        UNION ALL SELECT * FROM unhelpful
    )
    SELECT a.*, d.title, e.vector FROM asked a
    LEFT JOIN document d ON d.id = a.nearest
    LEFT JOIN embedding e ON e.ticket = a.ticket AND e.model = %(model)s
    ORDER BY a.at DESC, a.ticket DESC LIMIT %(limit)s
"""


def record(connection: Connection, notes: Mapping[str, Mapping[str, Any]], *, now: datetime) -> None:
    """Of each ticket's notes the `knowledge_gap`, where there is one; one statement for all, none where no question failed."""
    found = [(number_of(ticket_id, "T"), note["knowledge_gap"]) for ticket_id, note in notes.items() if note.get("knowledge_gap")]
    if found:
        table = [
            (number, clean(str(gap["question"])), str(gap["why"]), gap["best"], clean(str(gap["nearest"])), now)
            for number, gap in sorted(found, key=lambda each: each[0])
        ]
        execute(connection, RECORD, columns(table, 6))


def read(connection: Connection, model: str, *, since: datetime, limit: int) -> list[Gap]:
    """Newest first; the vector is None where the ticket has none of this model."""
    return [_gap(found) for found in rows(connection, READ, {"model": model, "since": since, "limit": limit})]


def _gap(found: Row) -> Gap:
    return Gap(
        ticket_id=f"T-{found['ticket']}",
        question=found["question"],
        why=found["why"],
        best=found["best"],
        nearest_id=found["nearest"],
        nearest_title=found["title"] or "",
        at=found["at"],
        vector=None if found["vector"] is None else found["vector"].to_numpy(),
    )
