"""Does the served adapter choose what the trained one chooses? Knows requests and log-probabilities; knows no HTTP and no torch.

A served adapter can differ from the trained one without any error: another scale, a slot mixed up in a batch, a stale prefix. So
the same requests go through the trainer's forward pass and through the engine: alone, one by one in batches of the adapter, and mixed
with requests to the base model at the same moment.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from orchestrator.ports import LanguageModel, ScoreRequest, ScoreResult

BATCH = 16
TIE = 0.02  # log-probabilities so close are the same choice: bfloat16 rounds them


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of one way of asking."""

    requests: int
    same: int  # the same best option
    same_or_tied: int  # or one that the trainer's pass has within TIE of its best
    largest_difference: float  # of a log-probability, both normalized over the options
    mean_difference: float

    @property
    def share(self) -> float:
        return self.same_or_tied / self.requests if self.requests else 0.0

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"share": round(self.share, 5)}


@dataclass(frozen=True, kw_only=True)
class Parity:
    alone: Agreement
    mixed: Agreement
    base_moved: float  # largest change of the base's own log-probabilities when it is asked beside the adapter

    def record(self) -> dict[str, Any]:
        return {"alone": self.alone.record(), "mixed": self.mixed.record(), "base_moved": round(self.base_moved, 5)}


def measure_parity(
    requests: Sequence[ScoreRequest], *, trained: LanguageModel, served: LanguageModel, adapter: str, base: str
) -> Parity:
    """`adapter` and `base`: names by which the engine is asked."""
    expected = _normalized(trained.score(requests, model=adapter))
    alone = _normalized(_asked(served, requests, adapter))
    quiet = _normalized(_asked(served, requests, base))
    with ThreadPoolExecutor(2) as pool:
        beside = pool.submit(_asked, served, requests, base)
        mixed = _normalized(_asked(served, requests, adapter))
        loud = _normalized(beside.result())
    moved = max((float(np.abs(a - b).max()) for a, b in zip(quiet, loud, strict=True)), default=0.0)
    return Parity(alone=agreement(expected, alone), mixed=agreement(expected, mixed), base_moved=moved)


def agreement(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> Agreement:
    """Both: per request [options] normalized log-probabilities."""
    distances = [np.abs(a - b) for a, b in zip(expected, got, strict=True)]
    return Agreement(
        requests=len(expected),
        same=sum(int(a.argmax() == b.argmax()) for a, b in zip(expected, got, strict=True)),
        same_or_tied=sum(bool(a[b.argmax()] >= a.max() - TIE) for a, b in zip(expected, got, strict=True)),
        largest_difference=round(max((float(d.max()) for d in distances), default=0.0), 5),
        mean_difference=round(float(np.mean([d.mean() for d in distances])) if distances else 0.0, 5),
    )


def _asked(model: LanguageModel, requests: Sequence[ScoreRequest], name: str) -> list[ScoreResult]:
    found: list[ScoreResult] = []
    for start in range(0, len(requests), BATCH):
        found += model.score(requests[start : start + BATCH], model=name)
    return found


def _normalized(results: Sequence[ScoreResult]) -> list[np.ndarray]:
    rows = [np.array(result.logprobs, np.float64) for result in results]
    return [row - np.logaddexp.reduce(row) for row in rows]


def evidence(parity: Parity | None) -> Mapping[str, Any] | None:
    return parity.record() if parity else None
