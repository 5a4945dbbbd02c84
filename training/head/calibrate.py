"""Confidence, thresholds and weights of the cascade, from tickets that were not trained on. Knows arrays of judgments, no texts.

Confidence is P(best type in scope is right, and the ticket is in scope). Everything that is reported of it here is cross-fitted:
a ticket's figure comes from maps that were fitted on other clusters of tickets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from orchestrator.triage.classify import NEVER, Mode, Thresholds, combine, model_feature
from orchestrator.triage.confidence import (
    UNCHANGED,
    Calibration,
    Confidence,
    Neighborhood,
    best_in_scope,
    decision_features,
)
from orchestrator.triage.head import softmax
from training.head.fit_head import Judgments
from training.metrics import ece, ece_band, lower_bound, upper_bound

HEAD_FEATURES = ("log_odds", "agreement", "same_type", "nearest", "evidence", "margin")  # the first always counts
BOTH_FEATURES = (*HEAD_FEATURES, "model")
WORTH = 2.0  # a feature or a curve must gain so many standard errors of log-likelihood, cross-fitted
GRID = tuple(round(float(x), 3) for x in np.linspace(0, 1, 41))
FOLDS = 5
RIDGE = 1e-3  # on standardized weights
CURVE_FROM = 600  # tickets; with fewer the logistic map is left as it is
PRIOR = 20.0  # tickets of the average that every curve is mixed with, so that no end is 0 or 1
CHAINS = (0.15, 0.35, 0.55, 0.75)  # shares at which the fixed sequences start that share the error budget


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedConfidence:
    """`crossed` [n] are cross-fitted confidences of the tickets that it was fitted on."""

    confidence: Confidence
    crossed: np.ndarray
    crossed_more: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class ActThreshold:
    """From which confidence on a ticket may be acted on without a person."""

    threshold: float  # NEVER where no threshold keeps the promise
    target: float  # precision that is promised
    lower: float  # one-sided bound of the precision above the threshold
    right: int
    total: int  # tickets above it, one per cluster
    share: float  # of all tickets

    @property
    def sentence(self) -> str:
        if self.threshold >= NEVER:
            return (
                f"Never acts by itself: from no confidence on is the precision at least {self.target:.2f} with 95 % certainty "
                f"on the {self.total} validation tickets."
            )
        return (
            f"Acts from confidence {self.threshold:.4f} on: {self.right} of {self.total} validation tickets above it were right, "
            f"precision at least {self.lower:.3f} with 95 % certainty (target {self.target:.2f}, {self.share:.0%} of tickets)."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelAnswers:
    """The language model's log-probabilities for some validation tickets."""

    rows: np.ndarray  # [m] which of the validation tickets
    chosen: np.ndarray  # [m, k] classes that it was shown
    logprobs: np.ndarray  # [m, k]


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    target_precision: float = 0.95
    certainty: float = 0.95
    model_share: float = 0.2  # at most this share of tickets goes to the language model
    gain_z: float = 1.64  # the model is asked only where its gain is so many standard errors above nothing
    unseen_share: float = 0.01  # of traffic is taken to be out of scope where the data has none that is
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """`confidence`, `chosen` and `probabilities` are of the validation tickets as the whole cascade decides, cross-fitted."""

    thresholds: Thresholds
    act: ActThreshold
    probabilities: np.ndarray  # [n, classes]
    confidence: np.ndarray  # [n]
    asked: np.ndarray  # [n] bool, decided with the model
    record: Mapping[str, Any] = field(default_factory=dict)


# --- one map ------------------------------------------------------------------------------------------------------------


