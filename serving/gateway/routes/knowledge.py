"""Knowledge: documents in, passages out. Knows HTTP, the embedder and the store's verbs; ranks nothing itself."""

from dataclasses import asdict
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from orchestrator.knowledge.documents import parse_document
from orchestrator.storage import console
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import schemas
from serving.gateway.door import visit_of
from serving.gateway.once import Answer, once
from serving.gateway.shop import shop_of

router = APIRouter(prefix="/v1/knowledge", tags=["knowledge"])
HEADER_FIELDS = ("id", "title", "audience", "authority", "effective_on", "reviewed_on", "owner")


@router.post("", status_code=201)
async def put_document(document: schemas.DocumentIn, request: Request) -> JSONResponse:
    """Put a document in; one of the same id is replaced. Its passages can be found as soon as this has answered."""
    shop, caller = shop_of(request), visit_of(request).caller
    front = yaml.safe_dump({name: getattr(document, name) for name in HEADER_FIELDS}, allow_unicode=True)
    parsed = parse_document(f"---\n{front}---\n{document.text}", source=document.source)
    embedder = await shop.parts.embedder.now()
    vectors = await embedder.embed([f"{parsed.title}\n{heading}\n{text}" for heading, text in parsed.passages])
    passages = [(heading, text, vector) for (heading, text), vector in zip(parsed.passages, vectors, strict=True)]
    record = {name: value for name, value in asdict(parsed).items() if name != "passages"}
    record |= {"version": document.version, "expires_on": document.expires_on, "put_by": caller.name}
    body = {"id": parsed.id, "version": document.version, "passages": len(passages), "digest": parsed.digest}

    def put(tx: PostgresTransaction) -> Answer:
        tx.put_document(record, passages, model=embedder.name)
        return Answer(status=201, body=body)

    return (await once(request, shop.desk, put)).response()


@router.get("/search")
async def search(asked: Annotated[schemas.KnowledgeQuery, Query()], request: Request) -> JSONResponse:
    """The passages nearest to the question, by meaning and by words, each with source, version and effective date."""
    shop = shop_of(request)
    embedder = await shop.parts.embedder.now()
    (vector,) = await embedder.embed([asked.q])

    def read(tx: PostgresTransaction) -> list[dict[str, Any]]:
        found = tx.search_knowledge(embedder.name, vector, asked.q, limit=asked.limit, audience=asked.audience)
        versions = console.document_versions(tx, [passage.document_id for passage in found])
        return [{**asdict(passage), "version": versions.get(passage.document_id)} for passage in found]

    return JSONResponse({"items": await shop.desk.run(read), "next_cursor": None})
