"""Holds one action of the catalogue against the system that it is bound to. Changes that system: never point it at one in use.

Knows actions, conditions and a way to call; knows no sandbox, no ticket and no policy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.domain.actions import Action, Idempotency, Observe, look_up, resolved
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.resolution import Observation, ObservationStatus
from orchestrator.ports import SystemsOfRecord
from orchestrator.resolution.conditions import all_hold, first_failing, said
from orchestrator.resolution.yamlfile import read_yaml

OK, REFUSED = ObservationStatus.OK, ObservationStatus.REFUSED
_UNKNOWN_ARGUMENT = "surely_not_an_argument"


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid")
    action: str
    arguments: dict[str, Any] = {}
    name: str = "it"


class _Case(BaseModel):
    model_config = ConfigDict(extra="forbid")
    arguments: dict[str, Any] = {}
    first: list[_Step] = []


class _Cases(BaseModel):
    model_config = ConfigDict(extra="forbid")
    world: dict[str, list[dict[str, Any]]] = {}
    cases: dict[str, _Case]


@dataclass(frozen=True, kw_only=True)
class Step:
    """An action carried out before; its answer is `$NAME` in what follows."""

    action: str
    arguments: Mapping[str, Any]
    name: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """Arguments with which an action can be carried out, after some steps."""

    arguments: Mapping[str, Any]
    first: tuple[Step, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Callers:
    """Three ways to the same systems."""

    rightful: SystemsOfRecord
    reader: SystemsOfRecord  # holds the read token where a write token belongs
    stranger: SystemsOfRecord  # holds every system's token for another system


@dataclass(kw_only=True)
class _Run:
    action: Action
    actions: Mapping[str, Action]
    callers: Callers
    arguments: Mapping[str, Any]
    key: str = field(default_factory=lambda: f"conform-{uuid4().hex}")

    def shown(self, observe: Observe, scope: Mapping[str, Any]) -> Any:
        """What a read shows now; nothing where the system says that there is nothing (404). Raises _NotShown."""
        seen = self.callers.rightful.call(observe.read, observe.resolved(scope))
        if seen.status is REFUSED and seen.http_status == 404:
            return None
        if seen.status is not OK:
            raise _NotShown(f"{observe.read} is not to be had: {_told(seen)}")
        return seen.body


class _NotShown(Exception):
    pass


def read_cases(path: Path) -> tuple[dict[str, Case], Mapping[str, Any]]:
    """Cases by action, and records that a sandbox needs for them. Raises ConfigurationError."""
    file = read_yaml(path)
    if file.problems:
        raise ConfigurationError(f"The cases {path} cannot be read: {'; '.join(file.problems)}")
    try:
        found = _Cases.model_validate(file.data)
    except ValidationError as error:
        raise ConfigurationError(f"The cases {path} are wrong: {'; '.join(file.complaints(error))}") from error
    cases = {
        name: Case(
            arguments=case.arguments,
            first=tuple(Step(action=step.action, arguments=step.arguments, name=step.name) for step in case.first),
        )
        for name, case in found.cases.items()
    }
    return cases, found.world


def conform(action: Action, case: Case | None, actions: Mapping[str, Action], callers: Callers) -> list[str]:
    """Everything in which an action is not what the catalogue says of it; empty where it is."""
    if not action.reviewed:
        return ["it is a draft; nobody has reviewed it"]
    problems = list(loose(action))
    if case is None:
        return [*problems, "there is no case for it: arguments with which it can be carried out"]
    try:
        run = _Run(action=action, actions=actions, callers=callers, arguments=_prepared(case, actions, callers))
        problems += _write_problems(run) if action.writes else _read_problems(run)
    except _NotShown as error:
        problems.append(str(error))
    return problems


# --- the schema ---------------------------------------------------------------------------------------------------------


def loose(action: Action) -> Iterator[str]:
    """What the input schema lets through without a bound."""
    if action.input.flaw() or action.output.flaw():
        yield "a schema of it is no JSON Schema"
    if action.input.document.get("additionalProperties") is not False:
        yield "its input takes more than it describes"
    for name, schema in (action.input.document.get("properties") or {}).items():
        if not _bounded(schema):
            yield f"its argument {name!r} has no bound: give it enum, or maxLength, or maximum"
    if not action.output.document.get("type") and "$ref" not in action.output.document:
        yield "its output says not even its type"


def _bounded(schema: Mapping[str, Any]) -> bool:
    if "enum" in schema or "const" in schema or schema.get("type") == "boolean":
        return True
    bounds = {"string": ("maxLength", "pattern"), "number": ("maximum",), "integer": ("maximum",), "array": ("maxItems",)}
    return any(word in schema for word in bounds.get(str(schema.get("type")), ())) or schema.get("additionalProperties") is False


# --- the calls ----------------------------------------------------------------------------------------------------------


def _prepared(case: Case, actions: Mapping[str, Action], callers: Callers) -> dict[str, Any]:
    """Carry out the steps before; the case's arguments with their answers filled in."""
    scope: dict[str, Any] = {}
    for step in case.first:
        done = callers.rightful.call(step.action, resolved(step.arguments, scope), idempotency_key=f"conform-{uuid4().hex}")
        if done.status is not OK:
            raise _NotShown(f"the step {step.action} before it failed: {_told(done)}")
        scope[step.name] = done.body
    return resolved(case.arguments, scope)


