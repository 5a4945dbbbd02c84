"""Loads the action catalogue: a reviewed YAML file becomes frozen records, or every problem in it is listed. Calls nothing."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.domain.actions import (
    Action,
    Approvers,
    BlastRadius,
    Idempotency,
    Identity,
    Limits,
    Observe,
    Probe,
    Rate,
    Risk,
)
from orchestrator.domain.errors import BadInput, ConfigurationError
from orchestrator.domain.schemas import Schema
from orchestrator.resolution.catalog_rules import across, of_one

BUNDLED = Path(__file__).parent.parent / "company" / "actions.yaml"

_CALL = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/[^\s?#]*)")
_SECTIONS = {"types", "schemas", "systems", "actions"}  # `types` holds YAML anchors alone


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Observe(_Part):
    read: str
    arguments: dict[str, Any] = Field(default={}, alias="with")

    def record(self) -> Observe:
        return Observe(read=self.read, arguments=self.arguments)


class _Probe(_Part):
    read: str | None = None  # the same as `observe` where it says nothing
    arguments: dict[str, Any] = Field(default={}, alias="with")
    expect: list[dict[str, Any]] = Field(min_length=1)

    def record(self, observe: Observe) -> Probe:
        where = observe if self.read is None else Observe(read=self.read, arguments=self.arguments)
        return Probe(observe=where, expect=tuple(self.expect))


class _PerTarget(_Part):
    calls: int = Field(ge=1)
    within_minutes: int = Field(ge=1)


class _Limits(_Part):
    per_ticket: int | None = Field(default=None, ge=1)
    per_target: _PerTarget | None = None
    per_desk_per_day: int | None = Field(default=None, ge=1)
    amount: str | None = None
    max_amount: float | None = Field(default=None, gt=0)

    def record(self) -> Limits:
        return Limits(
            per_ticket=self.per_ticket,
            per_target=self.per_target.calls if self.per_target else None,
            target_window_minutes=self.per_target.within_minutes if self.per_target else None,
            per_desk_per_day=self.per_desk_per_day,
            amount=self.amount,
            max_amount=self.max_amount,
        )


class _Approvers(_Part):
    roles: list[Literal["approver", "lead", "admin", "cab", "ecab"]] = Field(min_length=1)
    quorum: int = Field(default=1, ge=1, le=5)


class _Compensation(_Part):
    action: str
    arguments: dict[str, Any] = Field(default={}, alias="with")


class _Rate(_Part):
    calls: int = Field(ge=1)
    per_s: float = Field(gt=0)


class _System(_Part):
    rate: _Rate | None = None


class _Entry(_Part):
    """One action as the file writes it."""

    title: str = Field(min_length=1)
    system: str = Field(min_length=1)
    call: str | None = None
    query: dict[str, str] = {}
    body: dict[str, str] = {}
    tool: str | None = Field(default=None, min_length=1)
    pin: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    claims: dict[str, Any] = {}  # what a server says of its tool; for the reviewer, read by nobody else
    input: dict[str, Any]
    output: dict[str, Any]
    writes: bool
    risk: Literal["read", "low", "medium", "high"]
    blast_radius: Literal["one_person", "one_account", "one_service", "everyone"]
    reversible: bool = False
    compensation: str | _Compensation | None = None
    idempotency: Literal["key", "natural", "none"] = "key"
    timeout_s: float = Field(default=10.0, gt=0, le=120)
    observe: _Observe | Literal["none"] | None = None
    because: str | None = Field(default=None, min_length=1)
    preconditions: list[dict[str, Any]] = []
    probe: _Probe | None = None
    limits: _Limits | None = None
    identity: Literal["none", "claimed", "authenticated", "proven"] | None = None
    approvers: _Approvers | None = None
    target: list[str] | None = None
    reviewed: bool = True


class Catalog(Mapping[str, Action]):
    """Actions by exact name. An unknown name raises BadInput; nothing is ever matched by prefix."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = dict(actions)

    def __getitem__(self, name: str) -> Action:
        return self._actions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._actions)

    def __len__(self) -> int:
        return len(self._actions)

    def action(self, name: str) -> Action:
        """The action of exactly this name; raises BadInput where there is none."""
        if name not in self._actions:
            raise BadInput(f"The catalogue has no action {name!r}.", hint="Actions are matched by exact name; see actions.yaml.")
        return self._actions[name]

    @property
    def systems(self) -> frozenset[str]:
        return frozenset(action.system for action in self._actions.values())


def load_catalog(path: Path = BUNDLED) -> Catalog:
    """Read and check the whole file; raises ConfigurationError that lists every problem at once."""
    catalog, problems = read_catalog(path)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigurationError(f"The action catalogue {path} has {len(problems)} problem(s):\n{listed}")
    return catalog


def read_catalog(path: Path) -> tuple[Catalog, list[str]]:
    """What could be read, and every problem of the file. Only a catalogue without problems may be worked with."""
    problems: list[str] = []
    document = _document(path, problems)
    entries = {str(name): entry for name, entry in document.get("actions", {}).items()}
    rates = _rates(document.get("systems"), problems)
    schemas = document.get("schemas") or {}
    problems += [f"schemas.{name} is no JSON Schema: {flaw}" for name, each in schemas.items() if (flaw := Schema(each).flaw())]
    actions: dict[str, Action] = {}
    for name, raw in entries.items():
        action = _action(name, raw, schemas, rates, problems)
        if action is not None:
            actions[name] = action
    for action in actions.values():
        problems += [f"{action.name}: {problem}" for problem in across(action, actions, frozenset(entries))]
    return Catalog(actions), problems


