"""Decisions of governance with the facts they rest on, for replay under other policies. Knows HTTP; the log holds them."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from serving.gateway import schemas
from serving.gateway.shop import shop_of

router = APIRouter(prefix="/v1/decisions", tags=["audit"])


@router.get("", responses={200: {"model": schemas.Page}})
async def decisions(asked: Annotated[schemas.DecisionQuery, Query()], request: Request) -> JSONResponse:
    """Oldest first: `{seq, at, ticket_id, basis}`; `basis` holds the verdict, the digest of the policies and every fact they read."""
    desk = shop_of(request).desk
    items, cursor = await desk.run(
        lambda tx: tx.decisions(ticket_id=asked.ticket, since=asked.since, cursor=asked.cursor, limit=asked.limit)
    )
    return JSONResponse({"items": items, "next_cursor": cursor})
