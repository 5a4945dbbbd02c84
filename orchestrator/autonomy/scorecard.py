"""Which ticket types should be automated: seven criteria, each with its evidence, and now, later or never. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.autonomy.settings import Limits, ScorecardLimits
from orchestrator.domain.actions import Action, BlastRadius, Risk
from orchestrator.domain.autonomy import Class, Mark, Scorecard

GATE_PER_WEEK = 50  # tickets of the whole desk, below which automation is below useful scale
WORDINGS = 10  # the commonest wordings whose share tells the variance
ALIKE = 0.5  # Jaccard similarity of two texts' words from which they count as one wording
SAMPLE = 1500  # texts that are compared
SENSITIVE_FAIR, SENSITIVE_BAD = 0.02, 0.10  # share of tickets that speak of law, distress or other people's data
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, kw_only=True)
class History:
    """What is known of one type's tickets. Counts are over `weeks`; None: nothing is known."""

    type: str
    tickets: int
    weeks: float
    texts: Sequence[str] = ()
    judged: int | None = None  # decisions of governance about acts
    clear: int = 0  # of those: permitted, or sent to an approver, by a rule
    looked_up: int | None = None
    answered: int = 0
    tried: int | None = None  # tickets that a runbook took up, or was there to take up
    done: int = 0  # of those: acted on or answered by us, or would have been
    sensitive: int = 0  # tickets that a person has to take for what they say
    acts: Sequence[Action] = ()  # what the type's runbooks may do
    has_runbook: bool = False


def score(history: History, limits: ScorecardLimits) -> Scorecard:
    """The card of one type."""
    marks = tuple(measure(history, limits) for measure in CRITERIA)
    verdict, because = _class(history, marks, limits)
    return Scorecard(type=history.type, tickets=history.tickets, verdict=verdict, because=because, marks=marks)


def desk_is_large_enough(tickets: int, weeks: float) -> bool:
    """R8: under 50 tickets a week nothing is won by automation."""
    return weeks > 0 and tickets / weeks >= GATE_PER_WEEK


def _class(history: History, marks: Sequence[Mark], limits: ScorecardLimits) -> tuple[Class, str]:
    if why := limits.never.get(history.type):
        return Class.NEVER, why
    by_name = {mark.name: mark for mark in marks}
    if by_name["compliance"].score == 0:
        return Class.NEVER, by_name["compliance"].found
    weak = [mark for mark in marks if mark.score in (0, None)]
    if weak:
        return Class.LATER, "; ".join(f"{mark.name.replace('_', ' ')}: {mark.found}" for mark in weak)
    fair = [mark for mark in marks if mark.score == 1]
    if len(fair) > 2:
        return Class.LATER, "Only fair: " + "; ".join(f"{mark.name.replace('_', ' ')}: {mark.found}" for mark in fair)
    return Class.NOW, "Every criterion holds" + (
        f"; only fair: {', '.join(m.name.replace('_', ' ') for m in fair)}." if fair else "."
    )


def _volume(history: History, limits: ScorecardLimits) -> Mark:
    per_week = history.tickets / history.weeks if history.weeks > 0 else 0.0
    return Mark(name="volume", score=_graded(per_week, limits.volume), found=f"{per_week:.1f} tickets a week")


def _variance(history: History, limits: ScorecardLimits) -> Mark:
    if len(history.texts) < WORDINGS:
        return Mark(name="variance", score=None, found=f"{len(history.texts)} texts are too few to compare")
    share = covered_by_common_wordings(history.texts)
    found = f"the {WORDINGS} commonest wordings cover {share:.0%}"
    return Mark(name="variance", score=max(1, _graded(share, limits.variance)), found=found)  # varied wording is a cost, no bar


def _policy(history: History, limits: ScorecardLimits) -> Mark:
    if not history.has_runbook:
        return Mark(name="policy_clarity", score=0, found="no runbook says how it is done")
    return _share(
        "policy_clarity", history.clear, history.judged, limits.policy_clarity, "decisions rest on a rule that lets it happen"
    )


def _risk(history: History, _: ScorecardLimits) -> Mark:
    if not history.acts:
        return Mark(name="risk", score=2, found="nothing is changed")
    worst = max(history.acts, key=lambda act: (list(Risk).index(act.risk), not act.reversible))
    wide = [act.name for act in history.acts if act.blast_radius in {BlastRadius.ONE_SERVICE, BlastRadius.EVERYONE}]
    found = f"at most {worst.risk} ({worst.name}{', cannot be undone' if not worst.reversible else ''})"
    if worst.risk is Risk.HIGH:
        return Mark(name="risk", score=1, found=f"{found}: with approval only")
    return Mark(name="risk", score=1 if wide or (worst.risk is Risk.MEDIUM and not worst.reversible) else 2, found=found)


def _data(history: History, limits: ScorecardLimits) -> Mark:
    return _share("data_access", history.answered, history.looked_up, limits.data_access, "look-ups were answered")


def _actionability(history: History, limits: ScorecardLimits) -> Mark:
    return _share("actionability", history.done, history.tried, limits.actionability, "tickets could be acted on or answered")


def _compliance(history: History, limits: ScorecardLimits) -> Mark:
    if why := limits.never.get(history.type):
        return Mark(name="compliance", score=0, found=why)
    share = history.sensitive / history.tickets if history.tickets else 0.0
    grade = 2 if share <= SENSITIVE_FAIR else 1 if share <= SENSITIVE_BAD else 0
    return Mark(name="compliance", score=grade, found=f"{share:.1%} speak of law, distress or a VIP's matter")


CRITERIA: Sequence[Callable[[History, ScorecardLimits], Mark]] = (
    _volume, _variance, _policy, _risk, _data, _actionability, _compliance,
)  # fmt: skip


def _share(name: str, good: int, of: int | None, limits: Limits, words: str) -> Mark:
    if not of:
        return Mark(name=name, score=None, found="the history does not say")
    return Mark(name=name, score=_graded(good / of, limits), found=f"{good} of {of} {words}")


def _graded(value: float, limits: Limits) -> int:
    return 2 if value >= limits.good else 1 if value >= limits.fair else 0


def covered_by_common_wordings(texts: Sequence[str]) -> float:
    """Share of the texts (0..1) that belong to the ten largest groups of similar wording. Leader clustering on word sets."""
    step = max(1, len(texts) // SAMPLE)
    bags = [frozenset(_WORD.findall(text.casefold())) for text in texts[::step]]
    leaders: list[frozenset[str]] = []
    sizes: list[int] = []
    for bag in bags:
        place = next((i for i, leader in enumerate(leaders) if _alike(bag, leader)), None)
        if place is None:
            leaders.append(bag)
            sizes.append(1)
        else:
            sizes[place] += 1
    return sum(sorted(sizes, reverse=True)[:WORDINGS]) / len(bags) if bags else 0.0


def _alike(left: frozenset[str], right: frozenset[str]) -> bool:
    return left == right or len(left & right) >= ALIKE * len(left | right)


def as_rows(cards: Sequence[Scorecard]) -> list[Mapping[str, object]]:
    """JSON-ready, the ones to begin with first."""
    order = {Class.NOW: 0, Class.LATER: 1, Class.NEVER: 2}
    return [
        {
            "type": card.type,
            "tickets": card.tickets,
            "verdict": str(card.verdict),
            "because": card.because,
            "marks": {mark.name: {"score": mark.score, "found": mark.found} for mark in card.marks},
        }
        for card in sorted(cards, key=lambda card: (order[card.verdict], -card.tickets, card.type))
    ]
