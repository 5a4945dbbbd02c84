"""Vectors of texts, by the sentence encoder or by words alone, and the nearest of each. Knows texts and numbers; no labels."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Progress = Callable[[str, int, int], None]  # (what, done, of)
CHUNK = 1024  # texts between two reports of progress
MAX_TOKENS = 128  # of a longer text only the start is read: enough to compare, four times as fast
BLOCK = 1024  # rows whose similarities are held at once
WORD_DIMENSIONS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """Texts as points. Similarity is the product of two rows."""

    encoder: str
    vectors: np.ndarray  # [n, d] float32, rows of unit length (or zero)
    neighbors: np.ndarray  # [n, k] int: nearest first, never itself
    similarities: np.ndarray  # [n, k] float32


def no_progress(what: str, done: int, of: int) -> None:
    """Says nothing."""


def place(texts: Sequence[str], *, embedding: bool, k: int = 10, progress: Progress = no_progress) -> Space:
    """Every text as a point, with its `k` nearest others (fewer where there are not that many)."""
    name, vectors = _by_meaning(texts, progress) if embedding else ("TF-IDF + SVD", _by_words(texts))
    neighbors, similarities = nearest(vectors, k, progress)
    return Space(encoder=name, vectors=vectors, neighbors=neighbors, similarities=similarities)


def _by_meaning(texts: Sequence[str], progress: Progress) -> tuple[str, np.ndarray]:
    """[n, 384]: the one place where the encoder is used. Equal texts are encoded once."""
    from training.head.encoder import Encoder

    unique = list(dict.fromkeys(texts))
    unique.sort(key=len)
    encoder = Encoder()
    found = []
    for start in range(0, len(unique), CHUNK):
        found.append(encoder.encode(unique[start : start + CHUNK], max_length=MAX_TOKENS))
        progress("texts encoded", min(start + CHUNK, len(unique)), len(unique))
    at = {text: index for index, text in enumerate(unique)}
    return encoder.name, np.concatenate(found)[[at[text] for text in texts]]


def _by_words(texts: Sequence[str]) -> np.ndarray:
    """[n, up to 200]: weighted words and pairs of words, reduced by a truncated SVD."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        counted = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=60_000, dtype=np.float32).fit_transform(texts)
    except ValueError:  # no word in any text
        return np.zeros((len(texts), 1), np.float32)
    dimensions = min(WORD_DIMENSIONS, min(counted.shape) - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a division by a variance of zero, where all texts are equal
        reduced = TruncatedSVD(dimensions, random_state=0).fit_transform(counted) if dimensions > 1 else counted.toarray()
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    return (reduced / np.maximum(lengths, 1e-9)).astype(np.float32)


def nearest(vectors: np.ndarray, k: int, progress: Progress = no_progress) -> tuple[np.ndarray, np.ndarray]:
    """([n, k] int, [n, k] float32): the nearest others by product, exact, nearest first."""
    n = len(vectors)
    k = max(0, min(k, n - 1))
    neighbors, similarities = np.zeros((n, k), int), np.zeros((n, k), np.float32)
    for start in range(0, n if k else 0, BLOCK):
        products = vectors[start : start + BLOCK] @ vectors.T
        rows = np.arange(len(products))
        products[rows, start + rows] = -np.inf
        chosen = np.argpartition(-products, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(products, chosen, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        neighbors[start : start + BLOCK] = np.take_along_axis(chosen, order, axis=1)
        similarities[start : start + BLOCK] = np.take_along_axis(values, order, axis=1)
        progress("texts compared", min(start + BLOCK, n), n)
    return neighbors, similarities
