"""The table of measures: title, unit, limits and why the limits are what they are. Judges values; measures nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from training.readiness.records import Example, Limit, Measure, Unit, Verdict


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One row of the table. `weight` says how much mending it is worth, 0..1, before the share of tickets it touches."""

    group: str
    title: str
    unit: Unit
    limit: Limit
    weight: float
    why: str


def _rule(group: str, title: str, unit: Unit, good: float, stop: float | None, better: Any, weight: float, why: str) -> Rule:
    return Rule(group=group, title=title, unit=unit, limit=Limit(good=good, stop=stop, better=better), weight=weight, why=why)


UP, DOWN = "higher", "lower"
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "labeled_tickets": _rule("Volume", "Labeled tickets", "tickets", 10_000, 200, UP, 0.8,
              "10,000 over 18 to 24 months is the reference; below 200 nothing can be tested"),
        "tickets_per_week": _rule("Volume", "Tickets a week", "a week", 50, None, UP, 0.4,
              "under 50 a week, automation does not pay for its care"),
        "months_covered": _rule("Volume", "Time covered", "months", 18, None, UP, 0.3,
              "18 to 24 months hold every season; older tickets speak of systems that are gone"),
        "dated": _rule("Volume", "Tickets with a creation time", "share", 0.95, None, UP, 0.5,
              "without times the split by time and the look for drift are blind"),
        "labels_missing": _rule("Labels", "Tickets without a label", "share", 0.05, 0.9, DOWN, 0.6,
              "unlabeled tickets teach nothing"),
        "classes": _rule("Labels", "Classes with 20 tickets or more", "classes", 2, 1, UP, 1.0,
              "one class leaves nothing to decide"),
        "rare_classes": _rule("Labels", "Tickets in classes below 20", "share", 0.05, 0.5, DOWN, 0.5,
              "a class below 20 can be neither learned nor tested; it is folded into Others"),
        "largest_class": _rule("Labels", "Share of the largest class", "share", 0.5, 0.95, DOWN, 0.5,
              "saying the largest class always is then right as often"),
        "evenness": _rule("Labels", "Effective classes / classes", "share", 0.3, None, UP, 0.3,
              "exp(entropy) of the label mix against the number of labels; 1 is even"),
        "catch_all": _rule("Labels", "Tickets labeled Others, Misc, General", "share", 0.3, 0.8, DOWN, 0.6,
              "5 to 8 % out of scope is usual; a large rest hides types worth having"),
        "label_spelling": _rule("Labels", "Labels that differ in spelling only", "groups", 0, None, DOWN, 0.7,
              "two spellings of one type are taught as two types"),
        "conflicting_copies": _rule("Consistency", "Near-copies with different labels", "share", 0.02, 0.25, DOWN, 1.0,
              "no model can be right on both of two equal texts"),
        "label_noise": _rule("Consistency", "Likely mislabeled tickets", "share", 0.03, 0.3, DOWN, 1.0,
              "a cross-validated model and the ten nearest tickets both say another label"),
        "poor_tickets": _rule("Content", "Empty, too short or 'it is broken'", "share", 0.1, 0.7, DOWN, 0.9,
              "at 70 % the form must be mended before a model is made"),
        "specifics": _rule("Content", "Tickets with an error code, time, id or version", "share", 0.2, None, UP, 0.3,
              "what tells causes apart and fills the arguments of an action"),
        "answers": _rule("Content", "Tickets with a resolution or answer", "share", 0.5, None, UP, 0.2,
              "classification does without; replies and runbooks do not"),
        "distinct_phrases": _rule("Variety", "Distinct three-word phrases", "share", 0.3, 0.05, UP, 0.6,
              "of 20,000 phrases drawn; real requests vary"),
        "near_copies": _rule("Variety", "Tickets with an earlier near-copy", "share", 0.3, 0.9, DOWN, 0.5,
              "copies count once: they make the volume look larger than it is"),
        "templates": _rule("Variety", "Form letters and batch alerts", "share", 0.3, 0.9, DOWN, 0.4,
              "many copies of one text: a rule handles them better than a model"),
        "poor_clusters": _rule("Variety", "Tickets in poor clusters", "share", 0.2, 0.7, DOWN, 0.6,
              "clusters of empty talk, of mixed labels"),
        "languages": _rule("Variety", "Tickets not in English", "share", 0.1, None, DOWN, 0.5,
              "the bundled sentence encoder reads English best"),
        "personal_data": _rule("Personal data", "Tickets with personal data", "share", 0.05, None, DOWN, 0.2,
              "`train fit` redacts it; less of it in the export is still better"),
        "class_drift": _rule("Time", "Change of the class mix", "share", 0.15, None, DOWN, 0.5,
              "total variation between the older and the newer half, beyond chance"),
        "accuracy": _rule("What to expect", "Accuracy of a quick baseline", "share", 0.85, None, UP, 0.3,
              "embedding + logistic regression, cross-validated; near-copies kept together"),
        "skill": _rule("What to expect", "Better than saying the largest class", "share", 0.4, 0.05, UP, 0.8,
              "(accuracy - largest class) / (1 - largest class): do the texts tell the labels at all"),
        "automatable": _rule("What to expect", "Tickets decidable at 95 % precision", "share", 0.5, None, UP, 0.2,
              "the share that the baseline could answer while being right 95 times in 100"),
        "confused_pairs": _rule("What to expect", "Won by merging the five most confused pairs", "share", 0.03, None, DOWN, 0.7,
              "types that even people mix up are better one type"),
    }
)  # fmt: skip


NUMBERS: Mapping[Unit, str] = MappingProxyType(
    {
        "share": "{:.1%}",
        "tickets": "{:,.0f}",
        "a week": "{:,.1f} a week",
        "months": "{:.1f} months",
        "classes": "{:,.0f}",
        "groups": "{:,.0f}",
    }
)


def number(unit: Unit, value: float | None) -> str:
    """A value as its unit is written; a dash where there is none."""
    return "-" if value is None else NUMBERS[unit].format(value)


def wanted(unit: Unit, limit: Limit) -> str:
    """Limits in words."""
    sign = "at least" if limit.better == "higher" else "at most"
    stop = "" if limit.stop is None else f"; stop at {number(unit, limit.stop)}"
    return f"{sign} {number(unit, limit.good)}{stop}"


def found(
    key: str,
    value: float,
    meaning: str,
    fix: str = "",
    *,
    affected: float = 0.0,
    examples: Sequence[Example] = (),
    details: Mapping[str, Any] | None = None,
) -> Measure:
    """The measure `key` with its value judged. A good one keeps `fix` only as advice: it never becomes a top fix."""
    rule = RULES[key]
    return Measure(
        key=key, group=rule.group, title=rule.title, value=value, unit=rule.unit, limit=rule.limit, verdict=rule.limit.judge(value),
        meaning=meaning, fix=fix, affected=affected, examples=tuple(examples), details=details or {},
    )  # fmt: skip


def unknown(key: str, why: str, fix: str = "") -> Measure:
    """The measure `key`, which this file gives no ground to judge."""
    rule = RULES[key]
    return Measure(
        key=key, group=rule.group, title=rule.title, value=None, unit=rule.unit, limit=rule.limit, verdict=Verdict.UNKNOWN,
        meaning=why, fix=fix,
    )  # fmt: skip
