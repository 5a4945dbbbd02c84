"""Records to JSON and back: enums, instants, tuples, mappings and nested frozen dataclasses. Knows the shape of types, no table.

`dump` makes plain JSON values of a record, `dumps` their compact text, `load` the record again. PostgreSQL takes neither NUL nor
lone surrogates in text and JSON has no NaN: strings are mended with U+FFFD and numbers that are not finite become null.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from orchestrator.domain.resolution import (
    AwaitingApproval,
    AwaitingChildren,
    AwaitingRequester,
    HandedOver,
    Linked,
    Outcome,
    Resolved,
)

R = TypeVar("R")

OUTCOMES: Mapping[str, type] = {
    "resolved": Resolved,
    "linked": Linked,
    "awaiting_approval": AwaitingApproval,
    "awaiting_requester": AwaitingRequester,
    "awaiting_children": AwaitingChildren,
    "handed_over": HandedOver,
}
_KINDS: Mapping[type, str] = {record: kind for kind, record in OUTCOMES.items()}


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_NUL = "\\u0000"  # how the encoder writes what PostgreSQL does not take


def dump(value: Any) -> Any:
    """Plain JSON values: dict, list, str, int, float, bool, None."""
    return _dumper(type(value))(value)


def dumps(value: Any) -> str:
    """The encoder walks the value itself and asks only about what is not plain; text or numbers to be mended go the long way."""
    try:
        text = _DIRECT.encode(value)
        if _NUL not in text and (text.isascii() or text.encode()):
            return text
    except (ValueError, TypeError):
        pass
    return _ENCODER.encode(dump(value))


def load(kind: type[R], data: Any) -> R:
    """The record of that type.

    Unknown keys are ignored and missing ones take the field's default, so that old rows stay readable.
    """
    record: R = _loader(kind)(data)
    return record


def load_or_none(kind: type[R], data: Any) -> R | None:
    return None if data is None else load(kind, data)


def outcome_kind(outcome: Outcome) -> str:
    """resolved, linked, awaiting_approval, awaiting_requester, awaiting_children or handed_over."""
    return _KINDS[type(outcome)]


def instant(value: datetime) -> str:
    """UTC ISO-8601 with a Z. Raises ValueError for an instant without a time zone."""
    if value.tzinfo is None:
        raise ValueError(f"The instant {value.isoformat()} has no time zone. Hand in UTC.")
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def clean(text: str) -> str:
    """Text that PostgreSQL can hold."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


# --- dumping ---


def _same(value: Any) -> Any:
    return value


def _make_dumper(kind: Any) -> Callable[[Any], Any]:
    """What makes JSON of a value of that very type. Looked up once per type: half the work of a micro-batch is writing records."""
    if kind is str:
        return clean
    if kind in (NoneType, bool, int):
        return _same
    if kind is float:
        return _finite
    if issubclass(kind, Enum):
        return lambda value: value.value
    if is_dataclass(kind):
        return _record_dumper(tuple(field.name for field in fields(kind)))
    if issubclass(kind, Mapping):
        return lambda value: {clean(str(key)): _dumper(type(item))(item) for key, item in value.items()}
    if issubclass(kind, datetime):
        return instant
    if issubclass(kind, date):
        return kind.isoformat
    if issubclass(kind, list | tuple | set | frozenset):
        return lambda value: [_dumper(type(item))(item) for item in value]
    return _other


_dumper: Callable[[Any], Callable[[Any], Any]] = cache(_make_dumper)


def _record_dumper(names: tuple[str, ...]) -> Callable[[Any], Any]:
    def record(value: Any) -> dict[str, Any]:
        found = [(name, getattr(value, name)) for name in names]
        return {name: _dumper(type(item))(item) for name, item in found}

    return record


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _other(value: Any) -> Any:
    if isinstance(value, Mapping):  # a mapping that does not say so by its bases
        return {clean(str(key)): dump(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # a numpy scalar or array
        return dump(value.tolist())
    raise TypeError(
        f"{type(value).__name__} has no JSON form: {value!r}. Hand in records, mappings, sequences, numbers, strings or instants."
    )


def _plain(value: Any) -> Any:
    """One level of what the encoder does not know."""
    kind = type(value)
    if names := _names_of(kind):
        return {name: getattr(value, name) for name in names}
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    return dump(value)


def _make_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


_names_of: Callable[[Any], tuple[str, ...]] = cache(_make_names)


_DIRECT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)


# --- loading ---


def _make_loader(kind: Any) -> Callable[[Any], Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is datetime:
        return datetime.fromisoformat
    if origin is None and isinstance(kind, type):
        if issubclass(kind, Enum):
            return kind
        return _record_loader(kind) if is_dataclass(kind) else _same
    if origin is Union or origin is UnionType:
        return _optional_loader(arguments)
    if origin is tuple:
        return _tuple_loader(arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping_loader(arguments[1])
    if isinstance(origin, type) and issubclass(origin, Sequence):
        item = _loader(arguments[0])
        return lambda value: [item(part) for part in value]
    return _same


_loader: Callable[[Any], Callable[[Any], Any]] = cache(_make_loader)


def _record_loader(kind: type) -> Callable[[Any], Any]:
    hints = get_type_hints(kind)
    plan = [(field.name, _loader(hints[field.name])) for field in fields(kind)]

    def record(value: Mapping[str, Any]) -> Any:
        return kind(**{name: read(value[name]) for name, read in plan if name in value})

    return record


def _optional_loader(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    present = [argument for argument in arguments if argument is not NoneType]
    if len(present) != 1:
        return _same
    read = _loader(present[0])
    return lambda value: None if value is None else read(value)


def _tuple_loader(arguments: tuple[Any, ...]) -> Callable[[Any], Any]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        item = _loader(arguments[0])
        return lambda value: tuple(item(part) for part in value)
    items = [_loader(argument) for argument in arguments]
    return lambda value: tuple(read(part) for read, part in zip(items, value, strict=True))


def _mapping_loader(argument: Any) -> Callable[[Any], Any]:
    read = _loader(argument)
    return lambda value: {key: read(item) for key, item in value.items()}
