"""What every request passes: an id, the route, the key, the role, the body, the counters; and the last catch for faults.

Pure ASGI, around the app. Knows HTTP and the table of roles; knows no ticket.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.domain.errors import CloisterError
from serving.gateway import json_body
from serving.gateway.console.sessions import COOKIE, Session, Sessions
from serving.gateway.keys import KeyRing, Principal
from serving.gateway.metrics import Metrics
from serving.gateway.problems import Problem, Refusal, problem_of
from serving.gateway.roles import BY_SESSION, OPEN, ROUTE_ROLES, Route

log = logging.getLogger("cloister.gateway")
FORM_BYTES = 64 * 1024
UNKNOWN: Route = ("-", "unknown")
CSP = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@dataclass(kw_only=True)
class Visit:
    """What is known of the request under way."""

    id: str
    route: Route = UNKNOWN
    principal: Principal | None = None
    session: Session | None = None
    body: json_body.Body | None = None
    status: int = 0

    @property
    def caller(self) -> Principal:
        """Raises Refusal 401 where a route that needs a caller was reached without one."""
        if self.principal is None:
            raise no_key()
        return self.principal


def visit_of(request: Request) -> Visit:
    visit: Visit = request.scope["visit"]
    return visit


def no_key(detail: str = "") -> Refusal:
    detail = detail or "This route needs a key: send the header Authorization: Bearer KEY."
    return Refusal(401, detail, headers={"WWW-Authenticate": 'Bearer realm="cloister"'})


class Door:
    """The middleware. `routes` gives the app's routes, read at the first request."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Callable[[], Iterable[BaseRoute]],
        keys: KeyRing,
        sessions: Sessions,
        metrics: Metrics,
        max_body_bytes: int,
        problem_page: Callable[[Request, Problem], Response],
    ) -> None:
        self._app = app
        self._routes = routes
        self._keys = keys
        self._sessions = sessions
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._problem_page = problem_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = scope["visit"] = Visit(id=f"r-{secrets.token_hex(8)}")
        began = time.perf_counter()
        self._metrics.under_way += 1
        try:
            await self._pass(visit, scope, receive, _dressed(visit, send))
        except json_body.Disconnected:
            visit.status = 499
        finally:
            self._metrics.under_way -= 1
            self._metrics.count(visit.route, visit.status, time.perf_counter() - began)

    async def _pass(self, visit: Visit, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if (answer := await self._admit(visit, scope, receive)) is not None:
                await answer(scope, receive, send)
                return
            if visit.body is not None:
                receive = _replay(visit.body.raw, receive)
            await self._app(scope, receive, send)
        except Refusal as refusal:
            await self._end(visit, refusal.problem, scope, receive, send)
        except CloisterError as error:
            note(visit, error)
            await self._end(visit, problem_of(error), scope, receive, send)
        except json_body.Disconnected:
            raise
        except Exception:
            log.exception("%s %s %s: fault", visit.id, scope["method"], visit.route[1])
            detail = "Something is wrong in the gateway itself. The log has the reason under this request_id."
            await self._end(visit, Problem(status=500, detail=detail), scope, receive, send)

    async def _end(self, visit: Visit, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        if visit.status:
            return  # the answer was on its way already; the connection is cut
        if scope["method"] == "POST" and visit.body is None and problem.status in (401, 403):
            await json_body.drain(receive, limit=self._max_body_bytes)
        await self._problem_page(Request(scope), problem)(scope, receive, send)

    async def _admit(self, visit: Visit, scope: Scope, receive: Receive) -> Response | None:
        """Fill in the visit; an answer where the visit ends here. A path or method that we do not have is left to the app."""
        matched = self._match(scope)
        if matched is None:
            return None
        visit.route = matched
        roles = ROUTE_ROLES.get(matched, frozenset())
        headers = Headers(scope=scope)
        if roles != OPEN:
            visit.principal = await self._who(visit, headers)
            if visit.principal is None:
                return _to_login(scope, headers)
            if visit.principal.role not in roles:
                allowed = ", ".join(sorted(roles)) or "nobody"
                raise Refusal(403, f"The role {visit.principal.role} may not call {' '.join(matched)}. It is for: {allowed}.")
        elif matched[1].startswith("/console"):
            visit.session = await self._session(headers)
        if scope["method"] == "POST":
            await self._read(visit, scope, receive)
        return None

    def _match(self, scope: Scope) -> Route | None:
        for route in self._routes():
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return scope["method"], getattr(route, "path", UNKNOWN[1])
        return None

    async def _who(self, visit: Visit, headers: Headers) -> Principal | None:
        """None: a browser without a session, on a route that takes sessions. Raises Refusal 401."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            principal = await self._keys.principal(key.strip())
            if principal is None:
                raise no_key("This key is not known here, or was withdrawn.")
            return principal
        if scheme:
            raise no_key("The header Authorization must read: Bearer KEY.")
        if visit.route not in BY_SESSION:
            raise no_key()
        visit.session = await self._session(headers)
        return visit.session.principal if visit.session else None

    async def _session(self, headers: Headers) -> Session | None:
        token = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        return await self._sessions.find(token) if token else None

    async def _read(self, visit: Visit, scope: Scope, receive: Receive) -> None:
        raw_headers = dict(scope["headers"])
        if visit.route[1].startswith("/console"):
            raw = await json_body.read_bytes(receive, raw_headers, limit=FORM_BYTES)
            visit.body = json_body.Body(raw=raw)
            return
        raw = await json_body.read_bytes(receive, raw_headers, limit=self._max_body_bytes)
        visit.body = json_body.parse(raw)
        scope["headers"] = [
            (b"content-type", b"application/json"),  # whatever it was called: it has been read as JSON
            (b"content-length", str(len(visit.body.raw)).encode()),
            *((name, value) for name, value in scope["headers"] if name not in (b"content-type", b"content-length")),
        ]


def _to_login(scope: Scope, headers: Headers) -> Response:
    if "text/html" not in headers.get("accept", "") and not scope["path"].startswith("/console"):
        raise no_key()
    target = scope["path"] if scope["method"] == "GET" else "/console"
    return RedirectResponse(f"/console/login?next={target}", status_code=303)


def _replay(raw: bytes, receive: Receive) -> Receive:
    """The body once, then whatever the server says (that the client went away)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": raw, "more_body": False}

    return again


def _dressed(visit: Visit, send: Send) -> Send:
    """Every answer gets the request's id and headers that keep browsers on the safe side."""

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            visit.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["Request-Id"] = visit.id  # not X-Request-Id: Serve's proxy adds one of its own
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "same-origin"
            headers.setdefault("Cache-Control", "no-store")
            if headers.get("content-type", "").startswith("text/html"):
                headers["Content-Security-Policy"] = CSP
                headers["X-Frame-Options"] = "DENY"
        await send(message)

    return dressed


def note(visit: Visit, error: CloisterError) -> None:
    """Into the log: what is our matter, with the id that the caller was given."""
    if problem_of(error).status >= 500:
        log.warning("%s %s: %s: %s", visit.id, visit.route[1], type(error).__name__, error)


def json_of(request: Request) -> Any:
    """The parsed body of a JSON request."""
    body = visit_of(request).body
    return None if body is None else body.value
