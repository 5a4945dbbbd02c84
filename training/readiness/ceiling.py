"""What to expect: a quick baseline, cross-validated, what it would reach with more tickets, and which classes it mixes up.

Embedding + logistic regression, five folds (three from 5,000 tickets on), near-copies in one fold. The error with twice as many tickets
is read off a power law through the errors with half of them and all of them: e(2n) = e(n)^2 / e(n/2).
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from training.metrics import coverage_at, macro_f1, wilson
from training.readiness.limits import found, unknown
from training.readiness.records import Example, Measure
from training.readiness.vectors import Progress, no_progress

LEAST = 10  # tickets of a class that the baseline is asked about
PAIRS = 5  # most confused, whose merging is tried
PRECISION = 0.95
BLIND = 0.1  # skill below which the baseline's mistakes say nothing about the labels
HARDLY_TOLD = "The baseline hardly tells the labels, so its doubts say nothing about single tickets or pairs of classes."
TOO_FEW = f"Fewer than two classes have {LEAST} tickets, so no baseline can be tried."


@dataclass(frozen=True, kw_only=True, eq=False)
class Tried:
    """The baseline's answers to tickets that it had not seen. All arrays run parallel to `rows`."""

    rows: np.ndarray  # [m] int: rows of the export
    places: np.ndarray  # [m] int: their places among the vectors
    classes: tuple[str, ...]
    targets: np.ndarray  # [m] int
    probabilities: np.ndarray  # [m, classes] float32
    half: float  # accuracy when trained on half as many tickets
    newest: float | None  # accuracy on the newest fifth, trained on the older ones; None without times

    @property
    def chosen(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def accuracy(self) -> float:
        return float((self.chosen == self.targets).mean())

    @property
    def largest(self) -> float:
        """Share of the largest class: what always saying it would reach."""
        return float(np.bincount(self.targets).max() / len(self.targets))

    @property
    def skill(self) -> float:
        """0 where the baseline is no better than always saying the largest class, 1 where it is always right."""
        return max(0.0, (self.accuracy - self.largest) / max(1 - self.largest, 1e-9))


def try_baseline(
    labels: Sequence[str | None], vectors: np.ndarray, compared: np.ndarray, clusters: np.ndarray, times: Sequence[datetime | None],
    *, progress: Progress = no_progress,
) -> Tried | None:  # fmt: skip
    """Cross-validates. `vectors`, `clusters` run parallel to `compared`, rows of the export; None where there is too little."""
    counts = Counter(labels[row] for row in compared if labels[row] is not None)
    classes = tuple(sorted(label for label, count in counts.items() if label is not None and count >= LEAST))
    if len(classes) < 2:
        return None
    number = {label: index for index, label in enumerate(classes)}
    places = np.array([place for place, row in enumerate(compared) if labels[row] in number])
    rows = compared[places]
    targets = np.array([number[str(labels[row])] for row in rows])
    x, groups = vectors[places], clusters[places]
    folds = deal(targets, groups, 5 if len(rows) < 5_000 else 3)
    steps = int(folds.max()) + 3
    probabilities = np.zeros((len(rows), len(classes)), np.float32)
    for fold in range(int(folds.max()) + 1):
        test = folds == fold
        probabilities[test] = _answers(x[~test], targets[~test], x[test], len(classes))
        progress("baseline tried", fold + 1, steps)
    half = _half(x, targets, folds, len(classes))
    progress("baseline tried", steps - 1, steps)
    newest = _newest(x, targets, groups, [times[row] for row in rows], len(classes))
    progress("baseline tried", steps, steps)
    return Tried(
        rows=rows, places=places, classes=classes, targets=targets, probabilities=probabilities, half=half, newest=newest
    )  # fmt: skip


def deal(targets: np.ndarray, groups: np.ndarray, folds: int) -> np.ndarray:
    """[n] fold of each ticket: groups stay whole, classes are dealt out evenly by the class of a group's first ticket."""
    unique, first = np.unique(groups, return_index=True)
    shuffled = np.random.default_rng(0).permutation(len(unique))
    by_class = shuffled[np.argsort(targets[first[shuffled]], kind="stable")]
    fold = np.zeros(int(groups.max()) + 1, int)
    fold[unique[by_class]] = np.arange(len(unique)) % folds
    return fold[groups]


def _answers(x: np.ndarray, y: np.ndarray, asked: np.ndarray, classes: int) -> np.ndarray:
    """[asked, classes] probabilities; a class that training lacks has none."""
    out = np.zeros((len(asked), classes), np.float32)
    known = np.unique(y)
    if len(known) < 2:
        out[:, known] = 1.0
        return out
    model = LogisticRegression(C=10.0, max_iter=60, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough for a baseline
        out[:, known] = model.fit(x, y).predict_proba(asked)
    return out


def _half(x: np.ndarray, y: np.ndarray, folds: np.ndarray, classes: int) -> float:
    """Accuracy on the first fold after training on a random half of the others."""
    test, others = np.flatnonzero(folds == 0), np.flatnonzero(folds != 0)
    kept = np.random.default_rng(1).permutation(others)[: len(others) // 2]
    return float((_answers(x[kept], y[kept], x[test], classes).argmax(1) == y[test]).mean())


def _newest(x: np.ndarray, y: np.ndarray, groups: np.ndarray, times: Sequence[datetime | None], classes: int) -> float | None:
    """Accuracy on the newest fifth after training on what is older and no near-copy of it."""
    dated = [index for index, time in enumerate(times) if time is not None]
    if len(dated) < 200:
        return None
    order = sorted(dated, key=lambda index: times[index] or datetime.min)
    cut = len(order) * 4 // 5
    test = np.array(order[cut:])
    train = (
        np.array([index for index in order[:cut] if groups[index] not in set(groups[test].tolist())]) if cut else np.array([], int)
    )
    if len(np.unique(y[train])) < 2:
        return None
    return float((_answers(x[train], y[train], x[test], classes).argmax(1) == y[test]).mean())


# --- measures -------------------------------------------------------------------------------------------------------


def measure_ceiling(tried: Tried | None, languages: Sequence[str], rest: frozenset[str] = frozenset()) -> list[Measure]:
    """Four measures; `languages` of all rows of the export, `rest` the labels of everything else, which nobody would merge with."""
    if tried is None:
        fix = "Collect more labeled tickets of at least two classes."
        return [unknown(key, TOO_FEW, fix) for key in ("accuracy", "skill", "automatable", "confused_pairs")]
    return [_accuracy(tried, languages), _skill(tried), _automatable(tried), _confused(tried, rest)]


def _accuracy(tried: Tried, languages: Sequence[str]) -> Measure:
    right = tried.chosen == tried.targets
    interval = wilson(int(right.sum()), len(right))
    likely = _with_twice(tried)
    newest = "" if tried.newest is None else f" On the newest fifth, trained on what is older: {tried.newest:.1%}."
    return found(
        "accuracy", tried.accuracy,
        f"{tried.accuracy:.1%} right on unseen tickets (95 % interval {interval.low:.1%} to {interval.high:.1%}, {len(right):,} tickets, "
        f"{len(tried.classes)} classes of {LEAST} or more); about {likely:.1%} with twice as many tickets like these.{newest}",
        "Mend the labels and merge confused types first: a larger model does not know better than the labels it is taught.",
        affected=1 - tried.accuracy,
        details={
            "accuracy": tried.accuracy, "low": interval.low, "high": interval.high, "half": tried.half,
            "macro_f1": macro_f1(tried.targets, tried.chosen),
            "twice": likely, "newest": tried.newest, "tickets": len(right), "classes": len(tried.classes),
            "per_class": {
                name: {"tickets": int((tried.targets == index).sum()), "right": float(right[tried.targets == index].mean())}
                for index, name in enumerate(tried.classes)
            },
            "per_language": _per_language(tried, right, languages),
        },
    )  # fmt: skip


def _with_twice(tried: Tried) -> float:
    now, before = 1 - tried.accuracy, 1 - tried.half
    if now <= 0 or before <= 0:
        return tried.accuracy
    return 1 - now * min(1.0, now / before)


def _per_language(tried: Tried, right: np.ndarray, languages: Sequence[str]) -> dict[str, dict[str, float]]:
    of_rows = np.array([languages[row] for row in tried.rows])
    return {
        code: {"tickets": int((of_rows == code).sum()), "right": float(right[of_rows == code].mean())}
        for code, count in Counter(of_rows.tolist()).most_common(8)
        if count >= 20
    }


def _skill(tried: Tried) -> Measure:
    return found(
        "skill", tried.skill,
        f"Always saying the largest class is right for {tried.largest:.1%}; the baseline closes {tried.skill:.1%} of what is left.",
        "The texts hardly tell the labels: check that the label column is the final category, not who happened to work on the ticket.",
        affected=1 - tried.skill,
        details={"largest": tried.largest},
    )  # fmt: skip


def _automatable(tried: Tried) -> Measure:
    right = tried.chosen == tried.targets
    coverage = coverage_at(tried.probabilities.max(1), right, PRECISION)
    return found(
        "automatable", coverage.share,
        f"The {coverage.share:.1%} that the baseline is surest of are right {PRECISION:.0%} of the time; the others would go to people.",
        "Purer labels and fewer look-alike types raise this share faster than more tickets do.",
        affected=1 - coverage.share,
        details={"precision": PRECISION, "threshold": coverage.threshold},
    )  # fmt: skip


def _confused(tried: Tried, rest: frozenset[str]) -> Measure:
    if tried.skill < BLIND:
        return unknown("confused_pairs", HARDLY_TOLD)
    pairs = confused_pairs(tried, rest)[:PAIRS]
    merged = np.arange(len(tried.classes))
    for one, other, _ in pairs:
        merged[other] = one
    won = float((merged[tried.chosen] == merged[tried.targets]).mean()) - tried.accuracy
    names = [(tried.classes[one], tried.classes[other], count) for one, other, count in pairs]
    listed = "; ".join(f"{one!r} and {other!r} ({count})" for one, other, count in names)
    return found(
        "confused_pairs", won,
        f"Most confused: {listed}. With each of these pairs as one type, accuracy would be {tried.accuracy + won:.1%}."
        if names else "No two classes are confused.",
        f"Decide whether {names[0][0]!r} and {names[0][1]!r} are handled differently; if not, merge them (and so on down the list)."
        if names else "",
        affected=min(1.0, 3 * won),
        examples=[_mixed_up(tried, one, other) for one, other, _ in pairs],
        details={"pairs": [{"classes": [one, other], "tickets": count} for one, other, count in names], **_confusion(tried)},
    )  # fmt: skip


def confused_pairs(tried: Tried, rest: frozenset[str] = frozenset()) -> list[tuple[int, int, int]]:
    """(class, class, tickets) by how many tickets of either were taken for the other, most first; no class is in two pairs."""
    counts = Counter(
        (min(int(said), int(meant)), max(int(said), int(meant)))
        for said, meant in zip(tried.chosen, tried.targets, strict=True)
        if said != meant
    )
    taken = {index for index, name in enumerate(tried.classes) if name in rest}
    pairs = []
    for (one, other), count in counts.most_common():
        if count > 1 and not {one, other} & taken:
            taken |= {one, other}
            pairs.append((one, other, count))
    return pairs


def _mixed_up(tried: Tried, one: int, other: int) -> Example:
    def taken(meant: int, said: int) -> list[int]:
        return [int(row) for row in tried.rows[(tried.targets == meant) & (tried.chosen == said)][:2]]

    note = f"taken for each other: {tried.classes[one]!r} and {tried.classes[other]!r}"
    return Example(rows=tuple(taken(one, other) + taken(other, one)), note=note)


def _confusion(tried: Tried, number: int = 14) -> dict[str, object]:
    """Shares [meant][said] among the classes with most errors."""
    wrong = tried.chosen != tried.targets
    errors = np.bincount(tried.targets[wrong], minlength=len(tried.classes)) + np.bincount(
        tried.chosen[wrong], minlength=len(tried.classes)
    )
    kept = np.sort(np.argsort(-errors, kind="stable")[:number])
    table = np.zeros((len(tried.classes), len(tried.classes)))
    np.add.at(table, (tried.targets, tried.chosen), 1)
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    return {"classes": [tried.classes[index] for index in kept], "confusion": np.round(shares[np.ix_(kept, kept)], 4).tolist()}
