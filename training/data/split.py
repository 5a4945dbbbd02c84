"""Give every ticket its part: train, validation or golden. Knows times, clusters and types; knows no text.

By time where most tickets have one: the newest are golden, those before them validation; a cluster goes whole to the earliest part that
any of its tickets falls into. Otherwise by cluster, stratified by type, drawn with a seed. Every type keeps tickets to train on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from training.records import Part

GOLDEN_LEAST, GOLDEN_MOST = 200, 2_000
GOLDEN_SHARE_MOST = 0.2  # of a small dataset, whatever GOLDEN_LEAST says
MOSTLY = 0.5  # of the tickets must have a time for a split by time
TRAIN_LEAST = 4  # tickets of a type that train keeps, where it has so many
ORDER = (Part.TRAIN, Part.VALIDATION, Part.GOLDEN)  # earliest first


@dataclass(frozen=True, kw_only=True)
class Split:
    parts: np.ndarray  # [n] values of `Part`
    rule: str  # "time" or "cluster"
    kept_together: int  # tickets moved to an earlier part because a near-copy lies there
    kept_for_types: int  # tickets moved to train because their type had too few there
    validation_from: datetime | None = None
    golden_from: datetime | None = None


def golden_size(tickets: int, share: float) -> int:
    """How many golden tickets are wanted: the share, at least 200, at most 2,000, and at most a fifth; none for a share of 0."""
    if share <= 0:
        return 0
    return min(max(round(share * tickets), GOLDEN_LEAST), GOLDEN_MOST, int(GOLDEN_SHARE_MOST * tickets))


def split(
    targets: np.ndarray, clusters: np.ndarray, times: Sequence[datetime | None], *, validation: float, golden: float, seed: int
) -> Split:
    """Parts for n tickets; `targets` [n] type numbers, `clusters` [n], `times` [n] UTC or None, shares of all tickets."""
    sizes = round(validation * len(targets)), golden_size(len(targets), golden)
    dated = np.array([time is not None for time in times], bool)
    distinct = {time for time in times if time is not None}
    if len(targets) and dated.mean() > MOSTLY and len(distinct) > 2:
        return _by_time(targets, clusters, times, dated, sizes, seed)
    ranks = _by_cluster(targets, clusters, sizes, seed)
    return _finished("cluster", ranks, ranks, targets, clusters, seed)


def _by_time(
    targets: np.ndarray,
    clusters: np.ndarray,
    times: Sequence[datetime | None],
    dated: np.ndarray,
    sizes: tuple[int, int],
    seed: int,
) -> Split:
    stamps = np.array([(time or datetime.fromtimestamp(0, UTC)).timestamp() for time in times])
    order = np.flatnonzero(dated)[np.argsort(stamps[dated], kind="stable")]
    wanted = np.zeros(len(targets), np.int64)
    validation, golden = min(sizes[0], len(order) // 2), min(sizes[1], len(order) // 3)
    wanted[order[len(order) - golden - validation :]] = 1
    wanted[order[len(order) - golden :]] = 2
    earliest = np.full(int(clusters.max()) + 1, 2)
    np.minimum.at(earliest, clusters, wanted)
    ranks = earliest[clusters]
    begins = [
        times[min(found, key=lambda i: stamps[i])] if len(found := np.flatnonzero(wanted == rank)) else None for rank in (1, 2)
    ]
    return _finished("time", wanted, ranks, targets, clusters, seed, begins=begins, stamps=stamps)


def _by_cluster(targets: np.ndarray, clusters: np.ndarray, sizes: tuple[int, int], seed: int) -> np.ndarray:
    """[n] ranks. Clusters in random order fill their type's quota of golden, then of validation; what does not fit trains."""
    choose = np.random.default_rng(seed)
    types = int(targets.max()) + 1 if len(targets) else 0
    counts = np.bincount(targets, minlength=types)
    quotas = {rank: _quotas(counts, sizes[rank - 1], choose) for rank in (2, 1)}
    spare = np.maximum(0, counts - np.minimum(counts, TRAIN_LEAST))
    ranks = np.zeros(len(targets), np.int64)
    for members in _members(clusters, choose):
        kind = int(np.bincount(targets[members]).argmax())
        for rank, quota in quotas.items():
            if len(members) <= min(quota[kind], spare[kind]):
                ranks[members] = rank
                quota[kind] -= len(members)
                spare[kind] -= len(members)
                break
    return ranks


def _quotas(counts: np.ndarray, size: int, choose: np.random.Generator) -> np.ndarray:
    """[types] whole numbers in proportion that sum to `size`: largest remainders, ties by lot."""
    exact = size * counts / max(1, counts.sum())
    quotas = np.floor(exact).astype(np.int64)
    left = int(size - quotas.sum())
    quotas[np.lexsort((choose.random(len(counts)), quotas - exact))[:left]] += 1
    return quotas


def _members(clusters: np.ndarray, choose: np.random.Generator) -> list[np.ndarray]:
    """Positions of each cluster's tickets, clusters in random order."""
    order = np.argsort(clusters, kind="stable")
    found = np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1) if len(order) else []
    return [found[index] for index in choose.permutation(len(found))]


def _finished(
    rule: str,
    wanted: np.ndarray,
    ranks: np.ndarray,
    targets: np.ndarray,
    clusters: np.ndarray,
    seed: int,
    *,
    begins: Sequence[datetime | None] = (None, None),
    stamps: np.ndarray | None = None,
) -> Split:
    kept = _with_training(ranks, targets, clusters, stamps, seed)
    return Split(
        parts=np.array([part.value for part in ORDER])[kept],
        rule=rule,
        kept_together=int((ranks != wanted).sum()),
        kept_for_types=int((kept != ranks).sum()),
        validation_from=begins[0],
        golden_from=begins[1],
    )


def _with_training(
    ranks: np.ndarray, targets: np.ndarray, clusters: np.ndarray, stamps: np.ndarray | None, seed: int
) -> np.ndarray:
    """Ranks in which every type has TRAIN_LEAST tickets to train on, or all it has; the oldest clusters move, else random ones."""
    ranks = ranks.copy()
    when = stamps if stamps is not None else np.random.default_rng(seed).random(len(ranks))
    for kind in np.unique(targets):
        members = np.flatnonzero(targets == kind)
        least = min(TRAIN_LEAST, len(members))
        for index in members[np.argsort(when[members], kind="stable")]:
            if int((ranks[members] == 0).sum()) >= least:
                break
            ranks[clusters == clusters[index]] = 0
    return ranks
