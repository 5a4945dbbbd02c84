"""Recorded decisions of governance, read out of the append-only log. Knows which events carry them; judges nothing."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from orchestrator.storage.connection import Connection, page, position_of, rows
from orchestrator.storage.serialize import instant

DECIDED = """
    SELECT seq, at, ticket, kind, body FROM event
    WHERE seq > %(after)s AND kind IN ('intended', 'outcome') AND position('"facts_sha256"' IN body) > 0
        AND (%(ticket)s::text IS NULL OR ticket = %(ticket)s) AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
    ORDER BY seq LIMIT %(limit)s
"""


def decisions(
    connection: Connection, *, ticket_id: str | None, since: datetime | None, cursor: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Oldest first: {seq, at, ticket_id, basis}. `limit` counts events; one of an outcome may carry several decisions."""
    found = rows(
        connection,
        DECIDED,
        {"after": position_of(cursor) or 0, "ticket": ticket_id, "since": since, "limit": limit + 1},
    )
    events, following = page(found, limit, lambda event: event["seq"])
    return [
        {"seq": event["seq"], "at": instant(event["at"]), "ticket_id": event["ticket"], "basis": basis}
        for event in events
        for basis in _bases(json.loads(event["body"]))
    ], following


def _bases(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What is allowed stands with its intention; everything else with the outcome that it led to."""
    if basis := (body.get("verdict") or {}).get("basis"):
        yield basis
    yield from (body.get("notes") or {}).get("judged") or ()
