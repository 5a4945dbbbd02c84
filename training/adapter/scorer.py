"""The trainer's own forward pass, for answers: what evaluation and the parity gate compare the served adapter with."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from peft import PeftModel

from models.manifest import MANIFEST_FILE, ModelRefused, verify
from training.adapter.base import Base, load_base
from training.adapter.config import AdapterConfig
from training.adapter.forward import option_logits
from training.adapter.lora import quicken
from training.adapter.packing import pack, split_packs
from training.adapter.rows import ChoiceRow, Reader

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BATCH_TOKENS = 8192


class Scorer:
    """Log-probabilities of options. Rows that share a prefix are computed together."""

    def __init__(self, base: Base, reader: Reader | None = None, *, batch_tokens: int = BATCH_TOKENS) -> None:
        self.base, self.batch_tokens = base, batch_tokens
        self.reader = reader or Reader(base.tokenizer, max_tokens=base.max_tokens)

    @classmethod
    def load(cls, base: Path, adapter: Path | None = None, *, config: AdapterConfig | None = None, fresh: bool = False) -> "Scorer":
        """A base's folder and, where given, an adapter's, every file verified. `fresh`: just fitted, not yet a model with a manifest.

        `config` chooses device, dtype and quantization only. Raises ModelRefused.
        """
        if adapter is not None and not (fresh and not (adapter / MANIFEST_FILE).exists()):
            verify(adapter)
        loaded = load_base(base, config or AdapterConfig(steps=1))
        if adapter is not None:
            named = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
            if named != loaded.name:
                raise ModelRefused(f"{adapter} is an adapter of {named}, not of {loaded.name}. Load it beside its own base.")
            quicken(PeftModel.from_pretrained(loaded.model, str(adapter)).eval())
        return cls(loaded)

    @torch.inference_mode()
    def score(self, rows: Sequence[ChoiceRow]) -> list[np.ndarray]:
        """For each row [its options] float32 log-probabilities, normalized over the row's options."""
        self.base.model.eval()
        tokens = self.reader.read(rows, with_targets=False)
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)
        for chosen in split_packs(tokens, batch_tokens=self.batch_tokens):
            packed = pack([tokens[index] for index in chosen], pad_id=self.base.pad_id).to(self.base.device)
            logits = option_logits(self.base, self.reader.code_ids, packed, way="exact")
            for index, scores in zip(chosen, F.log_softmax(logits, -1).cpu().numpy(), strict=True):
                found[index] = scores[: len(rows[index].options)]
        return found

    def measure(self, rows: Sequence[ChoiceRow]) -> dict[str, float]:
        """Mean loss (no smoothing) and share of right answers of rows with targets, weights counted."""
        scores = self.score(rows)
        weights = np.array([row.weight for row in rows])
        losses = np.array([-logprobs[row.target] for logprobs, row in zip(scores, rows, strict=True)])
        right = np.array([logprobs.argmax() == row.target for logprobs, row in zip(scores, rows, strict=True)])
        return {"loss": float(np.average(losses, weights=weights)), "right": float(np.average(right, weights=weights))}