def right_in_scope(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[n] True where the best type in scope is the ticket's; never for a ticket that is out of scope."""
    return best_in_scope(probabilities) == targets


def folds_of(clusters: np.ndarray, *, folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """[n] fold numbers; near-copies share one."""
    _, numbered = np.unique(clusters, return_inverse=True)
    places: np.ndarray = (np.random.default_rng(seed).permutation(int(numbered.max(initial=0)) + 1) % folds)[numbered]
    return places


def fit_confidence(
    features: Mapping[str, np.ndarray],
    right: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    seed: int = 0,
) -> FittedConfidence:
    """A logistic map with weights >= 0, and a rising curve behind it.

    The first feature always counts; of the others those that gain, best first, and the curve where the tickets are many and it
    gains. `features` [n] each, `right` [n], `weights` [n] of the tickets.
    """
    right, every = np.asarray(right, float), tuple(features)
    weights = np.ones(len(right)) if weights is None else weights
    fold = folds_of(np.arange(len(right)) if clusters is None else clusters, seed=seed)
    names, crossed = every[:1], _crossed(every[:1], features, right, weights, fold)
    while rest := [name for name in every if name not in names]:
        tried = {name: _crossed((*names, name), features, right, weights, fold) for name in rest}
        gains = {name: _worth(crossed, found, right, weights) for name, found in tried.items()}
        best = max(rest, key=lambda name: gains[name])
        if gains[best] < WORTH:
            break
        names, crossed = (*names, best), tried[best]
    whole = _logistic(names, np.column_stack([features[name] for name in names]), right, weights)
    if len(right) < CURVE_FROM:
        return FittedConfidence(confidence=whole, crossed=crossed)
    bent = crossed.copy()
    for number in np.unique(fold):
        inside = fold == number
        bent[inside] = rising(crossed[~inside], right[~inside], weights[~inside])(crossed[inside])
    if _worth(crossed, bent, right, weights) < WORTH:
        return FittedConfidence(confidence=whole, crossed=crossed)
    return FittedConfidence(confidence=replace(whole, curve=rising(crossed, right, weights)), crossed=bent)


def _crossed(
    names: Sequence[str], features: Mapping[str, np.ndarray], right: np.ndarray, weights: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """[n] each ticket's confidence by a map that was fitted without its fold."""
    matrix = np.column_stack([features[name] for name in names]).astype(float)
    out = np.zeros(len(right))
    for number in np.unique(fold):
        inside = fold == number
        rest = ~inside if (~inside).any() else inside
        out[inside] = _logistic(names, matrix[rest], right[rest], weights[rest])(_columns(names, matrix[inside]))
    return out


def _worth(before: np.ndarray, after: np.ndarray, right: np.ndarray, weights: np.ndarray) -> float:
    """How many standard errors of log-likelihood the second is better, paired."""
    gains = weights * (_log_likelihood(after, right) - _log_likelihood(before, right))
    spread = float(gains.std())
    return float(gains.mean()) / spread * np.sqrt(len(gains)) if spread > 0 else 0.0


def _log_likelihood(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    p = np.clip(confidence, 1e-6, 1 - 1e-6)
    logs: np.ndarray = right * np.log(p) + (1 - right) * np.log(1 - p)
    return logs


def _columns(names: Sequence[str], matrix: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(names, matrix.T, strict=True))


def _logistic(names: Sequence[str], matrix: np.ndarray, right: np.ndarray, weights: np.ndarray) -> Confidence:
    mean, spread = np.average(matrix, axis=0, weights=weights), np.maximum(matrix.std(axis=0), 1e-6)
    standard, total = (matrix - mean) / spread, weights.sum()

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        odds = standard @ x[:-1] + x[-1]
        value = np.sum(weights * (np.logaddexp(0.0, odds) - right * odds)) / total + RIDGE * float(x[:-1] @ x[:-1])
        slope = weights * (expit(odds) - right) / total
        return float(value), np.append(standard.T @ slope + 2 * RIDGE * x[:-1], slope.sum())

    start = np.append(np.full(len(names), 0.1), 0.0)
    bounds = [(0.0, None)] * len(names) + [(None, None)]
    found = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x
    scaled = found[:-1] / spread
    chosen = {name: round(float(w), 6) for name, w in zip(names, scaled, strict=True) if w > 1e-6}
    return Confidence(weights=chosen or {names[0]: 0.0}, bias=round(float(found[-1] - scaled @ mean), 6), curve=UNCHANGED)


def rising(score: np.ndarray, right: np.ndarray, weights: np.ndarray | None = None) -> Calibration:
    """Isotonic regression read at a grid, mixed with a few tickets of the average."""
    weights = np.ones(len(score)) if weights is None else weights
    fitted = IsotonicRegression(out_of_bounds="clip").fit(score, right, sample_weight=weights)
    share = len(score) / (len(score) + PRIOR)
    values = share * fitted.predict(GRID) + (1 - share) * np.average(right, weights=weights)
    return Calibration(scores=GRID, rights=tuple(round(float(v), 5) for v in np.maximum.accumulate(values)))


# --- when to act --------------------------------------------------------------------------------------------------------


def act_threshold(
    confidence: np.ndarray,
    acts: np.ndarray,
    right: np.ndarray,
    *,
    target: float = 0.95,
    certainty: float = 0.95,
    clusters: np.ndarray | None = None,
    seed: int = 0,
) -> ActThreshold:
    """The lowest confidence from which on the precision is at least `target`, with probability `certainty` whatever the data.

    `acts` [n]: the winner is in scope. Shares of tickets, most confident first, are tested in a fixed order with Clopper-Pearson
    bounds (Learn then Test: Angelopoulos et al. 2021, fixed-sequence testing); The sequences start at the shares CHAINS, each
    with its part of the error budget. Of near-copies one counts, because the bound is for independent tickets.
    """
    rows = np.flatnonzero(acts) if clusters is None else _one_each(np.flatnonzero(acts), clusters, seed)
    order = rows[np.argsort(-confidence[rows], kind="stable")]
    hits = np.cumsum(right[order].astype(int))
    level = 1 - (1 - certainty) / len(CHAINS)
    needed = int(np.ceil(np.log(1 - level) / np.log(target)))  # with fewer tickets not even no error is enough
    ends = _ends(confidence[order], np.unique(np.linspace(needed, len(order), 60).astype(int))) if len(order) >= needed else []
    best = 0
    for start in CHAINS:
        for end in (end for end in ends if end >= start * len(order)):
            if lower_bound(int(hits[end - 1]), end, level=level) < target:
                break
            best = max(best, end)
    if not best:
        return ActThreshold(threshold=NEVER, target=target, lower=0.0, right=int(right[rows].sum()), total=len(rows), share=0.0)
    threshold = float(np.floor(confidence[order[best - 1]] * 1e6) / 1e6)
    return ActThreshold(
        threshold=threshold,
        target=target,
        lower=lower_bound(int(hits[best - 1]), best, level=certainty),
        right=int(hits[best - 1]),
        total=best,
        share=float(np.mean(acts & (confidence >= threshold))),
    )


def _one_each(rows: np.ndarray, clusters: np.ndarray, seed: int) -> np.ndarray:
    """One of `rows` per cluster, chosen at random."""
    mixed = np.random.default_rng(seed).permutation(rows)
    _, first = np.unique(clusters[mixed], return_index=True)
    kept: np.ndarray = mixed[first]
    return kept


def _ends(falling: np.ndarray, counts: np.ndarray) -> list[int]:
    """The counts moved to where ties end, so that a threshold takes exactly so many."""
    ends = {int(np.searchsorted(-falling, -falling[count - 1], side="right")) for count in counts}
    return sorted(ends)


# --- the cascade --------------------------------------------------------------------------------------------------------


def fit_weights(heads: np.ndarray, answers: ModelAnswers, targets: np.ndarray, *, model_most: float = 3.0) -> tuple[float, float]:
    """(head's weight, model's weight), both >= 0, by least negative log-likelihood of the tickets that were asked."""
    rows = np.arange(len(targets))

    def loss(w: np.ndarray) -> float:
        p = combine(heads, answers.logprobs, chosen=answers.chosen, head_weight=w[0], model_weight=w[1])
        return float(-np.log(np.maximum(p[rows, targets], 1e-9)).mean())

    found = minimize(loss, x0=np.array([0.9, min(0.3, model_most)]), bounds=[(0, 3), (0, model_most)], method="L-BFGS-B").x
    return round(float(found[0]), 4), round(float(found[1]), 4)


def calibrate(
    logits: np.ndarray,
    probabilities: np.ndarray,
    near: Neighborhood,
    targets: np.ndarray,
    *,
    taxonomy_sha256: str,
    adapter_sha256: str | None = None,
    mode: Mode = Mode.CANDIDATES,
    candidates: int = 8,
    examples: int = 2,
    others: bool = True,
    answers: ModelAnswers | None = None,
    unseen_logits: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    more: Judgments | None = None,
    settings: CalibrationSettings | None = None,
) -> Calibrated:
    """All thresholds from n validation tickets: the head's `logits` and `probabilities` [n, classes], their neighbors, targets [n].

    `more` tickets that the head has not seen count for the head's confidence and, where the model is not asked, for when to act.
    `unseen_logits` [n, classes], by heads that never saw the ticket's class, stand in for out-of-scope tickets where there are none.
    """
    s = settings or CalibrationSettings()
    clusters = np.arange(len(targets)) if clusters is None else clusters
    head = _fit_head_confidence(logits, probabilities, near, targets, unseen_logits, clusters, more, s)
    both = _fit_both(logits, probabilities, near, targets, answers, clusters, s) if answers is not None else _NOTHING
    asked = np.zeros(len(targets), bool)
    final, confidence, sure = probabilities.astype(float), head.crossed.copy(), 0.0
    if answers is not None and both.helps:
        sure = _sure(probabilities, s.model_share)
        rows = np.flatnonzero(probabilities[answers.rows].max(axis=1) < sure)
        where = answers.rows[rows]
        asked[where], final[where], confidence[where] = True, both.crossed[rows], both.confidence.crossed[rows]
    right = right_in_scope(final, targets)
    in_scope = final.argmax(axis=1) < final.shape[1] - 1
    judged = [(confidence, in_scope, right, clusters)]
    if more is not None and not asked.any():
        p = softmax(more.logits)
        acts = p.argmax(axis=1) < p.shape[1] - 1
        judged.append((head.crossed_more, acts, right_in_scope(p, more.targets), more.clusters))
    said, acts, were, groups = (np.concatenate(columns) for columns in zip(*judged, strict=True))
    act = act_threshold(said, acts, were, target=s.target_precision, certainty=s.certainty, clusters=groups, seed=s.seed)
    thresholds = Thresholds(
        taxonomy_sha256=taxonomy_sha256,
        adapter_sha256=adapter_sha256,
        mode=mode,
        candidates=candidates,
        examples=examples,
        others=others,
        sure=sure,
        act=act.threshold,
        head_weight=both.weights[0],
        model_weight=both.weights[1],
        head_confidence=head.confidence,
        both_confidence=both.confidence.confidence if both.helps else head.confidence,
        bounds=" ".join((act.sentence, both.sentence, _head_alone(probabilities, targets, sure))),
    )
    record = _record(final, confidence, right, targets, probabilities, head, asked, both)
    return Calibrated(thresholds=thresholds, act=act, probabilities=final, confidence=confidence, asked=asked, record=record)


def _fit_head_confidence(
    logits: np.ndarray,
    probabilities: np.ndarray,
    near: Neighborhood,
    targets: np.ndarray,
    unseen: np.ndarray | None,
    clusters: np.ndarray,
    more: Judgments | None,
    s: CalibrationSettings,
) -> FittedConfidence:
    """With more tickets where there are some, and tickets of unseen types where no ticket is out of scope."""
    features = decision_features(probabilities, logits=logits, near=near, wanted=HEAD_FEATURES)
    parts = [(features, right_in_scope(probabilities, targets), np.ones(len(targets)), clusters)]
    if more is not None:
        p = softmax(more.logits)
        theirs = decision_features(p, logits=more.logits, near=more.near, wanted=HEAD_FEATURES)
        parts.append((theirs, right_in_scope(p, more.targets), np.ones(len(p)), more.clusters))
    if unseen is not None:
        real = sum(len(right) for _, right, _, _ in parts)
        each = s.unseen_share / (1 - s.unseen_share) * real / len(targets)
        alien = _alien_features(unseen, near, targets)
        parts.append((alien, np.zeros(len(targets), bool), np.full(len(targets), each), clusters))
    found = fit_confidence(
        {name: np.concatenate([part[0][name] for part in parts]) for name in HEAD_FEATURES},
        np.concatenate([part[1] for part in parts]),
        weights=np.concatenate([part[2] for part in parts]),
        clusters=np.concatenate([part[3] for part in parts]),
        seed=s.seed,
    )
    theirs_end = len(targets) + (len(more.targets) if more is not None else 0)
    return replace(found, crossed=found.crossed[: len(targets)], crossed_more=found.crossed[len(targets) : theirs_end])


def _alien_features(unseen: np.ndarray, near: Neighborhood, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Features of the tickets as they would be had their class never been labeled: neighbors of it do not count either."""
    others = np.where(near.labels == targets[:, None], 0.0, near.similarities)
    order = np.argsort(-others, axis=1, kind="stable")
    hidden = Neighborhood(labels=np.take_along_axis(near.labels, order, 1), similarities=np.take_along_axis(others, order, 1))
    return decision_features(softmax(unseen), logits=unseen, near=hidden, wanted=HEAD_FEATURES)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Both:
    """What the model adds. `crossed` [m, classes] and `confidence.crossed` [m] are of the tickets it was asked about."""

    helps: bool
    weights: tuple[float, float]
    crossed: np.ndarray
    confidence: FittedConfidence
    sentence: str
    gain: float = 0.0
    error: float = 0.0


_NOTHING = _Both(
    helps=False,
    weights=(1.0, 0.0),
    crossed=np.zeros((0, 0)),
    confidence=FittedConfidence(confidence=Confidence(weights={"log_odds": 1.0}, bias=0.0), crossed=np.zeros(0)),
    sentence="The head alone decides: no language model was asked.",
)


def _fit_both(
    logits: np.ndarray,
    probabilities: np.ndarray,
    near: Neighborhood,
    targets: np.ndarray,
    answers: ModelAnswers,
    clusters: np.ndarray,
    s: CalibrationSettings,
) -> _Both:
    heads, wanted = probabilities[answers.rows].astype(float), targets[answers.rows]
    fold = folds_of(clusters[answers.rows], seed=s.seed)
    unsure = heads.max(axis=1) < _sure(probabilities, s.model_share)
    crossed, alone = heads.copy(), heads.copy()  # alone: the head weighed as freely, the model not heard
    for number in np.unique(fold):
        inside = fold == number
        outside = ~inside & unsure if int((~inside & unsure).sum()) >= 50 else ~inside
        some = _some(answers, inside)
        for out, most in ((crossed, 3.0), (alone, 0.0)):
            a, b = fit_weights(heads[outside], _some(answers, outside), wanted[outside], model_most=most)
            out[inside] = combine(heads[inside], some.logprobs, chosen=some.chosen, head_weight=a, model_weight=b)
    gain, error = _gain(alone[unsure], crossed[unsure], wanted[unsure])
    helps = bool(gain > s.gain_z * error and gain > 0)
    said = (
        f"Asking the model changes the log-likelihood of the tickets that the head is unsure of by {gain:+.4f} "
        f"(standard error {error:.4f}, {int(unsure.sum())} tickets)"
    )
    if not helps:
        return replace(_NOTHING, gain=gain, error=error, sentence=f"{said}: no gain beyond chance, so it is not asked.")
    features = decision_features(
        crossed,
        logits=logits[answers.rows],
        near=near.take(answers.rows),
        model=model_feature(crossed, answers.logprobs, answers.chosen),
        wanted=BOTH_FEATURES,
    )
    fit_on = unsure if int(unsure.sum()) >= 100 else np.ones(len(unsure), bool)
    fitted = fit_confidence(
        {name: values[fit_on] for name, values in features.items()},
        right_in_scope(crossed, wanted)[fit_on],
        clusters=clusters[answers.rows][fit_on],
        seed=s.seed,
    )
    every = fitted.confidence(features)
    every[fit_on] = fitted.crossed
    return _Both(
        helps=True,
        weights=fit_weights(heads[unsure], _some(answers, unsure), wanted[unsure]),
        crossed=crossed,
        confidence=replace(fitted, crossed=every),
        sentence=f"{said}: it is asked about them.",
        gain=gain,
        error=error,
    )


def _some(answers: ModelAnswers, which: np.ndarray) -> ModelAnswers:
    return ModelAnswers(rows=answers.rows[which], chosen=answers.chosen[which], logprobs=answers.logprobs[which])


def _sure(probabilities: np.ndarray, share: float) -> float:
    """The probability below which so large a share of tickets lies."""
    return round(float(np.quantile(probabilities.max(axis=1), min(max(share, 0.0), 1.0))), 6)


def _gain(before: np.ndarray, after: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """(mean, standard error) of the gain in log-likelihood, paired."""
    rows = np.arange(len(targets))
    if len(rows) < 2:
        return 0.0, 0.0
    gains = np.log(np.maximum(after[rows, targets], 1e-9)) - np.log(np.maximum(before[rows, targets], 1e-9))
    return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))


def _head_alone(probabilities: np.ndarray, targets: np.ndarray, sure: float) -> str:
    alone = probabilities.max(axis=1) >= sure
    wrong, total = int((probabilities.argmax(axis=1) != targets)[alone].sum()), int(alone.sum())
    return f"Decided by the head alone: {wrong} of {total} wrong, at most {upper_bound(wrong, total):.3f} with 95 % certainty."


def _record(
    final: np.ndarray,
    confidence: np.ndarray,
    right: np.ndarray,
    targets: np.ndarray,
    heads: np.ndarray,
    head: FittedConfidence,
    asked: np.ndarray,
    both: _Both,
) -> dict[str, Any]:
    return {
        "validation_tickets": len(targets),
        "head_accuracy": round(float(np.mean(heads.argmax(axis=1) == targets)), 4),
        "cascade_accuracy": round(float(np.mean(final.argmax(axis=1) == targets)), 4),
        "share_to_model": round(float(asked.mean()), 4),
        "model_gain": {"log_likelihood": round(both.gain, 5), "standard_error": round(both.error, 5), "asked": both.helps},
        "ece": round(ece(confidence, right), 4),
        "ece_equal_mass": round(ece(confidence, right, equal_mass=True), 4),
        "ece_of_a_calibrated_one_95": round(ece_band(confidence, draws=500).high, 4),
        "head_ece": round(ece(head.crossed, right_in_scope(heads, targets)), 4),
    }
