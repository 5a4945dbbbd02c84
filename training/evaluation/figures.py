"""What one way of deciding is worth on labeled tickets: every figure with how far it is known. Arrays only; knows no model and no file.

Definitions. *Accuracy*: the chosen type is the ticket's, where out of scope counts as a type. *Coverage at a precision*: the largest
share of all judged tickets that can be acted on, surest first, so that this share of them is right; a ticket whose chosen type is out
of scope is never acted on, one that is out of scope is wrong when it is. *Calibration*: the confidence says that the best type in scope
is right and the ticket in scope; its error has 15 bins of equal width. *Out of scope*: the score is 1 - confidence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.domain.triage import OTHERS
from training.evaluation.judgment import Judgment
from training.metrics import (
    ECE_BINS,
    aurc,
    auroc,
    bootstrap,
    coverage_at,
    ece,
    ece_band,
    lower_bound,
    reliability,
    risk_coverage,
    wilson,
)

TARGETS = (0.90, 0.95, 0.97, 0.99)
COVERAGES = (0.50, 0.80, 0.92, 1.0)
CURVE_POINTS = 60
CONFUSIONS = 25
HEAT_MAP_CLASSES = 40
F1_DRAWS = 400
AUROC_DRAWS = 200


# --- what is right ------------------------------------------------------------------------------------------------------


def right_in_scope(judgment: Judgment, targets: np.ndarray) -> np.ndarray:
    """[n] True where the best type that is not OTHERS is the ticket's: the event that the confidence speaks of."""
    return (judgment.best_in_scope == targets) & (targets != OTHERS)


def actable(judgment: Judgment) -> np.ndarray:
    """[n] True where the chosen type is in scope: nobody acts on what is out of it, however sure."""
    return judgment.best != OTHERS


def right_and_acted(judgment: Judgment, targets: np.ndarray) -> np.ndarray:
    """[n] True where acting on the chosen type would be right; never where that is OTHERS."""
    return (judgment.best == targets) & (judgment.best != OTHERS)


# --- all figures of one judgment ------------------------------------------------------------------------------------------


def figures(judgment: Judgment, targets: np.ndarray, *, target_precision: float = 0.95) -> dict[str, Any]:
    """The record that the report holds for one way of deciding. `targets` [n] names, OTHERS for out of scope."""
    right = judgment.best == targets
    scope = targets != OTHERS
    table = per_class(judgment.best, targets)
    counted = [row for row in table if row["tickets"] + row["predicted"]]
    weights = np.array([row["tickets"] for row in table], float)
    inside = judgment.best_in_scope[scope] == targets[scope]
    return {
        "name": judgment.name,
        "tickets": len(targets),
        "in_scope": int(scope.sum()),
        "accuracy": share(right),
        "accuracy_in_scope": share(right[scope]),
        "accuracy_best_type_in_scope": share(inside),
        "macro_f1": {"value": float(np.mean([row["f1"] for row in counted])) if counted else 0.0} | _f1_interval(judgment, targets),
        "weighted_f1": float(np.average([row["f1"] for row in table], weights=weights)) if weights.sum() else 0.0,
        "coverage": coverage(judgment, targets, target_precision),
        "own_threshold": own_threshold(judgment, targets),
        "calibration": calibration(judgment, targets),
        "out_of_scope": out_of_scope(judgment, targets),
        "aurc": aurc(np.where(actable(judgment), judgment.confidence, 0.0), right_and_acted(judgment, targets)),
    }


def share(right: np.ndarray) -> dict[str, float | int | None]:
    """A share with Wilson's 95 % interval; None of nothing."""
    n, count = len(right), int(np.sum(right))
    if not n:
        return {"value": None, "low": None, "high": None, "count": 0, "of": 0}
    interval = wilson(count, n)
    return {"value": count / n, "low": interval.low, "high": interval.high, "count": count, "of": n}


