"""The one contract of every call that changes something, for a whole round of tickets at once, enforced here and nowhere else:

    judged (schema, provenance, policies) -> looked at just before -> preconditions, what was approved -> intended, committed
    -> sent once -> answered, or found out -> verified by the action's own probe -> observed, committed

A look-up is only sent and written down. An answer that is missing is never a reason to send again blindly: `unknown` says what a look
at the target shows. Knows the ports; knows no database and no HTTP.
"""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.domain.errors import FencedOut, WorldUnavailable
from orchestrator.domain.resolution import Decision, Observation, ObservationStatus, Verdict
from orchestrator.ports import Transaction
from orchestrator.resolution.call import Call, Spent, call_of
from orchestrator.resolution.effects import Act, Acted, Effect, Read, SendCode
from orchestrator.resolution.intend import intend
from orchestrator.resolution.look_after import look_after
from orchestrator.resolution.reobserve import as_shown, objection, reobserve, settle
from orchestrator.resolution.runs import Desk, Driven, Run, advance, claims_of, drop
from orchestrator.resolution.send import send

CALLS = (Read, Act, SendCode)
SENDS = 3  # of one act within one round, where a look at its target said that it may be sent again
Status = ObservationStatus


def execute(effects: Sequence[tuple[Run, Effect | None]], desk: Desk, driven: Driven) -> None:
    """One round. Every ticket of it is answered, dropped, or keeps its effect for the next round."""
    spent: Spent = {}
    calls = [call_of(run, effect, desk, spent) for run, effect in effects]
    acts = _stand(_only_judged([call for call in calls if call.writes], driven), desk, driven)
    going = [call for call in calls if not call.writes] + acts
    if not going:
        return
    send([call for call in going if call.observation is None], desk)
    if acts:
        desk.reached("answered")
        _find_out(acts, desk)
        look_after([call for call in acts if _ok(call)], desk)
        desk.reached("verified")
    _write_observed(going, desk, driven)
    if acts:
        desk.reached("observed")
    for call in going:
        if call.run.effect is not None:
            _answer(call, desk, driven)


def _ok(call: Call) -> bool:
    return call.observation is not None and call.observation.status is Status.OK


# --- before ---


def _only_judged(acts: Sequence[Call], driven: Driven) -> list[Call]:
    """What governance does not let through, and what a shadow only plays through, is answered at once."""
    kept = []
    for call in acts:
        asks = call.verdict.decision is Decision.NEEDS_APPROVAL and call.approval is None
        silent = call.run.case.shadow or call.run.work.claim is None
        if silent or (call.verdict.decision is not Decision.ALLOW and not asks):
            advance(call.run, Acted(verdict=call.verdict, observation=None, approval=call.approval), driven)
        else:
            kept.append(call)
    return kept


def _stand(acts: Sequence[Call], desk: Desk, driven: Driven) -> list[Call]:
    """Those that are done, or found done, in this round: looked at, allowed by what was seen, intended."""
    if not acts:
        return []
    reobserve(acts, desk)
    desk.reached("reobserved")
    settled = [call for call in acts if call.in_doubt and call.action is not None and settle(call)]
    fresh = [call for call in acts if call not in settled and _still_stands(call, driven)]
    ended = intend(fresh, desk, driven)
    if fresh:
        desk.reached("intended")
    going = [call for call in fresh if id(call) not in ended and call.run.effect is not None]
    for call in fresh:
        if (verdict := ended.get(id(call))) is not None:
            _refuse(call, verdict, desk, driven)
    return settled + going


def _still_stands(call: Call, driven: Driven) -> bool:
    if call.in_doubt:
        return True  # it was looked at before the first time; now only its end is looked for
    if _away(call.seen):
        assert call.seen is not None
        drop(call.run, driven, f"{call.proposal.action}: its target cannot be seen just before.", waits=_busy(call.seen))
        return False
    if (verdict := objection(call)) is not None:
        advance(call.run, Acted(verdict=verdict, observation=None, approval=None), driven)
        return False
    if call.verdict.decision is Decision.NEEDS_APPROVAL:  # nobody is asked for what could not be done anyway
        shown = replace(call.proposal, preview={**call.proposal.preview, **as_shown(call.before)})
        advance(call.run, Acted(verdict=call.verdict, observation=None, approval=None, proposal=shown), driven)
        return False
    return True


