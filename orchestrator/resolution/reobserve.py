"""Look at the targets of a round's acts just before they are done, all at once; say which acts do not stand any more.

Also the first look at what an earlier run left in doubt: did it happen? Reads; changes nothing and writes nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from orchestrator.domain.actions import Action, Idempotency, Observe
from orchestrator.domain.resolution import Decision, Observation, ObservationStatus, Snapshot, Target, Verdict
from orchestrator.resolution import conditions
from orchestrator.resolution.call import Call
from orchestrator.resolution.runs import Desk
from orchestrator.resolution.send import Look, name_of, read_all, recent
from orchestrator.resolution.snapshot import changed, lookup, snapshot, target_of
from orchestrator.resolution.unknown import Happened, did_it_happen, exact_call, may_send_again, probed, shows, verified

PRECONDITION, APPROVED_STATE, UNOBSERVABLE = "precondition", "approved-state", "re-observe"


def reobserve(acts: Sequence[Call], desk: Desk) -> None:
    """One parallel round of reads for all of them. An act without a target to look at keeps `seen` empty."""
    looks = {id(call): look for call in acts if (look := look_of(call)) is not None}
    known = {id(call): _known(call, looks[id(call)], desk) for call in acts if id(call) in looks}
    seen = read_all([look for each, look in looks.items() if known[each] is None], desk)
    for call in acts:
        look = looks.get(id(call))
        if look is not None:
            call.seen = known[id(call)] or seen[name_of(look)]
        call.target = _target(call, look)


def look_of(call: Call) -> Look | None:
    """What shows an act's target; for one in doubt, what shows whether it happened."""
    action = call.action
    if action is None:
        return None
    observe = action.probe.observe if call.in_doubt and action.probe else action.observe
    return None if observe is None else look_by(observe, call)


def look_by(observe: Observe, call: Call) -> Look:
    scope = {"arguments": call.arguments, "before": call.before.body if call.before else None}
    return observe.read, observe.resolved(scope)


def _known(call: Call, look: Look, desk: Desk) -> Observation | None:
    """A look of moments ago will do, but not after an approval and not for what is in doubt."""
    return None if call.approval is not None or call.in_doubt else recent(call.run, look, desk)


def _target(call: Call, look: Look | None) -> Target | None:
    if call.action is None or (name := target_of(call.action, call.arguments)) is None:
        return None
    if call.begun is not None:
        return Target(name=name, before=call.begun.before)  # what it was before the first time
    before = snapshot(look[0], look[1], call.seen) if look is not None and call.seen is not None else None
    return Target(name=name, before=before)


def objection(call: Call) -> Verdict | None:
    """Why an act that governance allows is not done after all, by what its target looks like now."""
    action, seen = call.action, call.seen
    if action is None:
        return None
    if seen is not None and call.before is None:
        return _stop(UNOBSERVABLE, f"The target of {action.name} cannot be seen just before: {_answer(seen)}.")
    if call.approval is not None and (differs := _approved_otherwise(call)):
        return _stop(APPROVED_STATE, f"What {call.approval.id} approved no longer fits: {'; '.join(differs[:4])}.")
    failing = conditions.first_failing(action.preconditions, lookup(_scope(call)))
    if failing is not None:
        return _stop(PRECONDITION, f"{action.name} may not be done now: {conditions.said(failing, lookup(_scope(call)))}.")
    return None


def _stop(rule: str, reason: str) -> Verdict:
    return Verdict(decision=Decision.HAND_OVER, rule=rule, reason=reason)


def _answer(seen: Observation) -> str:
    body = seen.body
    detail = body.get("detail") if isinstance(body, dict) else None
    return str(detail or seen.status).rstrip(".")


def _approved_otherwise(call: Call) -> list[str]:
    """How the target differs from what the approver was shown."""
    shown = call.approval.proposal.preview.get("before") if call.approval else None
    if not isinstance(shown, dict) or call.before is None or shown.get("state") == call.before.state:
        return []
    return changed(shown.get("body"), call.before.body)


def _scope(call: Call) -> dict[str, Any]:
    before = call.before.body if call.before else None
    return {**call.run.case.facts.values(), "arguments": dict(call.arguments), "before": before}


def settle(call: Call) -> bool:
    """Decide an act in doubt by what was just seen. True: its end is known now, or cannot be; False: it may be sent (again)."""
    assert call.action is not None
    action: Action = call.action
    happened = did_it_happen(action, call.arguments, call.before, call.seen)
    if happened is Happened.YES:
        assert call.seen is not None
        request = call.observation.request if call.observation else exact_call(action, call.arguments, call.key)
        found = probed(action, call.before, call.seen, request)
        if action.idempotency is Idempotency.KEY and action.output_problems(found.body):
            return False  # it happened; the same key asks the system for its answer, which the look does not hold
        call.observation, call.verification = found, verified(action, call.arguments, call.before, call.seen)
        return True
    readable = action.probe is None or (call.seen is not None and shows(call.seen))
    if readable and may_send_again(action, happened):
        return False
    call.observation = _not_done(call) if happened is Happened.NO else _in_doubt(call)
    return True


def _not_done(call: Call) -> Observation:
    """Seen not to have happened; it is not sent again, for the system would not notice that it is the same request."""
    assert call.seen is not None and call.action is not None and call.action.probe is not None
    evidence = {"read": call.action.probe.observe.read, "at": call.seen.at.isoformat()}
    detail = {
        "detail": "The answer was lost, the probe shows that it did not happen, and what may be done once only is not sent twice."
    }
    return replace(call.seen, status=ObservationStatus.UNAVAILABLE, kind="probed", body=detail, evidence=evidence, request={})


def _in_doubt(call: Call) -> Observation:
    if call.observation is not None:
        return call.observation
    at = call.seen.at if call.seen is not None else call.run.case.started_at
    detail = {"detail": "Its answer is missing and no look at its target shows whether it happened."}
    return Observation(status=ObservationStatus.UNKNOWN, http_status=None, body=detail, at=at)


def as_shown(before: Snapshot | None) -> dict[str, Any]:
    """What an approver sees of the state before."""
    if before is None:
        return {}
    return {"before": {"read": before.read, "arguments": dict(before.arguments), "body": before.body, "state": before.state}}
