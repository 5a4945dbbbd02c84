"""Request bodies: bounded, UTF-8, strict JSON, mended where a database could not hold them. Knows bytes; knows no route."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive

from serving.gateway.problems import Refusal

MAX_DEPTH = 64  # levels of arrays and objects
DRAIN_BYTES = 32 * 1024 * 1024  # of a refused body we still read so much, so that the client gets to see the answer
READ_TIMEOUT_S = 60.0
DRAIN_S = 5.0
REPLACEMENT = "\ufffd"


class Disconnected(Exception):
    """The client went away while sending."""


@dataclass(frozen=True, kw_only=True)
class Body:
    raw: bytes  # what the route parses
    value: Any = None  # the same, parsed
    mended: int = 0  # characters that PostgreSQL cannot hold, replaced by U+FFFD


async def read_bytes(receive: Receive, headers: Mapping[bytes, bytes], *, limit: int) -> bytes:
    """All of a body of at most `limit` bytes, declared or chunked. Raises Refusal 413 (too large) and 408 (too slow)."""
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await _read(receive, _declared(headers), limit)
    except TimeoutError as error:
        raise Refusal(408, f"The body did not arrive within {READ_TIMEOUT_S:.0f} s.", headers={"Connection": "close"}) from error


async def _read(receive: Receive, declared: int, limit: int) -> bytes:
    chunks: list[bytes] = []
    total, more = 0, True
    too_large = declared > limit
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        chunk = message.get("body", b"")
        total += len(chunk)
        more = message.get("more_body", False)
        too_large = too_large or total > limit
        if too_large:
            chunks.clear()
            if max(total, declared) > DRAIN_BYTES:
                break
        else:
            chunks.append(chunk)
    if too_large:
        size = f"{declared:,} bytes" if declared > limit else f"more than {limit:,} bytes"
        hint = "Send large material as links or in several messages."
        raise Refusal(413, f"The body has {size}; at most {limit:,} are taken. {hint}", headers={"Connection": "close"})
    return b"".join(chunks)


async def drain(receive: Receive, *, limit: int) -> None:
    """Read and forget what a refused client still sends, so that it gets to see the answer; not for long and not much."""
    total, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while more and total <= limit:
                message = await receive()
                total += len(message.get("body", b""))
                more = message.get("more_body", False)


def _declared(headers: Mapping[bytes, bytes]) -> int:
    value = headers.get(b"content-length", b"0")
    return int(value) if value.isdigit() else 0


def parse(raw: bytes) -> Body:
    """Strict JSON. Raises Refusal 400: not UTF-8, not JSON, NaN or Infinity, nested too deep, numbers that nothing can hold."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(400, f"The body is not UTF-8: byte {error.start} is {raw[error.start]:#04x}.") from error
    if not text.strip():
        raise Refusal(400, "The body is empty; a JSON object is needed.")
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise Refusal(400, f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno}).") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # a number of thousands of digits, NaN, 1e999
        raise Refusal(400, f"The body has a number that cannot be held: {str(error)[:120]}.") from error
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return _mend(text, value)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _too_deep() -> Refusal:
    return Refusal(400, f"The body is nested deeper than {MAX_DEPTH} levels.")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = [child for item in level for child in _children(item)]


def _children(item: Any) -> Iterator[Any]:
    inside = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return (child for child in inside if isinstance(child, dict | list))


def _mend(text: str, value: Any) -> Body:
    """NUL and lone surrogates can only come as escapes (JSON refuses a raw NUL): look closer only where there are any."""
    lower = text.lower()
    if "\\u0000" not in lower and "\\ud" not in lower:
        return Body(raw=text.encode(), value=value)
    counter = [0]
    mended = _mended(value, counter)
    return Body(raw=json.dumps(mended, ensure_ascii=False).encode(), value=mended, mended=counter[0])


def _mended(value: Any, counter: list[int]) -> Any:
    if isinstance(value, str):
        return mend_text(value, counter)
    if isinstance(value, dict):
        return {mend_text(key, counter): _mended(item, counter) for key, item in value.items()}
    if isinstance(value, list):
        return [_mended(item, counter) for item in value]
    return value


def mend_text(text: str, counter: list[int] | None = None) -> str:
    """Text that PostgreSQL can hold: every NUL and lone surrogate becomes U+FFFD and is counted."""
    if text.isascii() and "\x00" not in text:
        return text
    mended = "".join(REPLACEMENT if char == "\x00" or "\ud800" <= char <= "\udfff" else char for char in text)
    if counter is not None:
        counter[0] += sum(a != b for a, b in zip(text, mended, strict=True))
    return mended
