"""Did it happen? What a look at the target says of an act whose answer is missing. Judges records; calls nothing."""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any

from orchestrator.domain.actions import Action, Idempotency
from orchestrator.domain.resolution import Observation, ObservationStatus, Snapshot, Verification
from orchestrator.resolution import conditions
from orchestrator.resolution.snapshot import lookup

GONE = 404


class Happened(StrEnum):
    YES = "yes"
    NO = "no"
    CANNOT_TELL = "cannot_tell"


def did_it_happen(action: Action, arguments: Mapping[str, Any], before: Snapshot | None, seen: Observation | None) -> Happened:
    """By the action's own probe. What held before already shows nothing; what cannot be read shows nothing either."""
    if action.probe is None or seen is None or not shows(seen):
        return Happened.CANNOT_TELL
    if not holds(action, arguments, before, body_of(seen)):
        return Happened.NO
    if before is None or not _same_read(action, before) or holds(action, arguments, before, before.body):
        return Happened.CANNOT_TELL
    return Happened.YES


def shows(seen: Observation) -> bool:
    """Whether a look says what is there: a record, or for certain none."""
    return seen.status is ObservationStatus.OK or seen.http_status == GONE


def body_of(seen: Observation) -> Any:
    return seen.body if seen.status is ObservationStatus.OK else None


def _same_read(action: Action, before: Snapshot) -> bool:
    return action.probe is not None and before.read == action.probe.observe.read


def holds(action: Action, arguments: Mapping[str, Any], before: Snapshot | None, after: Any) -> bool:
    assert action.probe is not None
    return conditions.all_hold(action.probe.expect, lookup(_scope(arguments, before, after)))


def _scope(arguments: Mapping[str, Any], before: Snapshot | None, after: Any) -> dict[str, Any]:
    return {"arguments": dict(arguments), "before": before.body if before else None, "after": after}


def may_send_again(action: Action, happened: Happened) -> bool:
    """Only where the system's own contract makes a second request harmless: by the key it remembers, or because the probe says
    that the first did nothing and twice is as good as once. What may be done once only is never sent twice."""
    if action.idempotency is Idempotency.KEY:
        return True
    return action.idempotency is Idempotency.NATURAL and happened is Happened.NO


def verified(action: Action, arguments: Mapping[str, Any], before: Snapshot | None, seen: Observation) -> Verification | None:
    """What the probe says after an answer; None where there is none, or it could not be read."""
    if action.probe is None or not shows(seen):
        return None
    found = lookup(_scope(arguments, before, body_of(seen)))
    return Verification(
        confirmed=conditions.all_hold(action.probe.expect, found),
        probe=action.probe.observe.read,
        expected=conditions.all_said(action.probe.expect),
        observed=conditions.all_said(action.probe.expect, found),
    )


def probed(action: Action, before: Snapshot | None, seen: Observation, call: Mapping[str, Any]) -> Observation:
    """The observation of an act that nobody answered and that the probe shows done."""
    assert action.probe is not None
    evidence = {"read": action.probe.observe.read, "expected": conditions.all_said(action.probe.expect), "at": seen.at.isoformat()}
    body = _answer_in(action, before, body_of(seen))
    return replace(seen, status=ObservationStatus.OK, kind="probed", body=body, request=dict(call), evidence=evidence)


def _answer_in(action: Action, before: Snapshot | None, body: Any) -> Any:
    """What the missing answer would have held: the record itself, or the one that is new in a list."""
    if not action.output_problems(body) or not isinstance(body, list):
        return body
    old = before.body if before and isinstance(before.body, list) else []
    new = [each for each in body if each not in old]
    return new[0] if len(new) == 1 and not action.output_problems(new[0]) else body


def exact_call(action: Action, arguments: Mapping[str, Any], key: str) -> dict[str, Any]:
    """For the person who has to find out."""
    return {
        "action": action.name,
        "system": action.system,
        "method": action.method,
        "path": action.path,
        "arguments": dict(arguments),
        "idempotency_key": key,
    }
