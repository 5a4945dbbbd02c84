"""A model folder asked as the desk asks it: the desk's own cascade on the trainer's forward pass instead of a served engine.

`TrainedModel` and `FrozenEncoder` satisfy `orchestrator.ports.LanguageModel` and `Embedder` in this process; prompts, thresholds and
combination are those of `orchestrator.triage.classify`. Knows model folders and torch; knows no file of tickets and no figure.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.manifest import Manifest, ModelRefused, verify
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.triage import Classification
from orchestrator.ports import Embedder, LanguageModel, ScoreRequest, ScoreResult
from orchestrator.triage.classify import ADAPTER_FILE, Cascade, load_cascade
from orchestrator.triage.taxonomy import load_taxonomy

BATCH = 128  # tickets classified together, as the desk's worker claims them
Progress = Callable[[str, int, int], None]  # (what, done, of)
Find = Callable[[str], Path]
"""The folder of a model's full name, as `Registry.find` knows it. Raises ModelRefused."""


def silent(what: str, done: int, of: int) -> None:
    """No progress is shown."""


@dataclass(kw_only=True)
class Predictor:
    """Classifies texts with one model folder. `seconds` adds up what embedding and deciding took."""

    name: str  # full name
    folder: Path
    cascade: Cascade
    embedder: Embedder
    asked: str = ""  # through what the language model was asked, in words
    seconds: dict[str, float] = field(default_factory=lambda: {"embed": 0.0, "decide": 0.0})

    @property
    def classes(self) -> tuple[str, ...]:
        return self.cascade.head.classes

    def embed(self, texts: Sequence[str], *, progress: Progress = silent) -> np.ndarray:
        """[len(texts), dimensions] float32."""
        began = time.monotonic()
        parts = [self.embedder.embed(texts[rows]) for rows in _batches(len(texts), "tickets embedded", progress)]
        self.seconds["embed"] += time.monotonic() - began
        return np.concatenate(parts) if parts else np.zeros((0, self.embedder.dimensions), np.float32)

    def classify(self, texts: Sequence[str], vectors: np.ndarray, *, progress: Progress = silent) -> list[Classification]:
        """What the desk would decide for each text, in order."""
        began = time.monotonic()
        found: list[Classification] = []
        for rows in _batches(len(texts), "tickets classified", progress):
            found += self.cascade.classify(texts[rows], vectors[rows])
        self.seconds["decide"] += time.monotonic() - began
        return found

    def head_alone(self) -> "Predictor":
        """The same without the language model."""
        return replace(self, cascade=replace(self.cascade, language_model=None), seconds={"embed": 0.0, "decide": 0.0})


def open_predictor(folder: Path, *, find: Find, with_model: bool = True, language_model: LanguageModel | None = None) -> Predictor:
    """Verify and load a model folder. `language_model` asks another engine (a served one) than the trainer's.

    Raises ConfigurationError when the folder is refused, has no head, or its base or an embedder is not on this machine.
    """
    manifest = _verified(folder)
    if not (folder / "head.json").is_file():
        raise ConfigurationError(
            f"{manifest.full_name} has no head.json: it cannot decide a ticket's type by itself.",
            hint="Evaluate a model that `cloister train fit` made.",
        )
    asks = with_model and (folder / ADAPTER_FILE).is_file()
    model = (
        (language_model or TrainedModel(folder, base=_found(find, str(manifest.base)), name=manifest.full_name)) if asks else None
    )
    embedder = FrozenEncoders(find)
    cascade = load_cascade(model, folder=folder, embedder=embedder)
    embedder.name = cascade.head.embedders[0]
    asked = (
        "not at all (the head alone)"
        if cascade.language_model is None
        else "its served engine"
        if language_model
        else "the trainer's forward pass"
    )
    return Predictor(name=manifest.full_name, folder=folder, cascade=cascade, embedder=embedder, asked=asked)


def types_of(folder: Path) -> set[str]:
    """The types in scope of a model folder. Raises ConfigurationError."""
    return {category.name for category in load_taxonomy(folder / "taxonomy.json").categories}


def _found(find: Find, name: str) -> Path:
    try:
        return find(name)
    except ModelRefused as error:
        raise ConfigurationError(str(error)) from error


def _verified(folder: Path) -> Manifest:
    try:
        return verify(folder)
    except ModelRefused as error:
        raise ConfigurationError(str(error)) from error


def _batches(count: int, what: str, progress: Progress) -> Iterator[slice]:
    for start in range(0, count, BATCH):
        yield slice(start, min(start + BATCH, count))
        progress(what, min(start + BATCH, count), count)


# --- the two adapters to the trainer's side ---------------------------------------------------------------------------------


class FrozenEncoders:
    """`Embedder` on the trainer's sentence encoders, each loaded when its vectors are first asked for. `name` is the first one's."""

    def __init__(self, find: Find, *, name: str = "") -> None:
        self._find, self.name = find, name
        self._encoders: dict[str, Any] = {}

    @property
    def dimensions(self) -> int:
        return int(self._encoder(self.name).dimensions)

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> np.ndarray:
        """Raises ConfigurationError where the encoder of that full name is not on this machine."""
        found: np.ndarray = self._encoder(model or self.name).encode(texts)
        return found

    def _encoder(self, name: str) -> Any:
        if name not in self._encoders:
            self._encoders[name] = self._load(name)
        return self._encoders[name]

    def _load(self, name: str) -> Any:
        from training.head.encoder import BUNDLED_NAME, Encoder

        bundled = name.partition("@")[0] == BUNDLED_NAME
        encoder = Encoder() if bundled else Encoder(_found(self._find, name))
        if encoder.name != name:
            raise ConfigurationError(
                f"The head was fitted to vectors of {name}; here is {encoder.name}.", hint="Install that encoder, or fit again."
            )
        return encoder


class TrainedModel:
    """`LanguageModel` on the trainer's forward pass. The shared beginning of a batch is computed once."""

    def __init__(self, folder: Path, *, base: Path, name: str) -> None:
        """Raises ModelRefused, ConfigurationError."""
        from training.adapter.scorer import Scorer

        self._scorer = Scorer.load(base, folder)
        self.name = name

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        """Log-probabilities over the options alone; `model` is always this one."""
        from training.adapter.rows import ChoiceRow

        prefix, suffixes = split_shared([request.prompt for request in requests])
        rows = [
            ChoiceRow(prefix=prefix, suffix=suffix, options=request.options)
            for request, suffix in zip(requests, suffixes, strict=True)
        ]
        return [ScoreResult(logprobs=tuple(map(float, found)), model=self.name) for found in self._scorer.score(rows)]


def split_shared(prompts: Sequence[str]) -> tuple[str, list[str]]:
    """(whole lines that all prompts begin with, what follows in each; never nothing)."""
    first, last = min(prompts), max(prompts)  # what these two share, all share
    most = min(map(len, prompts)) - 1
    same = next((place for place in range(most) if first[place] != last[place]), most)
    end = first.rfind("\n", 0, max(same, 0)) + 1
    return first[:end], [prompt[end:] for prompt in prompts]
