"""The thresholds of the cascade, and what head, model and cascade are worth on tickets that were not trained on.

    python -m training.triage.fit_cascade training/triage/configs.yaml

Needs `head_logits.npy` (every house-written ticket judged by a head fitted without it) and `model_logprobs.npy` (the adapter's
scores of the held-out tickets). Writes `head/cascade.json` and `figures.json`. Figures of the combination are cross-fitted:
each half of the held-out tickets is judged with weights and calibration from the other half.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.optimize import minimize
from scipy.stats import beta
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from models.manifest import read
from orchestrator.triage.classify import Calibration, Thresholds, combine
from orchestrator.triage.head import softmax
from orchestrator.triage.taxonomy import load_taxonomy
from training.triage.split import load_split

GRID = tuple(round(float(x), 3) for x in np.linspace(0, 1, 41))
UNSURE_FOR_WEIGHTS = 0.5  # the weights are fitted on the half of the held-out tickets of which the head is least sure


def clopper_pearson_upper(wrong: int, total: int, *, level: float = 0.95) -> float:
    """One-sided upper bound of an error rate after `wrong` of `total` were wrong."""
    return 1.0 if wrong >= total else float(beta.ppf(level, wrong + 1, total - wrong))


def best_in_scope(p: np.ndarray) -> np.ndarray:
    return p[:, :-1].max(1)


def right_in_scope(p: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """True where the best type that is not Others is the ticket's."""
    return p[:, :-1].argmax(1) == targets


def rising(score: np.ndarray, right: np.ndarray) -> Calibration:
    """Isotonic regression, read at a grid; smoothed by 20 tickets of the average, so that no end is 0 or 1."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(score, right)
    values = 0.98 * fitted.predict(GRID) + 0.02 * right.mean()
    return Calibration(scores=GRID, rights=tuple(round(float(v), 5) for v in np.maximum.accumulate(values)))


def sigmoid(score: np.ndarray, right: np.ndarray) -> Calibration:
    """Platt's map for few tickets: a logistic curve over the log-odds of the score."""

    def odds(p: Any) -> np.ndarray:
        p = np.clip(np.asarray(p, float), 1e-3, 1 - 1e-3)
        return np.log(p / (1 - p))[:, None]

    fitted = LogisticRegression(C=10.0).fit(odds(score), right.astype(int))
    values = np.maximum.accumulate(fitted.predict_proba(odds(GRID))[:, 1])
    return Calibration(scores=GRID, rights=tuple(round(float(v), 5) for v in values))


def weights(heads: np.ndarray, logprobs: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """(head's weight, model's weight), both >= 0, by least negative log-likelihood where the head is unsure."""
    order = np.argsort(heads.max(1))[: max(50, int(len(heads) * UNSURE_FOR_WEIGHTS))]

    def loss(w: np.ndarray) -> float:
        p = combine(heads[order], logprobs[order], head_weight=w[0], model_weight=w[1])
        return float(-np.log(np.maximum(p[np.arange(len(order)), targets[order]], 1e-9)).mean())

    found = minimize(loss, x0=np.array([0.8, 0.3]), bounds=[(0, 2), (0, 2)], method="L-BFGS-B").x
    return round(float(found[0]), 4), round(float(found[1]), 4)


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, *, bins: int = 10) -> float:
    """Mean distance between confidence and share right, in bins of equally many tickets."""
    parts = np.array_split(np.argsort(confidence), bins)
    return float(sum(len(p) * abs(confidence[p].mean() - right[p].mean()) for p in parts) / len(confidence))


def act_threshold(confidence: np.ndarray, acts: np.ndarray, right: np.ndarray, *, accuracy: float) -> float:
    """The lowest confidence from which the tickets that would be acted on are right often enough."""
    for level in np.arange(0.30, 0.96, 0.01):
        chosen = acts & (confidence >= level)
        if chosen.any() and right[chosen].mean() >= accuracy:
            return round(float(level), 2)
    return 0.95


