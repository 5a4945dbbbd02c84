"""A model's shares of types, confidence and threshold fitted anew to fresh labeled tickets. The weights of its adapter, and those of its
head but for the bias, stay as they are; the result is a new model folder whose parent is the old one. Knows model folders; knows no desk.

Three steps, each told with its figures. Shares: where types come up more or less often than in training (Saerens et al. 2002, or from
labels), the logarithm of the ratio is added to the head's bias, if that also makes the labeled tickets more likely. Confidence: two
numbers bend the old map, logit(new) = slope logit(old) + shift, held near 1 and 0 where tickets are few. Threshold: as at the first fit.
All figures of the new confidence are cross-fitted.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.optimize import minimize
from scipy.special import expit, logit

from models import manifest as manifests
from models.manifest import BESIDE, Manifest
from orchestrator.domain.errors import CallerError
from orchestrator.domain.triage import OTHERS, Classification
from orchestrator.triage.classify import NEVER, Thresholds, load_thresholds, thresholds_record
from orchestrator.triage.confidence import UNCHANGED, Calibration, Confidence
from training.evaluation.judgment import from_classifications
from training.evaluation.predict import Find, Predictor, Progress, open_predictor, silent
from training.feedback.collect import text_key
from training.feedback.measures import psi
from training.feedback.prior import Shift, adjusted, estimate_shift, shift_from_labels
from training.feedback.reference import Reference
from training.head.calibrate import ActThreshold, act_threshold, folds_of
from training.metrics import ece, ece_band, lower_bound, upper_bound

FEWEST = 200  # fresh labeled tickets, below which nothing is fitted
FEWEST_OF_STAGE = 100  # of head or model, below which both share one map
FEWEST_FOR_SHARES = 300
LEAST_PSI = 0.1
CHANCE = 0.01
HOLD = 4.0  # tickets that pull slope and shift towards 1 and 0
ENDS, POINTS = 7.0, 57  # a bent curve is read at so many points, evenly in log-odds
STALE = ("evaluation.json", "cascade.json")  # said of the parent, not of what is made here
Shares = Literal["auto", "always", "never"]
Threshold = Literal["refit", "keep"]


@dataclass(frozen=True, kw_only=True)
class Labeled:
    """A fresh ticket with the type that is right."""

    text: str
    category: str  # OTHERS for out of scope


@dataclass(frozen=True, kw_only=True)
class Bend:
    """logit(new) = slope x logit(old) + shift."""

    slope: float
    shift: float

    def __call__(self, confidence: np.ndarray) -> np.ndarray:
        bent: np.ndarray = expit(self.slope * logit(np.clip(confidence, 1e-6, 1 - 1e-6)) + self.shift)
        return bent

    def of(self, one: Confidence) -> Confidence:
        """The same features; without a curve weights and bias are bent exactly, with one the curve is, closely read at both ends."""
        if one.curve == UNCHANGED:
            weights = {name: round(self.slope * weight, 6) for name, weight in one.weights.items()}
            return replace(one, weights=weights, bias=round(self.slope * one.bias + self.shift, 6))
        scores = np.array(sorted({*one.curve.scores, *(float(x) for x in expit(np.linspace(-ENDS, ENDS, POINTS)).round(5))}))
        rights = np.maximum.accumulate(self(np.asarray(one.curve(scores))))
        return replace(one, curve=Calibration(scores=tuple(scores.tolist()), rights=tuple(rights.round(6).tolist())))


@dataclass(frozen=True, kw_only=True)
class Recalibrated:
    """`folder` holds the new model, its manifest written; `record` is what was found, JSON-ready."""

    folder: Path
    manifest: Manifest
    record: Mapping[str, Any]


def recalibrate(
    parent: Path,
    out: Path,
    labeled: Sequence[Labeled],
    reference: Reference,
    *,
    find: Find,
    unlabeled: Sequence[str] = (),
    shares: Shares = "auto",
    threshold: Threshold = "refit",
    target_precision: float = 0.95,
    sample: str = "",
    with_model: bool = True,
    progress: Progress = silent,
) -> Recalibrated:
    """Write the new model's folder to `out`, which must not exist. `unlabeled`: texts of recent tickets, for the shares of types; none:
    the labeled ones tell them. `sample` says in words how the labeled tickets were chosen.

    Raises CallerError when there are too few tickets that the model was not fitted on, or too few to prove a threshold: with how many
    there are. `threshold="keep"` leaves the old one, bent as the confidence is.
    """
    fresh, left_out = fresh_tickets(labeled, reference)
    old = load_thresholds(parent / "cascade.json")
    predictor = open_predictor(parent, find=find, with_model=with_model)
    made = manifests.read(parent)
    texts = [each.text for each in fresh]
    vectors = predictor.embed(texts, progress=progress)
    before = predictor.classify(texts, vectors, progress=progress)
    moved, shift_record = _shares(predictor, fresh, texts, vectors, unlabeled, reference, shares, progress)
    _copy(parent, out)
    (out / "cascade.json").write_text(_text(old), encoding="utf-8")
    found = before
    if moved is not None:
        _move_bias(out, moved, predictor.cascade.head.temperature)
        manifests.write(out, **_fields(made, {}))
        predictor = open_predictor(out, find=find, with_model=with_model)
        found = predictor.classify(texts, vectors, progress=progress)
    targets = np.array([each.category for each in fresh], object)
    fitted = _fit(found, targets, target_precision)
    act, bound = _threshold(fitted, found, targets, old.act, threshold)
    record = {
        "parent": made.full_name,
        "tickets": len(fresh),
        "left_out": left_out,
        "sample": sample,
        "shares": shift_record,
        "before": _figures(before, targets, old.act),
        "after": _bent_figures(fitted, found, targets, act),
        "confidence_bent": fitted.helps,
        "bound": bound,
        "maps": {name: {"slope": bend.slope, "shift": bend.shift} for name, bend in fitted.bends.items()},
    }
    thresholds = replace(
        old,
        act=act,
        head_confidence=fitted.bends["head"].of(old.head_confidence),
        both_confidence=fitted.bends["model"].of(old.both_confidence),
        bounds=f"Recalibrated on {len(fresh)} fresh tickets{f' ({sample})' if sample else ''}. {bound}",
    )
    (out / "cascade.json").write_text(_text(thresholds), encoding="utf-8")
    written = manifests.write(out, **_fields(made, {"recalibrated": record}))
    return Recalibrated(folder=out, manifest=written, record=record)


def fresh_tickets(labeled: Sequence[Labeled], reference: Reference) -> tuple[list[Labeled], dict[str, int]]:
    """(one of each text that the model was not fitted on and whose type it knows, the others counted). Raises CallerError."""
    known, seen = {*reference.classes, OTHERS}, set(reference.keys)
    kept: list[Labeled] = []
    left: Counter[str] = Counter()
    for each in labeled:
        key = text_key(each.text)
        reason = "type unknown to the model" if each.category not in known else "fitted on, or said twice" if key in seen else ""
        if reason:
            left[reason] += 1
            continue
        seen.add(key)
        kept.append(each)
    if len(kept) < FEWEST:
        why = f" ({', '.join(f'{count} {reason}' for reason, count in left.items())})" if left else ""
        raise CallerError(
            f"There are {len(kept)} fresh labeled tickets; at least {FEWEST} are needed to fit confidence and threshold{why}.",
            hint="Collect more feedback, or give labeled tickets with --tickets FILE.",
        )
    return kept, dict(left)


# --- shares of types ------------------------------------------------------------------------------------------------------


def _shares(
    predictor: Predictor,
    fresh: Sequence[Labeled],
    texts: Sequence[str],
    vectors: np.ndarray,
    unlabeled: Sequence[str],
    reference: Reference,
    wish: Shares,
    progress: Progress,
) -> tuple[np.ndarray | None, dict[str, Any]]:
    """(what is added to the head's log-probabilities or None, what was found)."""
    classes = predictor.classes
    trained = np.array([reference.counts.get(name, 0) for name in classes], float)
    source = "predictions of unlabeled tickets" if len(unlabeled) else "labels"
    count = len(unlabeled) if len(unlabeled) else len(fresh)
    if wish == "never" or not trained.sum() or count < FEWEST_FOR_SHARES:
        why = f"{count} tickets, {FEWEST_FOR_SHARES} are needed" if trained.sum() else "the shares in training are not known"
        return None, {"applied": False, "because": "not asked for" if wish == "never" else why}
    labels = np.array([classes.index(each.category) if each.category in classes else -1 for each in fresh])
    heads = predictor.cascade.judge(texts, vectors).probabilities.astype(float)
    if len(unlabeled):
        rest = predictor.embed(list(unlabeled), progress=progress)
        shift = estimate_shift(predictor.cascade.judge(list(unlabeled), rest).probabilities.astype(float), trained)
    else:
        shift = shift_from_labels(np.bincount(labels[labels >= 0], minlength=len(classes)).astype(float), trained)
    return _judged_shift(shift, heads, labels, classes, source, reference.counted, wish)


def _judged_shift(
    shift: Shift, heads: np.ndarray, labels: np.ndarray, classes: Sequence[str], source: str, counted: str, wish: Shares
) -> tuple[np.ndarray | None, dict[str, Any]]:
    rows = np.flatnonzero(labels >= 0)
    there = np.log(np.maximum(heads[rows, labels[rows]], 1e-9))
    after = np.log(np.maximum(adjusted(heads[rows], shift.log_ratios)[np.arange(len(rows)), labels[rows]], 1e-9))
    gain, error = float((after - there).mean()), float((after - there).std(ddof=1) / np.sqrt(len(rows)))
    size = psi(shift.after * shift.tickets, shift.before * shift.tickets)
    moves = bool(shift.p_value <= CHANCE and size >= LEAST_PSI)
    helps = gain > 1.64 * error
    applied = wish == "always" or (moves and helps)
    because = (
        "asked for" if wish == "always" else "they moved, and it helps" if applied
        else "they did not move beyond chance" if not moves else "the labeled tickets do not become more likely"
    )  # fmt: skip
    top = sorted(range(len(classes)), key=lambda index: -abs(shift.after[index] - shift.before[index]))[:10]
    record = {
        "applied": applied,
        "because": because,
        "source": source,
        "tickets": shift.tickets,
        "training_shares_from": counted,
        "p_value": shift.p_value,
        "psi": size,
        "log_likelihood_gain": gain,
        "standard_error": error,
        "moved": {classes[i]: [round(float(shift.before[i]), 4), round(float(shift.after[i]), 4)] for i in top},
    }
    return (shift.log_ratios if applied else None), record


def _move_bias(folder: Path, log_ratios: np.ndarray, temperature: float) -> None:
    """Probabilities are softmax(logits / temperature): the ratios are added after the division."""
    tensors = load_file(folder / "head.safetensors")
    moved = tensors["bias"].astype(np.float32) + (temperature * (log_ratios - log_ratios.mean())).astype(np.float32)
    save_file(tensors | {"bias": moved.astype(tensors["bias"].dtype)}, folder / "head.safetensors")


# --- confidence and threshold -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Fitted:
    bends: Mapping[str, Bend]  # by stage: head, model
    act: ActThreshold
    crossed: np.ndarray  # [n] confidence of the fresh tickets, from maps fitted without them
    helps: bool  # False: the old confidence says as much, and stays


AS_IT_IS = Bend(slope=1.0, shift=0.0)


def _fit(found: Sequence[Classification], targets: np.ndarray, target: float) -> _Fitted:
    judged = from_classifications("", found)
    right = (judged.best_in_scope == targets) & (targets != OTHERS)
    stages = np.array([each.stage for each in found], object)
    fold = folds_of(np.arange(len(found)))
    crossed = np.zeros(len(found))
    for number in np.unique(fold):
        inside = fold == number
        bends = _bends(judged.confidence[~inside], right[~inside], stages[~inside])
        crossed[inside] = _bent(bends, judged.confidence[inside], stages[inside])
    helps = _log_loss(crossed, right) < _log_loss(judged.confidence, right)
    bends = _bends(judged.confidence, right, stages) if helps else {"head": AS_IT_IS, "model": AS_IT_IS}
    crossed = crossed if helps else judged.confidence
    acts = judged.best != OTHERS
    act = act_threshold(crossed, acts, (judged.best == targets) & acts, target=target)
    return _Fitted(bends=bends, act=act, crossed=crossed, helps=helps)


def _log_loss(confidence: np.ndarray, right: np.ndarray) -> float:
    p = np.clip(confidence, 1e-6, 1 - 1e-6)
    return float(-np.mean(np.where(right, np.log(p), np.log(1 - p))))


def _threshold(
    fitted: _Fitted, found: Sequence[Classification], targets: np.ndarray, old: float, wish: Threshold
) -> tuple[float, str]:
    """(threshold, what is known of it in words). Raises CallerError where the tickets neither prove nor refute the old promise."""
    kept = old if old >= NEVER else float(fitted.bends["head"](np.array([old]))[0])
    best = np.array([each.category for each in found], object)
    above = (best != OTHERS) & (fitted.crossed >= kept)
    right, total = int((best == targets)[above].sum()), int(above.sum())
    lower, upper = lower_bound(right, total), upper_bound(right, total)
    seen = (
        f"{right} of {total} fresh tickets above {kept:.4f} were right, precision {lower:.3f} to {upper:.3f} (one-sided 95 % each)"
    )
    if wish == "keep":
        return kept, f"The threshold of the parent is kept: {seen}."
    if fitted.act.threshold < NEVER or old >= NEVER or upper < fitted.act.target:
        return fitted.act.threshold, fitted.act.sentence
    raise CallerError(
        f"{len(found)} fresh tickets neither prove nor refute a precision of {fitted.act.target:.2f}: {seen}.",
        hint="Collect more, lower --target-precision, or keep the threshold as it is with --threshold keep.",
    )


def _bends(confidence: np.ndarray, right: np.ndarray, stages: np.ndarray) -> dict[str, Bend]:
    """One map for each stage that has enough tickets, else the one of all."""
    every = fit_bend(confidence, right)
    found = {}
    for stage in ("head", "model"):
        inside = stages == stage
        found[stage] = fit_bend(confidence[inside], right[inside]) if inside.sum() >= FEWEST_OF_STAGE else every
    return found


def _bent(bends: Mapping[str, Bend], confidence: np.ndarray, stages: np.ndarray) -> np.ndarray:
    out = np.zeros(len(confidence))
    for stage, bend in bends.items():
        out[stages == stage] = bend(confidence[stages == stage])
    return out


def fit_bend(confidence: np.ndarray, right: np.ndarray) -> Bend:
    """The likeliest slope (at least 0.05: the order stays) and shift, held near 1 and 0."""
    odds, hits = logit(np.clip(confidence, 1e-6, 1 - 1e-6)), np.asarray(right, float)

    def loss(x: np.ndarray) -> float:
        total = x[0] * odds + x[1]
        return float(np.sum(np.logaddexp(0.0, total) - hits * total) + HOLD / 2 * ((x[0] - 1) ** 2 + x[1] ** 2))

    slope, shift = minimize(loss, np.array([1.0, 0.0]), bounds=[(0.05, 5.0), (-8.0, 8.0)], method="L-BFGS-B").x
    return Bend(slope=round(float(slope), 5), shift=round(float(shift), 5))


def _figures(found: Sequence[Classification], targets: np.ndarray, act: float) -> dict[str, Any]:
    judged = from_classifications("", found)
    acts = judged.best != OTHERS
    right = (judged.best_in_scope == targets) & (targets != OTHERS)
    return _judged_figures(judged.confidence, right, acts, (judged.best == targets) & acts, act) | {"act": _shown(act)}


def _bent_figures(fitted: _Fitted, found: Sequence[Classification], targets: np.ndarray, act: float) -> dict[str, Any]:
    judged = from_classifications("", found)
    acts = judged.best != OTHERS
    right = (judged.best_in_scope == targets) & (targets != OTHERS)
    return _judged_figures(fitted.crossed, right, acts, (judged.best == targets) & acts, act) | {"act": _shown(act)}


def _judged_figures(confidence: np.ndarray, right: np.ndarray, acts: np.ndarray, good: np.ndarray, act: float) -> dict[str, Any]:
    acted = acts & (confidence >= act)
    return {
        "accuracy_of_acts": float(good[acts].mean()) if acts.any() else None,
        "ece": ece(confidence, right),
        "ece_of_a_calibrated_one_95": ece_band(confidence, draws=300).high,
        "coverage": float(acted.mean()),
        "precision": float(good[acted].mean()) if acted.any() else None,
    }


def _shown(act: float) -> float | None:
    return None if act >= NEVER else act


# --- the folder -------------------------------------------------------------------------------------------------------------


def _copy(parent: Path, out: Path) -> None:
    out.mkdir(parents=True)
    for path in sorted(parent.iterdir()):
        if path.is_file() and path.name not in BESIDE and path.name not in STALE:
            shutil.copyfile(path, out / path.name)


def _fields(parent: Manifest, made: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": parent.name,
        "kind": parent.kind,
        "base": parent.base,
        "license": parent.license,
        "data": parent.data,
        "parent": parent.full_name,
        "made": made,
    }


def _text(thresholds: Thresholds) -> str:
    return json.dumps(thresholds_record(thresholds), indent=1) + "\n"
