"""Which tickets are near-copies, so that no two of them lie on different sides of a split. Knows texts, vectors and known ids.

Three grounds, joined by union-find: alike word triples (MinHash over 3-word shingles, numbers masked), alike vectors (cosine), and what
the export itself says belongs together (duplicates, incidents). Nothing here needs an n x n matrix: 100,000 tickets fit one core.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SHINGLE_WORDS = 3
ALIKE_TEXT = 0.6  # Jaccard similarity of the shingles, as 63 hashes estimate it (standard error 0.06)
ALIKE_COSINE = 0.95
BANDS, ROWS = 21, 3  # 63 hashes; a pair at 0.6 shares a band with probability 0.99, one at 0.2 with 0.15
TEXT_CHARS = 4_000  # of a longer text only the start is compared
TILE = 2_048
LEADING = 64  # dimensions in which vectors are compared first
COMMON_SHARE, COMMON_LEAST = 0.05, 50  # an id on more tickets than this is a category or a site, not a matter
LINKS = ("duplicate_of", "incident_id", "parent", "cluster", "parent_id", "parent_incident", "master_ticket", "problem_id")
Progress = Callable[[str, int, int], None]

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W_]+")
_REPLY = re.compile(r"(?i)^(?:\s*(?:re|fwd?|aw|wg|tr|sv|vs)\s*:)+")
_DIGITS = re.compile(r"\d+")
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Union:
    """Joins numbered things; vectorized, the smallest number of a group names it."""

    def __init__(self, size: int) -> None:
        self.parent = np.arange(size)

    def join(self, a: np.ndarray, b: np.ndarray) -> None:
        """Join a[i] with b[i] for every i."""
        a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
        while len(a):
            low, high = np.minimum(self.parent[a], self.parent[b]), np.maximum(self.parent[a], self.parent[b])
            apart = low != high
            if not apart.any():
                return
            a, b, low, high = a[apart], b[apart], low[apart], high[apart]
            np.minimum.at(self.parent, high, low)
            self._compress()

    def _compress(self) -> None:
        while not np.array_equal(above := self.parent[self.parent], self.parent):
            self.parent = above

    def numbers(self) -> np.ndarray:
        """[size] group numbers 0, 1, ... in order of first appearance."""
        return np.unique(self.parent, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Near:
    """Groups of near-copies, and how they were found."""

    clusters: np.ndarray  # [n] int64
    joined: Mapping[str, int]  # ground -> tickets that left a group of their own because of it
    ignored: Mapping[str, int] = field(default_factory=dict)  # field -> values on too many tickets to be one matter


def near_copies(
    texts: Sequence[str],
    *,
    ids: Sequence[str] = (),
    extras: Sequence[Mapping[str, Any]] = (),
    vectors: np.ndarray | None = None,
    alike_cosine: float = ALIKE_COSINE,
    progress: Progress | None = None,
) -> Near:
    """Groups of near-copies among n texts; `vectors` [n, d] of unit length, `extras` the fields of the export that may link tickets."""
    union = Union(len(texts))
    joined: dict[str, int] = {}
    ignored: dict[str, int] = {}
    for a, b in _alike_texts(texts):
        union.join(a, b)
    joined["text"] = _saved(union)
    if vectors is not None and len(texts):
        for a, b in alike_vectors(vectors, at_least=alike_cosine, progress=progress):
            union.join(a, b)
        joined["vectors"] = _saved(union) - sum(joined.values())
    if extras:
        a, b, ignored = _linked(ids, extras)
        union.join(a, b)
        joined["ids"] = _saved(union) - sum(joined.values())
    return Near(clusters=union.numbers(), joined=joined, ignored=ignored)


def _saved(union: Union) -> int:
    return int((union.parent != np.arange(len(union.parent))).sum())


# --- texts ----------------------------------------------------------------------------------------------------------------


def normalized(text: str) -> str:
    """Lower case words with one space between; a number is a 0, an answer's "Re:" is gone."""
    plain = _REPLY.sub("", unicodedata.normalize("NFKC", text[:TEXT_CHARS]).casefold())
    return " ".join(_TOKEN.findall(_DIGITS.sub("0", plain)))


