"""Which type a ticket has: the linear head first, the language model for what the head is unsure of, abstention below a threshold.

Knows the head, a scoring language model behind its protocol and the thresholds that `training/triage` fitted on tickets that
were not trained on. Knows no engine and no store. One score call for the whole batch; without a language model the head
alone decides and abstains by its own confidence.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.local import HEAD, open_verified
from models.manifest import ModelRefused
from orchestrator.domain.errors import ConfigurationError, ModelUnavailable
from orchestrator.domain.triage import OTHERS, Classification, Neighbor
from orchestrator.ports import LanguageModel, ScoreRequest
from orchestrator.triage.head import Head, load_head, softmax
from orchestrator.triage.prompts import choice_suffix
from orchestrator.triage.taxonomy import Taxonomy, load_taxonomy

ALTERNATIVES = 5
NEIGHBORS = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rising map from a score 0..1 to the share of tickets with that score whose best type was right and in scope."""

    scores: tuple[float, ...]
    rights: tuple[float, ...]

    def __call__(self, score: np.ndarray) -> np.ndarray:
        return np.interp(score, self.scores, self.rights)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What was fitted on tickets that were not trained on; `bounds` says in words how far the fitted numbers are known."""

    taxonomy_sha256: str
    adapter: str  # full name of the adapter that the two weights were fitted beside
    sure: float  # from this probability of its best type (Others too) the head decides alone
    act: float  # below this confidence a ticket is not acted on
    head_weight: float  # of the head's log-probabilities, where both are asked
    model_weight: float  # of the model's
    head_calibration: Calibration
    both_calibration: Calibration
    bounds: str


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Classifies micro-batches. `model` is the adapter's name or alias that the language model is asked for."""

    head: Head
    thresholds: Thresholds
    taxonomy: Taxonomy
    language_model: LanguageModel | None
    model: str = "live"

    def classify(self, texts: Sequence[str], vectors: np.ndarray) -> list[Classification]:
        """One classification per text; `vectors` [len(texts), dimensions] are their embeddings, unit length."""
        if not len(texts):
            return []
        heads = self.head.probabilities(texts, vectors)
        near = self._neighbors(vectors)
        confidence = self.thresholds.head_calibration(_best_in_scope(heads))
        decided = [self._by_head(p, float(c), n) for p, c, n in zip(heads, confidence, near, strict=True)]
        unsure = np.flatnonzero(heads.max(axis=1) < self.thresholds.sure)
        for index, classification in self._by_both([texts[i] for i in unsure], heads[unsure], [near[i] for i in unsure], unsure):
            decided[index] = classification
        return decided

    def _by_head(self, probabilities: np.ndarray, confidence: float, near: tuple[Neighbor, ...]) -> Classification:
        return self._classification(probabilities, confidence, stage="head", neighbors=near)

    def _by_both(
        self, texts: list[str], heads: np.ndarray, near: list[tuple[Neighbor, ...]], where: np.ndarray
    ) -> list[tuple[int, Classification]]:
        """(position, classification) of the tickets that the model was asked about; none while it is not available."""
        if self.language_model is None or not texts:
            return []
        prefix = self.taxonomy.prefix()
        requests = [ScoreRequest(prompt=prefix + choice_suffix(text), options=self.taxonomy.codes) for text in texts]
        try:
            results = self.language_model.score(requests, model=self.model)
        except ModelUnavailable as error:
            _log.warning("The language model is not available, the head decides %d unsure tickets alone: %s", len(texts), error)
            return []
        logprobs = np.array([result.logprobs for result in results], np.float64)
        combined = combine(heads, logprobs, head_weight=self.thresholds.head_weight, model_weight=self.thresholds.model_weight)
        confidence = self.thresholds.both_calibration(_best_in_scope(combined))
        return [
            (
                int(where[row]),
                self._classification(
                    combined[row],
                    float(confidence[row]),
                    stage="model",
                    neighbors=near[row],
                    model=results[row].model,
                    prompt_sha256=hashlib.sha256(requests[row].prompt.encode("utf-8", "replace")).hexdigest(),
                    option_logprobs=dict(zip(self.taxonomy.names, results[row].logprobs, strict=True)),
                ),
            )
            for row in range(len(texts))
        ]

    def _classification(self, probabilities: np.ndarray, confidence: float, **fields: Any) -> Classification:
        winner = self.head.classes[int(probabilities.argmax())]
        return Classification(
            category=winner,
            confidence=round(confidence, 6),
            abstained=winner == OTHERS or confidence < self.thresholds.act,
            alternatives=_alternatives(self.head.classes, probabilities, confidence),
            **fields,
        )

    def _neighbors(self, vectors: np.ndarray) -> list[tuple[Neighbor, ...]]:
        head = self.head
        return [
            tuple(Neighbor(category=head.neighbor_labels[i], similarity=round(s, 4), text=head.neighbor_texts[i]) for i, s in found)
            for found in head.nearest(vectors, NEIGHBORS)
        ]