def coverage(judgment: Judgment, targets: np.ndarray, target_precision: float) -> dict[str, Any]:
    """Coverage at several precisions, precision at several coverages, the curve between them. Shares are of all tickets."""
    kept = actable(judgment)
    order, good, n = judgment.confidence[kept], right_and_acted(judgment, targets)[kept], len(targets)
    shares, risks = risk_coverage(order, good)
    shares = shares * len(order) / max(n, 1)
    picked = np.unique(np.linspace(0, max(len(shares) - 1, 0), min(CURVE_POINTS, len(shares))).astype(int))
    return {
        "target_precision": target_precision,
        "at_precision": [_at_precision(order, good, n, wanted) for wanted in sorted({*TARGETS, target_precision})],
        "at_coverage": [_at_coverage(order, good, n, part) for part in COVERAGES],
        "refused": 1 - len(order) / max(n, 1),
        "curve": [[round(float(shares[i]), 5), round(1 - float(risks[i]), 5)] for i in picked],
        "assurance": "These thresholds are chosen on the very tickets that they describe; the model's own threshold was fixed before.",
    }


def covered(confidence: np.ndarray, right: np.ndarray, kept: np.ndarray, *, precision: float) -> float:
    """Share of all n tickets that can be acted on at a precision; `kept` [n] as `actable` has it."""
    return coverage_at(confidence[kept], right[kept], precision).count / max(len(kept), 1)


def _at_precision(order: np.ndarray, good: np.ndarray, n: int, precision: float) -> dict[str, Any]:
    found = coverage_at(order, good, precision)
    return {
        "precision": precision,
        "coverage": found.count / max(n, 1),
        "threshold": found.threshold if found.count else None,
        "reached": found.precision,
        "lower_bound": found.lower,
        "tickets": found.count,
        "coverage_with_bound": _bounded(order, good, precision) / max(n, 1),
    }


def _at_coverage(order: np.ndarray, good: np.ndarray, n: int, part: float) -> dict[str, Any]:
    """Precision None where so many are not acted on."""
    rows = np.argsort(-order, kind="stable")[: round(part * n)]
    reached = len(rows) > 0 and len(rows) == round(part * n)
    return {"coverage": part, "precision": float(np.mean(good[rows])) if reached else None, "tickets": len(rows)}


def _bounded(order: np.ndarray, good: np.ndarray, precision: float, *, level: float = 0.95) -> int:
    """The largest number of tickets whose lower 95 % bound (Clopper-Pearson) reaches the precision."""
    shares, risks = risk_coverage(order, good)
    for share_of, risk in zip(shares[::-1], risks[::-1], strict=True):
        count = round(float(share_of) * len(order))
        if 1 - risk >= precision and lower_bound(round((1 - float(risk)) * count), count, level=level) >= precision:
            return count
    return 0


def own_threshold(judgment: Judgment, targets: np.ndarray) -> dict[str, Any] | None:
    """What would be acted on by the model's own word, and how often that is right; None where it has no threshold."""
    if judgment.acted is None:
        return None
    right = (judgment.best == targets)[judgment.acted]
    count = int(right.sum())
    return {
        "automated": share(judgment.acted),
        "precision": share(right),
        "precision_lower_bound": lower_bound(count, len(right)),
        "out_of_scope_acted_on": share(judgment.acted[targets == OTHERS]),
    }


def calibration(judgment: Judgment, targets: np.ndarray) -> dict[str, Any]:
    """Expected calibration error with the band in which a perfectly calibrated classifier falls by chance, and the bins."""
    right = right_in_scope(judgment, targets)
    error, band = ece(judgment.confidence, right), ece_band(judgment.confidence)
    return {
        "ece": error,
        "ece_equal_mass": ece(judgment.confidence, right, equal_mass=True),
        "bins": ECE_BINS,
        "band_high": band.high,
        "verdict": _calibration_verdict(error, band.high, float(judgment.confidence.mean() - right.mean()) if len(right) else 0.0),
        "reliability": [
            {
                "confidence": found.confidence,
                "right": found.right,
                "count": found.count,
                "low": (known := wilson(round(found.right * found.count), found.count)).low,
                "high": known.high,
            }
            for found in reliability(judgment.confidence, right)
        ],
    }


def _calibration_verdict(error: float, high: float, excess: float) -> str:
    if error <= high:
        return "as good as a perfectly calibrated classifier would look on these tickets"
    kind = "too sure" if excess > 0.005 else "not sure enough" if excess < -0.005 else "too sure here and not sure enough there"
    return f"miscalibrated beyond chance: {kind}"


