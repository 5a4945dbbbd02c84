"""Variety: how many phrases differ, which tickets are near-copies, which are form letters and batch alerts."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from training.readiness.export import Export
from training.readiness.limits import found, unknown
from training.readiness.records import Example, Measure
from training.readiness.vectors import Space

NEAR = 0.95  # cosine from which on two texts may be near-copies
SAME_WORDS = 0.75  # of their words, numbers aside, that near-copies share at least (Jaccard)
PHRASES = 20_000  # three-word phrases drawn; a fixed number, since the share of distinct ones falls with it
MASK_CHARS = 300
TEMPLATE_WORDS = 5  # of a form letter at least: shorter texts are equal by themselves
_VARIABLE = re.compile(r"\S*\d\S*|\S+@\S+|https?://\S+")
_WORD = re.compile(r"[^\W_]+")


def masked(text: str) -> str:
    """A text without what differs between two copies of a form: numbers, ids, addresses, case, punctuation."""
    return " ".join(_WORD.findall(_VARIABLE.sub(" ", text[: 4 * MASK_CHARS].casefold())))[:MASK_CHARS]


def near_copies(texts: Sequence[str], space: Space) -> np.ndarray:
    """[n] int: a number that near-copies share. Equal when masked, or close as vectors with mostly the same words."""
    masks = [masked(text) for text in texts]
    words = [frozenset(mask.split()) for mask in masks]
    first: dict[str, int] = {}
    edges = [
        (first.setdefault(mask or f"\0{text}", index), index) for index, (mask, text) in enumerate(zip(masks, texts, strict=True))
    ]
    rows, places = np.nonzero(space.similarities >= NEAR)
    for row, other in zip(rows, space.neighbors[rows, places], strict=True):
        if _shared(words[row], words[other]) >= SAME_WORDS:
            edges.append((int(row), int(other)))
    graph = coo_matrix((np.ones(len(edges)), tuple(np.array(edges).T)), shape=(len(texts), len(texts)))
    return connected_components(graph, directed=False)[1]


def _shared(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(1, len(one | other))


def measure_variety(export: Export, compared: np.ndarray, clusters: np.ndarray) -> list[Measure]:
    """Three measures; `clusters` [m] of near-copies among the rows `compared` [m]."""
    return [_phrases(export), _copies(compared, clusters), _templates(export, compared, clusters)]


def _phrases(export: Export) -> Measure:
    seen: list[tuple[str, ...]] = []
    for index in np.random.default_rng(0).permutation(len(export)):
        words = _WORD.findall(export.texts[index].casefold()[:2_000])
        seen += zip(words, words[1:], words[2:], strict=False)
        if len(seen) >= PHRASES:
            break
    seen = seen[:PHRASES]
    if len(seen) < 30:
        return unknown("distinct_phrases", "The texts are too short to hold phrases of three words.")
    share = len(set(seen)) / len(seen)
    return found(
        "distinct_phrases", share,
        f"Of {len(seen):,} three-word phrases drawn, {share:.1%} differ. Synthetic or form-filled tickets repeat themselves.",
        "Take in tickets that people wrote in their own words (mail, chat), not only those made from forms.",
        affected=1 - share,
        details={"drawn": len(seen), "distinct": len(set(seen))},
    )  # fmt: skip


def _copies(compared: np.ndarray, clusters: np.ndarray) -> Measure:
    sizes = np.bincount(clusters)
    extra = int((sizes - 1).sum())
    share = extra / len(compared)
    return found(
        "near_copies", share,
        f"{extra:,} of {len(compared):,} tickets ({share:.1%}) are near-copies of another; {len(sizes):,} differ. "
        "`train fit` keeps copies in one part, so that no test ticket was seen in training.",
        "Count distinct tickets, not rows, when judging the volume; keep a few copies of each.",
        affected=share,
        examples=_largest(compared, clusters, sizes, at_least=2, number=3),
        details={"distinct": len(sizes), "copies": extra, "sizes": _histogram(sizes)},
    )  # fmt: skip


def _templates(export: Export, compared: np.ndarray, clusters: np.ndarray) -> Measure:
    long = np.array([len(masked(export.texts[row]).split()) >= TEMPLATE_WORDS for row in compared])
    sizes = np.bincount(clusters, weights=long, minlength=int(clusters.max()) + 1).astype(int)
    many = template_size(len(compared))
    tickets = int(sizes[sizes >= many].sum())
    share = tickets / len(compared)
    return found(
        "templates", share,
        f"{int((sizes >= many).sum())} texts come {many} times or more (form letters, batch alerts): "
        f"{share:.1%} of the tickets.",
        "Handle these by a rule or a runbook at the source, and keep only some copies of each for training.",
        affected=share,
        examples=_largest(compared, clusters, sizes, at_least=many, number=5),
        details={"at_least": many, "tickets": tickets, "sizes": sorted((int(s) for s in sizes[sizes >= many]), reverse=True)[:50]},
    )  # fmt: skip


def template_size(tickets: int) -> int:
    """From how many near-copies on a text is a template: 8, or 2 in 1,000."""
    return max(8, round(0.002 * tickets))


def _largest(compared: np.ndarray, clusters: np.ndarray, sizes: np.ndarray, *, at_least: int, number: int) -> list[Example]:
    chosen = [int(cluster) for cluster in np.argsort(-sizes)[:number] if sizes[cluster] >= at_least]
    members: dict[int, list[int]] = defaultdict(list)
    for index, cluster in zip(compared, clusters, strict=True):
        if cluster in chosen and len(members[int(cluster)]) < 2:
            members[int(cluster)].append(int(index))
    return [Example(rows=tuple(members[cluster]), note=f"{sizes[cluster]:,} near-copies") for cluster in chosen]


def _histogram(sizes: np.ndarray) -> dict[str, int]:
    """Tickets by the size of their cluster."""
    names = ("alone", "2 to 4", "5 to 19", "20 and more")
    counts = Counter(dict.fromkeys(names, 0))
    for size in sizes:
        counts[names[int(np.searchsorted([1, 4, 19], size))]] += int(size)
    return dict(counts)
