"""Documents and their passages; search by meaning and by words. Knows the tables document and passage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.ports import Passage
from orchestrator.storage import audit
from orchestrator.storage.connection import Connection, Row, execute, row, rows
from orchestrator.storage.serialize import clean, dumps
from orchestrator.storage.triage import unit

PUT = """
    INSERT INTO document (id, title, source, audience, version, effective_on, expires_on, reviewed_on, digest, body)
    VALUES (%s, %s, %s, %s, %s, %s::date, %s::date, %s::date, %s, %s::jsonb)
    ON CONFLICT (id) DO UPDATE SET title = excluded.title, source = excluded.source, audience = excluded.audience,
        version = excluded.version, effective_on = excluded.effective_on, expires_on = excluded.expires_on,
        reviewed_on = excluded.reviewed_on, digest = excluded.digest, body = excluded.body, put_at = now()
"""
PASSAGE = "INSERT INTO passage (document, place, heading, text, model, vector) VALUES (%s, %s, %s, %s, %s, %s)"

# Two rankings of the passages that may be shown: by cosine, and by the words that they and their title share with the question,
# rare words counting more. Reciprocal rank fusion with the usual constant of 60 (Cormack, Clarke, Buettcher 2009) joins them
# without comparing scores.
SEARCH = r"""
    WITH allowed AS (
        SELECT p.id, to_tsvector('simple', d.title) || p.words AS words, p.model = %(model)s AS comparable,
            -- a passage that waits for a vector of this model is found by its words alone
            CASE WHEN p.model = %(model)s THEN -(p.vector <#> %(vector)s) ELSE 0 END AS cosine
        FROM passage p JOIN document d ON d.id = p.document
        WHERE (d.audience = 'requester' OR %(audience)s <> 'requester')
          AND (d.effective_on IS NULL OR d.effective_on <= current_date) AND (d.expires_on IS NULL OR d.expires_on > current_date)
    ), near AS (
        SELECT id, row_number() OVER (ORDER BY cosine DESC, id) AS place FROM allowed WHERE comparable ORDER BY cosine DESC, id LIMIT 50
    ), asked AS (
        SELECT lexeme, ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery AS query
        FROM unnest(to_tsvector('simple', %(words)s)) WHERE length(lexeme) > 2
    ), hits AS (
        SELECT a.id, q.lexeme FROM allowed a JOIN asked q ON a.words @@ q.query
    ), rarity AS (
        SELECT lexeme, ln(1 + (SELECT count(*) FROM allowed)::float8 / count(*)) - ln(2) AS weight FROM hits GROUP BY lexeme
    ), worded AS (
        SELECT id, row_number() OVER (ORDER BY sum(weight) DESC, id) AS place FROM hits JOIN rarity USING (lexeme)
        GROUP BY id HAVING sum(weight) > 0 ORDER BY sum(weight) DESC, id LIMIT 50
    ), fused AS (
        SELECT id, sum(1.0 / (60 + place)) AS fused FROM (SELECT * FROM near UNION ALL SELECT * FROM worded) AS r GROUP BY id
    )
    SELECT p.id AS passage_id, d.id AS document_id, d.title, p.heading, p.text, d.source, d.effective_on, d.reviewed_on, a.cosine
    FROM fused f JOIN allowed a USING (id) JOIN passage p USING (id) JOIN document d ON d.id = p.document
    ORDER BY f.fused DESC, a.cosine DESC, p.id LIMIT %(limit)s
"""


def put_document(
    connection: Connection, document: Mapping[str, Any], passages: Sequence[tuple[str, str, np.ndarray]], *, model: str
) -> None:
    """Of `document` these keys are columns: id, title, source, audience, version, effective_on, expires_on, reviewed_on (ISO
    dates), digest.

    A missing audience is "internal": nothing is shown to requesters that does not say so. The whole mapping is kept. A document
    with the same digest whose passages have vectors of the same model is left as it is.
    """
    found = row(connection, "SELECT digest FROM document WHERE id = %s FOR UPDATE", [document["id"]])
    models = {
        known["model"] for known in rows(connection, "SELECT DISTINCT model FROM passage WHERE document = %s", [document["id"]])
    }
    if found is not None and found["digest"] == document.get("digest") and models <= {model}:
        return
    execute(connection, PUT, _columns(document))
    execute(connection, "DELETE FROM passage WHERE document = %s", [document["id"]])
    table = [
        (document["id"], place, clean(head), clean(text), model, unit(vector))
        for place, (head, text, vector) in enumerate(passages, start=1)
    ]
    with connection.cursor() as cursor:
        cursor.executemany(PASSAGE, table)
    body = {
        "document": document["id"],
        "version": document.get("version"),
        "digest": document.get("digest"),
        "passages": len(table),
    }
    audit.append(connection, [(None, "document_put", audit.CLOISTER, body)])


def _columns(document: Mapping[str, Any]) -> list[Any]:
    title, source = str(document.get("title") or document["id"]), str(document.get("source") or document["id"])
    version = None if document.get("version") is None else str(document["version"])
    named = [document["id"], clean(title), clean(source), str(document.get("audience") or "internal"), version]
    dates = [document.get("effective_on"), document.get("expires_on"), document.get("reviewed_on")]
    return [*named, *dates, str(document.get("digest") or ""), dumps(document)]


def document_digests(connection: Connection) -> dict[str, str]:
    return {found["id"]: found["digest"] for found in rows(connection, "SELECT id, digest FROM document")}


def search(connection: Connection, model: str, vector: np.ndarray, words: str, *, limit: int, audience: str) -> list[Passage]:
    """Best first by the fused rank. `Passage.score` is the cosine (-1..1), so that a threshold means the same for every question;
    0 where the passage has no vector of this model yet.

    `audience="requester"` finds only what requesters may read; any other audience finds everything that is in force today.
    """
    parameters = {"model": model, "vector": unit(vector), "words": clean(words), "audience": audience, "limit": limit}
    return [_passage(found) for found in rows(connection, SEARCH, parameters)]


def _passage(found: Row) -> Passage:
    return Passage(
        document_id=found["document_id"],
        passage_id=found["passage_id"],
        title=found["title"],
        heading=found["heading"],
        text=found["text"],
        source=found["source"],
        effective_on=None if found["effective_on"] is None else found["effective_on"].isoformat(),
        reviewed_on=None if found["reviewed_on"] is None else found["reviewed_on"].isoformat(),
        score=float(found["cosine"]),
    )
