"""What still has no vector of the desk's embedding model: tickets of the link window, knowledge passages. Embeds nothing itself."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from orchestrator.domain.triage import Entities
from orchestrator.storage.connection import Connection, row, rows
from orchestrator.storage.serialize import dumps, load
from orchestrator.storage.triage import unit

TICKETS = """
    SELECT DISTINCT ON (e.created_at, e.ticket) e.ticket, e.entities FROM embedding e
    WHERE e.created_at >= %(since)s AND e.model <> %(model)s
      AND NOT EXISTS (SELECT FROM embedding n WHERE n.ticket = e.ticket AND n.model = %(model)s)
    ORDER BY e.created_at DESC, e.ticket DESC LIMIT %(limit)s
"""
TICKETS_LEFT = """
    SELECT count(DISTINCT e.ticket) AS left FROM embedding e WHERE e.created_at >= %(since)s AND e.model <> %(model)s
      AND NOT EXISTS (SELECT FROM embedding n WHERE n.ticket = e.ticket AND n.model = %(model)s)
"""
ADD = """
    INSERT INTO embedding (ticket, model, created_at, vector, entities)
    SELECT number, %s, created_at, %s, %s::jsonb FROM ticket WHERE number = %s ON CONFLICT (ticket, model) DO NOTHING
"""
PASSAGES = """
    SELECT p.id, d.title, p.heading, p.text FROM passage p JOIN document d ON d.id = p.document
    WHERE p.model <> %(model)s ORDER BY p.id LIMIT %(limit)s
"""


def tickets_without(connection: Connection, model: str, *, since: datetime, limit: int) -> list[tuple[str, Entities]]:
    """(ticket id, its entities) of tickets that another model embedded, newest first: they are linked to next."""
    found = rows(connection, TICKETS, {"model": model, "since": since, "limit": limit})
    return [(f"T-{each['ticket']}", load(Entities, each["entities"])) for each in found]


def add_embeddings(connection: Connection, model: str, entries: Sequence[tuple[str, np.ndarray, Entities]]) -> None:
    """What triage has written meanwhile stays."""
    table = [(model, unit(vector), dumps(entities), int(ticket_id[2:])) for ticket_id, vector, entities in entries]
    with connection.cursor() as cursor:
        cursor.executemany(ADD, table)


def passages_without(connection: Connection, model: str, *, limit: int) -> list[tuple[int, str]]:
    """(passage id, text to embed: title, heading and passage as `load_documents` joins them)."""
    found = rows(connection, PASSAGES, {"model": model, "limit": limit})
    return [(each["id"], f"{each['title']}\n{each['heading']}\n{each['text']}") for each in found]


def move_passages(connection: Connection, model: str, entries: Sequence[tuple[int, np.ndarray]]) -> None:
    """A passage has the vector of one model; its id stays."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "UPDATE passage SET model = %s, vector = %s WHERE id = %s",
            [(model, unit(vector), number) for number, vector in entries],
        )


def left(connection: Connection, model: str, *, since: datetime) -> dict[str, int]:
    """{tickets, passages} that still have no vector of this model."""
    tickets = row(connection, TICKETS_LEFT, {"model": model, "since": since})
    passages = row(connection, "SELECT count(*) AS left FROM passage WHERE model <> %s", [model])
    return {"tickets": int(tickets["left"]) if tickets else 0, "passages": int(passages["left"]) if passages else 0}