def combine(heads: np.ndarray, logprobs: np.ndarray, *, head_weight: float, model_weight: float) -> np.ndarray:
    """[n, classes] probabilities from both: a weighted sum of log-probabilities, the model's taken over the options alone."""
    model = logprobs - np.logaddexp.reduce(logprobs, axis=1, keepdims=True)
    return softmax(head_weight * np.log(np.maximum(heads, 1e-9)) + model_weight * np.maximum(model, -20.0))


def _best_in_scope(probabilities: np.ndarray) -> np.ndarray:
    """[n] the probability of the best type that is not Others (which comes last)."""
    return probabilities[:, :-1].max(axis=1)


def _alternatives(classes: Sequence[str], probabilities: np.ndarray, confidence: float) -> tuple[tuple[str, float], ...]:
    """Best first. A winner in scope gets its calibrated confidence, the rest share what is left; the sum is at most 1."""
    order = np.argsort(-probabilities, kind="stable")[:ALTERNATIVES]
    shares = probabilities[order].astype(float)
    if classes[order[0]] != OTHERS:
        rest = 1.0 - float(probabilities[order[0]])
        shares[1:] *= (1.0 - confidence) / rest if rest > 1e-12 else 0.0
        shares[0] = confidence
    # Rounded down, so that rounding cannot lift the sum above 1. A calibrated winner may stand below a rival: it still comes first.
    return tuple((classes[i], float(np.floor(share * 1e6) / 1e6)) for i, share in zip(order, shares, strict=True))


def load_thresholds(path: Path) -> Thresholds:
    """Read `cascade.json`. Raises ConfigurationError when it is not what this version writes."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        calibrations = {
            name: Calibration(scores=tuple(record[name]["scores"]), rights=tuple(record[name]["rights"]))
            for name in ("head_calibration", "both_calibration")
        }
        return Thresholds(**(record | calibrations))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} cannot be used: {error!r}.", hint="Fit it again: python -m training.triage.make."
        ) from error


def load_cascade(
    language_model: LanguageModel | None, *, head: Path | None = None, taxonomy: Taxonomy | None = None, model: str = "live"
) -> Cascade:
    """The cascade from a head's folder (none: the bundled one), every file verified against its manifest."""
    taxonomy = taxonomy or load_taxonomy()
    try:
        folder, _ = open_verified(head.name, store=head.parent) if head else open_verified(HEAD)
    except ModelRefused as error:
        raise ConfigurationError(str(error)) from error
    loaded, thresholds = load_head(folder), load_thresholds(folder / "cascade.json")
    if loaded.classes != taxonomy.names or thresholds.taxonomy_sha256 != taxonomy.sha256:
        raise ConfigurationError(
            f"the head in {folder} was fitted to another taxonomy than this desk's "
            f"({len(loaded.classes)} types, {len(taxonomy.names)} here).",
            hint="Fit head and adapter to this taxonomy: python -m training.triage.make.",
        )
    return Cascade(head=loaded, thresholds=thresholds, taxonomy=taxonomy, language_model=language_model, model=model)
