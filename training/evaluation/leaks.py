"""Which tickets of the evaluated file the model has seen: the same words, or nearly. Knows texts; knows no model.

Two texts are near-copies when the sets of their shingles (runs of 4 letters of the normalized text, numbers as one 0) overlap
by at least `ALIKE` of their union (Jaccard; Broder 1997, "On the resemblance and containment of documents").
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
from scipy import sparse

from orchestrator.triage.head import normalize

SHINGLE_CHARS = 4
ALIKE = 0.8
BUCKETS = 2**20
CHUNK = 512  # rows compared at once: 512 x 20,000 overlaps are 40 MB
SHORTEST_CHARS = 12  # a shorter text ("help", "it does not work") proves nothing unless it is the same


def shingles(text: str) -> np.ndarray:
    """Sorted hashes of the runs of letters of a normalized text; a shorter text is one shingle."""
    if len(text) <= SHINGLE_CHARS:
        return np.array([zlib.crc32(text.encode("utf-8", "replace")) % BUCKETS], np.int64)
    letters = np.frombuffer(text.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    hashes = np.zeros(len(letters) - SHINGLE_CHARS + 1, np.uint64)
    for offset in range(SHINGLE_CHARS):
        hashes = (hashes ^ letters[offset : offset + len(hashes)]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes % np.uint64(BUCKETS)).astype(np.int64)


def near_copies(texts: Sequence[str], seen: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
    """[len(texts)] position in `seen` of the most alike text of at least `ALIKE`, -1 where there is none."""
    found = np.full(len(texts), -1, np.int64)
    if not len(texts) or not len(seen):
        return found
    ours, theirs = [normalize(text) for text in texts], [normalize(text) for text in seen]
    exact = {text: index for index, text in reversed(list(enumerate(theirs)))}
    left, right = _matrix(ours), _matrix(theirs)
    sizes_left, sizes_right = np.diff(left.indptr), np.diff(right.indptr)
    turned = right.T.tocsr()
    for start in range(0, len(ours), CHUNK):
        overlap = (left[start : start + CHUNK] @ turned).toarray()
        union = sizes_left[start : start + CHUNK, None] + sizes_right[None, :] - overlap
        jaccard = overlap / np.maximum(union, 1)
        best = jaccard.argmax(1)
        for row in range(len(best)):
            where = start + row
            alike = jaccard[row, best[row]] >= ALIKE and len(ours[where].strip()) >= SHORTEST_CHARS
            found[where] = exact.get(ours[where], int(best[row]) if alike else -1)
        if progress:
            progress(min(start + CHUNK, len(ours)), len(ours))
    return found


def _matrix(texts: Sequence[str]) -> sparse.csr_matrix:
    found = [shingles(text) for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in found])])
    columns = np.concatenate(found)
    return sparse.csr_matrix((np.ones(len(columns), np.float32), columns, starts), shape=(len(texts), BUCKETS))
