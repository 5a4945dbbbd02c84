"""Figures of merit with their uncertainty. Knows arrays of judgments; knows no tickets, no models and no files.

Words: `right` [n] bool, a decision was right; `confidence` [n] in 0..1, what was said of it beforehand; `level`, of a confidence
interval. One-sided bounds hold with probability `level`; intervals are two-sided.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, binomtest, norm

ECE_BINS = 15


@dataclass(frozen=True, kw_only=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Bin:
    """One bar of a reliability plot."""

    low: float
    high: float
    count: int
    confidence: float  # mean of what was said
    right: float  # share that was right


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The largest share of tickets, most confident first, whose precision reaches a target on these tickets."""

    share: float
    threshold: float  # confidence from which on; above 1 where no share reaches the target
    precision: float
    lower: float  # one-sided lower bound of the precision (Clopper-Pearson); the threshold was chosen on the same tickets
    count: int


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Two ways of deciding on the same tickets."""

    only_first: int  # tickets that only the first got right
    only_second: int
    p_value: float  # exact, two-sided


# --- rates -------------------------------------------------------------------------------------------------------------


def accuracy(targets: np.ndarray, chosen: np.ndarray) -> float:
    """Share of equal entries of two [n] arrays; 0 of none."""
    return float(np.mean(np.asarray(targets) == np.asarray(chosen))) if len(targets) else 0.0


def macro_f1(targets: np.ndarray, chosen: np.ndarray) -> float:
    """Mean over the classes that occur in either array of F1 = 2 TP / (2 TP + FP + FN)."""
    targets, chosen = np.asarray(targets), np.asarray(chosen)
    classes = np.unique(np.concatenate([targets, chosen]))
    if not len(classes):
        return 0.0
    found = [(2 * np.sum((targets == c) & (chosen == c))) / (np.sum(targets == c) + np.sum(chosen == c)) for c in classes]
    return float(np.mean(found))


def wilson(count: int, total: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share."""
    if not total:
        return Interval(low=0.0, high=1.0)
    z = float(norm.ppf(0.5 + level / 2))
    share = count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Interval(low=max(0.0, float(middle - half)), high=min(1.0, float(middle + half)))


def lower_bound(right: int, total: int, *, level: float = 0.95) -> float:
    """One-sided lower bound of a share after `right` of `total` (Clopper-Pearson, exact)."""
    return 0.0 if right <= 0 or total <= 0 else float(beta.ppf(1 - level, right, total - right + 1))


def upper_bound(wrong: int, total: int, *, level: float = 0.95) -> float:
    """One-sided upper bound of an error rate after `wrong` of `total` (Clopper-Pearson, exact)."""
    return 1.0 if wrong >= total else float(beta.ppf(level, wrong + 1, total - wrong))


def bootstrap(
    statistic: Callable[..., float],
    *columns: np.ndarray,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    clusters: np.ndarray | None = None,
) -> Interval:
    """Percentile interval of `statistic(*columns)`: rows are drawn again with their place in every column kept (paired).

    With `clusters` [n] whole clusters are drawn, because near-copies are not independent.
    """
    columns = tuple(np.asarray(column) for column in columns)
    random = np.random.default_rng(seed)
    members = _members(clusters) if clusters is not None else None
    count = len(members) if members is not None else len(columns[0])
    if not count:
        return Interval(low=0.0, high=0.0)
    values = np.empty(draws)
    for draw in range(draws):
        chosen = random.integers(0, count, count)
        rows = np.concatenate([members[i] for i in chosen]) if members is not None else chosen
        values[draw] = statistic(*(column[rows] for column in columns))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high))


def _members(clusters: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(clusters, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(np.asarray(clusters)[order])) + 1)


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """The exact test (binomial on the tickets on which the two differ)."""
    first, second = np.asarray(first_right, bool), np.asarray(second_right, bool)
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    differ = only_first + only_second
    p_value = float(binomtest(only_first, differ, 0.5).pvalue) if differ else 1.0
    return McNemar(only_first=only_first, only_second=only_second, p_value=p_value)


# --- calibration -------------------------------------------------------------------------------------------------------


def reliability(confidence: np.ndarray, right: np.ndarray, *, bins: int = ECE_BINS, equal_mass: bool = False) -> list[Bin]:
    """The bars of a reliability plot; empty bins of equal width are left out."""
    confidence, right = np.asarray(confidence, float), np.asarray(right, float)
    edges = _edges(confidence, bins, equal_mass)
    found = []
    for number, rows in enumerate(_binned(confidence, edges, equal_mass, bins)):
        if len(rows):
            low, high = (confidence[rows].min(), confidence[rows].max()) if equal_mass else (edges[number], edges[number + 1])
            said, was = confidence[rows].mean(), right[rows].mean()
            found.append(Bin(low=float(low), high=float(high), count=len(rows), confidence=float(said), right=float(was)))
    return found


