"""Write down what a round is about to do, in one transaction, fenced by the claims; and check there what other workers may change.

Inside, under locks on targets, on limited actions and on money: the kill switch, the catalogue's limits, the circuit breaker, and
whether what the desk gave away is still what governance judged by. Two workers cannot both pass where only one may.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from orchestrator.domain.errors import FencedOut
from orchestrator.domain.resolution import Decision, Frozen, ObservationStatus, Target, Touch, Verdict
from orchestrator.domain.spending import Spend
from orchestrator.ports import Transaction
from orchestrator.resolution import breaker
from orchestrator.resolution.call import Call
from orchestrator.resolution.effects import SendCode
from orchestrator.resolution.limits import DAY, Counts, exceeded, target_window
from orchestrator.resolution.recall import spending
from orchestrator.resolution.runs import Desk, Driven, claims_of, drop

KILL_SWITCH, LIMIT, BREAKER = "kill-switch", "limit", "circuit-breaker"
MONEY = "money"


@dataclass
class Intended:
    """What the transaction found. Made anew each time that it is tried."""

    refused: dict[int, Verdict] = field(default_factory=dict)  # by the call's place
    spending: list[Spend] | None = None  # where it is another than some call was judged by
    judge_again: set[int] = field(default_factory=set)


def intend(acts: Sequence[Call], desk: Desk, driven: Driven) -> dict[int, Verdict | None]:
    """By id of the call: why it is not done; None where governance is to judge it again. A ticket whose lease is lost drops out."""
    if not acts:
        return {}
    try:
        return _apply(acts, desk.store.run(lambda tx: _write(tx, acts, desk)))
    except FencedOut:
        return _one_by_one(acts, desk, driven)


def _one_by_one(acts: Sequence[Call], desk: Desk, driven: Driven) -> dict[int, Verdict | None]:
    refused: dict[int, Verdict | None] = {}
    for call in acts:
        try:
            refused |= _apply([call], desk.store.run(lambda tx, one=call: _write(tx, [one], desk)))  # type: ignore[misc]
        except FencedOut as error:
            drop(call.run, driven, str(error), lost=True)
    return refused


def _apply(acts: Sequence[Call], found: Intended) -> dict[int, Verdict | None]:
    for place in found.judge_again:
        run = acts[place].run
        run.case.memory = replace(run.case.memory, spending=found.spending or [])
        run.spending_changed = True
    for call in acts:
        call.run.fresh.clear()
    ended: dict[int, Verdict | None] = {id(acts[place]): None for place in found.judge_again}
    return ended | {id(acts[place]): verdict for place, verdict in found.refused.items()}


def _write(tx: Transaction, acts: Sequence[Call], desk: Desk) -> Intended:
    now, claims = desk.clock(), claims_of([call.run for call in acts])
    found = Intended(refused=_stopped(tx, acts, now=now))
    tx.hold(claims)
    tx.lock(sorted(set(_locks(acts))))
    _check_money(tx, acts, found, now=now)
    _check_targets(tx, acts, found, desk, now=now)
    going = [call for place, call in enumerate(acts) if place not in found.refused and place not in found.judge_again]
    targets = {call.key: call.target for call in going if call.target is not None}
    tx.save_intended(claims, [(call.proposal, call.verdict) for call in going], now=now, targets=targets)
    for call in going:
        if isinstance(effect := call.run.effect, SendCode):
            expires_at = now + timedelta(minutes=effect.minutes)
            tx.issue_code(call.run.id, email=str(call.arguments["to"]), code_sha256=effect.code_sha256, expires_at=expires_at)
    return found


def _stopped(tx: Transaction, acts: Sequence[Call], *, now: datetime) -> dict[int, Verdict]:
    """Whose autonomy is stopped at this moment: the whole desk's, or the ticket type's."""
    switch = tx.kill_switch()
    if switch.get("stopped"):
        reason = f"Autonomy is stopped for the whole desk ({switch.get('reason') or 'no reason given'})."
        return {place: _stop(KILL_SWITCH, reason) for place in range(len(acts))}
    types = tx.ladder.stopped_types(now=now)
    return {
        place: _stop(KILL_SWITCH, f"Autonomy is stopped for tickets of the type {kind} ({types[kind]['reason']}).")
        for place, call in enumerate(acts)
        if (kind := call.run.case.category) in types
    }


def _stop(rule: str, reason: str) -> Verdict:
    return Verdict(decision=Decision.HAND_OVER, rule=rule, reason=reason)


def _locks(acts: Sequence[Call]) -> Iterable[str]:
    """What must not be decided by two workers at once."""
    for call in acts:
        if call.target is not None:
            yield f"target {call.target.name}"
        if call.action is not None and call.action.limits.per_desk_per_day is not None:
            yield f"desk {call.action.name}"
        if _spends(call):
            yield MONEY


def _spends(call: Call) -> bool:
    return "amount" in call.arguments and not call.in_doubt


def _check_money(tx: Transaction, acts: Sequence[Call], found: Intended, *, now: datetime) -> None:
    """Governance judged by what had been given away when the batch began; where that changed, it judges again."""
    places = [place for place, call in enumerate(acts) if _spends(call)]
    if not places:
        return
    found.spending = spending(tx, now=now)
    latest = _totals(found.spending)
    found.judge_again = {
        place for place in places if place not in found.refused and _totals(acts[place].run.case.memory.spending) != latest
    }


def _totals(rows: Iterable[Spend]) -> dict[tuple[str, str, str], float]:
    return {(row.action, row.requester, row.account): round(row.amount, 2) for row in rows if row.amount}


def _check_targets(tx: Transaction, acts: Sequence[Call], found: Intended, desk: Desk, *, now: datetime) -> None:
    """Limits and breaker, one act after the other: those of this round count for the next of it."""
    limit = _limit(desk)
    targets = sorted({call.target.name for call in acts if call.target is not None})
    windows = [target_window(call.action) for call in acts if call.action is not None and call.action.limits.per_target is not None]
    history = _History(
        touches=tx.touches(targets, since=now - max([limit.window, *windows])) if targets else {},
        frozen={(row.action, row.target): row for row in tx.frozen(targets)} if targets else {},
        desk=_done_by_desk(tx, acts, now=now),
    )
    frozen: list[Frozen] = []
    for place, call in enumerate(acts):
        if place in found.judge_again or place in found.refused or call.proposal.undoes is not None or call.action is None:
            continue
        verdict, tripped = _judge(call, history, limit, now=now)
        if tripped is not None and call.target is not None:
            frozen += [_frozen(call, name, call.target, tripped, now) for name in tripped.actions]
        if verdict is not None:
            found.refused[place] = verdict
        else:
            history.count(call, now=now)
    if frozen:
        tx.freeze(frozen)


@dataclass
class _History:
    touches: dict[str, list[Touch]]  # by target, oldest first
    frozen: Mapping[tuple[str, str], Frozen]
    desk: dict[str, int]  # by action, within a day

    def count(self, call: Call, *, now: datetime) -> None:
        if call.target is not None:
            touch = Touch(
                ticket_id=call.run.id,
                action=call.proposal.action,
                target=call.target.name,
                idempotency_key=call.key,
                at=now,
                before=call.before.state if call.before else None,
                after=None,
                before_at=call.before.at if call.before else None,
            )
            self.touches.setdefault(call.target.name, []).append(touch)
        self.desk[call.proposal.action] = self.desk.get(call.proposal.action, 0) + 1


def _done_by_desk(tx: Transaction, acts: Sequence[Call], *, now: datetime) -> dict[str, int]:
    limited = sorted({c.action.name for c in acts if c.action is not None and c.action.limits.per_desk_per_day is not None})
    return tx.acts_since(limited, since=now - DAY) if limited else {}


def _judge(call: Call, history: _History, limit: breaker.Limit, *, now: datetime) -> tuple[Verdict | None, breaker.Tripped | None]:
    assert call.action is not None
    name = call.target.name if call.target else ""
    if (frozen := history.frozen.get((call.proposal.action, name))) is not None:
        reason = f"{frozen.action} on this target is frozen since {frozen.frozen_at:%Y-%m-%d %H:%M} UTC: {frozen.reason}"
        return _stop(BREAKER, reason), None
    if call.in_doubt:
        return None, None  # it was counted when it was begun
    touches = history.touches.get(name, [])
    if call.before is not None:
        recent = [touch for touch in touches if touch.at >= now - limit.window]
        if tripped := breaker.trips(call.proposal.action, call.key, call.before.state, recent, limit):
            return _stop(BREAKER, f"{tripped.reason} It is frozen until a lead gives it free."), tripped
    if broken := exceeded(call.action, call.arguments, _counts(call, touches, history, now=now)):
        return _stop(LIMIT, broken), None
    return None, None


def _counts(call: Call, touches: Sequence[Touch], history: _History, *, now: datetime) -> Counts:
    assert call.action is not None
    since, name = now - target_window(call.action), call.action.name
    mine = {
        s.idempotency_key for s in call.run.case.memory.steps if s.writes and s.action == name and s.undoes is None and _done(s)
    }
    mine |= {done.key for done in call.run.case.done if done.action.name == name}
    others = [t for t in touches if t.action == name and t.at >= since and not t.refused and t.idempotency_key != call.key]
    return Counts(of_ticket=len(mine - {call.key}), on_target=len(others), of_desk=history.desk.get(name, 0))


def _done(step: object) -> bool:
    observation = getattr(step, "observation", None)
    return observation is None or observation.status is not ObservationStatus.REFUSED


def _limit(desk: Desk) -> breaker.Limit:
    settings = desk.playbook.policies.settings
    return breaker.Limit(
        repeats=settings.breaker_repeats,
        alternations=settings.breaker_alternations,
        window=timedelta(minutes=settings.breaker_minutes),
    )


def _frozen(call: Call, action: str, target: Target, tripped: breaker.Tripped, now: datetime) -> Frozen:
    return Frozen(action=action, target=target.name, kind=tripped.kind, reason=tripped.reason, ticket_id=call.run.id, frozen_at=now)
