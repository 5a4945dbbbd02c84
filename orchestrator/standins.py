"""Small, predictable stand-ins for the two models, on the same seam as the real ones. For throughput and crash tests, never for results.

The embedder hashes words, so that like texts are near; the language model prefers the option that the prompt names most often.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.domain.triage import OTHERS, Classification
from orchestrator.ports import ScoreRequest, ScoreResult


@dataclass(frozen=True, kw_only=True)
class HashEmbedder:
    """Words hashed into `dimensions` buckets, unit length. Deterministic across processes."""

    dimensions: int = 384
    name: str = "standin-hash"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()) or [""]:
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                row[int.from_bytes(digest[:4]) % self.dimensions] += 1.0 if digest[4] & 1 else -1.0
            norm = float(np.linalg.norm(row))
            row /= norm or 1.0
            row[0] += norm == 0.0
        return rows


@dataclass(frozen=True, kw_only=True)
class CountingLanguageModel:
    """Log-probabilities from how often each option's code stands alone in the prompt's last 400 characters."""

    name: str = "standin-counting"

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        return [ScoreResult(logprobs=_logprobs(request), model=self.name) for request in requests]


def _logprobs(request: ScoreRequest) -> tuple[float, ...]:
    tail = request.prompt[-400:].split()
    counts = [1.0 + tail.count(option) for option in request.options]
    total = math.log(sum(counts))
    return tuple(math.log(count) - total for count in counts)


@dataclass(frozen=True, kw_only=True)
class NamedClassifier:
    """The category whose name stands in the text, e.g. `password_reset: ...`; Others where none does."""

    names: tuple[str, ...]

    def classify(self, texts: Sequence[str], vectors: np.ndarray) -> list[Classification]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Classification:
        found = next((name for name in self.names if name in text), None)
        return Classification(
            category=found or OTHERS,
            confidence=1.0 if found else 0.0,
            abstained=found is None,
            alternatives=((found, 1.0),) if found else (),
            stage="head",
        )