def ece(confidence: np.ndarray, right: np.ndarray, *, bins: int = ECE_BINS, equal_mass: bool = False) -> float:
    """Expected calibration error: mean over tickets of |mean confidence - share right| of their bin.

    Bins of equal width (Guo et al. 2017), or of equally many tickets.
    """
    total = len(np.asarray(confidence))
    bars = reliability(confidence, right, bins=bins, equal_mass=equal_mass)
    return float(sum(bar.count * abs(bar.confidence - bar.right) for bar in bars) / total) if total else 0.0


def ece_band(
    confidence: np.ndarray,
    *,
    bins: int = ECE_BINS,
    equal_mass: bool = False,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Where the ECE of a perfectly calibrated classifier with these very confidences falls: `right` ~ Bernoulli(confidence).

    Few tickets give an ECE above 0 by chance alone; one that is at most `high` is no evidence of miscalibration. `low` is 0:
    the band is one-sided at `level`.
    """
    confidence = np.asarray(confidence, float)
    if not len(confidence):
        return Interval(low=0.0, high=0.0)
    number = _bin_numbers(confidence, bins, equal_mass)
    said = np.bincount(number, weights=confidence, minlength=bins)
    random = np.random.default_rng(seed)
    values = np.empty(draws)
    for draw in range(draws):
        was = np.bincount(number, weights=random.random(len(confidence)) < confidence, minlength=bins)
        values[draw] = np.abs(said - was).sum() / len(confidence)
    return Interval(low=0.0, high=float(np.quantile(values, level)))


def _edges(confidence: np.ndarray, bins: int, equal_mass: bool) -> np.ndarray:
    return np.zeros(bins + 1) if equal_mass else np.linspace(0, 1, bins + 1)


def _bin_numbers(confidence: np.ndarray, bins: int, equal_mass: bool) -> np.ndarray:
    """[n] which bin each ticket falls into. Width: (low, high], as usual; a confidence of 0 is in the first."""
    if not equal_mass:
        return np.clip(np.ceil(confidence * bins - 1e-12).astype(int) - 1, 0, bins - 1)
    number = np.empty(len(confidence), int)
    for index, rows in enumerate(np.array_split(np.argsort(confidence, kind="stable"), bins)):
        number[rows] = index
    return number


def _binned(confidence: np.ndarray, edges: np.ndarray, equal_mass: bool, bins: int) -> list[np.ndarray]:
    number = _bin_numbers(confidence, bins, equal_mass)
    return [np.flatnonzero(number == index) for index in range(bins)]


# --- ranking -----------------------------------------------------------------------------------------------------------


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive has a higher score than a negative, ties half (Mann-Whitney); 0.5 where one kind is absent."""
    score, positive = np.asarray(score, float), np.asarray(positive, bool)
    many, few = int(positive.sum()), int((~positive).sum())
    if not many or not few:
        return 0.5
    _, places, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coverage [m], error rate [m]) as tickets are added from the most confident on; tied tickets come in together."""
    confidence, right = np.asarray(confidence, float), np.asarray(right, float)
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1) if len(order) else np.zeros(0, int)
    counts = ends + 1
    wrong = np.cumsum(1 - right[order])[ends]
    return counts / max(1, len(order)), wrong / counts


def aurc(confidence: np.ndarray, right: np.ndarray) -> float:
    """Area under the risk-coverage curve (Geifman and El-Yaniv 2017): mean error rate over all coverages; less is better."""
    coverage, risk = risk_coverage(confidence, right)
    return float(np.sum(np.diff(coverage, prepend=0.0) * risk))


def coverage_at(confidence: np.ndarray, right: np.ndarray, precision: float, *, level: float = 0.95) -> Coverage:
    """See Coverage. A figure of these tickets; what may be promised of others is `training.head.calibrate.act_threshold`."""
    confidence, right = np.asarray(confidence, float), np.asarray(right, bool)
    coverage, risk = risk_coverage(confidence, right)
    good = np.flatnonzero(1 - risk >= precision - 1e-12)
    if not len(good):
        return Coverage(share=0.0, threshold=1.01, precision=0.0, lower=0.0, count=0)
    last = int(good[-1])
    count = round(float(coverage[last]) * len(confidence))
    threshold = float(np.sort(confidence)[::-1][count - 1])
    was = int(right[confidence >= threshold].sum())
    lower = lower_bound(was, count, level=level)
    return Coverage(share=float(coverage[last]), threshold=threshold, precision=was / count, lower=lower, count=count)
