"""Incidents: linked tickets with their evidence, and taking some out again. Knows HTTP and the store's verbs."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import schemas
from serving.gateway.door import visit_of
from serving.gateway.once import Answer, once
from serving.gateway.shop import shop_of

router = APIRouter(prefix="/v1/incidents", tags=["incidents"])


@router.get("", responses={200: {"model": schemas.Page}})
async def list_incidents(page: Annotated[schemas.PageQuery, Query()], request: Request) -> JSONResponse:
    """Newest first."""
    items, cursor = await shop_of(request).desk.run(lambda tx: tx.incidents(cursor=page.cursor, limit=page.limit))
    return JSONResponse({"items": items, "next_cursor": cursor})


@router.get("/{incident_id}")
async def get_incident(incident_id: str, request: Request) -> JSONResponse:
    """The incident with its tickets; each with the link that brought it here, and who left, when and why."""
    return JSONResponse(await shop_of(request).desk.run(lambda tx: tx.incident(incident_id)))


@router.post("/{incident_id}/split")
async def split_incident(incident_id: str, split: schemas.SplitIn, request: Request) -> JSONResponse:
    """Undo links: these tickets leave, go back to work on their own, and are not offered this incident again."""
    shop, caller = shop_of(request), visit_of(request).caller
    ids = list(dict.fromkeys(split.ticket_ids))
    return (await once(request, shop.desk, lambda tx: parted(tx, incident_id, ids, split.reason, caller.name))).response()


def parted(tx: PostgresTransaction, incident_id: str, ids: list[str], reason: str, by: str) -> Answer:
    tx.incident(incident_id)  # raises NotFound with the incident's own name
    tx.split_incident(incident_id, ids, reason=reason, by=by)
    return Answer(status=200, body=tx.incident(incident_id))