def out_of_scope(judgment: Judgment, targets: np.ndarray) -> dict[str, Any] | None:
    """How well the confidence tells tickets in scope from those out of it; None where the file has one kind only."""
    scope = targets != OTHERS
    if scope.all() or not scope.any():
        return None
    known = bootstrap(auroc, judgment.confidence, scope, draws=AUROC_DRAWS)
    kept = np.sort(judgment.confidence[scope])
    threshold = kept[int(np.floor(0.05 * len(kept)))]
    said = judgment.best == OTHERS
    return {
        "auroc": {"value": auroc(judgment.confidence, scope), "low": known.low, "high": known.high},
        "fpr_at_95": float(np.mean(judgment.confidence[~scope] >= threshold)),
        "recall": share(said[~scope]),
        "in_scope_refused": share(said[scope]),
        "tickets": int((~scope).sum()),
    }


# --- by class, by slice -----------------------------------------------------------------------------------------------------


def per_class(best: np.ndarray, targets: np.ndarray) -> list[dict[str, Any]]:
    """Precision, recall (with its interval) and F1 of every type that occurs, by name, OTHERS last."""
    names = sorted({*targets, *best}, key=lambda name: (name == OTHERS, name))
    rows = []
    for name in names:
        is_it, said = targets == name, best == name
        hits = int((is_it & said).sum())
        tickets, predicted = int(is_it.sum()), int(said.sum())
        known = wilson(hits, tickets)
        rows.append(
            {
                "category": name,
                "tickets": tickets,
                "predicted": predicted,
                "precision": hits / predicted if predicted else None,
                "recall": hits / tickets if tickets else None,
                "recall_low": known.low if tickets else None,
                "recall_high": known.high if tickets else None,
                "f1": 2 * hits / (tickets + predicted) if tickets + predicted else 0.0,
            }
        )
    return rows


def _f1_interval(judgment: Judgment, targets: np.ndarray) -> dict[str, float]:
    names = sorted({*targets, *judgment.best})
    number = {name: index for index, name in enumerate(names)}
    truth = np.array([number[name] for name in targets], np.int64)
    best = np.array([number[name] for name in judgment.best], np.int64)

    def statistic(truth: np.ndarray, best: np.ndarray) -> float:
        hits = np.bincount(truth[truth == best], minlength=len(names))
        both = np.bincount(truth, minlength=len(names)) + np.bincount(best, minlength=len(names))
        return float(np.mean(2 * hits[both > 0] / both[both > 0])) if both.any() else 0.0

    known = bootstrap(statistic, truth, best, draws=F1_DRAWS)
    return {"low": known.low, "high": known.high}


def by_slice(
    judgment: Judgment, targets: np.ndarray, slices: Mapping[str, Sequence[str | None]]
) -> dict[str, list[dict[str, Any]]]:
    """Accuracy, automated share and its precision for every value of every cut; values in order."""
    right = judgment.best == targets
    found: dict[str, list[dict[str, Any]]] = {}
    for cut, values in slices.items():
        of_row = np.array(values, object)
        found[cut] = [
            {"value": value, "tickets": int(here.sum()), "accuracy": share(right[here])}
            | (
                {"automated": share(judgment.acted[here]), "precision": share(right[here & judgment.acted])}
                if judgment.acted is not None
                else {}
            )
            for value in sorted({value for value in values if value is not None})
            for here in [of_row == value]
        ]
    return found


def confusion(best: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """The largest confusions; for few types the whole matrix (rows: truth)."""
    pairs: dict[tuple[str, str], int] = {}
    for truth, said in zip(targets, best, strict=True):
        pairs[truth, said] = pairs.get((truth, said), 0) + 1
    wrong = sorted(((n, t, s) for (t, s), n in pairs.items() if t != s), key=lambda item: (-item[0], item[1], item[2]))
    totals = {name: int((targets == name).sum()) for name in set(targets)}
    names = sorted({*targets, *best}, key=lambda name: (name == OTHERS, name))
    return {
        "largest": [{"truth": t, "predicted": s, "tickets": n, "share_of_truth": n / totals[t]} for n, t, s in wrong[:CONFUSIONS]],
        "classes": names,
        "matrix": [[pairs.get((t, s), 0) for s in names] for t in names] if len(names) <= HEAT_MAP_CLASSES else None,
    }
