"""Read `autonomy.yaml`: where types begin, what rungs demand, what is never automated. Knows one file; judges nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from orchestrator.domain.actions import Risk
from orchestrator.domain.autonomy import RUNGS
from orchestrator.domain.resolution import Rung

FILE = "autonomy.yaml"
RungName = Literal["shadow", "suggest", "approve", "notify", "full"]
Rate = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Demands(_Strict):
    """Of one rung. What is not said is not demanded."""

    days: Annotated[float, Field(ge=0)] = 0
    decided: Annotated[int, Field(ge=0)] = 0
    agreement: Rate | None = None
    acted: Annotated[int, Field(ge=0)] = 0
    resolution: Rate | None = None
    approval: Rate | None = None
    reopened: Rate | None = None
    sampled: Annotated[int, Field(ge=0)] = 0
    qa: Rate | None = None


class Demotion(_Strict):
    last: Count = 100
    at_least: Count = 20
    resolution: Rate = 0.85
    reopened: Rate = 0.10
    qa: Rate = 0.85
    harmful: Count = 1


class SampleShare(_Strict):
    first: Count | None = None  # for the first so many of a type; None: for all after that
    share: Annotated[float, Field(ge=0, le=1)]


class Chaos(_Strict):
    max_hours: Annotated[float, Field(gt=0, le=72)] = 12
    max_risk: Literal["read", "low", "medium"] = "medium"
    stop_at_waiting: Count = 40  # open tickets of the type that end the day by itself

    @property
    def risk(self) -> Risk:
        return Risk(self.max_risk)


class Limits(_Strict):
    good: float
    fair: float

    @model_validator(mode="after")
    def _ordered(self) -> "Limits":
        if self.good < self.fair:
            raise ValueError(f"good ({self.good}) must not be below fair ({self.fair})")
        return self


class ScorecardLimits(_Strict):
    volume: Limits = Limits(good=20, fair=5)
    variance: Limits = Limits(good=0.5, fair=0.25)
    policy_clarity: Limits = Limits(good=0.9, fair=0.6)
    data_access: Limits = Limits(good=0.98, fair=0.9)
    actionability: Limits = Limits(good=0.7, fair=0.4)
    never: Mapping[str, str] = {}


class Ladder(_Strict):
    """The whole file."""

    start: Mapping[str, RungName] = {}
    promote: Mapping[RungName, Demands] = {}
    demote: Demotion = Demotion()
    sample: tuple[SampleShare, ...] = (SampleShare(share=0.2),)
    chaos: Chaos = Chaos()
    scorecard: ScorecardLimits = ScorecardLimits()

    @model_validator(mode="after")
    def _whole(self) -> "Ladder":
        missing = [str(rung) for rung in RUNGS[1:] if str(rung) not in self.promote]
        if self.promote and missing:
            raise ValueError(f"promote does not say what {', '.join(missing)} demands")
        if "shadow" in self.promote:
            raise ValueError("nothing is promoted to shadow, the lowest rung")
        if any(each.first is None for each in self.sample[:-1]) or (self.sample and self.sample[-1].first is not None):
            raise ValueError("the last sample share, and only the last, stands without `first`")
        return self

    def begins(self, type: str) -> Rung:
        """The rung on which a type begins: shadow where nobody said otherwise."""
        return Rung(self.start.get(type, "shadow"))

    def demands(self, rung: Rung) -> Demands | None:
        """None where the file does not say what the rung demands: then nothing reaches it."""
        return self.promote.get(str(rung))  # type: ignore[call-overload, no-any-return]


def load_ladder(company: Path, types: Sequence[str]) -> tuple[Ladder, list[str]]:
    """The ladder of a company's folder and every problem of its file. Without a file every type stays in shadow."""
    path = company / FILE
    if not path.is_file():
        return Ladder(), []
    try:
        ladder = Ladder.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return Ladder(), [f"{FILE}: cannot be read: {error}"]
    except ValidationError as error:
        return Ladder(), [f"{FILE}: {'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
    named = [*ladder.start, *ladder.scorecard.never]
    return ladder, [f"{FILE}: there is no ticket type {name!r}" for name in dict.fromkeys(named) if name not in types]
