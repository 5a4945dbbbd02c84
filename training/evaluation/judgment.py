"""How one way of deciding (the cascade, its head, a baseline) judged the same tickets. Arrays only; knows no model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.domain.triage import OTHERS, Classification


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgment:
    """One entry per ticket in every array. Types are names, so that models of different taxonomies stand side by side."""

    name: str
    best: np.ndarray  # [n] str, the chosen type; OTHERS where out of scope
    best_in_scope: np.ndarray  # [n] str, the most likely type that is not OTHERS
    confidence: np.ndarray  # [n] 0..1, that `best_in_scope` is right and the ticket in scope
    acted: np.ndarray | None = None  # [n] bool, at the model's own threshold; None: it has none

    def __len__(self) -> int:
        return len(self.best)

    def take(self, rows: np.ndarray) -> "Judgment":
        """The same for some of the tickets: positions or a mask."""
        return Judgment(
            name=self.name,
            best=self.best[rows],
            best_in_scope=self.best_in_scope[rows],
            confidence=self.confidence[rows],
            acted=None if self.acted is None else self.acted[rows],
        )


def from_classifications(name: str, found: Sequence[Classification]) -> Judgment:
    """What `Cascade.classify` said. Where OTHERS won, the best type in scope is the first of the alternatives that is one."""
    return Judgment(
        name=name,
        best=np.array([each.category for each in found], object),
        best_in_scope=np.array([_best_in_scope(each) for each in found], object),
        confidence=np.array([each.confidence for each in found], np.float64),
        acted=np.array([not each.abstained for each in found], bool),
    )


def from_probabilities(name: str, classes: Sequence[str], probabilities: np.ndarray, *, act: float | None = None) -> Judgment:
    """`probabilities` [n, classes], rows sum to 1. `act`: from this confidence a ticket whose best type is in scope is acted on."""
    names = np.array(classes, object)
    scope = np.flatnonzero(names != OTHERS)
    best = names[probabilities.argmax(1)]
    inside = probabilities[:, scope]
    confidence = inside.max(1)
    return Judgment(
        name=name,
        best=best,
        best_in_scope=names[scope][inside.argmax(1)],
        confidence=confidence.astype(np.float64),
        acted=None if act is None else (best != OTHERS) & (confidence >= act),
    )


def from_model_alone(found: Sequence[Classification]) -> tuple[np.ndarray, Judgment]:
    """(positions of the tickets that the language model was asked about, what it alone says of them), its scores uncalibrated."""
    asked = [index for index, each in enumerate(found) if each.option_logprobs]
    best, inside, confidence = [], [], []
    for index in asked:
        names = list(found[index].option_logprobs)
        scores = np.array([found[index].option_logprobs[name] for name in names], np.float64)
        shares = np.exp(scores - np.logaddexp.reduce(scores))
        best.append(names[int(shares.argmax())])
        scope = max((i for i in range(len(names)) if names[i] != OTHERS), key=lambda i: shares[i])
        inside.append(names[scope])
        confidence.append(float(shares[scope]))
    judgment = Judgment(
        name="model alone",
        best=np.array(best, object),
        best_in_scope=np.array(inside, object),
        confidence=np.array(confidence, np.float64),
    )
    return np.array(asked, np.int64), judgment


def _best_in_scope(found: Classification) -> str:
    if found.category != OTHERS:
        return found.category
    return next((name for name, _ in found.alternatives if name != OTHERS), OTHERS)
