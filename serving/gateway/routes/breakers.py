"""The circuit breaker over HTTP: what is frozen, what nobody knows the end of, and a lead who gives something free. Judges nothing."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from orchestrator.storage.serialize import dump
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import schemas
from serving.gateway.door import visit_of
from serving.gateway.once import Answer, once
from serving.gateway.shop import shop_of

router = APIRouter(prefix="/v1/breakers", tags=["operations"])


@router.get("")
async def list_breakers(request: Request) -> JSONResponse:
    """`items`: actions frozen on a target; `unresolved`: acts of which nobody knows whether they happened, each with its exact call."""

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        return {"items": [dump(each) for each in tx.frozen()], "unresolved": tx.unresolved()}

    return JSONResponse(await shop_of(request).desk.run(read))


@router.post("/release")
async def release_breaker(release: schemas.ReleaseIn, request: Request) -> JSONResponse:
    """The action may touch the target again. 404 where it is not frozen."""
    shop, caller = shop_of(request), visit_of(request).caller

    def give_free(tx: PostgresTransaction) -> Answer:
        given = tx.unfreeze(release.action, release.target, reason=release.reason, by=caller.name)
        return Answer(status=200, body={"released": dump(given), "by": caller.name, "reason": release.reason})

    return (await once(request, shop.desk, give_free)).response()
