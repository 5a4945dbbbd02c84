"""Which type a ticket has: the linear head first, the language model for what the head is unsure of, abstention below a threshold.

Knows the head, a scoring language model behind its protocol and what was fitted on tickets that were not trained on: weights,
thresholds, confidence. Knows no engine and no store. One score call for the whole batch; without a language model the head
alone decides and abstains by its own confidence. Everything comes from one model folder, so that head, adapter, types and
thresholds are always of one fit.
"""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from models.local import ADAPTER, STORE
from models.manifest import Manifest, ModelRefused, verify
from orchestrator.domain.errors import ConfigurationError, ModelUnavailable
from orchestrator.domain.triage import OTHERS, Classification, Neighbor
from orchestrator.ports import Embedder, LanguageModel, ScoreRequest, ScoreResult
from orchestrator.triage.confidence import (
    VOTES,
    Calibration,
    Confidence,
    Neighborhood,
    best_in_scope,
    decision_features,
)
from orchestrator.triage.head import Head, load_head, nearest, softmax
from orchestrator.triage.prompts import CODES, choice_suffix
from orchestrator.triage.rerank import Shown, choose_candidates, show_candidates
from orchestrator.triage.taxonomy import Taxonomy, load_taxonomy

ALTERNATIVES = 5
NEIGHBORS = 3
ADAPTER_FILE = "adapter_model.safetensors"
NEVER = 2.0  # as a threshold: no confidence reaches it
_log = logging.getLogger(__name__)


