"""Multinomial logistic regression over embeddings, hashed pieces and concepts, in the form in which the head is served.

Knows the features of `orchestrator/triage/head.py` and uses its very functions; knows nothing of calibration or models. The
fit is a full-batch L-BFGS on dense and sparse blocks in float32: 10,000 short tickets of 77 types take a few seconds on one
core, and the problem is convex, so that the result does not depend on a seed.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from orchestrator.triage.head import Block, Head, named, pieces

Tensors = dict[str, np.ndarray]
NEVER_SEEN = -20.0  # logit of a class without training tickets
ARMIJO, HALVINGS, MEMORY = 1e-4, 20, 8


@dataclass(frozen=True, kw_only=True)
class LinearSettings:
    """Scales say how much a block counts beside the others under one regularization."""

    buckets: int = 32768  # of hashed letters and words
    concept_buckets: int = 4096
    dense_scale: float = 8.0
    sparse_scale: float = 6.0
    concept_scale: float = 3.0
    regularization: float = 0.3  # C: weight of the tickets against that of small weights
    iterations: int = 120


def counts(texts: Sequence[str], features: Callable[[str, int], tuple[np.ndarray, np.ndarray]], buckets: int) -> sparse.csr_matrix:
    """[texts, buckets] of one kind of hashed features, not yet weighted."""
    found = [features(text, buckets) for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in found])])
    values = np.concatenate([weights for _, weights in found])
    return sparse.csr_matrix((values, np.concatenate([ids for ids, _ in found]), starts), shape=(len(texts), buckets))


def rarity(matrix: sparse.csr_matrix) -> np.ndarray:
    """Smoothed inverse document frequency: log((1 + n) / (1 + seen)) + 1."""
    seen = np.bincount(matrix.indices, minlength=matrix.shape[1])
    return (np.log((1 + matrix.shape[0]) / (1 + seen)) + 1).astype(np.float32)


def scaled(matrix: sparse.csr_matrix, weights: np.ndarray) -> sparse.csr_matrix:
    """Columns weighted, then rows of unit length, as the head scales the features of one ticket."""
    weighted = matrix @ sparse.diags(weights)
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    return (sparse.diags(1 / np.maximum(length, 1e-9)) @ weighted).tocsr().astype(np.float32)


class Features:
    """Feature rows of many tickets, computed once; `fit` gives the weights of a head, `logits` what they say."""

    def __init__(self, texts: Sequence[str], vectors: np.ndarray, settings: LinearSettings) -> None:
        self.settings, self.vectors = settings, vectors.astype(np.float32, copy=False)
        self.pieces = counts(texts, pieces, settings.buckets)
        self.concepts = counts(texts, named, settings.concept_buckets)

    def fit(self, index: np.ndarray, targets: np.ndarray, classes: int) -> Tensors:
        """Weights from the tickets `index` with `targets` [len(index)]. A class that they lack gets the logit NEVER_SEEN."""
        s = self.settings
        rare = rarity(self.pieces[index]), rarity(self.concepts[index])
        letters = scaled(self.pieces[index], rare[0]) * s.sparse_scale
        words = scaled(self.concepts[index], rare[1]) * s.concept_scale
        dense, both = self.vectors[index] * np.float32(s.dense_scale), sparse.hstack([letters, words]).tocsr()
        present, renumbered = np.unique(targets, return_inverse=True)
        found = fit_softmax(dense, both, renumbered, len(present), strength=s.regularization, iterations=s.iterations)
        width, weights = dense.shape[1], np.zeros((dense.shape[1] + both.shape[1], classes), np.float32)
        weights[:, present] = found[:-1]
        bias = np.full(classes, NEVER_SEEN, np.float32)
        bias[present] = found[-1]
        return {
            "dense": weights[:width] * np.float32(s.dense_scale),
            "pieces.weights": weights[width : width + s.buckets] * np.float32(s.sparse_scale),
            "concepts.weights": weights[width + s.buckets :] * np.float32(s.concept_scale),
            "pieces.rarity": rare[0],
            "concepts.rarity": rare[1],
            "bias": bias,
        }

    def logits(self, weights: Tensors, index: np.ndarray) -> np.ndarray:
        """[len(index), classes], the same as the served head's."""
        out = self.vectors[index] @ weights["dense"] + weights["bias"]
        out += scaled(self.pieces[index], weights["pieces.rarity"]) @ weights["pieces.weights"]
        return out + scaled(self.concepts[index], weights["concepts.rarity"]) @ weights["concepts.weights"]

    def out_of_fold(
        self, index: np.ndarray, targets: np.ndarray, classes: int, clusters: np.ndarray, *, folds: int = 5, seed: int = 0
    ) -> np.ndarray:
        """[len(index), classes]: each ticket judged by weights that were fitted without its fold; near-copies share a fold."""
        _, numbered = np.unique(clusters, return_inverse=True)
        fold = (np.random.default_rng(seed).permutation(numbered.max() + 1) % folds)[numbered]
        out = np.zeros((len(index), classes), np.float32)
        for number in range(folds):
            inside = fold == number
            if inside.any():
                weights = self.fit(index[~inside], targets[~inside], classes)
                out[inside] = self.logits(weights, index[inside])
        return out

    def without_their_class(
        self, train: np.ndarray, judged: np.ndarray, targets: np.ndarray, classes: int, *, groups: int = 5, seed: int = 0
    ) -> np.ndarray:
        """[len(judged), classes]: each ticket judged by weights that never saw its class: what is out of scope looks like.

        `targets` are of all tickets. For desks whose export has no out-of-scope tickets.
        """
        present = np.unique(targets[train])
        groups = min(groups, len(present) - 1)
        out = np.zeros((len(judged), classes), np.float32)
        for left_out in np.array_split(np.random.default_rng(seed).permutation(present), max(1, groups)):
            kept = train[~np.isin(targets[train], left_out)]
            rows = np.isin(targets[judged], left_out)
            if len(kept) and rows.any():
                out[rows] = self.logits(self.fit(kept, targets[kept], classes), judged[rows])
        return out


