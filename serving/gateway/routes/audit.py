"""The append-only log: its events, whether it is whole, one ticket's as evidence. Knows HTTP; the notary and the store do the rest."""

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from serving.gateway import schemas
from serving.gateway.shop import shop_of
from serving.stack.notary import notary_of

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get("", responses={200: {"model": schemas.Page}})
async def events(asked: Annotated[schemas.AuditQuery, Query()], request: Request) -> JSONResponse:
    """Oldest first, of one ticket or of all."""
    desk = shop_of(request).desk
    items, cursor = await desk.run(lambda tx: tx.events(ticket_id=asked.ticket, cursor=asked.cursor, limit=asked.limit))
    return JSONResponse({"items": items, "next_cursor": cursor})


@router.get("/verify")
async def verify(request: Request) -> JSONResponse:
    """Every hash recomputed, every checkpoint compared.

    `{whole, events, head, problem, erased, checkpoints, covered, unprotected, key, alarm}`: `covered` events stand under a signed
    checkpoint, the newest `unprotected` are chained alone until the next one.
    """
    parts = shop_of(request).parts
    return JSONResponse(await asyncio.to_thread(notary_of(parts.settings, parts.store).verify))


@router.get("/export")
async def export(asked: Annotated[schemas.ExportQuery, Query()], request: Request) -> JSONResponse:
    """One ticket's events as a signed bundle, each with its proof to a signed checkpoint: for the standalone verifier."""
    parts = shop_of(request).parts
    return JSONResponse(json.loads(await asyncio.to_thread(notary_of(parts.settings, parts.store).export, asked.ticket)))
