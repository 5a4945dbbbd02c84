"""The sandbox over HTTP. Knows doors, keys, transactions and records of calls; what a call does lies in `systems`."""

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.sandbox import world as worlds
from orchestrator.sandbox.calls import Call, Problem, Route
from orchestrator.sandbox.faults import Fault, Faults
from orchestrator.sandbox.store import Records, Store
from orchestrator.sandbox.systems import ROUTES
from orchestrator.sandbox.tokens import SYSTEMS, Doorkeeper

MAX_BODY_BYTES = 1 << 20
MAX_WORLD_BYTES = 256 << 20

Hangup = Callable[[Scope], None]


@dataclass(frozen=True, kw_only=True)
class _Reply:
    status: int
    body: str  # JSON
    replayed: bool = False
    changed: bool = False
    retry_after_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Incoming:
    """One request, read to its end."""

    method: str
    path: str
    segments: tuple[str, ...]  # decoded one by one: an encoded slash stays inside its segment
    query: Mapping[str, str]
    raw_body: bytes
    authorization: str | None
    idempotency_key: str | None
    at: datetime

    @property
    def system(self) -> str | None:
        return self.segments[0] if self.segments and self.segments[0] in SYSTEMS else None

    @property
    def digest(self) -> str:
        """What makes two requests the same; the order of fields and the spaces between them do not."""
        try:
            body = json.loads(self.raw_body or b"{}")
        except (ValueError, RecursionError):
            body = self.raw_body.decode("utf-8", "replace")
        request = [self.method, self.path, self.query, body]
        return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


class _Table:
    """Routes by method and number of segments; a literal segment wins over a placeholder."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._routes: dict[int, list[tuple[tuple[str, ...], Route]]] = {}
        for route in routes:
            pattern = tuple(route.path.strip("/").split("/"))
            self._routes.setdefault(len(pattern), []).append((pattern, route))

    def find(self, method: str, segments: tuple[str, ...]) -> tuple[Route, dict[str, str]]:
        fitting = [
            (route, {name[1:-1]: value for name, value in zip(pattern, segments, strict=True) if name[0] == "{"})
            for pattern, route in self._routes.get(len(segments), [])
            if all(part[0] == "{" or part == value for part, value in zip(pattern, segments, strict=True))
        ]
        for route, values in fitting:
            if route.method == method:
                return route, values
        if fitting:
            raise Problem(
                405, f"{method} is not offered here; there is {', '.join(sorted({route.method for route, _ in fitting}))}."
            )
        raise Problem(404, "There is no such route.")


class Sandbox:
    """The ASGI application. Calls are handled one at a time, each in one transaction, on the event loop's own thread."""

    def __init__(self, *, store: Store, secret: str, hang_up: Hangup) -> None:
        self._store = store
        self._doorkeeper = Doorkeeper(secret)
        self._faults = Faults()
        self._table = _Table(ROUTES)
        self._hang_up = hang_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            request = Request(scope, receive)
            response: Response | None
            if scope["path"].startswith("/_"):
                response = await self._own_route(request)
            else:
                response = await self._system_call(await _read(request))
        except ClientDisconnect:
            return
        except Problem as problem:
            response = _respond(problem.status, json.dumps(problem.body))
        if response is None:
            self._hang_up(scope)
            await _gone(receive)
            return
        await response(scope, receive, send)

    # --- the systems --------------------------------------------------------------------------------------------------

    async def _system_call(self, incoming: _Incoming) -> Response | None:
        """One call with the faults that meet it; None: hang up without an answer."""
        fault = self._faults.take(incoming.method, incoming.path)
        if fault is None:
            reply = self._transact(incoming)
        else:
            reply_or_none = await self._fail(fault, incoming)
            if reply_or_none is None:
                return None
            reply = reply_or_none
        return _respond(reply.status, reply.body, replayed=reply.replayed, retry_after_s=reply.retry_after_s)

    async def _fail(self, fault: Fault, incoming: _Incoming) -> _Reply | None:
        busy = fault.kind == "busy"
        failed = _problem(Problem(429 if busy else 500, "The sandbox was told to fail this call."))
        silent = fault.kind.startswith("timeout")
        seen = None if silent else failed.status
        if fault.kind == "slow":
            reply = self._transact(incoming)
        elif fault.after:
            reply = self._transact(incoming, answered_as=lambda status: seen)
        else:
            reply = failed
            with self._store.transaction() as records:
                _record(records, incoming, failed, answered=seen)
        if busy:
            return replace(failed, retry_after_s=fault.delay_s)
        await asyncio.sleep(fault.delay_s)
        if silent:
            return None
        return reply if fault.kind == "slow" else failed

    def _transact(self, incoming: _Incoming, *, answered_as: Callable[[int], int | None] = lambda status: status) -> _Reply:
        """Effect, idempotency record and record of the call: one transaction."""
        with self._store.transaction() as records:
            try:
                reply = self._judge_and_act(incoming, records)
            except Problem as problem:
                reply = _problem(problem)
            _record(records, incoming, reply, answered=answered_as(reply.status))
        return reply

    def _judge_and_act(self, incoming: _Incoming, records: Records) -> _Reply:
        if incoming.system is None:
            raise Problem(404, f"There is no system at {incoming.path!r}; there are {', '.join(SYSTEMS)}.")
        verdict = self._doorkeeper.judge(incoming.system, incoming.method, incoming.authorization)
        if verdict == 401:
            raise Problem(401, f"The system {incoming.system} wants a bearer token that it knows.")
        if verdict == 403:
            raise Problem(403, f"This token does not allow {incoming.method} in the system {incoming.system}.")
        if len(incoming.raw_body) > MAX_BODY_BYTES:
            raise Problem(413, f"A body has at most {MAX_BODY_BYTES} bytes.")
        if incoming.method in ("GET", "HEAD"):
            return self._act(incoming, records)
        return self._act_once(incoming, records)

    def _act_once(self, incoming: _Incoming, records: Records) -> _Reply:
        """A write: the same key with the same request answers what was answered, and changes nothing."""
        system, key = str(incoming.system), incoming.idempotency_key
        if not key:
            raise Problem(400, "A write needs an Idempotency-Key header.")
        stored = records.answer_to(system, key)
        if stored is not None:
            request, status, body = stored
            if request != incoming.digest:
                raise Problem(409, f"Idempotency-Key {key!r} was used before for another request.")
            return _Reply(status=status, body=body, replayed=True)
        reply = self._act(incoming, records)
        records.remember(system, key, incoming.digest, reply.status, reply.body)
        return reply

    def _act(self, incoming: _Incoming, records: Records) -> _Reply:
        route, values = self._table.find(incoming.method, incoming.segments)
        body = _json_object(incoming.raw_body) if route.method == "POST" else {}
        _only(incoming.query, route.query, "query parameter")
        _only(body, route.body, "field")
        call = Call(records=records, path=values, query=incoming.query, body=body, now=incoming.at)
        answer = route.handler(call)
        return _Reply(status=answer.status, body=_dump(answer.body), changed=records.changed)

    # --- the sandbox's own routes: for tests, grading and the demo ------------------------------------------------------

    async def _own_route(self, request: Request) -> Response:
        match request.method, request.url.path:
            case "GET", "/_health":
                return _respond(200, _dump({"status": "ok", "seeded": self._store.seeded}))
            case "GET", "/_calls":
                return _respond(200, _dump(self._store.calls(after=_after(request))))
            case "GET", "/_state":
                return _respond(200, _dump(self._store.state()))
            case "POST", "/_seed":
                return self._seed(_json_object(await _body(request, MAX_WORLD_BYTES)))
            case "POST", "/_faults":
                waiting = self._faults.add(_json_object(await _body(request, MAX_BODY_BYTES)))
                return _respond(201, _dump({"waiting": len(waiting)}))
            case "DELETE", "/_faults":
                self._faults.clear()
                return _respond(200, _dump({"waiting": 0}))
        raise Problem(404, f"There is no {request.method} {request.url.path}.")

    def _seed(self, world: Mapping[str, Any]) -> Response:
        try:
            counts = self._store.seed(world)
        except worlds.BadWorld as error:
            raise Problem(422, str(error)) from error
        self._faults.clear()
        return _respond(200, _dump({"seeded": counts}))


