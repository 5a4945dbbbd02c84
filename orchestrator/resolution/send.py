"""Send calls to systems of record, in parallel, at the pace that they bear. Each act once; the same look-up of a round once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from orchestrator.domain.resolution import Observation, ObservationStatus
from orchestrator.resolution.call import Call
from orchestrator.resolution.codes import masked
from orchestrator.resolution.facts import canonical
from orchestrator.resolution.runs import Desk, Run

log = logging.getLogger(__name__)

FRESH = timedelta(seconds=2)  # so long a look-up of the same run stands for another one, where nothing was intended since
BUSY = 429
ASKS = 3  # of a system that is busy, within one round
Look = tuple[str, Mapping[str, Any]]  # a reading action and its arguments


def send(calls: Sequence[Call], desk: Desk) -> None:
    """Every call gets its observation. An exception of the connector is an answer that is missing."""
    for call in calls:
        if not call.writes:
            call.observation = recent(call.run, (call.proposal.action, call.arguments), desk)
    going = [call for call in calls if call.observation is None]
    groups: dict[str, list[Call]] = {}
    for call in going:
        groups.setdefault(call.key if call.writes else name_of((call.proposal.action, call.arguments)), []).append(call)
    first = [group[0] for group in groups.values()]
    for group, observation in zip(groups.values(), desk.pool.map(lambda call: _send_one(call, desk), first), strict=True):
        for call in group:
            call.observation = observation
            if not call.writes:
                call.run.fresh[name_of((call.proposal.action, call.arguments))] = observation


def name_of(look: Look) -> str:
    return f"{look[0]} {canonical(dict(look[1]))}"


def recent(run: Run, look: Look, desk: Desk) -> Observation | None:
    """What this run read moments ago, while nothing was intended."""
    known = run.fresh.get(name_of(look))
    return known if known is not None and desk.clock() - known.at <= FRESH else None


def read_all(looks: Sequence[Look], desk: Desk) -> dict[str, Observation]:
    """Each of these look-ups once, in parallel; by `name_of`."""
    wanted = {name_of(look): look for look in looks}
    seen = desk.pool.map(lambda look: reach(look[0], look[1], None, desk), wanted.values())
    return dict(zip(wanted, seen, strict=True))


def _send_one(call: Call, desk: Desk) -> Observation:
    observation = reach(call.proposal.action, call.arguments, call.key if call.writes else None, desk)
    if not call.secret:
        return observation
    body, request = masked(observation.body, call.secret), masked(dict(observation.request), call.secret)
    return replace(observation, body=body, request=request)


def reach(name: str, arguments: Mapping[str, Any], key: str | None, desk: Desk) -> Observation:
    """One request, when its system takes it. One that is busy changed nothing: it is asked again when it said so, if that is soon."""
    action = desk.playbook.actions.get(name)
    if action is None:
        return _call(name, arguments, key, desk)
    observation: Observation | None = None
    for _ in range(ASKS):
        if (wait_s := desk.pace.wait(action)) > 0:
            return _too_busy(action.system, wait_s, desk)
        observation = _call(name, arguments, key, desk)
        if observation.http_status != BUSY:
            return observation
        observation = replace(observation, retry_after_s=desk.pace.busy(action.system, observation.retry_after_s))
    assert observation is not None
    return observation


def _call(name: str, arguments: Mapping[str, Any], key: str | None, desk: Desk) -> Observation:
    try:
        return desk.systems.call(name, arguments, idempotency_key=key)
    except Exception as error:
        log.exception("%s failed in the connector", name)
        failed = ObservationStatus.UNKNOWN if key else ObservationStatus.UNAVAILABLE
        body = {"detail": f"{type(error).__name__}: {error}"}
        return Observation(status=failed, http_status=None, body=body, at=desk.clock(), request={})


def _too_busy(system: str, wait_s: float, desk: Desk) -> Observation:
    body = {"detail": f"{system} is busy; the next call may go out in {wait_s:.0f} s."}
    return Observation(status=ObservationStatus.UNAVAILABLE, http_status=None, body=body, at=desk.clock(), retry_after_s=wait_s)