def _away(seen: Observation | None) -> bool:
    return seen is not None and seen.status in {Status.UNAVAILABLE, Status.UNKNOWN}


def _busy(seen: Observation) -> bool:
    return seen.retry_after_s is not None


def _refuse(call: Call, verdict: Verdict, desk: Desk, driven: Driven) -> None:
    if isinstance(call.run.effect, Act):
        advance(call.run, Acted(verdict=verdict, observation=None), driven)
        return
    request, body = {"action": call.proposal.action}, {"detail": verdict.reason}
    refused = Observation(status=Status.REFUSED, http_status=None, body=body, at=desk.clock(), request=request)
    advance(call.run, refused, driven)


# --- after ---


def _find_out(acts: Sequence[Call], desk: Desk) -> None:
    """For acts without an answer: look first; send again, with the same key, only what the look and the system allow."""
    for sent in range(1, SENDS + 1):
        lost = [call for call in acts if call.observation is not None and call.observation.status is Status.UNKNOWN and call.action]
        for call in lost:
            call.begun = call.begun or call.as_begun()
        if not lost:
            return
        reobserve(lost, desk)
        again = [call for call in lost if not settle(call)]
        if not again or sent == SENDS:
            return
        _send_again(again, desk)


def _send_again(calls: Sequence[Call], desk: Desk) -> None:
    before = {id(call): call.observation for call in calls}
    for call in calls:
        call.observation = None
    send(calls, desk)
    for call in calls:
        if call.observation is not None and call.observation.status is Status.UNAVAILABLE:
            call.observation = before[id(call)]  # this one never arrived, but an earlier one may have


def _write_observed(calls: Sequence[Call], desk: Desk, driven: Driven) -> None:
    """Look-ups with their intention; a ticket whose lease was lost meanwhile drops out."""
    written = [call for call in calls if call.run.work.claim is not None]
    if not written:
        return
    try:
        desk.store.run(lambda tx: _write(tx, written, desk))
    except FencedOut:
        for call in written:
            try:
                desk.store.run(lambda tx, one=call: _write(tx, [one], desk))  # type: ignore[misc]
            except FencedOut as error:
                drop(call.run, driven, str(error), lost=True)


def _write(tx: Transaction, calls: Sequence[Call], desk: Desk) -> None:
    now = desk.clock()
    looks = [call for call in calls if not call.writes]
    if looks:
        tx.save_intended(claims_of([call.run for call in looks]), [(call.proposal, call.verdict) for call in looks], now=now)
    tx.save_observed(
        [(call.run.id, call.key, call.observation) for call in calls if call.observation is not None],
        now=now,
        checked={(call.run.id, call.key): (call.after, call.verification) for call in calls if call.writes},
    )


def _answer(call: Call, desk: Desk, driven: Driven) -> None:
    observation = call.observation
    assert observation is not None
    if _comes_again(call, observation, desk):
        error = WorldUnavailable(
            f"{call.proposal.action}: {observation.status}.", hint="It is looked at again later; the idempotency key stays."
        )
        drop(call.run, driven, str(error), waits=_busy(observation))
        return
    if isinstance(call.run.effect, Act):
        answer = Acted(verdict=call.verdict, observation=observation, verification=call.verification, before=call.before)
        advance(call.run, answer, driven)
    else:
        advance(call.run, observation, driven)


def _comes_again(call: Call, observation: Observation, desk: Desk) -> bool:
    """What was not to be had is tried again later; what stays unknown so often is for a person."""
    if observation.status is Status.UNKNOWN:
        earlier = call.begun.unknowns if call.begun else 0
        return not call.writes or earlier + 1 < desk.playbook.policies.settings.unknown_tries
    return observation.status is Status.UNAVAILABLE and observation.kind != "probed"
