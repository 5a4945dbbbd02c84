"""Documents and their passages; search by meaning and by words. Knows the tables document and passage."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from orchestrator.ports import Passage, Reader
from orchestrator.storage import audit
from orchestrator.storage.connection import Connection, Row, execute, row, rows
from orchestrator.storage.serialize import clean, dumps
from orchestrator.storage.triage import unit

CONFIGURATIONS: Mapping[str, str] = {"en": "english", "de": "german", "fr": "french"}  # of full-text search; else "simple"
ASKED_CHARS = 4000  # of a question that are looked for by their words
POOL = 50  # places of each ranking that count

PUT = """
    INSERT INTO document (id, title, source, audience, version, effective_on, expires_on, reviewed_on, digest, body,
                          authority, language, groups, regions, plans, sensitive, summary, review_by, supersedes)
    VALUES (%s, %s, %s, %s, %s, %s::date, %s::date, %s::date, %s, %s::jsonb, %s, %s, %s, %s, %s, %s, %s, %s::date, %s)
    ON CONFLICT (id) DO UPDATE SET title = excluded.title, source = excluded.source, audience = excluded.audience,
        version = excluded.version, effective_on = excluded.effective_on, expires_on = excluded.expires_on,
        reviewed_on = excluded.reviewed_on, digest = excluded.digest, body = excluded.body, authority = excluded.authority,
        language = excluded.language, groups = excluded.groups, regions = excluded.regions, plans = excluded.plans,
        sensitive = excluded.sensitive, summary = excluded.summary, review_by = excluded.review_by,
        supersedes = excluded.supersedes, put_at = now()
"""
PASSAGE = """
    INSERT INTO passage (document, place, heading, text, model, vector, language, terms)
    VALUES (%(document)s, %(place)s, %(heading)s, %(text)s, %(model)s, %(vector)s, %(language)s::regconfig,
        setweight(to_tsvector(%(language)s::regconfig, %(title)s), 'A')
        || setweight(to_tsvector(%(language)s::regconfig, %(heading)s), 'B')
        || to_tsvector(%(language)s::regconfig, %(text)s))
