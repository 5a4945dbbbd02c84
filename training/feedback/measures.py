"""Has it moved? One number per question, with what chance alone would give, and a verdict by a table. Arrays and counts only.

Population stability index: sum (p - q) ln(p / q), half a ticket added to each type; below 0.1 is usually called stable, above 0.25 a
shift. Jensen-Shannon divergence in bits, judged against samples of the same size drawn from the reference. Kolmogorov-Smirnov: the
largest distance of two distribution functions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.stats import chi2_contingency, ks_2samp

from training.metrics import wilson

CHANCE = 0.01  # a movement that chance explains this easily is none
FEWEST = 100  # tickets on each side, below which nothing is said
DRAWS = 500


class Verdict(StrEnum):
    UNKNOWN = "unknown"  # too few tickets
    STABLE = "stable"
    WATCH = "watch"
    ACT = "act"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One answer. `low`, `high`: interval of the value; `reference`: the value it is held against."""

    name: str
    value: float | None
    verdict: Verdict
    says: str
    reference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    remedy: str = "nothing"  # when the verdict is act: recalibrate, retrain, new type


# (watch from, act from), in the unit of the measure
LIMITS: Mapping[str, tuple[float, float]] = {
    "psi": (0.1, 0.25),
    "confidence": (0.1, 0.2),  # distance of distribution functions
    "abstention": (0.05, 0.10),  # difference of shares
    "calibration": (0.03, 0.08),  # said minus right
    "overrides": (0.05, 0.10),  # lower bound of the share
    "unseen": (0.03, 0.10),  # share above what was to be expected
}


def level(name: str, size: float, *, beyond_chance: bool = True) -> Verdict:
    """The verdict of a movement of that size."""
    watch, act = LIMITS[name]
    if not beyond_chance or size < watch:
        return Verdict.STABLE
    return Verdict.ACT if size >= act else Verdict.WATCH


def unknown(name: str, count: int, other: int | None = None) -> Measure:
    have = f"{count} tickets" if other is None else f"{count} tickets against {other}"
    return Measure(name=name, value=None, verdict=Verdict.UNKNOWN, says=f"Too few to say: {have}, {FEWEST} are needed.")


# --- mixes of types ------------------------------------------------------------------------------------------------------


def psi(now: np.ndarray, before: np.ndarray) -> float:
    """From counts [k] of the same types."""
    p, q = (now + 0.5) / (now + 0.5).sum(), (before + 0.5) / (before + 0.5).sum()
    return float(((p - q) * np.log(p / q)).sum())


def jensen_shannon(now: np.ndarray, before: np.ndarray) -> float:
    """0..1, in bits, from counts [k]."""
    p, q = now / max(now.sum(), 1), before / max(before.sum(), 1)
    middle = (p + q) / 2

    def towards(x: np.ndarray) -> float:
        there = x > 0
        return float((x[there] * np.log2(x[there] / middle[there])).sum())

    return (towards(p) + towards(q)) / 2