class Mode(StrEnum):
    """What the model is shown."""

    OPTIONS = "options"  # every type with its meaning, in a prefix that all requests share
    CANDIDATES = "candidates"  # the head's best types, each with its nearest labeled tickets


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What was fitted on tickets that were not trained on; `bounds` says in words how far the fitted numbers are known."""

    taxonomy_sha256: str
    adapter_sha256: str | None  # of the weights that this was fitted beside; None: the head alone decides
    mode: Mode
    candidates: int  # types that are shown in mode `candidates`
    examples: int  # labeled tickets beside each
    others: bool  # Others is a candidate too
    sure: float  # from this probability of its best type (Others too) the head decides alone
    act: float  # below this confidence a ticket is not acted on; NEVER where no threshold keeps its promise
    head_weight: float  # of the head's log-probabilities, where both are asked
    model_weight: float  # of the model's
    head_confidence: Confidence
    both_confidence: Confidence
    bounds: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What the head makes of a batch of n tickets."""

    texts: Sequence[str]
    logits: np.ndarray  # [n, classes]
    probabilities: np.ndarray  # [n, classes]
    similar: np.ndarray  # [n, kept tickets]
    nearest: np.ndarray  # [n, k] positions of kept tickets, best first
    near: Neighborhood

    def take(self, rows: np.ndarray) -> "Judged":
        return Judged(
            texts=[self.texts[i] for i in rows],
            logits=self.logits[rows],
            probabilities=self.probabilities[rows],
            similar=self.similar[rows],
            nearest=self.nearest[rows],
            near=self.near.take(rows),
        )


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question to the model."""

    prompt: str
    codes: tuple[str, ...]
    classes: tuple[int, ...]  # what each code stands for


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Classifies micro-batches. `model` is the adapter's full name or alias that the language model is asked for."""

    head: Head
    thresholds: Thresholds
    taxonomy: Taxonomy
    language_model: LanguageModel | None
    model: str = "live"
    embedder: Embedder | None = None  # embeds for the head's other embedders than the first

    def classify(self, texts: Sequence[str], vectors: np.ndarray) -> list[Classification]:
        """One classification per text; `vectors` [len(texts), dimensions] are their embeddings by the desk's embedder, unit length.

        Raises ModelUnavailable where the head needs vectors of another embedder and that one does not answer.
        """
        if not len(texts):
            return []
        judged = self.judge(texts, vectors)
        confidence = self._confidence(self.thresholds.head_confidence, judged.probabilities, judged)
        decided = [
            self._classification(
                judged.probabilities[row], float(confidence[row]), stage="head", neighbors=self._shown(judged, row)
            )
            for row in range(len(texts))
        ]
        unsure = np.flatnonzero(judged.probabilities.max(axis=1) < self.thresholds.sure)
        for index, classification in zip(unsure, self._by_both(judged.take(unsure)), strict=False):
            decided[index] = classification
        return decided

    def judge(self, texts: Sequence[str], vectors: np.ndarray) -> Judged:
        """What the head says, with the labeled tickets that are near."""
        own = self._own(texts, vectors)
        logits = self.head.logits(texts, own, *(self._embedded(name, texts) for name in self.head.embedders[1:]))
        similar = self.head.similar(own)
        found = nearest(similar, max(VOTES, NEIGHBORS))
        near = Neighborhood(labels=self.head.neighbor_classes[found], similarities=np.take_along_axis(similar, found, 1))
        return Judged(
            texts=texts,
            logits=logits,
            probabilities=softmax(logits / self.head.temperature),
            similar=similar,
            nearest=found,
            near=near,
        )

    def questions(self, judged: Judged) -> list[Asked]:
        """What the model is asked about each ticket."""
        if self.thresholds.mode is Mode.OPTIONS:
            prefix, every = self.taxonomy.prefix(), tuple(range(len(self.taxonomy.all)))
            return [Asked(prompt=prefix + choice_suffix(text), codes=self.taxonomy.codes, classes=every) for text in judged.texts]
        chosen = choose_candidates(judged.probabilities, self.thresholds.candidates, others=self.thresholds.others)
        shown = show_candidates(
            judged.texts,
            chosen,
            judged.similar,
            classes=self.head.classes,
            neighbor_texts=self.head.neighbor_texts,
            neighbor_labels=self.head.neighbor_classes,
            examples=self.thresholds.examples,
        )
        return [_asked(one) for one in shown]

    def _own(self, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """The vectors of the head's first embedder: those that were passed in, unless the desk's embedder is another one.

        Vectors of two models are never taken for each other.
        """
        first = self.head.embedders[0]
        return vectors if self.embedder is None or self.embedder.name == first else self._embedded(first, texts)

    def _embedded(self, name: str, texts: Sequence[str]) -> np.ndarray:
        if self.embedder is None:
            raise ModelUnavailable(f"The head needs vectors of {name}, and there is no embedder.", hint="Serve that embedder.")
        return self.embedder.embed(texts, model=name)

    def _confidence(
        self, confidence: Confidence, probabilities: np.ndarray, judged: Judged, model: np.ndarray | None = None
    ) -> np.ndarray:
        wanted = confidence.weights.keys()
        return confidence(decision_features(probabilities, logits=judged.logits, near=judged.near, model=model, wanted=wanted))

    def _by_both(self, judged: Judged) -> list[Classification]:
        """The tickets that the model was asked about; none while it is not available."""
        if self.language_model is None or not len(judged.texts):
            return []
        asked = self.questions(judged)
        try:
            results = self.language_model.score(
                [ScoreRequest(prompt=one.prompt, options=one.codes) for one in asked], model=self.model
            )
        except ModelUnavailable as error:
            _log.warning("The language model is not available, the head decides %d unsure tickets alone: %s", len(asked), error)
            return []
        return self._decide_both(judged, asked, results)

    def _decide_both(self, judged: Judged, asked: list[Asked], results: Sequence[ScoreResult]) -> list[Classification]:
        logprobs = np.array([result.logprobs for result in results], np.float64)
        chosen = np.array([one.classes for one in asked])
        weights = {"head_weight": self.thresholds.head_weight, "model_weight": self.thresholds.model_weight}
        combined = combine(judged.probabilities, logprobs, chosen=chosen, **weights)
        said = model_feature(combined, logprobs, chosen)
        confidence = self._confidence(self.thresholds.both_confidence, combined, judged, model=said)
        names = self.head.classes
        return [
            self._classification(
                combined[row],
                float(confidence[row]),
                stage="model",
                neighbors=self._shown(judged, row),
                model=result.model,
                prompt_sha256=hashlib.sha256(one.prompt.encode("utf-8", "replace")).hexdigest(),
                option_logprobs={names[c]: value for c, value in zip(one.classes, result.logprobs, strict=True)},
            )
            for row, (one, result) in enumerate(zip(asked, results, strict=True))
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

    def _shown(self, judged: Judged, row: int) -> tuple[Neighbor, ...]:
        return tuple(self._neighbor(int(i), float(judged.similar[row, i])) for i in judged.nearest[row, :NEIGHBORS])

    def _neighbor(self, index: int, similarity: float) -> Neighbor:
        category, text = self.head.neighbor_labels[index], self.head.neighbor_texts[index]
        return Neighbor(category=category, similarity=round(similarity, 4), text=text)


def _asked(shown: Shown) -> Asked:
    return Asked(prompt=shown.prompt, codes=shown.codes, classes=shown.classes)


def combine(
    heads: np.ndarray, logprobs: np.ndarray, *, head_weight: float, model_weight: float, chosen: np.ndarray | None = None
) -> np.ndarray:
    """[n, classes] probabilities from both. The model redistributes what the head gave to the types that it was shown.

    `heads` [n, classes]; `logprobs` [n, k] of the types `chosen` [n, k] (none: all classes, in their order), taken over these
    alone. Within them p ~ head ^ head_weight x model ^ model_weight; the others keep the head's probability.
    """
    if chosen is None:
        chosen = np.broadcast_to(np.arange(heads.shape[1]), heads.shape)
    model = np.maximum(normalized(logprobs), -20.0)
    theirs = np.take_along_axis(heads, chosen, 1).astype(np.float64)
    mass = np.minimum(theirs.sum(axis=1, keepdims=True), 1.0)
    shares = softmax(head_weight * np.log(np.maximum(theirs, 1e-9)) + model_weight * model)
    out = heads.astype(np.float64, copy=True)
    np.put_along_axis(out, chosen, mass * shares, 1)
    return out


def normalized(logprobs: np.ndarray) -> np.ndarray:
    """[n, k] log-probabilities over the options alone."""
    return logprobs - np.logaddexp.reduce(logprobs, axis=1, keepdims=True)


def model_feature(combined: np.ndarray, logprobs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """[n] the model's log-probability of the best type in scope; very low for a type that it was not shown."""
    hit = chosen == best_in_scope(combined)[:, None]
    return np.where(hit, normalized(logprobs), -20.0).max(axis=1)


def _alternatives(classes: Sequence[str], probabilities: np.ndarray, confidence: float) -> tuple[tuple[str, float], ...]:
    """Best first. A winner in scope gets its calibrated confidence, the rest share what is left; the sum is at most 1."""
    order = np.argsort(-probabilities, kind="stable")[:ALTERNATIVES]
    shares = probabilities[order].astype(float)
    if classes[order[0]] != OTHERS:
        rest = float(probabilities.sum(dtype=np.float64)) - float(
            probabilities[order[0]]
        )  # not 1 - ...: float32 near 1 has no digits left
        shares[1:] *= (1.0 - confidence) / rest if rest > 1e-12 else 0.0
        shares[0] = confidence
    # Rounded down, so that rounding cannot lift the sum above 1. A calibrated winner may stand below a rival: it still comes first.
    return tuple((classes[i], float(np.floor(share * 1e6) / 1e6)) for i, share in zip(order, shares, strict=True))


def load_thresholds(path: Path) -> Thresholds:
    """Read `cascade.json`. Raises ConfigurationError when it is not what this version writes."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        read = {name: _confidence(record[name]) for name in ("head_confidence", "both_confidence")}
        act = NEVER if record["act"] is None else float(record["act"])
        return Thresholds(**(record | read | {"mode": Mode(record["mode"]), "act": act}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} cannot be used: {error!r}.", hint="Fit it again: cloister train fit.") from error


def _confidence(record: Mapping[str, Any]) -> Confidence:
    weights = {str(name): float(weight) for name, weight in record["weights"].items()}
    curve = Calibration(scores=tuple(record["scores"]), rights=tuple(record["rights"]))
    if not 1 < len(curve.scores) == len(curve.rights):
        raise ValueError("a curve needs as many rights as scores, at least two")
    decision_features(
        np.ones((0, 2)),
        logits=np.ones((0, 2)),
        near=Neighborhood(labels=np.ones((0, 0)), similarities=np.ones((0, 0))),
        wanted=weights,
    )
    return Confidence(weights=weights, bias=float(record["bias"]), curve=curve)


def thresholds_record(thresholds: Thresholds) -> dict[str, Any]:
    """What `cascade.json` says; `load_thresholds` reads it back."""

    def confidence(one: Confidence) -> dict[str, Any]:
        weights = dict(one.weights)
        return {"weights": weights, "bias": one.bias, "scores": list(one.curve.scores), "rights": list(one.curve.rights)}

    record = {name: getattr(thresholds, name) for name in Thresholds.__dataclass_fields__}
    return record | {
        "mode": thresholds.mode.value,
        "act": None if thresholds.act >= NEVER else thresholds.act,
        "head_confidence": confidence(thresholds.head_confidence),
        "both_confidence": confidence(thresholds.both_confidence),
    }


def load_cascade(
    language_model: LanguageModel | None,
    *,
    folder: Path | None = None,
    embedder: Embedder | None = None,
    model: str | None = None,
) -> Cascade:
    """The cascade of one model folder (none: the bundled one), every file verified against its manifest.

    `model` is what the language model is asked for; none: the folder's own full name, so that head and adapter are of one fit.
    `embedder` is needed where the head uses another embedder than the desk. Raises ConfigurationError.
    """
    folder = folder or STORE / ADAPTER
    try:
        manifest = verify(folder)
    except ModelRefused as error:
        raise ConfigurationError(str(error)) from error
    taxonomy = load_taxonomy(folder / "taxonomy.json")
    head, thresholds = load_head(folder), load_thresholds(folder / "cascade.json")
    problems = _contradictions(head, thresholds, taxonomy, manifest)
    if problems:
        raise ConfigurationError(f"{manifest.full_name} contradicts itself: {'; '.join(problems)}.", hint="Fit it again.")
    return Cascade(
        head=head,
        thresholds=thresholds,
        taxonomy=taxonomy,
        language_model=language_model if thresholds.adapter_sha256 else None,
        model=model or manifest.full_name,
        embedder=embedder,
    )


def _contradictions(head: Head, thresholds: Thresholds, taxonomy: Taxonomy, manifest: Manifest) -> list[str]:
    adapter = manifest.files[ADAPTER_FILE].sha256 if ADAPTER_FILE in manifest.files else None
    problems = []
    if head.classes != taxonomy.names or thresholds.taxonomy_sha256 != taxonomy.sha256:
        problems.append("head and thresholds were fitted to other types than its taxonomy.json has")
    if thresholds.adapter_sha256 and thresholds.adapter_sha256 != adapter:
        problems.append("its thresholds were fitted beside another adapter than it holds")
    if thresholds.mode is Mode.OPTIONS and thresholds.adapter_sha256 and not taxonomy.coded:
        problems.append("the model is to be shown all types, and some have no code")
    if thresholds.mode is Mode.CANDIDATES and not 2 <= thresholds.candidates + thresholds.others <= len(CODES):
        problems.append(f"{thresholds.candidates} candidates cannot be shown")
    return problems