def _alike_texts(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of texts that are the same once normalized, then pairs whose shingles are alike."""
    seen: dict[str, int] = {}
    plain = [normalized(text) for text in texts]
    first = np.array([seen.setdefault(text, index) for index, text in enumerate(plain)], np.int64)
    yield np.arange(len(texts)), first
    unique = np.flatnonzero((first == np.arange(len(texts))) & np.array([bool(text) for text in plain], bool))
    if len(unique) > 1:
        signatures = _signatures([plain[index] for index in unique])
        for band in range(BANDS):
            for a, b in _same_band(signatures, band):
                yield unique[a], unique[b]


def _signatures(plain: Sequence[str]) -> np.ndarray:
    """[texts, BANDS * ROWS] uint64 MinHash values over the shingles of each text."""
    numbers: dict[str, int] = {}
    counts, flat = [], []
    for text in plain:
        words = [numbers.setdefault(word, len(numbers)) for word in text.split(" ")]
        words += [len(words)] * max(0, SHINGLE_WORDS - len(words))
        counts.append(len(words) - SHINGLE_WORDS + 1)
        flat += words
    starts = np.concatenate([[0], np.cumsum(np.array(counts) + SHINGLE_WORDS - 1)[:-1]])
    where = np.repeat(starts - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(sum(counts))
    codes = _scrambled(np.array(flat, np.uint64))
    shingles = _scrambled(codes[where] + _MIX * _scrambled(codes[where + 1] + _MIX * codes[where + 2]))
    begins = np.concatenate([[0], np.cumsum(counts)[:-1]])
    factors = np.random.default_rng(0).integers(0, 2**63, size=(BANDS * ROWS, 2), dtype=np.uint64) | np.uint64(1)
    out = np.empty((len(plain), BANDS * ROWS), np.uint64)
    for column, (factor, offset) in enumerate(factors):
        out[:, column] = np.minimum.reduceat(_scrambled(shingles * factor + offset), begins)
    return out


def _scrambled(values: np.ndarray) -> np.ndarray:
    """Bits of each uint64 mixed (the finalizer of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _same_band(signatures: np.ndarray, band: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (member, leader) of one bucket that agree in enough hashes; who does not agree with one leader is tried on the next."""
    parts = signatures[:, band * ROWS : (band + 1) * ROWS]
    keys = _scrambled(parts[:, 0] + _MIX * _scrambled(parts[:, 1] + _MIX * parts[:, 2]))
    order = np.argsort(keys, kind="stable")
    for _ in range(8):
        _, begins, sizes = np.unique(keys[order], return_index=True, return_counts=True)
        shared = np.repeat(sizes > 1, sizes)
        if not shared.any():
            return
        leaders = np.repeat(order[begins], sizes)
        alike = _agreement(signatures, order, leaders, shared) >= ALIKE_TEXT
        yield order[alike & shared], leaders[alike & shared]
        order = order[shared & ~alike]


def _agreement(signatures: np.ndarray, a: np.ndarray, b: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """[pairs] share of equal hashes; 0 where not wanted."""
    out = np.zeros(len(a))
    for rows in np.array_split(np.flatnonzero(wanted), max(1, int(wanted.sum()) // 65_536)):
        out[rows] = (signatures[a[rows]] == signatures[b[rows]]).mean(1)
    return out


# --- vectors --------------------------------------------------------------------------------------------------------------


def alike_vectors(
    vectors: np.ndarray, *, at_least: float, progress: Progress | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pair of rows with a cosine of `at_least`; vectors [n, d] of unit length.

    Rows are turned so that their leading dimensions carry the most. By Cauchy and Schwarz a cosine is at most the product over the
    leading dimensions plus the product of what is left of the two lengths; only pairs that pass this bound are compared whole.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    leading = min(LEADING, vectors.shape[1])
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    turned = vectors @ np.ascontiguousarray(axes[:, ::-1][:, :leading])
    rest = np.sqrt(np.maximum(0.0, (vectors**2).sum(1) - (turned**2).sum(1)))[:, None]
    order = np.argsort(turned[:, 0], kind="stable")
    bound = np.ascontiguousarray(np.hstack([turned, rest])[order])
    first = bound[:, 0]
    reach = float(np.sqrt(max(0.0, 2.0 - 2.0 * at_least))) + 1e-3  # how far two such vectors can be apart in any dimension
    for start in range(0, len(order), TILE):
        if progress:
            progress("vectors compared", start, len(order))
        stop = min(start + TILE, len(order))
        end = int(np.searchsorted(first, first[stop - 1] + reach, side="right"))
        for other in range(start, end, TILE):
            rows, columns = np.nonzero(bound[start:stop] @ bound[other : other + TILE].T >= at_least - 1e-4)
            a, b = order[rows + start], order[columns + other]
            a, b = a[a != b], b[a != b]
            for some in np.array_split(np.arange(len(a)), max(1, len(a) // 65_536)):
                close = np.einsum("nd,nd->n", vectors[a[some]], vectors[b[some]]) >= at_least - 1e-6
                yield a[some][close], b[some][close]


# --- what the export says -------------------------------------------------------------------------------------------------


def _linked(ids: Sequence[str], extras: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """(pairs that an id links, values per field that were too common to mean one matter)."""
    place = {name: index for index, name in enumerate(ids)}
    holders: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, extra in enumerate(extras):
        for name, value in extra.items():
            if (key := name.casefold()) in LINKS and (one := _id_of(value)):
                holders[key, one].append(index)
    a, b, ignored = [], [], dict[str, int]()
    most = max(COMMON_LEAST, int(COMMON_SHARE * len(extras)))
    for (key, value), found in holders.items():
        if len(found) > most:
            ignored[key] = ignored.get(key, 0) + 1
            continue
        target = place.get(value, found[0]) if key != "cluster" else found[0]
        a += found
        b += [target] * len(found)
    return np.array(a, np.int64), np.array(b, np.int64), ignored


def _id_of(value: Any) -> str:
    """An id as text; nothing for what says that there is none."""
    if isinstance(value, dict):
        value = value.get("id") or value.get("value")
    if value is None or isinstance(value, bool | list | dict | float):
        return ""
    text = str(value).strip()
    return "" if text.casefold() in {"", "0", "-1", "none", "null", "n/a", "nan", "-", "false"} else text