def figures(p: np.ndarray, confidence: np.ndarray, targets: np.ndarray, languages: Sequence[str], *, act: float) -> dict[str, Any]:
    """What one way of deciding is worth. `acted` are tickets in scope by its own word, confident enough."""
    others = p.shape[1] - 1
    best, in_scope = p.argmax(1), targets != others
    right = best == targets
    acted = (best != others) & (confidence >= act)
    return {
        "accuracy": round(float(right.mean()), 4),
        "macro_f1": round(float(f1_score(targets, best, average="macro")), 4),
        "ece": round(expected_calibration_error(confidence, right_in_scope(p, targets)), 4),
        "oos_auroc": round(float(roc_auc_score(in_scope, confidence)), 4),
        "coverage": round(float(acted.mean()), 4),
        "acted_accuracy": round(float(right[acted].mean()), 4) if acted.any() else None,
        "by_language": {lang: round(float(right[np.array(languages) == lang].mean()), 4) for lang in sorted(set(languages))},
    }


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    work, settings = Path(config["work"]), config["cascade"]
    taxonomy = load_taxonomy(Path(config["taxonomy"]))
    rows, kept = load_split(work)
    house = np.array([row.source == "house" for row in rows])
    targets = np.array([taxonomy.names.index(row.category) for row in rows])
    t = json.loads((work / "head/head.json").read_text(encoding="utf-8"))["temperature"]
    heads = softmax(np.load(work / "head_logits.npy") / t)
    logprobs = np.load(work / "model_logprobs.npy").astype(np.float64)

    head_calibration = rising(best_in_scope(heads[house]), right_in_scope(heads[house], targets[house]))
    sure = round(float(np.quantile(heads[house].max(1), settings["model_share"])), 4)
    held_heads, held_targets = heads[kept], targets[kept]
    languages = [row.language for row, out in zip(rows, kept, strict=True) if out]

    halves = np.random.default_rng(config["seed"]).integers(0, 2, len(held_targets))
    crossed, crossed_confidence = np.zeros_like(held_heads), np.zeros(len(held_heads))
    model_alone = np.exp(logprobs)
    model_confidence = np.zeros(len(held_heads))
    for half in (0, 1):
        fit, judge = halves != half, halves == half
        w = weights(held_heads[fit], logprobs[fit], held_targets[fit])
        crossed[judge] = combine(held_heads[judge], logprobs[judge], head_weight=w[0], model_weight=w[1])
        both = combine(held_heads[fit], logprobs[fit], head_weight=w[0], model_weight=w[1])
        unsure = held_heads[fit].max(1) < max(sure, 0.5)
        map_both = sigmoid(best_in_scope(both)[unsure], right_in_scope(both, held_targets[fit])[unsure])
        crossed_confidence[judge] = map_both(best_in_scope(crossed[judge]))
        map_model = sigmoid(best_in_scope(model_alone[fit]), right_in_scope(model_alone[fit], held_targets[fit]))
        model_confidence[judge] = map_model(best_in_scope(model_alone[judge]))

    asked = held_heads.max(1) < sure
    cascade = np.where(asked[:, None], crossed, held_heads)
    head_confidence = head_calibration(best_in_scope(held_heads))
    confidence = np.where(asked, crossed_confidence, head_confidence)
    others = len(taxonomy.names) - 1
    house_confidence = head_calibration(best_in_scope(heads[house]))
    act = act_threshold(
        house_confidence,
        heads[house].argmax(1) != others,
        heads[house].argmax(1) == targets[house],
        accuracy=settings["acted_accuracy"],
    )
    result = {
        "held_out_tickets": len(held_targets),
        "head": figures(held_heads, head_confidence, held_targets, languages, act=act),
        "model": figures(model_alone, model_confidence, held_targets, languages, act=act),
        "combination_of_all": figures(crossed, crossed_confidence, held_targets, languages, act=act),
        "cascade": figures(cascade, confidence, held_targets, languages, act=act)
        | {"share_to_model": round(float(asked.mean()), 4)},
    }
    alone = house_confidence >= act
    alone &= (heads[house].max(1) >= sure) & (heads[house].argmax(1) != others)
    wrong = int((heads[house].argmax(1) != targets[house])[alone].sum())
    upper = clopper_pearson_upper(wrong, int(alone.sum()))
    all_heads = heads[house].max(1) >= sure
    all_wrong = int((heads[house].argmax(1) != targets[house])[all_heads].sum())
    bounds = (
        f"Acted on by the head alone: {wrong} of {int(alone.sum())} tickets that it was not fitted on were wrong; "
        f"error at most {upper:.3f} (Clopper-Pearson, 95 %). Decided by the head, abstentions included: "
        f"{all_wrong} of {int(all_heads.sum())} wrong, at most {clopper_pearson_upper(all_wrong, int(all_heads.sum())):.3f}. "
        f"House-written tickets; a desk fits its own."
    )
    w = weights(held_heads, logprobs, held_targets)
    both = combine(held_heads, logprobs, head_weight=w[0], model_weight=w[1])
    unsure = held_heads.max(1) < max(sure, 0.5)
    thresholds = Thresholds(
        taxonomy_sha256=taxonomy.sha256,
        adapter=read(work / "adapter").full_name,
        sure=sure,
        act=act,
        head_weight=w[0],
        model_weight=w[1],
        head_calibration=head_calibration,
        both_calibration=sigmoid(best_in_scope(both)[unsure], right_in_scope(both, held_targets)[unsure]),
        bounds=bounds,
    )
    (work / "head/cascade.json").write_text(json.dumps(asdict(thresholds), indent=1) + "\n", encoding="utf-8")
    result |= {"sure": sure, "act": act, "head_weight": w[0], "model_weight": w[1], "bounds": bounds}
    (work / "figures.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(sys.argv[1])