def chance_of(now: np.ndarray, before: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """(how often two samples of these sizes from one mix lie as far apart as these by Jensen-Shannon, the stability index that
    chance alone exceeds in one of twenty)."""
    random, pooled = np.random.default_rng(seed), (now + before) / (now + before).sum()
    seen = jensen_shannon(now, before)
    pairs = [(random.multinomial(int(now.sum()), pooled), random.multinomial(int(before.sum()), pooled)) for _ in range(draws)]
    beyond = sum(jensen_shannon(a, b) >= seen for a, b in pairs)
    return float((1 + beyond) / (draws + 1)), float(np.quantile([psi(a, b) for a, b in pairs], 0.95))


def mix(name: str, now: Mapping[str, int], before: Mapping[str, int], *, against: str, remedy: str = "recalibrate") -> Measure:
    """Two mixes of types, as counts by name."""
    names = sorted({*now, *before})
    a, b = (np.array([counts.get(each, 0) for each in names], float) for counts in (now, before))
    if a.sum() < FEWEST or b.sum() < FEWEST:
        return unknown(name, int(a.sum()), int(b.sum()))
    value, (p_value, by_chance) = psi(a, b), chance_of(a, b)
    verdict = level("psi", value, beyond_chance=p_value <= CHANCE)
    moved = sorted(names, key=lambda each: -abs(now.get(each, 0) / a.sum() - before.get(each, 0) / b.sum()))[:3]
    shown = ", ".join(f"{each} {before.get(each, 0) / b.sum():.0%} to {now.get(each, 0) / a.sum():.0%}" for each in moved)
    chi = float(chi2_contingency(np.vstack([a, b])[:, a + b > 0]).pvalue)
    says = f"PSI {value:.3f} against {against} (chance gives up to {by_chance:.3f}); most moved: {shown}. Chi-square p {chi:.2g}."
    return Measure(name=name, value=value, reference=by_chance, verdict=verdict, says=says, p_value=p_value, remedy=remedy)


# --- confidence, abstention, corrections -----------------------------------------------------------------------------------


def confidence(now: Sequence[float], before: Sequence[float]) -> Measure:
    if min(len(now), len(before)) < FEWEST:
        return unknown("confidence", len(now), len(before))
    found = ks_2samp(now, before)
    distance, p_value = float(found.statistic), float(found.pvalue)
    means = f"mean {np.mean(before):.2f} before, {np.mean(now):.2f} now"
    return Measure(
        name="confidence",
        value=distance,
        p_value=p_value,
        verdict=level("confidence", distance, beyond_chance=p_value <= CHANCE),
        says=f"Kolmogorov-Smirnov distance {distance:.3f} (p {p_value:.2g}); {means}.",
        remedy="recalibrate",
    )


def abstention(now: Sequence[bool], before: Sequence[bool]) -> Measure:
    if min(len(now), len(before)) < FEWEST:
        return unknown("abstention", len(now), len(before))
    share, earlier, interval = float(np.mean(now)), float(np.mean(before)), wilson(int(np.sum(now)), len(now))
    table = [[int(np.sum(x)), len(x) - int(np.sum(x))] for x in (now, before)]
    p_value = float(chi2_contingency(table).pvalue) if any(row[0] for row in table) and any(row[1] for row in table) else 1.0
    return Measure(
        name="abstention",
        value=share,
        reference=earlier,
        low=interval.low,
        high=interval.high,
        p_value=p_value,
        verdict=level("abstention", abs(share - earlier), beyond_chance=p_value <= CHANCE),
        says=f"{share:.1%} now ({interval.low:.1%} to {interval.high:.1%}), {earlier:.1%} before.",
        remedy="retrain" if share > earlier else "recalibrate",
    )


def overrides(corrected: int, decided: int, *, name: str = "overrides") -> Measure:
    """Share of decided tickets to which a person gave another type."""
    if decided < FEWEST and name == "overrides":
        return unknown(name, decided)
    interval = wilson(corrected, decided)
    value = corrected / decided if decided else None
    return Measure(
        name=name,
        value=value,
        low=interval.low,
        high=interval.high,
        verdict=level("overrides", interval.low),
        says=f"{corrected} of {decided} decided tickets were given another type ({interval.low:.1%} to {interval.high:.1%}).",
        remedy="retrain",
    )


def calibration(said: Sequence[float], right: Sequence[bool]) -> Measure:
    """Mean confidence of judged decisions minus the share of them that was right."""
    if len(said) < FEWEST:
        return unknown("calibration", len(said))
    gaps = np.asarray(said, float) - np.asarray(right, float)
    gap, error = float(gaps.mean()), float(gaps.std(ddof=1) / np.sqrt(len(gaps)))
    low, high = gap - 1.96 * error, gap + 1.96 * error
    word = "too sure" if gap > 0 else "not sure enough"
    return Measure(
        name="calibration",
        value=gap,
        reference=0.0,
        low=low,
        high=high,
        verdict=level("calibration", abs(gap), beyond_chance=low > 0 or high < 0),
        says=f"Said {np.mean(said):.1%}, right {np.mean(right):.1%} of {len(said)} judged decisions: {word} by {abs(gap):.1%}.",
        remedy="recalibrate",
    )


def unseen(share: float, low: float, high: float, expected: float, *, tickets: int) -> Measure:
    """Share of words that training never saw; `expected` of any new ticket (Good-Turing)."""
    return Measure(
        name="unseen words",
        value=share,
        reference=expected,
        low=low,
        high=high,
        verdict=level("unseen", share - expected, beyond_chance=low > expected),
        says=f"{share:.1%} of the words of {tickets} tickets are new ({low:.1%} to {high:.1%}); {expected:.1%} were to be expected.",
        remedy="retrain",
    )
