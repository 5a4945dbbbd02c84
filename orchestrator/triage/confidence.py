"""How sure a decision is: what can be read off it, and the map from that to the share of such decisions that were right.

The same functions serve when the map is fitted and when it is used. Confidence means: the best type in scope is right, and the
ticket is in scope. Every feature says *surer* when it is greater, every weight is at least 0, and the last step rises: a
decision that is better in every respect never gets less confidence. Knows arrays; knows no tickets and no models.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

FEATURES: Mapping[str, str] = {
    "log_odds": "log-odds of the best type in scope",
    "margin": "log of that probability over the best rival's, Others among the rivals",
    "agreement": "share of the nearest labeled tickets that have this type, each counted by its similarity",
    "nearest": "cosine to the nearest labeled ticket in scope: low for what is far from everything",
    "same_type": "cosine to the nearest labeled ticket of this type",
    "evidence": "the head's largest logit of a type in scope: low where no word and no direction speaks for any type",
    "model": "the model's log-probability of this type among its options; 0 where it was not asked",
}
ODDS_LIMIT = 12.0  # log-odds beyond this are not told apart
VOTES = 10  # nearest labeled tickets that vote


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rising map from a score 0..1 to the share of tickets with that score whose best type was right and in scope."""

    scores: tuple[float, ...]
    rights: tuple[float, ...]

    def __call__(self, score: np.ndarray) -> np.ndarray:
        return np.interp(score, self.scores, self.rights)


UNCHANGED = Calibration(scores=(0.0, 1.0), rights=(0.0, 1.0))


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """`curve(sigmoid(bias + sum of weight x feature))`."""

    weights: Mapping[str, float]  # by name in FEATURES; those that are absent count nothing
    bias: float
    curve: Calibration = UNCHANGED

    def __call__(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """[n] in 0..1 from features of [n] each."""
        total = sum(weight * features[name] for name, weight in self.weights.items())
        return self.curve(1.0 / (1.0 + np.exp(-(total + self.bias))))


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighborhood:
    """The nearest labeled tickets of n tickets, best first."""

    labels: np.ndarray  # [n, k] class of each
    similarities: np.ndarray  # [n, k] cosine

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "Neighborhood":
        return Neighborhood(labels=self.labels[rows], similarities=self.similarities[rows])


def best_in_scope(probabilities: np.ndarray) -> np.ndarray:
    """[n] index of the best type that is not Others (which comes last)."""
    return probabilities[:, :-1].argmax(axis=1)


def decision_features(
    probabilities: np.ndarray,
    *,
    logits: np.ndarray,
    near: Neighborhood,
    model: np.ndarray | None = None,
    wanted: Collection[str] = tuple(FEATURES),
) -> dict[str, np.ndarray]:
    """[n] of each wanted feature of n decisions.

    `probabilities` and `logits` (the head's) are [n, classes], Others last; `model` [n] is the model's log-probability of the
    best type in scope.
    """
    rows = np.arange(len(probabilities))
    best = best_in_scope(probabilities)
    share = np.clip(probabilities[rows, best].astype(float), 1e-9, 1 - 1e-9)
    same = near.labels == best[:, None] if len(near.labels) else np.zeros(near.labels.shape, bool)
    makers = {
        "log_odds": lambda: np.clip(np.log(share / (1 - share)), -ODDS_LIMIT, ODDS_LIMIT),
        "margin": lambda: _margin(probabilities, best, share),
        "agreement": lambda: _votes(near, same),
        "nearest": lambda: _highest(near, near.labels < probabilities.shape[1] - 1),
        "same_type": lambda: _highest(near, same),
        "evidence": lambda: logits[:, :-1].max(axis=1).astype(float),
        "model": lambda: np.zeros(len(rows)) if model is None else np.maximum(model, -ODDS_LIMIT),
    }
    return {name: makers[name]() for name in wanted}


def _margin(probabilities: np.ndarray, best: np.ndarray, share: np.ndarray) -> np.ndarray:
    rivals = probabilities.astype(float).copy()
    rivals[np.arange(len(best)), best] = 0.0
    return np.clip(np.log(share / np.maximum(rivals.max(axis=1), 1e-9)), -ODDS_LIMIT, ODDS_LIMIT)


def _votes(near: Neighborhood, same: np.ndarray) -> np.ndarray:
    weights = np.maximum(near.similarities[:, :VOTES], 0.0) ** 4  # a near ticket counts far more than a distant one
    return (weights * same[:, :VOTES]).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)


def _highest(near: Neighborhood, among: np.ndarray) -> np.ndarray:
    """[n] the greatest similarity among the marked neighbors; 0 where none is marked."""
    return np.where(among, np.maximum(near.similarities, 0.0), 0.0).max(axis=1, initial=0.0)