"""

# One statement. What may be shown is decided first, for both rankings alike: audience, group, region and plan of the reader;
# in force on the day; not replaced by a document that is in force. Then two rankings of the passages left:
#   near    by cosine, exact: every vector of this model is compared
#   worded  by the words shared with the question, each worth its rarity among the passages left (BM25's idf), a passage's length
#           divided out softly; stems and stop words are those of the passage's own language
# Reciprocal rank fusion with the usual constant of 60 (Cormack, Clarke, Buettcher 2009) joins the places without comparing scores.
# Passages that are as near share a place. Then the rule of authority and age: a policy counts 4 % more (two places among the
# first), what took effect today 2 % more (one place), half of it after a year; what is still equal is ordered by the
# later effective date, then by cosine.
SEARCH = r"""
    WITH day AS (SELECT coalesce(%(day)s::date, current_date) AS today), allowed AS MATERIALIZED (
        SELECT d.id, d.title, d.authority, d.effective_on FROM document d, day
        WHERE (d.audience = 'requester' OR %(audience)s <> 'requester')
          AND (d.groups = '{}' OR d.groups && %(groups)s::text[])
          AND (d.regions = '{}' OR %(region)s = ANY(d.regions)) AND (d.plans = '{}' OR %(plan)s = ANY(d.plans))
          AND (d.effective_on IS NULL OR d.effective_on <= today) AND (d.expires_on IS NULL OR d.expires_on > today)
          AND NOT EXISTS (
              SELECT FROM document s WHERE s.supersedes @> ARRAY[d.id] AND s.id <> d.id
                AND (s.effective_on IS NULL OR s.effective_on <= today) AND (s.expires_on IS NULL OR s.expires_on > today))
    ), near AS (
        SELECT id, rank() OVER (ORDER BY distance) AS place FROM (
            SELECT p.id, p.vector <#> %(vector)s AS distance FROM passage p JOIN allowed d ON d.id = p.document
            WHERE p.model = %(model)s ORDER BY distance, p.id LIMIT %(pool)s) AS nearest
    ), asked AS MATERIALIZED (
        SELECT language, lexeme, ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery AS query
        FROM unnest(ARRAY['simple', 'english', 'german', 'french']::regconfig[]) AS language,
            unnest(to_tsvector(language, %(words)s))
        WHERE length(lexeme) > 1 AND ts_lexize('english_stem', lexeme) <> '{}'
          AND ts_lexize('german_stem', lexeme) <> '{}' AND ts_lexize('french_stem', lexeme) <> '{}'
    ), whole AS MATERIALIZED (
        SELECT count(*)::float8 AS passages FROM passage p JOIN allowed d ON d.id = p.document
    ), hits AS MATERIALIZED (
        SELECT p.id, length(p.terms) AS size, count(*) OVER (PARTITION BY a.lexeme) AS holders FROM asked a
        JOIN passage p ON p.terms @@ a.query AND p.language = a.language JOIN allowed d ON d.id = p.document
    ), worded AS (
        SELECT id, rank() OVER (ORDER BY worth DESC) AS place FROM (
            SELECT id, sum(ln(1 + ((SELECT passages FROM whole) - holders + 0.5) / (holders + 0.5)))
                / (0.75 + 0.25 * max(size) / 60.0) AS worth
            FROM hits GROUP BY id ORDER BY worth DESC, id LIMIT %(pool)s) AS best
    ), fused AS (
        SELECT id, max(n.place) AS vector_rank, max(w.place) AS text_rank,
            coalesce(sum(1.0 / (60 + n.place)), 0) + coalesce(sum(1.0 / (60 + w.place)), 0) AS worth
        FROM near n FULL JOIN worded w USING (id) GROUP BY id
    )
    SELECT p.id AS passage_id, d.id AS document_id, d.title, p.heading, d.source, d.effective_on, d.reviewed_on, d.authority,
        coalesce(d.version, left(d.digest, 12)) AS version, d.sensitive, f.vector_rank, f.text_rank,
        CASE WHEN d.sensitive AND %(audience)s = 'requester' THEN d.summary ELSE p.text END AS text,
        -- a passage that waits for a vector of this model is found by its words alone
        CASE WHEN p.model = %(model)s THEN -(p.vector <#> %(vector)s) ELSE 0 END AS cosine,
        f.worth * (CASE d.authority WHEN 'policy' THEN 1.04 ELSE 1 END)
            * (1 + 0.02 / (1 + greatest(today - coalesce(d.effective_on, today - 3650), 0) / 365.0)) AS worth
    FROM fused f JOIN passage p USING (id) JOIN document d ON d.id = p.document, day
    ORDER BY worth DESC, d.effective_on DESC NULLS LAST, cosine DESC, p.id LIMIT %(limit)s
"""


def put_document(
    connection: Connection, document: Mapping[str, Any], passages: Sequence[tuple[str, str, np.ndarray]], *, model: str
) -> None:
    """Of `document` these keys are columns: id, title, source, audience, version, effective_on, expires_on, reviewed_on, review_by
    (ISO dates), digest, authority, language, groups, regions, plans, sensitive, summary, supersedes.

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
    table = [_passage_row(document, place, passage, model) for place, passage in enumerate(passages, start=1)]
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
    about = [str(document.get("authority") or "article"), str(document.get("language") or "")]
    limits = [[clean(each) for each in document.get(name) or ()] for name in ("groups", "regions", "plans")]
    told = [bool(document.get("sensitive")), clean(str(document.get("summary") or "")), document.get("review_by")]
    replaced = [clean(each) for each in document.get("supersedes") or ()]
    return [*named, *dates, str(document.get("digest") or ""), dumps(document), *about, *limits, *told, replaced]


def _passage_row(document: Mapping[str, Any], place: int, passage: tuple[str, str, np.ndarray], model: str) -> dict[str, Any]:
    heading, text, vector = passage
    return {
        "document": document["id"],
        "place": place,
        "title": clean(str(document.get("title") or document["id"])),
        "heading": clean(heading),
        "text": clean(text),
        "model": model,
        "vector": unit(vector),
        "language": CONFIGURATIONS.get(str(document.get("language") or ""), "simple"),
    }


def document_digests(connection: Connection, ids: Sequence[str] | None = None, *, model: str | None = None) -> dict[str, str]:
    """Of these documents (None: of all); with `model`, of those alone whose passages all have a vector of it."""
    query = """
        SELECT id, digest FROM document d WHERE (%(ids)s::text[] IS NULL OR id = ANY(%(ids)s)) AND (%(model)s::text IS NULL
            OR NOT EXISTS (SELECT FROM passage p WHERE p.document = d.id AND p.model <> %(model)s))
    """
    parameters = {"ids": None if ids is None else list(ids), "model": model}
    return {found["id"]: found["digest"] for found in rows(connection, query, parameters)}


def sensitive_texts(connection: Connection) -> list[str]:
    """Every passage that may never be quoted to a requester, whether in force or not."""
    return [
        found["text"]
        for found in rows(connection, "SELECT p.text FROM passage p JOIN document d ON d.id = p.document WHERE d.sensitive")
    ]


def search(
    connection: Connection, model: str, vector: np.ndarray, words: str, *, limit: int, reader: Reader, on: date | None = None
) -> list[Passage]:
    """Best first by the fused rank, of what this reader may see on that day (None: today).

    `Passage.score` is the cosine (-1..1), so that a threshold means the same for every question; 0 where the passage has no vector of
    this model yet. Of a sensitive document a requester gets the reviewed summary as the text.
    """
    parameters = {
        "model": model,
        "vector": unit(vector),
        "words": clean(words)[:ASKED_CHARS],
        "audience": reader.audience,
        "groups": list(reader.groups),
        "region": reader.region,
        "plan": reader.plan,
        "day": on,
        "pool": max(POOL, limit),
        "limit": limit,
    }
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
        version=found["version"],
        authority=found["authority"],
        sensitive=found["sensitive"],
        vector_rank=found["vector_rank"],
        text_rank=found["text_rank"],
    )
