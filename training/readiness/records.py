"""What a check of an export says: measures, verdicts, examples, a report, and its JSON. Knows no file and no rule.

Schema `cloister.readiness/1` of the JSON: `{schema, file, sha256, tickets, labeled, compared, encoder, verdict, summary, fixes:
[{measure, sentence, because}], measures: [{key, group, title, value, unit, limit: {good, stop, better}, verdict, meaning, fix, affected,
examples: [{note, tickets: [{id, label, text}]}], details}], redaction, took_s}`. Verdicts are `good`, `improve`, `stop` and, for a
measure only, `unknown` (the file lacks what it needs). `value` is null where unknown; shares are 0..1. Fields are added, never renamed,
under the same schema number; the keys of `measures` and of their `details` are part of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

SCHEMA = "cloister.readiness/1"
Unit = Literal["tickets", "a week", "months", "share", "classes", "groups"]


class Verdict(StrEnum):
    GOOD = "good"
    IMPROVE = "improve"
    STOP = "stop"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Good from `good` on; stop from `stop` on, where there is one. `better` says in which direction."""

    good: float
    stop: float | None = None
    better: Literal["higher", "lower"] = "lower"

    def judge(self, value: float) -> Verdict:
        """The verdict on a value; a value on the border has the verdict of the border."""
        sign = 1 if self.better == "higher" else -1
        if self.stop is not None and value * sign <= self.stop * sign:
            return Verdict.STOP
        return Verdict.GOOD if value * sign >= self.good * sign else Verdict.IMPROVE


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A ticket as it may be shown: redacted and cut."""

    id: str
    label: str | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Example:
    """Rows of the export that show what a measure means. `tickets` is filled in by redaction, and only there."""

    rows: tuple[int, ...]
    note: str = ""  # labels and numbers; never words of a ticket
    tickets: tuple[Shown, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing measured, what it means and what to do."""

    key: str
    group: str
    title: str
    value: float | None
    unit: Unit
    limit: Limit
    verdict: Verdict
    meaning: str
    fix: str  # empty where nothing is to be done
    affected: float = 0.0  # 0..1, share of tickets that the fix would touch; orders the fixes
    examples: tuple[Example, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Fix:
    """One of the three most valuable things to do."""

    measure: str
    sentence: str
    because: str  # what was found, and what is wanted


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole answer."""

    file: str
    sha256: str
    tickets: int
    labeled: int
    compared: int  # tickets that were compared by their vectors
    encoder: str
    verdict: Verdict
    summary: str
    fixes: tuple[Fix, ...]
    measures: tuple[Measure, ...]
    redaction: str
    took_s: float

    def to_json(self) -> dict[str, Any]:
        """As documented at the top of this file."""
        found = asdict(self)
        measures = [_without_rows(measure) for measure in found["measures"]]
        return {"schema": SCHEMA, **found, "measures": measures}

    def measure(self, key: str) -> Measure:
        return next(measure for measure in self.measures if measure.key == key)


def _without_rows(measure: dict[str, Any]) -> dict[str, Any]:
    examples: Sequence[dict[str, Any]] = measure["examples"]
    return {**measure, "examples": [{"note": each["note"], "tickets": each["tickets"]} for each in examples]}
