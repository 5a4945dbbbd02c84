"""Has live traffic moved away from what a model learned? Puts the measures together, with what to do. Knows decisions and a reference."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from orchestrator.domain.triage import OTHERS
from orchestrator.privacy.redact import redact
from training.feedback import measures
from training.feedback.decisions import Decision, Ending, of_model
from training.feedback.measures import FEWEST, Measure, Verdict
from training.feedback.prior import Shift, estimate_shift
from training.feedback.reference import Reference
from training.feedback.reliability import TARGET, TypeReliability, reliability
from training.feedback.words import Cluster, clusters, new_words

RECENT_DAYS = 28
MOST_TEXTS = 2000  # newest texts whose words are looked at
HISTOGRAM_BINS = 20
REMEDIES: Mapping[str, str] = {
    "nothing": "Nothing to do.",
    "recalibrate": "Recalibrate: cloister train recalibrate --model {model} --from-feedback",
    "retrain": "Train again with what people said: cloister train fit --from-feedback --tickets FILE --name {plain}",
    "new type": "Look at the groups of abstained tickets: a new type may have come up. Add it to the taxonomy, label some, train again.",
}
ORDER = ("new type", "retrain", "recalibrate", "nothing")
Progress = Callable[[str, int, int], None]


def drift_report(
    decisions: Sequence[Decision],
    reference: Reference,
    *,
    since: datetime,
    now: datetime,
    recent_days: int = RECENT_DAYS,
    target: float = TARGET,
    progress: Progress = lambda what, done, of: None,
) -> dict[str, Any]:
    """The whole report, JSON-ready. Decisions of the last `recent_days` are held against the training data and the decisions before."""
    own, strangers = of_model(decisions, reference.full_name)
    start = now - timedelta(days=recent_days)
    recent, earlier = [d for d in own if d.at >= start], [d for d in own if d.at < start]
    progress("measures", 0, 3)
    found = _measures(recent, earlier, reference)
    progress("measures", 1, 3)
    texts = _redacted(recent[-MOST_TEXTS:])
    words = new_words(list(texts.values()), reference.texts)
    measured = measures.unseen(words.share, words.low, words.high, words.expected, tickets=words.tickets) if words else None
    found.append(measured if measured and len(texts) >= FEWEST else measures.unknown("unseen words", len(texts)))
    progress("measures", 2, 3)
    groups = _abstained(recent, texts)
    progress("measures", 3, 3)
    shift = _shift(recent, reference)
    table = reliability(own, target=target)
    suspects = [group for group in groups if group.suspects_new_type]
    remedy = _remedy(found, suspects)
    return {
        "model": reference.full_name,
        "made_at": now.isoformat(),
        "since": since.isoformat(),
        "recent_since": start.isoformat(),
        "tickets": {"recent": len(recent), "earlier": len(earlier), "of_another_model": strangers},
        "verdict": str(_worst(found, suspects)),
        "remedy": remedy,
        "do": REMEDIES[remedy].format(model=reference.full_name, plain=reference.full_name.partition("@")[0]),
        "measures": [asdict(measure) | {"verdict": str(measure.verdict)} for measure in found],
        "mix": _mix_table(recent, earlier, reference, shift),
        "shift": None if shift is None else {"p_value": shift.p_value, "tickets": shift.tickets},
        "overrides": _overrides_by_type(recent),
        "reliability": {"target": target, "types": [_as_record(row) for row in table]},
        "weeks": weeks(own),
        "days": days(own),
        "confidence": {"recent": _histogram(recent), "earlier": _histogram(earlier)},
        "stages": dict(Counter(d.stage for d in recent)),
        "languages": dict(Counter(d.language for d in recent).most_common()),
        "new_words": None if words is None else asdict(words),
        "abstained_groups": [asdict(group) | {"suspects_new_type": group.suspects_new_type} for group in groups],
        "training_counts_from": reference.counted,
    }


def _measures(recent: Sequence[Decision], earlier: Sequence[Decision], reference: Reference) -> list[Measure]:
    now, before = (Counter(d.standing for d in part) for part in (recent, earlier))
    judged = [d for d in recent if d.decided and d.ending in (Ending.GOOD, Ending.WRONG)]
    decided = [d for d in recent if d.decided and d.ending is not Ending.OPEN]
    trained = "mix against training"
    return [
        measures.mix(trained, now, reference.counts, against=reference.counted) if reference.counts else _shares_unknown(trained),
        measures.mix("mix against before", now, before, against="the decisions before"),
        measures.confidence([d.confidence for d in recent], [d.confidence for d in earlier]),
        measures.abstention([d.abstained for d in recent], [d.abstained for d in earlier]),
        measures.calibration([d.confidence for d in judged], [d.ending is Ending.GOOD for d in judged]),
        measures.overrides(sum(d.corrected_to is not None for d in decided), len(decided)),
    ]


def _shares_unknown(name: str) -> Measure:
    says = "The model's folder does not tell how many tickets of each type it was trained on."
    return Measure(name=name, value=None, verdict=Verdict.UNKNOWN, says=says)


def _remedy(found: Sequence[Measure], suspects: Sequence[Cluster]) -> str:
    wanted = {measure.remedy for measure in found if measure.verdict is Verdict.ACT}
    if suspects:
        wanted.add("new type")
    return next((remedy for remedy in ORDER if remedy in wanted), "nothing")


def _worst(found: Sequence[Measure], suspects: Sequence[Cluster]) -> Verdict:
    there = {measure.verdict for measure in found} | ({Verdict.WATCH} if suspects else set())
    if there == {Verdict.UNKNOWN}:
        return Verdict.UNKNOWN
    return next(verdict for verdict in (Verdict.ACT, Verdict.WATCH, Verdict.STABLE) if verdict in there)


# --- tables ---------------------------------------------------------------------------------------------------------------


def _mix_table(
    recent: Sequence[Decision], earlier: Sequence[Decision], reference: Reference, shift: Shift | None
) -> list[dict[str, Any]]:
    now, before = (Counter(d.standing for d in part) for part in (recent, earlier))
    trained = sum(reference.counts.values())
    estimated = dict(zip(reference.classes, shift.after.tolist(), strict=True)) if shift else {}
    names = sorted({*now, *before, *reference.counts}, key=lambda name: (-now[name], name))
    return [
        {
            "category": name,
            "recent": now[name] / max(len(recent), 1),
            "earlier": before[name] / len(earlier) if earlier else None,
            "trained": reference.counts.get(name, 0) / trained if trained else None,
            "estimated": estimated.get(name),  # share by expectation and maximization, corrected for what is mistaken for what
            "tickets": now[name],
        }
        for name in names
    ]


def _shift(recent: Sequence[Decision], reference: Reference) -> Shift | None:
    """From the alternatives that were kept: what they leave over is spread over the other types as in training."""
    counts = np.array([reference.counts.get(name, 0) for name in reference.classes], float)
    if len(recent) < FEWEST or not counts.sum():
        return None
    return estimate_shift(posteriors(recent, reference.classes, counts), counts)


def posteriors(decisions: Sequence[Decision], classes: Sequence[str], counts: np.ndarray) -> np.ndarray:
    """[n, classes] from each decision's alternatives."""
    place = {name: index for index, name in enumerate(classes)}
    prior = (counts + 0.5) / (counts + 0.5).sum()
    out = np.zeros((len(decisions), len(classes)))
    for row, decision in zip(out, decisions, strict=True):
        for name, share in decision.alternatives:
            if name in place:
                row[place[name]] = share
        rest = np.where(row > 0, 0.0, prior)
        row += max(1.0 - float(row.sum()), 0.0) * rest / max(float(rest.sum()), 1e-12)
    scaled: np.ndarray = out / np.maximum(out.sum(axis=1, keepdims=True), 1e-12)
    return scaled


