"""The append-only log: its events, and whether it is whole. Knows HTTP; the store keeps and checks the chain."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from serving.gateway import schemas
from serving.gateway.shop import shop_of

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get("", responses={200: {"model": schemas.Page}})
async def events(asked: Annotated[schemas.AuditQuery, Query()], request: Request) -> JSONResponse:
    """Oldest first, of one ticket or of all."""
    desk = shop_of(request).desk
    items, cursor = await desk.run(lambda tx: tx.events(ticket_id=asked.ticket, cursor=asked.cursor, limit=asked.limit))
    return JSONResponse({"items": items, "next_cursor": cursor})


@router.get("/verify")
async def verify(request: Request) -> JSONResponse:
    """Every hash recomputed: `{whole, events, head, problem}`."""
    return JSONResponse(await shop_of(request).desk.run(lambda tx: tx.verify_chain()))
