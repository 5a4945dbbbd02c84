"""May a type move? Up on evidence alone, one rung at a time; down by anybody, and by itself where the evidence turned. Pure."""

from collections.abc import Iterator
from datetime import datetime

from orchestrator.autonomy.bounds import lower_bound, upper_bound
from orchestrator.autonomy.settings import Demands, Demotion, Ladder
from orchestrator.domain.autonomy import RUNGS, Criterion, Evidence, Move, lowest
from orchestrator.domain.resolution import Rung


def next_rung(rung: Rung) -> Rung | None:
    place = RUNGS.index(rung) + 1
    return RUNGS[place] if place < len(RUNGS) else None


def judge_promotion(ladder: Ladder, evidence: Evidence, *, at: Rung, target: Rung, ceiling: Rung) -> Move:
    """Whether the evidence carries a move up. `ceiling`: the freest rung that a runbook of the type allows."""

    def refuse(why: str, criteria: tuple[Criterion, ...] = ()) -> Move:
        return Move(type=evidence.type, start=at, target=target, allowed=False, why=why, criteria=criteria)

    if RUNGS.index(target) <= RUNGS.index(at):
        return refuse(f"{target} is not above {at}; a move down needs a reason and no evidence.")
    if target is not next_rung(at):
        return refuse(f"A type goes up one rung at a time: after {at} comes {next_rung(at)}.")
    if lowest(target, ceiling) is not target:
        return refuse(f"No runbook of the type is reviewed for more than {ceiling}.")
    demands = ladder.demands(target)
    if demands is None:
        return refuse(f"autonomy.yaml does not say what {target} demands.")
    criteria = tuple(weigh(demands, evidence))
    missing = [each.says for each in criteria if not each.met]
    if missing:
        return refuse(f"The evidence does not carry {target}: {'; '.join(missing)}.", criteria)
    why = "; ".join(each.says for each in criteria)
    return Move(type=evidence.type, start=at, target=target, allowed=True, why=f"{why}.", criteria=criteria)


def weigh(demands: Demands, evidence: Evidence) -> Iterator[Criterion]:
    """Every demand beside what was found."""
    yield from (
        _count(name, needed, found, words)
        for name, needed, found, words in (
            ("days", demands.days, evidence.days, "days on its rung"),
            ("decided", demands.decided, evidence.agreed + evidence.disagreed, "decisions that people finished"),
            ("acted", demands.acted, evidence.acted, "tickets acted on"),
            ("sampled", demands.sampled, evidence.sampled, "sampled and judged"),
        )
        if needed
    )
    judged = evidence.agreed + evidence.disagreed
    if demands.agreement is not None:
        yield _at_least("agreement", demands.agreement, evidence.agreed, judged, "agreed with what people did")
    if demands.resolution is not None:
        yield _at_least("resolution", demands.resolution, evidence.verified, evidence.acted, "resolved and verified")
    if demands.approval is not None:
        asked = evidence.approved + evidence.rejected
        yield _at_least("approval", demands.approval, evidence.approved, asked, "approved when asked")
    if demands.reopened is not None:
        yield _at_most("reopened", demands.reopened, evidence.reopened, evidence.acted, "came back")
    if demands.qa is not None:
        yield _at_least("qa", demands.qa, evidence.right, evidence.sampled, "found right in the sample")
    if evidence.harmful:
        says = f"{evidence.harmful} found harmful in the sample"
        yield Criterion(name="harmful", met=False, needed=0, found=evidence.harmful, of=evidence.sampled, says=says)


def judge_demotion(demotion: Demotion, recent: Evidence, *, at: Rung) -> Move | None:
    """The move down that the last tickets ask for by themselves; None where they do not. Suggestions and shadows harm nobody."""
    if RUNGS.index(at) <= RUNGS.index(Rung.SUGGEST):
        return None
    why = "; ".join(_turned(demotion, recent))
    if not why:
        return None
    return Move(type=recent.type, start=at, target=RUNGS[RUNGS.index(at) - 1], allowed=True, why=f"{why}.")


def _turned(demotion: Demotion, recent: Evidence) -> Iterator[str]:
    if recent.harmful >= demotion.harmful:
        yield f"{recent.harmful} of the sampled tickets found harmful"
    if recent.acted >= demotion.at_least:
        best = upper_bound(recent.verified, recent.acted)
        if best < demotion.resolution:
            yield f"{recent.verified} of the last {recent.acted} resolved and verified: at best {best:.0%}, below {demotion.resolution:.0%}"
        worst = lower_bound(recent.reopened, recent.acted)
        if worst > demotion.reopened:
            yield f"{recent.reopened} of the last {recent.acted} came back: at least {worst:.0%}, above {demotion.reopened:.0%}"
    if recent.sampled >= demotion.at_least:
        best = upper_bound(recent.right, recent.sampled)
        if best < demotion.qa:
            yield f"{recent.right} of {recent.sampled} sampled found right: at best {best:.0%}, below {demotion.qa:.0%}"


def is_sampled(ladder: Ladder, ticket_number: int, resolved_before: int) -> bool:
    """Whether a ticket resolved without a person is shown to one. The same answer whenever it is asked; even over the numbers."""
    share = next(each.share for each in ladder.sample if each.first is None or resolved_before < each.first)
    return (ticket_number * 2654435761) % 2**32 < share * 2**32  # Knuth's multiplicative hash


def days_since(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds() / 86400)


def _count(name: str, needed: float, found: float, words: str) -> Criterion:
    met = found >= needed
    says = f"{found:.0f} {words}" + ("" if met else f", {needed:.0f} needed")
    return Criterion(name=name, met=met, needed=needed, found=found, of=int(found), says=says)


def _at_least(name: str, needed: float, good: int, of: int, words: str) -> Criterion:
    bound = lower_bound(good, of) if of else None
    met = bound is not None and bound >= needed
    says = (
        f"{good} of {of} {words}"
        + (f" (at least {bound:.1%})" if bound is not None else "")
        + ("" if met else f", {needed:.0%} needed")
    )
    return Criterion(name=name, met=met, needed=needed, found=bound, of=of, says=says)


def _at_most(name: str, allowed: float, bad: int, of: int, words: str) -> Criterion:
    bound = upper_bound(bad, of) if of else None
    met = bound is not None and bound <= allowed
    says = (
        f"{bad} of {of} {words}"
        + (f" (at most {bound:.1%})" if bound is not None else "")
        + ("" if met else f", {allowed:.0%} allowed")
    )
    return Criterion(name=name, met=met, needed=allowed, found=bound, of=of, says=says)
