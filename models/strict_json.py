"""JSON read without mercy: what two readers could understand differently is refused. Knows bytes; knows nothing of models."""

import json
import math
from typing import Any, NoReturn

MAX_BYTES = 512 * 2**20


class Malformed(ValueError):
    """Content that is not what it must be. The message is a clause that goes behind the file's name."""


def loads(content: bytes, *, max_bytes: int = MAX_BYTES) -> Any:
    """The value of a JSON text. No duplicate keys, no NaN or infinity, no byte order mark, no bottomless nesting.

    Raises Malformed.
    """
    if len(content) > max_bytes:
        raise Malformed(f"has {len(content)} bytes of JSON, more than {max_bytes}")
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite_float
        )
    except Malformed:
        raise
    except RecursionError:
        raise Malformed("is nested too deep to be read") from None
    except ValueError as error:
        raise Malformed(f"is not JSON ({error})") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed(f"names {twice!r} twice")
    return record


def _no_constant(name: str) -> NoReturn:
    raise Malformed(f"holds {name}, which is no number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Malformed(f"holds {text}, which is no finite number")
    return value
