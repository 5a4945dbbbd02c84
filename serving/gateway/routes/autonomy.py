"""The autonomy ladder, the sample and chaos days over HTTP. Knows who may ask; evidence and code decide."""

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from orchestrator.autonomy.chaos import check_chaos_day
from orchestrator.domain.autonomy import ChaosDay, Finding
from orchestrator.domain.errors import NotFound
from orchestrator.domain.resolution import Rung
from orchestrator.storage.serialize import dump
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import ladder, schemas
from serving.gateway.door import visit_of
from serving.gateway.once import Answer, once
from serving.gateway.shop import Shop, shop_of

router = APIRouter(prefix="/v1", tags=["autonomy"])


def known_type(shop: Shop, type: str) -> str:
    """Raises NotFound for what is no ticket type of the house."""
    types = shop.parts.playbook.first_rungs()
    if type not in types:
        raise NotFound(f"There is no ticket type {type!r}.", hint=f"There are {', '.join(types)}.")
    return type


@router.get("/autonomy")
async def show_ladder(request: Request) -> JSONResponse:
    """Where each ticket type stands, what it has shown since it came there, and what the next rung still demands."""
    shop = shop_of(request)
    rows = await shop.desk.run(lambda tx: ladder.ladder(tx, shop.parts.playbook, shop.parts.clock()))
    return JSONResponse({"items": rows, "next_cursor": None})


@router.get("/autonomy/scorecard")
async def show_scorecard(request: Request) -> JSONResponse:
    """Which types to automate now, later or never, from the desk's own history; seven criteria with their evidence."""
    shop = shop_of(request)
    return JSONResponse(await shop.desk.run(lambda tx: ladder.scorecard(tx, shop.parts.playbook)))


@router.get("/autonomy/{type}")
async def show_type(type: str, request: Request) -> JSONResponse:
    """One type, with its earlier moves."""
    shop = shop_of(request)
    known_type(shop, type)

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        found = next(row for row in ladder.ladder(tx, shop.parts.playbook, shop.parts.clock()) if row["type"] == type)
        return {**found, "moves": tx.ladder.moves(type)}

    return JSONResponse(await shop.desk.run(read))


@router.post("/autonomy/{type}")
async def move_type(type: str, wanted: schemas.RungIn, request: Request) -> JSONResponse:
    """Up by one rung where the evidence carries it (else 409 with what is missing); down at once, to any rung."""
    shop, caller = shop_of(request), visit_of(request).caller
    known_type(shop, type)
    now = shop.parts.clock()

    def work(tx: PostgresTransaction) -> Answer:
        body = ladder.moved(tx, shop.parts.playbook, type, Rung(wanted.rung), reason=wanted.reason, by=caller.name, now=now)
        return Answer(status=200, body=body)

    return (await once(request, shop.desk, work)).response()


@router.get("/qa")
async def show_sample(filters: Annotated[schemas.SampleFilters, Query()], request: Request) -> JSONResponse:
    """Tickets that the desk resolved alone and that a person shall look at: more of them while a type is young."""
    shop = shop_of(request)

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        wanted = (
            row
            for row in ladder.sample(tx, shop.parts.playbook)
            if filters.type in (None, row["type"]) and not (filters.open and row["finding"])
        )
        return {"items": list(islice(wanted, filters.limit)), "next_cursor": None}

    return JSONResponse(await shop.desk.run(read))


@router.post("/qa/{ticket_id}")
async def find(ticket_id: str, found: schemas.FindingIn, request: Request) -> JSONResponse:
    """What was found in a sampled ticket. One `harmful` sends the type down a rung."""
    shop, caller = shop_of(request), visit_of(request).caller
    now = shop.parts.clock()

    def work(tx: PostgresTransaction) -> Answer:
        tx.ladder.find(ticket_id, Finding(found.finding), reason=found.reason, by=caller.name, now=now)
        return Answer(status=200, body={"id": ticket_id, "finding": found.finding})

    return (await once(request, shop.desk, work)).response()


@router.get("/chaos-days")
async def list_chaos_days(request: Request) -> JSONResponse:
    """Newest first."""
    days = await shop_of(request).desk.run(lambda tx: tx.ladder.chaos_days())
    return JSONResponse({"items": [dump(day) for day in days], "next_cursor": None})


@router.post("/chaos-days", status_code=201)
async def plan_chaos_day(wanted: schemas.ChaosDayIn, request: Request) -> JSONResponse:
    """Automation of one low-risk type is off for some hours; how people do is measured."""
    shop, caller = shop_of(request), visit_of(request).caller
    playbook, now = shop.parts.playbook, shop.parts.clock()
    hours = {"starts_at": wanted.starts_at, "ends_at": wanted.ends_at}
    known_type(shop, wanted.type)

    def work(tx: PostgresTransaction) -> Answer:
        acts, planned = playbook.acts(wanted.type), tx.ladder.chaos_days()
        check_chaos_day(playbook.ladder.chaos, type=wanted.type, **hours, now=now, acts=acts, planned=planned)
        return Answer(
            status=201, body=dump(tx.ladder.plan_chaos_day(type=wanted.type, **hours, by=caller.name, reason=wanted.reason))
        )

    return (await once(request, shop.desk, work)).response()


@router.get("/chaos-days/{day_id}")
async def show_chaos_day(day_id: str, request: Request) -> JSONResponse:
    """The day, and how people did in it."""
    return JSONResponse(await shop_of(request).desk.run(lambda tx: _report(tx, tx.ladder.chaos_day(day_id))))


def _report(tx: PostgresTransaction, day: ChaosDay) -> dict[str, Any]:
    ended = day.cancelled_at or day.ends_at
    return {**dump(day), "response": dump(tx.ladder.human_response(day.type, starts_at=day.starts_at, ends_at=ended))}


@router.post("/chaos-days/{day_id}/cancel")
async def cancel_chaos_day(day_id: str, why: schemas.CancelIn, request: Request) -> JSONResponse:
    """Automation goes on at once."""
    shop, caller = shop_of(request), visit_of(request).caller
    now = shop.parts.clock()

    def work(tx: PostgresTransaction) -> Answer:
        tx.ladder.cancel_chaos_day(day_id, because=why.reason, by=caller.name, now=now)
        return Answer(status=200, body=_report(tx, tx.ladder.chaos_day(day_id)))

    return (await once(request, shop.desk, work)).response()
