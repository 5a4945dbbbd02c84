"""A model folder asked as the desk asks it: the desk's own cascade on the trainer's forward pass instead of a served engine.

`TrainedModel` and `FrozenEncoder` satisfy `orchestrator.ports.LanguageModel` and `Embedder` in this process; prompts, thresholds and
combination are those of `orchestrator.triage.classify`. Knows model folders and torch; knows no file of tickets and no figure.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.manifest import Manifest, ModelRefused, verify
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.triage import Classification
from orchestrator.ports import Embedder, LanguageModel, ScoreRequest, ScoreResult
from orchestrator.triage.classify import ADAPTER_FILE, Cascade, load_cascade

PACK_TOKENS = 20_000  # of whole prompts in one forward pass; with a shared prefix far fewer are computed
BATCH = 128  # tickets classified together, as the desk's worker claims them
BUNDLED_EMBEDDER = "all-MiniLM-L6-v2"
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

    def __init__(self, find: Find, *, name: str = BUNDLED_EMBEDDER) -> None:
        self._find, self.name = find, name
        self._encoders: dict[str, Any] = {}

    @property
    def dimensions(self) -> int:
        return int(self._encoder(self.name).model.config.hidden_size)

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> np.ndarray:
        return self._encoder(model or self.name).encode(list(texts))

    def _encoder(self, name: str) -> Any:
        if name not in self._encoders:
            from training.nano.teacher import Encoder

            self._encoders[name] = Encoder()
        return self._encoders[name]


class TrainedModel:
    """`LanguageModel` on base and adapter as the trainer has them. Every prompt is tokenized whole, as the engine does."""

    def __init__(self, folder: Path, *, base: Path, name: str) -> None:
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

        self._tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
        self._model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder).eval()
        self.name = name

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        import torch
        import torch.nn.functional as F  # noqa: N812

        from training.nano.packing import pack

        ids = self._tokenizer([request.prompt for request in requests], add_special_tokens=False)["input_ids"]
        vocabulary = self._tokenizer.get_vocab()
        decoder = self._model.get_base_model()
        found: list[ScoreResult | None] = [None] * len(requests)
        for rows in _packs(ids):
            shared = _common(ids[index] for index in rows)
            packed = pack([(ids[rows[0]][:shared], [ids[index][shared:] for index in rows])], pad_id=self._tokenizer.pad_token_id)
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                hidden = decoder.model(
                    input_ids=packed.ids, position_ids=packed.positions, attention_mask=packed.mask
                ).last_hidden_state
                logits = decoder.lm_head(hidden[0, packed.ends[:, 1]])
            logprobs = F.log_softmax(logits.float(), -1)
            for row, index in zip(logprobs, rows, strict=True):
                codes = [vocabulary[code] for code in requests[index].options]
                found[index] = ScoreResult(logprobs=tuple(row[codes].tolist()), model=self.name)
        return [each for each in found if each is not None]


def _packs(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Positions in order of length, in rows of at most `PACK_TOKENS`."""
    waiting: list[int] = []
    for index in sorted(range(len(ids)), key=lambda index: len(ids[index])):
        if waiting and (len(waiting) + 1) * len(ids[index]) > PACK_TOKENS:
            yield waiting
            waiting = []
        waiting.append(index)
    if waiting:
        yield waiting


def _common(rows: Iterable[Sequence[int]]) -> int:
    """How many first tokens all rows share; each keeps at least its last."""
    first, *rest = rows
    shared = len(first) - 1
    for row in rest:
        limit = min(shared, len(row) - 1)
        shared = next((place for place in range(limit) if row[place] != first[place]), limit)
    return shared
