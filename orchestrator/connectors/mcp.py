"""Systems of record behind MCP servers: tools that were reviewed and pinned. Knows the protocol's client; knows no ticket."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, Self

import anyio
import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from orchestrator.connectors.http import KEY, MAX_ANSWER_BYTES, require_storable
from orchestrator.connectors.servers import Server
from orchestrator.connectors.tools import Tool, disabled
from orchestrator.domain.actions import Action
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.resolution import Observation, ObservationStatus
from orchestrator.ports import Clock

CHECK_EVERY_S = 60.0  # how old the server's word on its tools may be when one is called
CONNECT_TIMEOUT_S = 10.0
MAX_TOOLS = 5000
IDEMPOTENCY_META = "cloister/idempotency-key"  # in the request's _meta, for servers that honor it
_NOT_CARRIED_OUT = frozenset({-32700, -32600, -32601, -32602})  # parse error, invalid request, no such method, invalid params


class NotReached(Exception):
    """The server could not be connected to: nothing was sent."""


class Session:
    """One connection to a server, opened at the first use and again after it broke. Thread-safe."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._open: AbstractContextManager[BlockingPortal] | None = None
        self._portal: BlockingPortal | None = None
        self._client: Client | None = None
        self._ended: anyio.Event | None = None
        self._task: Future[None] | None = None

    def tools(self) -> list[Tool]:
        """All that the server offers now. Raises NotReached, or whatever broke."""
        return self._run(_all_tools, CONNECT_TIMEOUT_S)

    def call(self, name: str, arguments: Mapping[str, Any], *, key: str | None, timeout_s: float) -> Any:
        """The tool's result. Raises NotReached before anything was sent; MCPError, TimeoutError and others after."""

        async def called(client: Client) -> Any:
            meta: Any = {IDEMPOTENCY_META: key} if key else None
            return await client.call_tool(name, dict(arguments), meta=meta)

        return self._run(called, timeout_s)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _run(self, what: Callable[[Client], Any], timeout_s: float) -> Any:
        with self._lock:
            client, portal = self._connected()

        async def within() -> Any:
            with anyio.fail_after(timeout_s):
                return await what(client)

        try:
            return portal.call(within)
        except MCPError:
            raise
        except BaseException:
            self.close()  # whatever state it is in, the next call starts anew
            raise

    def _connected(self) -> tuple[Client, BlockingPortal]:
        if self._client is not None and self._portal is not None and self._task is not None and not self._task.done():
            return self._client, self._portal
        self._close()
        self._open = start_blocking_portal()
        self._portal = self._open.__enter__()
        ready: Future[Client] = Future()
        self._task = self._portal.start_task_soon(self._hold, ready)
        try:
            self._client = ready.result(timeout=CONNECT_TIMEOUT_S + 5)
        except Exception as error:
            self._close()
            raise NotReached(f"{type(error).__name__}: {error}") from error
        return self._client, self._portal

    async def _hold(self, ready: "Future[Client]") -> None:
        """Enter and leave the client in one task, as its task group wants it."""
        self._ended = anyio.Event()
        try:
            with anyio.CancelScope() as scope:
                scope.deadline = anyio.current_time() + CONNECT_TIMEOUT_S
                async with _http(self._server) as http, _client(self._server, http) as client:
                    scope.deadline = float("inf")
                    ready.set_result(client)
                    await self._ended.wait()
            if not ready.done():
                ready.set_exception(TimeoutError(f"no connection within {CONNECT_TIMEOUT_S:.0f} s"))
        except BaseException as error:
            if ready.done():
                return
            ready.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _close(self) -> None:
        portal, ended, opened = self._portal, self._ended, self._open
        self._client = self._portal = self._open = self._ended = None
        if portal is not None and ended is not None:
            portal.call(ended.set)
        if opened is not None:
            opened.__exit__(None, None, None)


def _http(server: Server) -> httpx2.AsyncClient:
    """Of our own making: no proxy from the environment, and the server's own token."""
    headers = {"Authorization": f"Bearer {server.token}"} if server.token else None
    return httpx2.AsyncClient(headers=headers, trust_env=False, timeout=httpx2.Timeout(120.0, connect=CONNECT_TIMEOUT_S))


def _client(server: Server, http: httpx2.AsyncClient) -> Client:
    if server.url is not None:
        return Client(streamable_http_client(server.url, http_client=http), cache=None)
    command, *rest = server.command
    return Client(StdioServerParameters(command=command, args=rest, env=dict(server.environment)), cache=None)


async def _all_tools(client: Client) -> list[Tool]:
    found: list[Tool] = []
    cursor: str | None = None
    while len(found) <= MAX_TOOLS:
        page = await client.list_tools(cursor=cursor)
        found += [_tool(each.model_dump(mode="json", by_alias=True, exclude_none=True)) for each in page.tools]
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise ValueError(f"the server names more than {MAX_TOOLS} tools")


def _tool(given: Mapping[str, Any]) -> Tool:
    return Tool(
        name=given["name"],
        description=given.get("description"),
        input_schema=given["inputSchema"],
        output_schema=given.get("outputSchema"),
        annotations=given.get("annotations"),
    )


