"""Texts of documents that are for colleagues alone. Knows the tables of knowledge; what they are compared with, others know."""

from orchestrator.storage.connection import Connection, rows

TEXTS = """
    SELECT p.heading || E'\\n' || p.text AS text FROM passage p JOIN document d ON d.id = p.document
    WHERE d.audience <> 'requester' OR d.sensitive ORDER BY p.id
"""


def texts(connection: Connection) -> list[str]:
    """Sensitive ones, too, which requesters are told the summary of, and those that are not in force any more."""
    return [found["text"] for found in rows(connection, TEXTS)]