class _OnceLoader(yaml.SafeLoader):
    """YAML that refuses the same key twice: the second would silently replace a reviewed action."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _document(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problems.append(f"it cannot be read: {error}")
        return {}
    entries = document.get("actions") if isinstance(document, dict) else None
    if not isinstance(entries, dict) or not entries:
        problems.append("it has no mapping 'actions' with at least one action")
        return {}
    if unknown := sorted(str(key) for key in set(document) - _SECTIONS):
        problems.append(f"unknown top-level key(s): {', '.join(unknown)}; known: types, schemas, systems, actions")
    return document


def _rates(raw: Any, problems: list[str]) -> dict[str, Rate]:
    """The rate of every system that names one."""
    rates: dict[str, Rate] = {}
    for name, each in (raw or {}).items():
        try:
            rate = _System.model_validate(each).rate
        except ValidationError as error:
            problems += _complaints(f"systems.{name}", error)
        else:
            if rate is not None:
                rates[str(name)] = Rate(calls=rate.calls, per_s=rate.per_s)
    return rates


def _complaints(what: str, error: ValidationError) -> list[str]:
    return [f"{what}: {'.'.join(map(str, e['loc'])) or 'the entry'}: {e['msg']} (got {e['input']!r:.60})" for e in error.errors()]


def _action(name: str, raw: Any, schemas: Mapping[str, Any], rates: Mapping[str, Rate], problems: list[str]) -> Action | None:
    try:
        entry = _Entry.model_validate(raw)
    except ValidationError as error:
        problems += _complaints(name, error)
        return None
    call = _CALL.fullmatch(entry.call or "")
    if call is None and entry.tool is None:
        problems.append(f"{name}: call must be 'METHOD /path', with GET, POST, PUT, PATCH or DELETE, not {entry.call!r}")
        return None
    action = _record(name, entry, ("", "") if call is None else (call[1], call[2]), schemas, rates)
    problems += [f"{name}: {problem}" for problem in of_one(action, both=entry.call is not None and entry.tool is not None)]
    return action


def _record(name: str, entry: _Entry, call: tuple[str, str], schemas: Mapping[str, Any], rates: Mapping[str, Rate]) -> Action:
    observe = entry.observe.record() if isinstance(entry.observe, _Observe) else None
    compensation = _Compensation(action=entry.compensation) if isinstance(entry.compensation, str) else entry.compensation
    return Action(
        name=name,
        title=entry.title,
        system=entry.system,
        method=call[0],
        path=call[1],
        query=entry.query,
        body=entry.body,
        tool=entry.tool,
        pin=entry.pin,
        input=Schema(_whole({"type": "object", "additionalProperties": False, **entry.input}, schemas)),
        output=Schema(_whole(entry.output, schemas)),
        writes=entry.writes,
        risk=Risk(entry.risk),
        blast_radius=BlastRadius(entry.blast_radius),
        reversible=entry.reversible,
        compensation=compensation.action if compensation else None,
        compensation_with=compensation.arguments if compensation else {},
        idempotency=Idempotency(entry.idempotency),
        timeout_s=entry.timeout_s,
        observe=observe,
        unobserved_because=entry.because if entry.observe == "none" else None,
        preconditions=tuple(entry.preconditions),
        probe=entry.probe.record(observe) if entry.probe and observe else None,
        limits=entry.limits.record() if entry.limits else Limits(),
        identity=Identity(entry.identity or ("claimed" if entry.writes else "none")),
        approvers=Approvers(roles=tuple(entry.approvers.roles), quorum=entry.approvers.quorum) if entry.approvers else None,
        rate=rates.get(entry.system),
        target=tuple(entry.target) if entry.target is not None else _target(call[1], observe),
        reviewed=entry.reviewed,
    )


def _target(path: str, observe: Observe | None) -> tuple[str, ...]:
    """The arguments that the observing read takes; without one, those in the path."""
    if observe is not None:
        named = [str(value) for value in observe.arguments.values()]
        return tuple(value.removeprefix("$arguments.") for value in named if value.startswith("$arguments."))
    return tuple(re.findall(r"\{(\w+)\}", path))


def _whole(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with those of the file's `schemas` that it reaches through `$ref: '#/$defs/NAME'`, as its own `$defs`."""
    reached: dict[str, Any] = {}
    waiting = list(_references(schema))
    while waiting:
        name = waiting.pop()
        if name not in reached and name in schemas:
            reached[name] = schemas[name]
            waiting += _references(schemas[name])
    return {**schema, "$defs": {**reached, **schema.get("$defs", {})}} if reached else dict(schema)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        target = value.get("$ref")
        if isinstance(target, str) and target.startswith("#/$defs/"):
            yield target.removeprefix("#/$defs/")
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list):
        for each in value:
            yield from _references(each)
