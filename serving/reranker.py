"""A cross-encoder that reads question and passage together, out of a verified local folder. Optional: off unless a folder is named.

Knows sentence-transformers; knows no ticket and no store. The folder is a model of kind reranker (`cloister models import DIR --as NAME
--kind reranker`): flat, with manifest, config.json, model.safetensors and tokenizer.json; every byte is checked before it is loaded.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import models.manifest
from orchestrator.domain.errors import ConfigurationError
from orchestrator.ports import Reranker
from serving.platform import capability, switch_off_phone_home

WINDOW_TOKENS = 512  # of question and passage together, at most
PAIRS_PER_BATCH = 16


class CrossEncoderReranker:
    """`orchestrator.ports.Reranker` in this process. Thread-safe: one question at a time."""

    def __init__(self, folder: Path) -> None:
        """Verify and load. Raises ConfigurationError that says what is wrong with the folder."""
        switch_off_phone_home()
        self.name = verified_name(folder)
        import torch
        from sentence_transformers import CrossEncoder

        machine = capability()
        try:
            self._model = CrossEncoder(
                str(folder),
                device=machine.device,
                num_labels=1,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": getattr(torch, machine.dtype), "use_safetensors": True},
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ConfigurationError(f"The reranker {self.name} cannot be loaded: {error}") from error
        self._model.max_length = min(WINDOW_TOKENS, int(self._model.max_length or WINDOW_TOKENS))
        self._model.eval()
        self._lock = threading.Lock()

    def rank(self, question: str, texts: Sequence[str]) -> list[float]:
        """One number for each text; the higher answers better. Pairs beyond the window are cut at the passage's end."""
        if not texts:
            return []
        with self._lock:
            scores = self._model.predict([(question, text) for text in texts], batch_size=PAIRS_PER_BATCH, show_progress_bar=False)
        return [float(score) for score in scores]


def verified_name(folder: Path) -> str:
    """The full name of the reranker in this folder. Raises ConfigurationError where it is none, or not what its manifest says."""
    try:
        manifest = models.manifest.read(folder)
        if manifest.kind is not models.manifest.Kind.RERANKER:
            raise models.manifest.ModelRefused(f"{folder} is refused: it is of kind {manifest.kind}, not a reranker.")
        models.manifest.verify(folder, expect=manifest.full_name)
    except (models.manifest.ModelRefused, OSError) as error:
        raise ConfigurationError(
            f"The reranker is refused: {error}", hint="Import it with `cloister models import DIR --as NAME --kind reranker`."
        ) from error
    return manifest.full_name


def open_reranker(folder: str | None) -> Reranker | None:
    """The reranker of the settings; None where they name none."""
    return CrossEncoderReranker(Path(folder)) if folder else None
