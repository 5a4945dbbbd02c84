"""The facts of one ticket, each with where it came from. Knows no runbook and calls nothing.

A fact is bound under a name (`user`, `payment`) and referred to by a path (`$user.email`, `$orders.0.id`). What a path gives
carries the provenance of the fact, so that an argument can always say which record, which words or which literal it came from.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.domain.resolution import Provenance
from orchestrator.resolution.conditions import ABSENT

TRUSTED = frozenset({"record", "runbook"})
"""Sources that an argument may come from as they are. Words of the ticket need a recognizer that found them."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    value: Any
    provenance: Provenance


class Facts:
    """Names to facts. Grows by `with_fact`; never changes in place."""

    def __init__(self, facts: Mapping[str, Fact] | None = None) -> None:
        self._facts = dict(facts or {})

    def with_fact(self, name: str, value: Any, *, source: str, detail: str) -> "Facts":
        return Facts({**self._facts, name: Fact(value=value, provenance=Provenance(source=source, detail=detail))})

    def with_facts(self, values: Mapping[str, Any], *, source: str, detail: str) -> "Facts":
        """Several facts of the same provenance."""
        provenance = Provenance(source=source, detail=detail)
        return Facts({**self._facts, **{name: Fact(value=value, provenance=provenance) for name, value in values.items()}})

    def __contains__(self, name: str) -> bool:
        return name in self._facts

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def get(self, path: str) -> Any:
        """The value at a path without its `$`; None where anything on the way is missing."""
        name, *fields = path.split(".")
        fact = self._facts.get(name)
        value = fact.value if fact else None
        for field in fields:
            value = step_into(value, field)
        return value

    def look(self, path: str) -> Any:
        """As `get`, but ABSENT where nobody ever said anything; None only where it is known to be nothing."""
        name, *fields = path.split(".")
        fact = self._facts.get(name)
        return ABSENT if fact is None else walk(fact.value, fields)

    def find(self, path: str) -> Fact | None:
        name, *fields = path.split(".")
        fact = self._facts.get(name)
        if fact is None:
            return None
        value = fact.value
        for field in fields:
            value = step_into(value, field)
        detail = f"{fact.provenance.detail}: {'.'.join([name, *fields])}" if fields else fact.provenance.detail
        return Fact(value=value, provenance=replace(fact.provenance, detail=detail))

    def values(self) -> dict[str, Any]:
        """Plain values, for a template."""
        return {name: fact.value for name, fact in self._facts.items()}

    def records(self) -> dict[str, Any]:
        """Only what systems of record said: what a reply may state."""
        return {name: fact.value for name, fact in self._facts.items() if fact.provenance.source in {"record", "knowledge"}}


def step_into(value: Any, field: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(field)
    if isinstance(value, list | tuple) and field.isdigit() and int(field) < len(value):
        return value[int(field)]
    return None


def walk(value: Any, fields: Sequence[str]) -> Any:
    """The value at these fields: ABSENT where one of them is not there, None from where it is known to be nothing."""
    for field in fields:
        if value is None:
            return None
        if isinstance(value, Mapping):
            value = value.get(field, ABSENT)
        else:
            value = value[int(field)] if isinstance(value, list | tuple) and field.isdigit() and int(field) < len(value) else ABSENT
        if value is ABSENT:
            return ABSENT
    return value


_SINGLE = frozenset({str, int, float, bool})  # of these most of a record is made; nothing is inside


def scalars(value: Any) -> Iterator[Any]:
    """Every single value inside a JSON structure."""
    inside: Iterable[Any]
    if isinstance(value, Mapping):
        inside = value.values()
    elif isinstance(value, list | tuple):
        inside = value
    else:
        if value is not None:
            yield value
        return
    for each in inside:
        if type(each) in _SINGLE:
            yield each
        else:
            yield from scalars(each)


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces. Numbers keep their JSON form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def sha256(*parts: Any) -> str:
    return hashlib.sha256(canonical(list(parts)).encode()).hexdigest()


def idempotency_key(ticket_id: str, epoch: int, runbook: str, step: str, arguments: Mapping[str, Any]) -> str:
    """The same act of the same round of a ticket has the same key, whoever carries it out and however often."""
    return sha256("act", ticket_id, epoch, runbook, step, dict(arguments))


def proposal_digest(ticket_id: str, runbook: str, step: str, action: str, arguments: Mapping[str, Any]) -> str:
    """What an approval freezes."""
    return sha256("proposal", ticket_id, runbook, step, action, dict(arguments))