def _overrides_by_type(recent: Sequence[Decision]) -> list[dict[str, Any]]:
    decided = [d for d in recent if d.decided and d.ending is not Ending.OPEN]
    totals = Counter(d.category for d in decided)
    rows = []
    for name, total in totals.most_common():
        moved = Counter(d.corrected_to for d in decided if d.category == name and d.corrected_to)
        measure = measures.overrides(sum(moved.values()), total, name=name)
        kept = {"category": name, "tickets": total, "overridden": sum(moved.values()), "to": dict(moved.most_common(3))}
        rows.append(kept | {"low": measure.low, "high": measure.high, "verdict": str(measure.verdict)})
    return rows


def weeks(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """One row per ISO week, oldest first."""
    return _periods(decisions, lambda d: (d.at - timedelta(days=d.at.weekday())).date().isoformat(), "week_of")


def days(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """One row per day (UTC), oldest first, with its mix of types."""
    by_day: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        by_day[decision.at.date().isoformat()].append(decision)
    table = _periods(decisions, lambda d: d.at.date().isoformat(), "day")
    return [row | {"mix": dict(Counter(d.standing for d in by_day[row["day"]]).most_common())} for row in table]


def _periods(decisions: Sequence[Decision], key: Callable[[Decision], str], name: str) -> list[dict[str, Any]]:
    grouped: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        grouped[key(decision)].append(decision)
    return [{name: period, **_period(part)} for period, part in sorted(grouped.items())]


def _period(part: Sequence[Decision]) -> dict[str, Any]:
    decided = [d for d in part if d.decided]
    return {
        "tickets": len(part),
        "abstained": sum(d.abstained for d in part) / len(part),
        "confidence": float(np.mean([d.confidence for d in part])),
        "by_head": sum(d.stage == "head" for d in part) / len(part),
        "overridden": sum(d.corrected_to is not None for d in decided) / len(decided) if decided else None,
        "others": sum(d.standing == OTHERS for d in part) / len(part),
    }


def _histogram(part: Sequence[Decision]) -> list[int]:
    counts, _ = np.histogram([d.confidence for d in part], bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    return [int(count) for count in counts]


def _as_record(row: TypeReliability) -> dict[str, Any]:
    return asdict(row) | {"handling": str(row.handling)}


# --- texts ----------------------------------------------------------------------------------------------------------------


def _redacted(part: Sequence[Decision]) -> dict[str, str]:
    """id -> text with personal data replaced."""
    return {decision.id: redact(decision.text).text for decision in part}


def _abstained(recent: Sequence[Decision], texts: Mapping[str, str]) -> tuple[Cluster, ...]:
    left = [d for d in recent if d.abstained and d.id in texts]
    mine = {d.id for d in left}
    others = [text for ticket, text in texts.items() if ticket not in mine]
    return clusters([d.id for d in left], [texts[d.id] for d in left], [d.corrected_to for d in left], background=others)
