"""Running the desk: figures, kill switch, health, version, metrics, documentation. Knows HTTP; the parts speak for themselves."""

from importlib.metadata import version

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from orchestrator.domain.errors import CloisterError
from orchestrator.storage.serialize import instant
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import schemas
from serving.gateway.documentation import page
from serving.gateway.door import visit_of
from serving.gateway.metrics import CONTENT_TYPE, Gauge
from serving.gateway.once import Answer, once
from serving.gateway.routes.autonomy import known_type
from serving.gateway.shop import Shop, shop_of

router = APIRouter(tags=["operations"])


@router.get("/v1/kpis")
async def kpis(request: Request) -> JSONResponse:
    """Rates with their definitions and both denominators: all tickets, and eligible tickets."""
    return JSONResponse(await shop_of(request).desk.run(lambda tx: tx.kpis()))


@router.post("/v1/kill-switch")
async def kill_switch(switch: schemas.KillSwitchIn, request: Request) -> JSONResponse:
    """Stop autonomy, of one ticket type or all of it, or let it go on. It counts for the next action of every worker."""
    shop, caller = shop_of(request), visit_of(request).caller
    if switch.type is not None:
        known_type(shop, switch.type)
    return (
        await once(request, shop.desk, lambda tx: switched(tx, switch.stopped, switch.reason, caller.name, type=switch.type))
    ).response()


def switched(tx: PostgresTransaction, stopped: bool, reason: str, by: str, *, type: str | None = None) -> Answer:
    if type is None:
        tx.set_kill_switch(stopped=stopped, reason=reason, by=by)
        return Answer(status=200, body=tx.kill_switch())
    tx.ladder.set_type_switch(type, stopped=stopped, reason=reason, by=by)
    return Answer(status=200, body={"type": type, "stopped": stopped, "reason": reason, "by": by})


@router.get("/v1/status")
async def status(request: Request) -> JSONResponse:
    """What every part says of itself."""
    shop = shop_of(request)
    parts = await shop.health.parts()
    gateway = {"ok": True, "version": version("cloister"), "waiters": shop.outcomes.waiters, "under_way": shop.metrics.under_way}
    return JSONResponse({"gateway": gateway, **parts})


@router.post("/v1/console/logins", status_code=201)
async def make_login(login: schemas.ConsoleLoginIn, request: Request) -> JSONResponse:
    """A password for the console: it works once, within ten minutes. `name` stands in the log for what is done with it."""
    shop, caller = shop_of(request), visit_of(request).caller

    def make(tx: PostgresTransaction) -> Answer:
        password, expires_at = shop.sessions.make_login(tx, name=login.name, role=login.role, by=caller.name)
        return Answer(
            status=201, body={"password": password, "name": login.name, "role": login.role, "expires_at": instant(expires_at)}
        )

    # A password is never stored, so it cannot be answered again: whatever the Idempotency-Key, every call makes a new one.
    return (await shop.desk.run(make)).response()


@router.get("/health/live")
async def live() -> JSONResponse:
    """This process answers."""
    return JSONResponse({"status": "live"})


@router.get("/health/ready")
async def ready(request: Request) -> JSONResponse:
    """200 when every part is well, 503 otherwise. Says which, and no more: it needs no key.

    `unhealthy_aliases`: those that a replica does not answer with; a canary or shadow among them stops nothing.
    """
    asked = await shop_of(request).health.parts()
    parts = {name: bool(part["ok"]) for name, part in asked.items()}
    unhealthy = asked.get("aliases", {}).get("unhealthy", [])
    fine = all(parts.values())
    headers = {} if fine else {"Retry-After": "2"}
    return JSONResponse(
        {"status": "ready" if fine else "not ready", "parts": parts, "unhealthy_aliases": unhealthy},
        status_code=200 if fine else 503,
        headers=headers,
    )


@router.get("/version")
async def show_version() -> JSONResponse:
    """Of this distribution, and of the contract."""
    return JSONResponse({"name": "cloister", "version": version("cloister"), "api": "v1"})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Prometheus text: this process's requests, and the desk's queue and states where the database answers."""
    shop = shop_of(request)
    return PlainTextResponse(
        shop.metrics.text([*_own(shop), *await _part_gauges(shop), *await _desk_gauges(shop)]), media_type=CONTENT_TYPE
    )


def _own(shop: Shop) -> list[Gauge]:
    return [
        Gauge(name="cloister_waiters", help="Requests that wait for an outcome.", samples=(({}, shop.outcomes.waiters),)),
        Gauge(
            name="cloister_store_calls", help="Store calls under way or waiting for a thread.", samples=(({}, shop.desk.waiting),)
        ),
    ]


MODEL_COUNTERS = ("in_flight", "requests", "prompt_tokens", "cached_tokens", "completion_tokens", "refused_busy")


async def _part_gauges(shop: Shop) -> list[Gauge]:
    """Whether each part is well, and the counters of the language model's replica that answered."""
    parts = await shop.health.parts()
    up = tuple(({"part": name}, int(bool(part["ok"]))) for name, part in parts.items())
    model = parts["language_model"]
    counted = tuple(({"what": name}, float(model[name])) for name in MODEL_COUNTERS if isinstance(model.get(name), int | float))
    gauges = [Gauge(name="cloister_part_up", help="Whether the part says that it is well.", samples=up)]
    if counted:
        gauges.append(Gauge(name="cloister_language_model", help="One replica's counters since its start.", samples=counted))
    return gauges


async def _desk_gauges(shop: Shop) -> list[Gauge]:
    try:
        figures = await shop.desk.run(lambda tx: tx.kpis())
    except CloisterError:
        return [Gauge(name="cloister_database_up", help="Whether the database answers.", samples=(({}, 0),))]
    by_state = tuple(({"state": state}, count) for state, count in figures["by_state"].items())
    by_category = tuple(({"category": category}, count) for category, count in figures["by_category"].items())
    outcomes = tuple(({"outcome": name}, count) for name, count in figures["counts"].items())
    queue = tuple(({"what": name}, count) for name, count in figures["queue"].items())
    return [
        Gauge(name="cloister_database_up", help="Whether the database answers.", samples=(({}, 1),)),
        Gauge(name="cloister_tickets", help="Tickets by state.", samples=by_state),
        Gauge(name="cloister_tickets_by_category", help="Tickets by category.", samples=by_category),
        Gauge(name="cloister_tickets_by_outcome", help="Tickets by outcome, as GET /v1/kpis defines them.", samples=outcomes),
        Gauge(name="cloister_queue", help="Jobs that wait, and jobs given up.", samples=queue),
    ]


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


@router.get("/docs", include_in_schema=False, response_class=HTMLResponse)
async def docs(request: Request) -> HTMLResponse:
    return HTMLResponse(page(request.app.openapi()))


@router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    return RedirectResponse("/console", status_code=303)