def _after(request: Request) -> int:
    given = request.query_params.get("after", "0")
    if not given.isdecimal():
        raise Problem(422, f"after is a seq, a whole number; got {given!r}.")
    return int(given)


async def _read(request: Request) -> _Incoming:
    raw_path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    path = raw_path.partition(b"?")[0].decode("ascii", "replace")
    return _Incoming(
        method=request.method,
        path=path,
        segments=tuple(unquote(part) for part in path.strip("/").split("/")),
        query=dict(QueryParams(request.scope["query_string"])),
        raw_body=await _body(request, MAX_BODY_BYTES) if request.method != "GET" else b"",
        authorization=request.headers.get("authorization"),
        idempotency_key=request.headers.get("idempotency-key"),
        at=datetime.now(UTC),
    )


async def _body(request: Request, limit_bytes: int) -> bytes:
    """The body, read no further than just above the limit."""
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > limit_bytes:
            raise Problem(413, f"A body has at most {limit_bytes} bytes.")
    return b"".join(parts)


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw or b"{}")
    except (ValueError, RecursionError) as error:
        raise Problem(400, f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise Problem(422, f"The body must be a JSON object, not {type(body).__name__}.")
    return body


def _only(given: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise Problem(422, f"Unknown {what}: {', '.join(unknown)}. Known here: {', '.join(known) or 'none'}.")


def _record(records: Records, incoming: _Incoming, reply: _Reply, *, answered: int | None) -> None:
    """`answered` is the status that the caller saw; None where it saw none."""
    try:
        body = _dump(_json_object(incoming.raw_body)) if incoming.raw_body else None
    except Problem:
        body = _dump(incoming.raw_body.decode("utf-8", "replace"))
    records.record_call(
        {
            "at": worlds.iso(incoming.at),
            "system": incoming.system,
            "method": incoming.method,
            "path": incoming.path,
            "query": _dump(incoming.query),
            "body": body,
            "idempotency_key": incoming.idempotency_key,
            "status": answered,
            "replayed": reply.replayed,
            "changed": reply.changed,
        }
    )


def _problem(problem: Problem) -> _Reply:
    return _Reply(status=problem.status, body=_dump(problem.body))


def _respond(status: int, body: str, *, replayed: bool = False, retry_after_s: float | None = None) -> Response:
    media_type = "application/json" if status < 400 else "application/problem+json"
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    headers |= {"Retry-After": str(math.ceil(retry_after_s))} if retry_after_s is not None else {}
    return Response(body, status_code=status, headers=headers, media_type=media_type)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _gone(receive: Receive) -> None:
    """Wait until the server has noticed that the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def app(store: Store, secret: str, hang_up: Hangup) -> ASGIApp:
    return Sandbox(store=store, secret=secret, hang_up=hang_up)
