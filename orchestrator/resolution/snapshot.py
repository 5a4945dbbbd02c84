"""What an act's target looks like: how to read it, its digest, what changed between two looks. Arithmetic on records; calls nothing."""

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.domain.actions import Action
from orchestrator.domain.resolution import Observation, ObservationStatus, Snapshot
from orchestrator.resolution.facts import canonical, sha256, step_into

VOLATILE = re.compile(r"(?:.*_)?(?:at|since|etag|revision|last_seen)\Z")
"""Fields that change by themselves, or with every act whether it helps or not: a digest of the state leaves them out."""


def target_of(action: Action, arguments: Mapping[str, Any]) -> str | None:
    """The name of what an act touches: the read that shows it, with its arguments; else the arguments that name it."""
    if action.observe is not None:
        return f"{action.observe.read} {canonical(action.observe.resolved({'arguments': arguments}))}"
    named = {name: arguments[name] for name in action.target if name in arguments}
    return f"{action.system} {canonical(named)}" if named else None


def snapshot(read: str, arguments: Mapping[str, Any], seen: Observation) -> Snapshot | None:
    """None where the read was not answered."""
    if seen.status is not ObservationStatus.OK:
        return None  # not there, or not to be seen
    return Snapshot(read=read, arguments=dict(arguments), body=seen.body, at=seen.at, state=state_of(seen.body))


def state_of(body: Any) -> str:
    """sha256 of the state that counts: two looks with the same digest show the same thing."""
    return sha256("state", lasting(body))


def lasting(body: Any) -> Any:
    if isinstance(body, Mapping):
        return {str(name): lasting(value) for name, value in body.items() if not VOLATILE.match(str(name))}
    if isinstance(body, list | tuple):
        return [lasting(each) for each in body]
    return body


def changed(before: Any, now: Any, name: str = "") -> list[str]:
    """The fields that differ, in words: "status was active, is disabled"."""
    before, now = lasting(before), lasting(now)
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        names = sorted({*before, *now})
        return [line for each in names for line in changed(before.get(each), now.get(each), f"{name} {each}".strip())]
    if canonical(before) == canonical(now):
        return []
    return [f"{name.replace('_', ' ') or 'it'} was {_shown(before)}, is {_shown(now)}"]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def lookup(scope: Mapping[str, Any]) -> Any:
    """For conditions: `after.groups.0` to its value in the scope."""

    def look(path: str) -> Any:
        value: Any = scope
        for part in path.split("."):
            value = step_into(value, part)
        return value

    return look
