"""`create_app(parts)`: the whole HTTP door, as one FastAPI app. Builds from parts; starts and connects nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from orchestrator.domain.errors import CloisterError
from serving.gateway.backpressure import Intake
from serving.gateway.console import link_pages, pages
from serving.gateway.console.sessions import Sessions
from serving.gateway.desk import Desk
from serving.gateway.documentation import document
from serving.gateway.door import Door, note, visit_of
from serving.gateway.health import Health
from serving.gateway.keys import KeyRing
from serving.gateway.metrics import Metrics
from serving.gateway.parts import Parts
from serving.gateway.problems import FieldProblem, Problem, Refusal, problem_of
from serving.gateway.routes import (
    approvals,
    audit,
    autonomy,
    breakers,
    decisions,
    incidents,
    knowledge,
    models,
    operations,
    tickets,
    training,
)
from serving.gateway.shop import Shop
from serving.gateway.waiting import Outcomes

ROUTERS = (
    tickets.router,
    incidents.router,
    approvals.router,
    knowledge.router,
    audit.router,
    decisions.router,
    operations.router,
    breakers.router,
    autonomy.router,
    models.router,
    training.router,
    link_pages.router,
    pages.router,
)
SHOWN_CHARS = 80


def create_app(parts: Parts) -> FastAPI:
    """A new app around these parts. Runs under uvicorn and under Ray Serve alike; closing it leaves the parts as they are."""
    desk = Desk(parts.store, threads=parts.settings.database.pool_size)
    sessions = Sessions(desk, secret=parts.console_secret, clock=parts.clock)
    shop = Shop(
        parts=parts,
        desk=desk,
        outcomes=Outcomes(desk),
        sessions=sessions,
        metrics=Metrics(),
        intake=Intake(desk, max_queue=parts.settings.http.max_queue),
        health=Health(parts, desk),
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await shop.outcomes.close()
        desk.close()

    app = FastAPI(
        title="Cloister",
        version=version("cloister"),
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.shop = shop
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(CloisterError, _ours)
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(
        Door,
        routes=lambda: app.router.routes,
        keys=KeyRing(desk),
        sessions=sessions,
        metrics=shop.metrics,
        max_body_bytes=parts.settings.http.max_body_bytes,
        problem_page=_answer,
    )
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return app


def _answer(request: Request, problem: Problem) -> Response:
    if request.url.path.startswith("/console"):
        return pages.problem_page(request, problem)
    return problem.response(path=request.url.path, request_id=visit_of(request).id)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, CloisterError)
    note(visit_of(request), error)
    return _answer(request, problem_of(error))


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _answer(request, error.problem)


async def _http(request: Request, error: Exception) -> Response:
    """What the router says: no such path, no such method."""
    assert isinstance(error, HTTPException)
    path, allowed = request.url.path[:SHOWN_CHARS], _allowed(request)
    details = {
        404: f"There is nothing at {path}. GET /docs lists the routes.",
        405: f"{request.method} is not for {path}; allowed: {', '.join(allowed)}.",
    }
    detail = details.get(error.status_code, str(error.detail))
    headers = {**(error.headers or {}), "Allow": ", ".join(allowed)} if error.status_code == 405 else dict(error.headers or {})
    return _answer(request, Problem(status=error.status_code, detail=detail, headers=headers))


def _allowed(request: Request) -> list[str]:
    """The methods that this path has."""
    matching = [route for route in request.app.router.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in matching for method in getattr(route, "methods", None) or ()})


async def _invalid(request: Request, error: Exception) -> Response:
    """422 with every field at fault; what the caller sent is quoted short or not at all."""
    assert isinstance(error, RequestValidationError)
    found = [FieldProblem(field=_place(item["loc"]), message=_words(item)) for item in error.errors()[:20]]
    detail = " ".join(f"{problem.field}: {problem.message}." for problem in found[:3])
    return _answer(request, Problem(status=422, detail=detail, errors=tuple(found)))


def _place(location: tuple[int | str, ...]) -> str:
    """("body", "requester", "email") -> requester.email; ("query", "wait") -> query.wait."""
    inside = location[1:] if location and location[0] == "body" else location
    return ".".join(str(part)[:SHOWN_CHARS] for part in inside) or "body"


def _words(item: dict[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "there is no such field"
    if item["type"] == "string_pattern_mismatch":
        return "must be an e-mail address" if item["loc"][-1] == "email" else "must not be empty"
    if item["type"] == "missing":
        return "is missing"
    return str(item["msg"]).removeprefix("Value error, ")[:300]
