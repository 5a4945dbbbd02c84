"""Systems of record over HTTP. Knows catalogue actions, base URLs and tokens; knows no ticket, no runbook and no policy."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import quote

import httpx

from orchestrator.domain.actions import Action
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.resolution import Observation, ObservationStatus
from orchestrator.ports import Clock

READ_ATTEMPTS = 3
READ_PAUSES_S = (0.1, 0.4)  # before the second and the third attempt
CONNECT_TIMEOUT_S = 3.0
BUSY = 429
LONGEST_PAUSE_S = 3600.0
MAX_ANSWER_BYTES = 8 << 20

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escaped NUL; not the six characters themselves
KEY = re.compile(r"[!-~]{1,200}")
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


class _Unsendable(ValueError):
    """The arguments do not make a request that may leave."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The exact call, as it is kept in the observation."""

    system: str
    method: str
    path: str
    query: Mapping[str, str]
    json: Mapping[str, Any] | None
    idempotency_key: str | None

    @property
    def record(self) -> dict[str, Any]:
        return {
            "system": self.system,
            "method": self.method,
            "path": self.path,
            "query": dict(self.query),
            "json": None if self.json is None else dict(self.json),
            "idempotency_key": self.idempotency_key,
        }


class HttpSystemsOfRecord:
    """`orchestrator.ports.SystemsOfRecord` over one pooled client. Thread-safe; connects at the first call.

    What an answer becomes:

    | what happened                               | a read                     | a write       |
    |---------------------------------------------|----------------------------|---------------|
    | 2xx that fits the action's output schema    | ok                         | ok            |
    | 4xx but 429, or 3xx                         | refused                    | refused       |
    | arguments or action not in the catalogue    | refused, nothing sent      | the same      |
    | never reached, 429                          | unavailable                | unavailable   |
    | 5xx, no answer, an answer that does not fit | unavailable (tried thrice) | unknown, once |

    A read changes nothing, so the worst that can be said of one is that it was not to be had. A write that may have happened is
    *unknown*: whoever asked probes the world, or sends it again with the same idempotency key.
    """

    def __init__(
        self,
        actions: Mapping[str, Action],
        *,
        base_urls: Mapping[str, str],
        tokens: Mapping[tuple[str, str], str],
        clock: Clock,
        max_connections: int = 32,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`base_urls` by system; `tokens` by (system, "read" or "write"). Raises ConfigurationError for what is missing."""
        _check({name: action for name, action in actions.items() if action.tool is None and action.reviewed}, base_urls, tokens)
        self._actions = dict(actions)
        self._base_urls = {system: url.rstrip("/") for system, url in base_urls.items()}
        self._tokens = dict(tokens)
        self._clock = clock
        self._sleep = sleep
        self._client = httpx.Client(
            # keepalive_expiry below the idle limit of common servers: a write never meets a connection that was just closed
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections, keepalive_expiry=4.0),
            follow_redirects=False,
            trust_env=False,  # no proxy from the environment: nothing goes anywhere but to the base URLs
            headers={"Accept": "application/json", "User-Agent": "cloister"},
        )

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        """Carry out one catalogue action by exact name; see the table above. Never raises for what the world answered."""
        found = self._actions.get(action)
        if found is None:
            return self._not_sent({"action": action}, [f"The catalogue has no action {action!r}"])
        if not found.reviewed:
            return self._not_sent({"action": action}, [f"{action} is a draft; nobody has reviewed it yet"])
        if found.tool is not None:
            return self._not_sent({"action": action}, [f"{action} is bound to the tool {found.tool!r}, not to a request"])
        try:
            request = _bind(found, arguments, idempotency_key)
        except _Unsendable as error:
            return self._not_sent({"action": action, "arguments": dict(arguments)}, list(error.args))
        return self._write(found, request) if found.writes else self._read(found, request)

    def _not_sent(self, request: Mapping[str, Any], problems: list[str]) -> Observation:
        return self._observe(ObservationStatus.REFUSED, None, {"title": "Not sent", "problems": problems}, request)

    def _read(self, action: Action, request: _Request) -> Observation:
        """Tried again a little: a read that failed changed nothing."""
        for pause_s in (*READ_PAUSES_S, None):
            observation = self._send(action, request)
            if observation.status is not ObservationStatus.UNAVAILABLE or observation.http_status == BUSY or pause_s is None:
                break  # a system that is busy says itself when to come back
            self._sleep(pause_s)
        return observation

    def _write(self, action: Action, request: _Request) -> Observation:
        """Sent once. Only whoever can probe the world may decide to send it again."""
        return self._send(action, request)

    def _send(self, action: Action, request: _Request) -> Observation:
        failed = ObservationStatus.UNKNOWN if action.writes else ObservationStatus.UNAVAILABLE
        try:
            status, body, retry_after_s = self._exchange(action, request)
        except _NEVER_SENT as error:
            return self._observe(ObservationStatus.UNAVAILABLE, None, _failure("Not reached", error), request.record)
        except (httpx.HTTPError, _Unreadable) as error:
            return self._observe(failed, None, _failure("No answer", error), request.record)
        observation = self._observe(*self._judge(action, status, body, failed), request.record)
        return replace(observation, retry_after_s=retry_after_s) if status == BUSY else observation

    def _judge(self, action: Action, status: int, body: Any, failed: ObservationStatus) -> tuple[ObservationStatus, int, Any]:
        if status == BUSY:
            return ObservationStatus.UNAVAILABLE, status, body
        if status >= 500:
            return failed, status, body
        if status >= 300:
            return ObservationStatus.REFUSED, status, body
        if problems := action.output_problems(body):
            return failed, status, {"title": "Unexpected answer", "problems": problems, "answer": body}
        return ObservationStatus.OK, status, body

    def _exchange(self, action: Action, request: _Request) -> tuple[int, Any, float | None]:
        """Send one request and read its answer to the end: (status, parsed body, seconds of its Retry-After)."""
        headers = {"Authorization": f"Bearer {self._tokens[action.system, 'write' if action.writes else 'read']}"}
        if request.idempotency_key is not None:
            headers["Idempotency-Key"] = request.idempotency_key
        deadline = time.monotonic() + action.timeout_s
        with self._client.stream(
            request.method,
            self._base_urls[action.system] + request.path,
            params=dict(request.query) or None,
            json=request.json,
            headers=headers,
            timeout=httpx.Timeout(action.timeout_s, connect=min(CONNECT_TIMEOUT_S, action.timeout_s)),
        ) as response:
            return response.status_code, _parsed(response, deadline), _seconds(response.headers.get("Retry-After"), self._clock())

    def _observe(self, status: ObservationStatus, http_status: int | None, body: Any, request: Mapping[str, Any]) -> Observation:
        return Observation(status=status, http_status=http_status, body=body, at=self._clock(), request=request)


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Seconds of a Retry-After header, which holds seconds or an HTTP date; at most an hour; None where it says nothing."""
    if retry_after is None:
        return None
    try:
        pause_s = (
            float(retry_after) if retry_after.strip().isdigit() else (parsedate_to_datetime(retry_after) - now).total_seconds()
        )
    except (ValueError, TypeError):
        return None
    return min(max(pause_s, 0.0), LONGEST_PAUSE_S)


class _Unreadable(Exception):
    """An answer that is too long or too slow to be read to its end."""


def _parsed(response: httpx.Response, deadline: float) -> Any:
    """The answer's JSON; where it is none that can be kept, its beginning as text."""
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise _Unreadable(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        if time.monotonic() > deadline:
            raise _Unreadable("the answer was not complete in time")
    raw = b"".join(parts)
    if not raw:
        return None
    try:
        body = json.loads(raw, parse_constant=_no_constant)
        require_storable(raw, body)
    except (ValueError, RecursionError):
        return {"text": raw[:2000].decode("utf-8", "replace").replace("\x00", "")}
    return body


def require_storable(raw: bytes, body: Any) -> None:
    """PostgreSQL keeps neither a NUL nor half a surrogate pair; both come only as escapes."""
    if b"\\u" in raw:
        text = json.dumps(body, ensure_ascii=False)
        text.encode()
        if _NUL.search(text):
            raise ValueError("a NUL in a text cannot be stored")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _failure(title: str, error: Exception) -> dict[str, str]:
    return {"title": title, "detail": f"{type(error).__name__}: {error}"}


def _check(actions: Mapping[str, Action], base_urls: Mapping[str, str], tokens: Mapping[tuple[str, str], str]) -> None:
    problems = []
    for system in sorted({action.system for action in actions.values()}):
        if not is_base_url(base_urls.get(system, "")):
            problems.append(f"{system} needs a base URL such as https://host/path, not {base_urls.get(system, '')!r}")
    for system, direction in sorted({(action.system, "write" if action.writes else "read") for action in actions.values()}):
        if not tokens.get((system, direction)):
            problems.append(f"{system} needs a {direction} token")
    if problems:
        raise ConfigurationError(f"Systems of record: {'; '.join(problems)}.", hint="Set them in the connector's settings.")


def is_base_url(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return False
    return parts.scheme in ("http", "https") and bool(parts.host) and not (parts.query or parts.userinfo or parts.fragment)


# --- from an action and its arguments to a request ----------------------------------------------------------------------


def _bind(action: Action, arguments: Mapping[str, Any], idempotency_key: str | None) -> _Request:
    """The request of these arguments; raises _Unsendable with every problem before anything leaves."""
    problems = action.input_problems(arguments)
    if action.writes and not KEY.fullmatch(idempotency_key or ""):
        problems.append(f"{action.name} writes, so it needs an idempotency key of printable characters, not {idempotency_key!r}")
    try:
        json.dumps(dict(arguments), ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        problems.append(f"arguments cannot be written as JSON: {error}")
    if problems:
        raise _Unsendable(*problems)
    return _Request(
        system=action.system,
        method=action.method,
        path=_PLACEHOLDER.sub(lambda match: _segment(match[1], arguments[match[1]]), action.path),
        query={parameter: _plain(arguments[name]) for parameter, name in action.query.items() if name in arguments},
        json=_body(action, arguments),
        idempotency_key=idempotency_key if action.writes else None,
    )


def _segment(name: str, value: Any) -> str:
    """One path segment. Everything but letters, digits and - . _ ~ is quoted; a value that would climb is refused."""
    text = _plain(value)
    if not text.strip() or text.strip(".") == "" or any(ord(sign) < 32 for sign in text):
        raise _Unsendable(f"arguments: {name} cannot be {text!r}, because it stands in the path")
    return quote(text, safe="")


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _body(action: Action, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    if action.method in ("GET", "DELETE"):
        return None
    return {name: arguments[argument] for name, argument in action.body.items() if argument in arguments}
