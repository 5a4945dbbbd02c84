"""From which cosine on two tickets are duplicates, for one encoder, to a stated precision. Knows vectors and cluster numbers only."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from orchestrator.domain.errors import BadInput
from training.metrics import lower_bound

LOWEST = 0.3  # cosines below this are never a reason to link
BLOCK = 1024  # rows that are compared at a time
DRAWS = 300


@dataclass(frozen=True, kw_only=True)
class DuplicateThreshold:
    """Pairs with at least this cosine are duplicates with the stated precision. `cosine` above 1: no cosine keeps the promise."""

    cosine: float
    precision: float  # that is promised
    measured: float  # among the labeled pairs above it
    lower: float  # one-sided 95 % bound of it
    recall: float
    pairs: int  # above it

    def record(self) -> dict[str, Any]:
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


def duplicate_threshold(
    vectors: np.ndarray, clusters: np.ndarray, precision: float = 0.9, *, certainty: float = 0.95, seed: int = 0
) -> DuplicateThreshold:
    """The lowest cosine from which on the lower bound of the precision of all pairs is at least `precision`.

    `vectors` [n, d] of unit length; `clusters` [n], tickets with the same number are duplicates (negative: of nothing). The bound is
    the smaller of Clopper-Pearson and a bootstrap over tickets, because pairs that share a ticket are not independent. Raises
    BadInput where no two tickets are duplicates.
    """
    clusters = _numbered(clusters)
    a, b, cosines = _near_pairs(vectors)
    same, whole = clusters[a] == clusters[b], _pairs_of(clusters)
    if not whole:
        raise BadInput("No two tickets are marked as duplicates.", hint="Name the field that duplicates share.")
    order = np.argsort(-cosines, kind="stable")
    a, b, cosines, same = a[order], b[order], cosines[order], same[order]
    hits = np.cumsum(same)
    for end in _candidates(cosines, hits, precision):
        lower = min(
            lower_bound(int(hits[end - 1]), end, level=certainty),
            _bootstrap(a[:end], b[:end], same[:end], len(vectors), certainty, seed),
        )
        if lower >= precision:
            share, recall = float(hits[end - 1] / end), float(hits[end - 1] / whole)
            floor = float(np.floor(cosines[end - 1] * 1e4) / 1e4)
            return DuplicateThreshold(cosine=floor, precision=precision, measured=share, lower=lower, recall=recall, pairs=end)
    return DuplicateThreshold(cosine=1.01, precision=precision, measured=0.0, lower=0.0, recall=0.0, pairs=0)


def _candidates(cosines: np.ndarray, hits: np.ndarray, precision: float) -> list[int]:
    """Numbers of pairs to try, from many to few: one per hundredth of cosine, where the measured precision is high enough."""
    steps = np.floor(cosines * 100)
    ends = np.append(np.flatnonzero(np.diff(steps)) + 1, len(steps)) if len(steps) else np.zeros(0, int)
    return [int(end) for end in ends[::-1] if hits[end - 1] / end >= precision]


def _near_pairs(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first, second, cosine) of every pair above LOWEST, first < second."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, len(vectors), BLOCK):
        similar = vectors[start : start + BLOCK] @ vectors.T
        rows, columns = np.nonzero(similar >= LOWEST)
        keep = rows + start < columns
        found.append((rows[keep] + start, columns[keep], similar[rows[keep], columns[keep]]))
    first, second, cosines = zip(*found, strict=True)
    return np.concatenate(first), np.concatenate(second), np.concatenate(cosines)


def _numbered(clusters: np.ndarray) -> np.ndarray:
    """Every ticket of no cluster becomes one of its own."""
    clusters = np.asarray(clusters, np.int64)
    alone = clusters < 0
    return np.where(alone, clusters.max(initial=0) + 1 + np.cumsum(alone), clusters)


def _pairs_of(clusters: np.ndarray) -> int:
    _, counts = np.unique(clusters, return_counts=True)
    return int((counts * (counts - 1) // 2).sum())


def _bootstrap(a: np.ndarray, b: np.ndarray, same: np.ndarray, tickets: int, certainty: float, seed: int) -> float:
    """Lower bound of the share of `same` when tickets are drawn again; a pair counts as often as both its tickets are drawn."""
    chance = np.random.default_rng(seed)
    values = []
    for _ in range(DRAWS):
        drawn = np.bincount(chance.integers(0, tickets, tickets), minlength=tickets)
        weight = drawn[a] * drawn[b]
        if total := weight.sum():
            values.append(float((weight * same).sum() / total))
    return float(np.quantile(values, 1 - certainty)) if values else 0.0