def as_head(weights: Tensors, *, classes: Sequence[str], embedder: str) -> Head:
    """The weights as the runtime's head, without neighbors."""
    return Head(
        classes=tuple(classes),
        embedders=(embedder,),
        dense=(weights["dense"],),
        pieces=Block(weights=weights["pieces.weights"], rarity=weights["pieces.rarity"]),
        concepts=Block(weights=weights["concepts.weights"], rarity=weights["concepts.rarity"]),
        bias=weights["bias"],
        temperature=1.0,
        neighbor_vectors=np.zeros((0, len(weights["dense"])), np.float32),
        neighbor_labels=(),
        neighbor_texts=(),
    )


def fit_softmax(
    dense: np.ndarray, words: sparse.csr_matrix, targets: np.ndarray, classes: int, *, strength: float, iterations: int = 120
) -> np.ndarray:
    """[dense + words + 1, classes] float32 weights, the bias last, by least `strength` x cross-entropy + half squared norm.

    The bias is not regularized. `words` may have empty columns; they get no weight.
    """
    used, columns = np.unique(words.indices), words.shape[1]
    words = words[:, used]
    across, along = words.T.tocsr(), np.ascontiguousarray(dense.T)
    width, rows = dense.shape[1], np.arange(len(targets))
    shape = (width + len(used) + 1, classes)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        logits = dense @ weights[:width] + words @ weights[width:-1] + weights[-1]
        top = logits.max(axis=1, keepdims=True)
        picked = logits[rows, targets] - top[:, 0]
        shares = np.exp(logits - top)
        total = shares.sum(axis=1, keepdims=True)
        value = strength * float((np.log(total[:, 0]) - picked).sum(dtype=np.float64))
        shares /= total
        shares[rows, targets] -= 1.0
        shares *= np.float32(strength)
        gradient = np.vstack([along @ shares, across @ shares, shares.sum(axis=0, keepdims=True)])
        gradient[:-1] += weights[:-1]
        return value + 0.5 * float(np.vdot(weights[:-1], weights[:-1])), gradient.ravel()

    found = minimize_lbfgs(loss, np.zeros(shape[0] * classes, np.float32), iterations=iterations).reshape(shape)
    out = np.zeros((width + columns + 1, classes), np.float32)
    out[:width], out[-1] = found[:width], found[-1]
    out[width + used] = found[width:-1]
    return out


def minimize_lbfgs(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, *, iterations: int, tolerance: float = 1e-5
) -> np.ndarray:
    """Limited-memory BFGS (Nocedal and Wright, algorithm 7.4) with backtracking, for a smooth convex `loss` -> (value, gradient).

    Stays in the precision of `start`; stops when the value falls by less than `tolerance` of itself.
    """
    point, (value, gradient) = start, loss(start)
    history: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=MEMORY)
    for _ in range(iterations):
        direction = _direction(gradient, history)
        slope, step = float(np.vdot(gradient, direction)), 1.0
        for _ in range(HALVINGS):
            there = point + np.asarray(step, point.dtype) * direction
            its_value, its_gradient = loss(there)
            if its_value <= value + ARMIJO * step * slope:
                break
            step /= 2
        else:
            return point
        moved, turned = there - point, its_gradient - gradient
        curvature = float(np.vdot(moved, turned))
        if curvature > 1e-12:
            history.append((moved, turned, 1 / curvature))
        done = abs(value - its_value) < tolerance * max(1.0, abs(its_value))
        point, value, gradient = there, its_value, its_gradient
        if done:
            break
    return point


def _direction(gradient: np.ndarray, history: deque[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
    """Minus the inverse Hessian, as the history knows it, times the gradient."""
    if not history:
        return -gradient / max(1.0, float(np.linalg.norm(gradient)))
    out, shares = gradient.copy(), []
    for moved, turned, inverse in reversed(history):
        share = inverse * float(np.vdot(moved, out))
        out -= np.asarray(share, out.dtype) * turned
        shares.append(share)
    moved, turned, inverse = history[-1]
    out *= np.asarray(1 / (inverse * float(np.vdot(turned, turned))), out.dtype)
    for (moved, turned, inverse), share in zip(history, reversed(shares), strict=True):
        out += np.asarray(share - inverse * float(np.vdot(turned, out)), out.dtype) * moved
    return -out
