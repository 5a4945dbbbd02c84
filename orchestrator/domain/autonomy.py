"""The autonomy ladder as records: where a ticket type stands, what it has shown, what moved it. Judges nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from orchestrator.domain.resolution import Rung

RUNGS: tuple[Rung, ...] = (Rung.SHADOW, Rung.SUGGEST, Rung.APPROVE, Rung.NOTIFY, Rung.FULL)
"""From the most careful to the freest."""
TRUST: Mapping[Rung, int] = {Rung.SHADOW: 0, Rung.SUGGEST: 20, Rung.APPROVE: 50, Rung.NOTIFY: 80, Rung.FULL: 100}
"""The score that people know the rungs by."""


def lowest(*rungs: Rung | None) -> Rung:
    """The most careful of those that are given. Raises ValueError where none is."""
    given = [rung for rung in rungs if rung is not None]
    if not given:
        raise ValueError("No rung was given.")
    return min(given, key=RUNGS.index)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What tickets of one type have shown since the type came to its rung. Counts; every rate is made of these."""

    type: str
    days: float  # since it came to its rung
    decided: int = 0  # in shadow or as a suggestion: tickets with a runbook that would have been carried out
    agreed: int = 0  # of those that a person finished: the person let category and group stand
    disagreed: int = 0  # ... or corrected them, or judged them badly
    acted: int = 0  # tickets for which the desk changed something, or which it resolved
    verified: int = 0  # of those: confirmed by a probe, and still resolved
    reopened: int = 0  # of those: came back
    approved: int = 0  # approvals that people gave
    rejected: int = 0
    sampled: int = 0  # looked at by a person afterwards
    right: int = 0
    wrong: int = 0
    harmful: int = 0


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One demand of a rung, with what was found. `bound` is the confidence bound that is compared, not the plain rate."""

    name: str
    met: bool
    needed: float
    found: float | None  # None: nothing to judge by
    of: int  # how many it rests on
    says: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a type stands."""

    type: str
    rung: Rung
    since: datetime
    by: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Move:
    """A change of rung, as judged."""

    type: str
    start: Rung
    target: Rung
    allowed: bool
    why: str
    criteria: tuple[Criterion, ...] = ()


class Finding(StrEnum):
    """What a person found in a sampled ticket."""

    RIGHT = "right"
    WRONG = "wrong"  # not what should have been done, no harm
    HARMFUL = "harmful"  # it has to be put right


@dataclass(frozen=True, kw_only=True)
class ChaosDay:
    """A window in which people take one type's tickets, so that they still can."""

    id: str  # "C-3"
    type: str
    starts_at: datetime
    ends_at: datetime
    by: str
    reason: str
    cancelled_at: datetime | None = None
    cancelled_because: str = ""

    def covers(self, now: datetime) -> bool:
        return self.cancelled_at is None and self.starts_at <= now < self.ends_at


@dataclass(frozen=True, kw_only=True)
class HumanResponse:
    """How people did, in a window. Durations in minutes; None where no ticket got that far."""

    tickets: int
    answered: int
    resolved: int
    open: int
    median_answer_min: float | None
    median_resolution_min: float | None
    within_sla: int
    reopened: int


class Class(StrEnum):
    NOW = "now"
    LATER = "later"
    NEVER = "never"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One criterion of the eligibility scorecard: 2 good, 1 in between, 0 bad; None where the history cannot say."""

    name: str
    score: int | None
    found: str


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """Whether a ticket type should be automated, from its history."""

    type: str
    tickets: int
    verdict: Class
    because: str
    marks: tuple[Mark, ...] = field(default=())