class McpSystemsOfRecord:
    """`orchestrator.ports.SystemsOfRecord` over MCP servers, by system. Thread-safe; connects at the first call.

    Before a tool is called, its definition as the server gives it now (at most `check_every_s` old) is held against the pin. A tool
    that is gone or that has changed is refused, with the reason, and nothing is sent.

    | what happened                                        | a read      | a write            |
    |------------------------------------------------------|-------------|--------------------|
    | a result that fits the output schema                 | ok          | ok                 |
    | wrong arguments, a draft, a changed pin              | refused     | refused            |
    | the server says: no such tool, invalid parameters    | refused     | refused            |
    | never reached                                        | unavailable | unavailable        |
    | the tool says that it failed                         | refused     | unknown            |
    | no answer in time, a result that does not fit        | unavailable | unknown            |
    """

    def __init__(
        self,
        actions: Mapping[str, Action],
        *,
        servers: Mapping[str, Server],
        clock: Clock,
        check_every_s: float = CHECK_EVERY_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ConfigurationError where an action's server is not named."""
        self._actions = {name: action for name, action in actions.items() if action.tool is not None}
        if missing := sorted({action.system for action in self._actions.values()} - set(servers)):
            raise ConfigurationError(f"No MCP server is named for {', '.join(missing)}.", hint="Name them in connectors.yaml.")
        self._sessions = {system: Session(server) for system, server in servers.items()}
        self._clock = clock
        self._check_every_s = check_every_s
        self._now = now
        self._checked: dict[str, tuple[float, dict[str, str]]] = {}
        self._locks = {system: threading.Lock() for system in servers}

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def disabled(self, *, fresh: bool = False) -> dict[str, str]:
        """Why each tool's action may not be carried out, by name. Asks every server, at most once within `check_every_s`."""
        reasons: dict[str, str] = {}
        for system in self._sessions:
            try:
                reasons |= self._disabled(system, fresh=fresh)
            except Exception as error:
                told = f"The MCP server of {system} was not reached: {type(error).__name__}: {error}"
                reasons |= {name: told for name, action in self._actions.items() if action.system == system}
        return reasons

    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        """Carry out one action by exact name; see the table above. Never raises for what the world answered."""
        found = self._actions.get(action)
        if found is None:
            return self._not_sent({"action": action}, [f"No tool is bound to {action!r}"])
        request = {"system": found.system, "tool": found.tool, "arguments": dict(arguments), "idempotency_key": idempotency_key}
        if problems := _unsendable(found, arguments, idempotency_key):
            return self._not_sent(request, problems)
        try:
            reason = self._disabled(found.system).get(found.name)
        except Exception as error:  # the server cannot say what its tools are: nothing is called
            return self._observe(ObservationStatus.UNAVAILABLE, _failure("Not reached", error), request)
        if reason:
            return self._not_sent(request, [reason])
        return self._observe(*self._carried_out(found, arguments, idempotency_key if found.writes else None), request)

    def _disabled(self, system: str, *, fresh: bool = False) -> dict[str, str]:
        with self._locks[system]:
            known = self._checked.get(system)
            if known is None or fresh or self._now() - known[0] >= self._check_every_s:
                tools: Sequence[Tool] = self._sessions[system].tools()
                known = self._checked[system] = (self._now(), disabled(self._actions.values(), system, tools))
            return known[1]

    def _carried_out(self, action: Action, arguments: Mapping[str, Any], key: str | None) -> tuple[ObservationStatus, Any]:
        failed = ObservationStatus.UNKNOWN if action.writes else ObservationStatus.UNAVAILABLE
        try:
            result = self._sessions[action.system].call(str(action.tool), arguments, key=key, timeout_s=action.timeout_s)
            body = _body(result)
        except NotReached as error:
            return ObservationStatus.UNAVAILABLE, _failure("Not reached", error)
        except MCPError as error:
            refused = error.code in _NOT_CARRIED_OUT
            return ObservationStatus.REFUSED if refused else failed, _failure("The server refused", error)
        except Exception as error:
            return failed, _failure("No answer", error)
        if result.is_error:
            return ObservationStatus.UNKNOWN if action.writes else ObservationStatus.REFUSED, body
        if problems := action.output_problems(body):
            return failed, {"title": "Unexpected answer", "problems": problems, "answer": body}
        return ObservationStatus.OK, body

    def _not_sent(self, request: Mapping[str, Any], problems: list[str]) -> Observation:
        return self._observe(ObservationStatus.REFUSED, {"title": "Not sent", "problems": problems}, request)

    def _observe(self, status: ObservationStatus, body: Any, request: Mapping[str, Any]) -> Observation:
        return Observation(status=status, http_status=None, body=body, at=self._clock(), request=request)


def _unsendable(action: Action, arguments: Mapping[str, Any], key: str | None) -> list[str]:
    problems = action.input_problems(arguments)
    if not action.reviewed:
        problems.append(f"{action.name} is a draft; nobody has reviewed it yet")
    if action.writes and not KEY.fullmatch(key or ""):
        problems.append(f"{action.name} writes, so it needs an idempotency key of printable characters, not {key!r}")
    try:
        json.dumps(dict(arguments), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        problems.append(f"arguments cannot be written as JSON: {error}")
    return problems


def _body(result: Any) -> Any:
    """The structured result; else the texts, as JSON where they are. Raises ValueError where it cannot be kept."""
    body = result.structured_content
    if body is None:
        text = "\n".join(part.text for part in result.content if getattr(part, "type", "") == "text")
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = {"text": text[:2000]}
    raw = json.dumps(body, allow_nan=False).encode()
    if len(raw) > MAX_ANSWER_BYTES:
        raise ValueError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
    require_storable(raw, body)
    return body


def _failure(title: str, error: BaseException) -> dict[str, str]:
    return {"title": title, "detail": f"{type(error).__name__}: {error}"[:2000]}