def _read_problems(run: _Run) -> Iterator[str]:
    yield from _door_problems(run)
    seen = run.callers.rightful.call(run.action.name, run.arguments)
    if seen.status is not OK:
        yield f"it was not answered: {_told(seen)}"
    elif sentences := run.action.output_problems(seen.body):
        yield f"its answer does not fit: {'; '.join(sentences)}"


def _door_problems(run: _Run) -> Iterator[str]:
    """Nothing gets in with an unknown argument, with another system's token, or with a token for reading."""
    odd = run.callers.rightful.call(run.action.name, {**run.arguments, _UNKNOWN_ARGUMENT: 1}, idempotency_key=run.key)
    if odd.status is not REFUSED or odd.http_status is not None:
        yield f"an unknown argument left for the system: {_told(odd)}"
    if run.action.tool is not None:
        return
    strange = run.callers.stranger.call(run.action.name, run.arguments, idempotency_key=run.key)
    if strange.http_status != 403:
        yield f"another system's token was not refused with 403: {_told(strange)}"
    if run.action.writes:
        reading = run.callers.reader.call(run.action.name, run.arguments, idempotency_key=run.key)
        if reading.http_status != 403:
            yield f"a read token was not refused with 403: {_told(reading)}"


def _write_problems(run: _Run) -> Iterator[str]:
    action = run.action
    scope: dict[str, Any] = {"arguments": run.arguments}
    before = run.shown(action.observe, scope) if action.observe else None
    scope["before"] = before
    failing = first_failing(action.preconditions, lambda name: look_up(name, scope))
    if failing is not None:
        yield f"a precondition does not hold before: {said(failing, lambda name: look_up(name, scope))}"
    if action.probe and _solved(run, scope):
        yield "its probe says that it took effect before it was carried out"
    yield from _door_problems(run)
    if action.observe and run.shown(action.observe, scope) != before:
        yield "a refused call changed the target"
    done = run.callers.rightful.call(action.name, run.arguments, idempotency_key=run.key)
    if done.status is not OK:
        yield f"it was not carried out: {_told(done)}"
        return
    if sentences := action.output_problems(done.body):
        yield f"its answer does not fit: {'; '.join(sentences)}"
    yield from _effect_problems(run, scope, done)


def _effect_problems(run: _Run, scope: dict[str, Any], done: Observation) -> Iterator[str]:
    action = run.action
    after = run.shown(action.observe, scope) if action.observe else None
    if action.observe and after == scope["before"]:
        yield "observe shows the same as before: what it changed cannot be seen"
    if action.probe and not _solved(run, scope):
        yield "its probe does not say that it took effect"
    if action.idempotency is not Idempotency.NONE:
        again = run.callers.rightful.call(action.name, run.arguments, idempotency_key=run.key)
        if again.status is not OK or (action.idempotency is Idempotency.KEY and again.body != done.body):
            yield f"the same key again was not answered the same: {_told(again)}"
        if action.observe and run.shown(action.observe, scope) != after:
            yield "the same key again changed the target once more"
    yield from _undo_problems(run, scope, done)


def _undo_problems(run: _Run, scope: Mapping[str, Any], done: Observation) -> Iterator[str]:
    action = run.action
    if action.compensation is None or action.observe is None:
        return
    takes = run.actions[action.compensation].input.document["properties"]
    arguments = action.undo(run.arguments, takes, before=scope["before"], answer=done.body)
    undone = run.callers.rightful.call(action.compensation, arguments, idempotency_key=f"{run.key}-undo")
    if undone.status is not OK:
        yield f"its compensation {action.compensation} failed: {_told(undone)}"
        return
    restored, before = run.shown(action.observe, scope), scope["before"]
    if _named(restored, run.actions[action.observe.read]) != _named(before, run.actions[action.observe.read]):
        yield f"its compensation {action.compensation} does not bring back what was observed: {restored!r:.200}, not {before!r:.200}"


def _solved(run: _Run, scope: Mapping[str, Any]) -> bool:
    assert run.action.probe is not None
    whole = {**scope, "after": run.shown(run.action.probe.observe, scope)}
    return all_hold(run.action.probe.expect, lambda name: look_up(name, whole))


def _named(value: Any, read: Action) -> Any:
    """What the read's schema names; a record may hold more, such as when it was last touched."""
    document = read.output.document
    if isinstance(value, list):
        fields = document.get("items", {}).get("properties")
        return [{name: each.get(name) for name in fields} if fields else each for each in value]
    fields = document.get("properties")
    return {name: value.get(name) for name in fields} if fields and isinstance(value, Mapping) else value


def _told(observation: Observation) -> str:
    return f"{observation.status} {observation.http_status or ''} {observation.body!r:.200}".replace("  ", " ")
