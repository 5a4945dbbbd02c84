"""Which types the desk handles reliably, and which it should leave to people: a table from outcomes, with lower bounds.

A decision is *good* when the system of record confirmed the resolution, nobody came back and nobody corrected anything; *wrong* when a
person named another type, reopened, rejected an action or rated it bad. Hand-overs and open tickets prove neither and are shown beside.
A type is handled when the lower bound of good / (good + wrong) reaches the target: few tickets never do, however good they were.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.stats import norm

from training.feedback.decisions import Decision, Ending
from training.metrics import wilson

TARGET = 0.95


class Handling(StrEnum):
    HANDLES = "handles"  # proven good enough
    UNPROVEN = "unproven"  # too few tickets to say
    WATCH = "watch"  # not proven, and not refuted
    ESCALATES = "escalates"  # proven not good enough: to people


@dataclass(frozen=True, kw_only=True)
class TypeReliability:
    category: str
    decided: int  # tickets for which this type was decided, sure enough to act on
    good: int
    wrong: int
    handed_over: int
    open: int
    rate: float | None  # good / (good + wrong)
    low: float  # Wilson, 95 %
    high: float
    handling: Handling
    needed: int  # more good tickets in a row until it would be handled; 0 where it is

    @property
    def judged(self) -> int:
        return self.good + self.wrong


def reliability(decisions: Sequence[Decision], *, target: float = TARGET) -> tuple[TypeReliability, ...]:
    """One row per type that was decided, the most frequent first."""
    counted = Counter((d.category, d.ending) for d in decisions if d.decided)
    totals = Counter(d.category for d in decisions if d.decided)
    return tuple(_row(name, {ending: counted[name, ending] for ending in Ending}, target) for name, _ in totals.most_common())


def _row(name: str, counts: dict[Ending, int], target: float) -> TypeReliability:
    good, wrong = counts[Ending.GOOD], counts[Ending.WRONG]
    interval = wilson(good, good + wrong)
    needed = _needed(good, good + wrong, target)
    return TypeReliability(
        category=name,
        decided=sum(counts.values()),
        good=good,
        wrong=wrong,
        handed_over=counts[Ending.HANDED_OVER],
        open=counts[Ending.OPEN],
        rate=good / (good + wrong) if good + wrong else None,
        low=interval.low,
        high=interval.high,
        handling=_handling(good, good + wrong, interval.low, interval.high, target),
        needed=needed,
    )


def _handling(good: int, judged: int, low: float, high: float, target: float) -> Handling:
    if low >= target:
        return Handling.HANDLES
    if high < target:
        return Handling.ESCALATES
    return Handling.UNPROVEN if judged < fewest(target) else Handling.WATCH


def fewest(target: float, *, level: float = 0.95) -> int:
    """So many tickets, all of them good, bring Wilson's lower bound to the target: n / (n + z^2) >= target."""
    z = float(norm.ppf(0.5 + level / 2))
    return int(np.ceil(z * z * target / (1 - target) - 1e-9))


def _needed(good: int, judged: int, target: float) -> int:
    """By doubling, then halving: the bound rises with every good ticket."""

    def reached(more: int) -> bool:
        return wilson(good + more, judged + more).low >= target

    if reached(0):
        return 0
    high = 1
    while not reached(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
