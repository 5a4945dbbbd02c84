"""The linear head: which type a ticket has, from its embedding and its words. Knows numpy; knows no language model.

Features of a ticket are its sentence embedding (unit length), hashed pieces of its letters (3 to 5 of them, inside words)
with its words and word pairs, and the desk's concepts that it names in any of four languages; pieces and concepts are
weighted by how rare they are. Both carry the languages that an English-only embedder does not understand. Weights come
from `training/triage`; inference is one matrix product and two gathers.
"""

import json
import re
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from orchestrator.domain.errors import ConfigurationError
from orchestrator.triage.concepts import concepts
from orchestrator.triage.prompts import window

PIECE_LENGTHS = (3, 4, 5)
PIECE_CHARS = 1200  # of a longer ticket the pieces come from its window
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xC2B2AE3D27D4EB4F)


def normalize(text: str) -> str:
    """Lower case, composed letters, every number as one 0, words with single spaces around each."""
    folded = unicodedata.normalize("NFC", window(text, chars=PIECE_CHARS)).casefold()
    return f" {' '.join(_WORD.findall(_NUMBER.sub('0', folded)))} "


@lru_cache(maxsize=100_000)
def _hash(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "replace"))


def pieces(text: str, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """(bucket, weight) of every piece of a text. Weights are 1 + log of the count, unnormalized."""
    clean = normalize(text)
    words = clean.split()
    letters = np.frombuffer(clean.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    blanks = np.concatenate([[0], np.cumsum(letters == 32)])
    found = [np.array([_hash(word) for word in words] + [_hash(f"{a} {b}") for a, b in pairwise(words)], np.uint64)]
    for length in PIECE_LENGTHS:
        count = len(letters) - length + 1
        if count <= 0:
            continue
        hashes = np.full(count, length, np.uint64)
        for offset in range(length):
            hashes = (hashes ^ letters[offset : offset + count]) * _MULTIPLIER
            hashes ^= hashes >> np.uint64(29)
        inside = (blanks[length - 1 : length - 1 + count] - blanks[1 : 1 + count]) == 0  # blanks only at a piece's ends
        found.append((hashes * _MIX >> np.uint64(24))[inside])
    ids, counts = np.unique(np.concatenate(found) % np.uint64(buckets), return_counts=True)
    return ids.astype(np.int64), (1.0 + np.log(counts)).astype(np.float32)


def named(text: str, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """(bucket, weight 1) of every concept that a text names and of every two that follow each other."""
    found = ["", *concepts(window(text, chars=PIECE_CHARS))]
    terms = {*found, *(f"{a}+{b}" for a, b in pairwise(found))}
    ids = np.unique(np.array([_hash(term) % buckets for term in terms], np.int64))
    return ids, np.ones(len(ids), np.float32)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Weights of one kind of hashed features: `weights` [buckets, classes], `rarity` [buckets] (inverse document frequency)."""

    weights: np.ndarray
    rarity: np.ndarray

    def logits(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        """[classes] of one ticket; its features are scaled to unit length."""
        values = values * self.rarity[ids]
        norm = float(np.sqrt(values @ values))
        return (values / (norm or 1.0)) @ self.weights[ids]


@dataclass(frozen=True, kw_only=True)
class Head:
    """`classes` in the taxonomy's order, Others last. Probabilities are calibrated by `temperature` on held-out tickets.

    Every embedder has its own weights: logits add up over the embeddings, the pieces and the concepts.
    """

    classes: tuple[str, ...]
    embedders: tuple[str, ...]  # full names of the models whose vectors are needed; the first is the desk's own
    dense: tuple[np.ndarray, ...]  # per embedder [its dimensions, classes] float32
    pieces: Block
    concepts: Block
    bias: np.ndarray  # [classes] float32
    temperature: float
    neighbor_vectors: np.ndarray  # [kept, dimensions of the first embedder] float32, unit length: labeled tickets kept as evidence
    neighbor_labels: tuple[str, ...]
    neighbor_texts: tuple[str, ...]

    @cached_property
    def neighbor_classes(self) -> np.ndarray:
        """[kept] class number of each kept ticket."""
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number[label] for label in self.neighbor_labels], np.int64)

    def logits(self, texts: Sequence[str], *vectors: np.ndarray) -> np.ndarray:
        """[n, classes] float32 from n texts and, per embedder, their embeddings [n, its dimensions]."""
        self._check(len(texts), vectors)
        out = np.repeat(self.bias[None].astype(np.float32), len(texts), axis=0)
        for embedded, weights in zip(vectors, self.dense, strict=True):
            out += embedded.astype(np.float32, copy=False) @ weights
        for row, text in zip(out, texts, strict=True):
            row += self.pieces.logits(*pieces(text, len(self.pieces.rarity)))
            row += self.concepts.logits(*named(text, len(self.concepts.rarity)))
        return out

    def probabilities(self, texts: Sequence[str], *vectors: np.ndarray) -> np.ndarray:
        """[n, classes], each row sums to 1."""
        return softmax(self.logits(texts, *vectors) / self.temperature)

    def similar(self, vectors: np.ndarray) -> np.ndarray:
        """[n, kept] cosine of each row of `vectors` (the first embedder's) to each kept ticket."""
        return vectors.astype(np.float32, copy=False) @ self.neighbor_vectors.T

    def _check(self, count: int, vectors: Sequence[np.ndarray]) -> None:
        needed = tuple((count, len(weights)) for weights in self.dense)
        given = tuple(one.shape for one in vectors)
        if given != needed:
            raise ConfigurationError(
                f"the head needs embeddings of shape {_shapes(needed)}, not {_shapes(given)}.",
                hint=f"It was fitted to {' and '.join(self.embedders)}; embed with that model or fit the head again.",
            )


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(str(shape) for shape in shapes) or "none"


def nearest(similar: np.ndarray, count: int) -> np.ndarray:
    """[n, count] positions of the greatest entries of each row of `similar` [n, kept], best first; fewer where fewer are kept."""
    count = min(count, similar.shape[1])
    if not count:
        return np.zeros((len(similar), 0), np.int64)
    best = np.argpartition(-similar, count - 1, axis=1)[:, :count]
    return np.take_along_axis(best, np.argsort(-np.take_along_axis(similar, best, 1), axis=1, kind="stable"), 1)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def load_head(folder: Path) -> Head:
    """Read `head.json`, `neighbors.json` and `head.safetensors`; the folder has been verified by `models.manifest`.

    Raises ConfigurationError when they are not what this version writes.
    """
    try:
        record = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        neighbors = json.loads((folder / "neighbors.json").read_text(encoding="utf-8"))
        tensors = {name: tensor.astype(np.float32) for name, tensor in load_file(folder / "head.safetensors").items()}
        head = Head(
            classes=tuple(record["classes"]),
            embedders=tuple(record["embedders"]),
            temperature=float(record["temperature"]),
            dense=tuple(tensors[dense_name(index)] for index in range(len(record["embedders"]))),
            pieces=Block(weights=tensors["pieces.weights"], rarity=tensors["pieces.rarity"]),
            concepts=Block(weights=tensors["concepts.weights"], rarity=tensors["concepts.rarity"]),
            bias=tensors["bias"],
            neighbor_vectors=tensors["neighbor_vectors"],
            neighbor_labels=tuple(row["category"] for row in neighbors),
            neighbor_texts=tuple(row["text"] for row in neighbors),
        )
        if len(head.neighbor_classes) != len(head.neighbor_vectors) or len(head.bias) != len(head.classes):
            raise ValueError("its parts have different lengths")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"the head in {folder} cannot be used: {error!r}.", hint="Fit it again.") from error
    return head


def dense_name(index: int) -> str:
    """The tensor with the weights of embedder number `index`."""
    return "dense" if index == 0 else f"dense.{index}"
