"""Knowledge: documents in, passages out, and what it lacks. Knows HTTP, the embedder and the store's verbs; ranks nothing itself."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from orchestrator.knowledge.documents import Document, parse_document
from orchestrator.knowledge.front_matter import About
from orchestrator.knowledge.gaps import Cluster, cluster
from orchestrator.ports import Gap, Reader
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import schemas
from serving.gateway.door import visit_of
from serving.gateway.once import Answer, once
from serving.gateway.shop import shop_of

router = APIRouter(prefix="/v1/knowledge", tags=["knowledge"])
GAPS_READ = 5000  # questions, the newest


@router.post("", status_code=201)
async def put_document(document: schemas.DocumentIn, request: Request) -> JSONResponse:
    """Put a document in; one of the same id is replaced. Its passages can be found as soon as this has answered."""
    shop, caller = shop_of(request), visit_of(request).caller
    parsed = _parsed(document)
    embedder = await shop.parts.embedder.now()
    body = {"id": parsed.id, "version": document.version, "passages": len(parsed.passages), "digest": parsed.digest}
    known = await shop.desk.run(lambda tx: tx.document_digests([parsed.id], model=embedder.name))
    if known.get(parsed.id) == parsed.digest:
        unchanged = Answer(status=201, body={**body, "unchanged": True})
        return (await once(request, shop.desk, lambda _: unchanged)).response()
    vectors = await embedder.embed(parsed.texts())
    passages = [(heading, text, vector) for (heading, text), vector in zip(parsed.passages, vectors, strict=True)]
    record = {**parsed.record(), "put_by": caller.name}

    def put(tx: PostgresTransaction) -> Answer:
        tx.put_document(record, passages, model=embedder.name)
        return Answer(status=201, body=body)

    return (await once(request, shop.desk, put)).response()


def _parsed(document: schemas.DocumentIn) -> Document:
    """Checked as a file is. Raises BadInput."""
    given = document.model_dump(exclude={"text", "source"})
    front = yaml.safe_dump({name: value for name, value in given.items() if name in About.__dataclass_fields__}, allow_unicode=True)
    return parse_document(f"---\n{front}---\n{document.text}", source=document.source)


@router.get("/search")
async def search(asked: Annotated[schemas.KnowledgeQuery, Query()], request: Request) -> JSONResponse:
    """The passages nearest to the question, by meaning and by words, each with source, version and effective date."""
    shop = shop_of(request)
    embedder = await shop.parts.embedder.now()
    (vector,) = await embedder.embed([asked.q])

    def read(tx: PostgresTransaction) -> list[dict[str, Any]]:
        found = tx.search_knowledge(embedder.name, vector, asked.q, limit=asked.limit, reader=Reader(audience=asked.audience))
        return [asdict(passage) for passage in found]

    return JSONResponse({"items": await shop.desk.run(read), "next_cursor": None})


@router.get("/gaps")
async def gaps(asked: Annotated[schemas.GapQuery, Query()], request: Request) -> JSONResponse:
    """Questions that knowledge did not answer, grouped by meaning, the most frequent group first."""
    shop = shop_of(request)
    embedder = await shop.parts.embedder.now()
    since = shop.parts.clock() - timedelta(days=asked.days)
    found, groups = await shop.desk.run(lambda tx: grouped_gaps(tx, embedder.name, since=since, limit=asked.limit))
    return JSONResponse({"questions": len(found), "since": since.isoformat(), "items": [as_item(group) for group in groups]})


def as_item(group: Cluster) -> dict[str, Any]:
    """A group as JSON; of its tickets the newest fifty."""
    named = asdict(group)
    return {**named, "ticket_ids": list(group.ticket_ids[:50]), "last_at": group.last_at.isoformat()}


def grouped_gaps(tx: PostgresTransaction, model: str, *, since: datetime, limit: int) -> tuple[Sequence[Gap], list[Cluster]]:
    """The questions that failed since then, and their largest groups."""
    found = tx.gaps(model, since=since, limit=GAPS_READ)
    return found, cluster(found)[:limit]
