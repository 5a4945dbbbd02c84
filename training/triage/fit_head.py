"""The linear head: one multinomial logistic regression over embedding, letters and concepts.

    python -m training.triage.fit_head training/triage/configs.yaml

Knows the features of `orchestrator/triage/head.py` and uses its very functions. Every house-written ticket is also judged by
a head that was fitted without its fifth of the tickets (`head_logits.npy`, near-copies kept in one fifth): these judgments
are what temperature and thresholds are fitted on. The head that is shipped is fitted on all tickets.
"""

import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.numpy import save_file
from scipy import sparse
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from orchestrator.triage.head import named, pieces, softmax
from orchestrator.triage.taxonomy import load_taxonomy
from training.nano.teacher import Encoder
from training.triage.dataset import Row, groups, otherwise
from training.triage.split import load_split

EMBEDDER = "all-MiniLM-L6-v2"
FOLDS = 5


def counts(texts: Sequence[str], features: Callable[[str, int], tuple[np.ndarray, np.ndarray]], buckets: int) -> sparse.csr_matrix:
    found = [features(text, buckets) for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in found])])
    values = np.concatenate([weights for _, weights in found])
    return sparse.csr_matrix((values, np.concatenate([ids for ids, _ in found]), starts), shape=(len(texts), buckets))


def rarity(matrix: sparse.csr_matrix) -> np.ndarray:
    """Smoothed inverse document frequency, as sklearn's TfidfTransformer has it."""
    seen = np.asarray((matrix > 0).sum(0)).ravel()
    return (np.log((1 + matrix.shape[0]) / (1 + seen)) + 1).astype(np.float32)


def scaled(matrix: sparse.csr_matrix, weights: np.ndarray) -> sparse.csr_matrix:
    weighted = matrix @ sparse.diags(weights)
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(1)).ravel())
    return (sparse.diags(1 / np.maximum(length, 1e-9)) @ weighted).tocsr().astype(np.float32)


class Features:
    """Feature rows of many texts, computed once; `fit` gives the weights of a head in the form that is served."""

    def __init__(self, texts: Sequence[str], vectors: np.ndarray, settings: dict[str, Any]) -> None:
        self.settings, self.vectors = settings, vectors
        self.pieces = counts(texts, pieces, settings["buckets"])
        self.concepts = counts(texts, named, settings["concept_buckets"])

    def matrix(self, index: np.ndarray, rare: tuple[np.ndarray, np.ndarray]) -> sparse.csr_matrix:
        s = self.settings
        dense = sparse.csr_matrix((self.vectors[index] * s["dense_scale"]).astype(np.float32))
        letters = scaled(self.pieces[index], rare[0]) * s["sparse_scale"]
        return sparse.hstack([dense, letters, scaled(self.concepts[index], rare[1]) * s["concept_scale"]]).tocsr()

    def fit(self, index: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
        s, rare = self.settings, (rarity(self.pieces[index]), rarity(self.concepts[index]))
        model = LogisticRegression(C=s["regularization"], max_iter=400, tol=1e-4).fit(self.matrix(index, rare), targets)
        weights = model.coef_.T.astype(np.float32)
        width = self.vectors.shape[1]
        return {
            "dense": weights[:width] * s["dense_scale"],
            "pieces.weights": weights[width : width + s["buckets"]] * s["sparse_scale"],
            "concepts.weights": weights[width + s["buckets"] :] * s["concept_scale"],
            "pieces.rarity": rare[0],
            "concepts.rarity": rare[1],
            "bias": model.intercept_.astype(np.float32),
        }

    def logits(self, head: dict[str, np.ndarray], index: np.ndarray) -> np.ndarray:
        out = self.vectors[index] @ head["dense"] + head["bias"]
        out += scaled(self.pieces[index], head["pieces.rarity"]) @ head["pieces.weights"]
        return out + scaled(self.concepts[index], head["concepts.rarity"]) @ head["concepts.weights"]


def temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The one number that makes the probabilities honest: least negative log-likelihood on tickets that were not fitted."""

    def loss(log_t: float) -> float:
        p = softmax(logits / np.exp(log_t))
        return float(-np.log(np.maximum(p[np.arange(len(targets)), targets], 1e-9)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 2), method="bounded").x))


def neighbors(rows: Sequence[Row], *, per_category: int, seed: int) -> list[int]:
    """House-written tickets to keep as evidence, the same number of each type."""
    choose, by_type = random.Random(seed), defaultdict(list)
    for index, row in enumerate(rows):
        if row.source == "house":
            by_type[row.category].append(index)
    return sorted(i for found in by_type.values() for i in choose.sample(found, min(per_category, len(found))))


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    work, settings, seed = Path(config["work"]), config["head"], config["seed"]
    torch.set_num_threads(config["threads"])
    names = load_taxonomy(Path(config["taxonomy"])).names
    rows, _ = load_split(work)
    vectors = np.load(work / "vectors.npy")
    group = groups(rows, vectors)
    choose = random.Random(seed)
    rewritten = [(otherwise(row, choose), index) for index, row in enumerate(rows) for _ in range(settings["rewrites"])]
    owner = np.array([*range(len(rows)), *(index for _, index in rewritten)])
    texts = [row.text for row in rows] + [text for text, _ in rewritten]
    everything = np.vstack([vectors, Encoder().encode([text for text, _ in rewritten])])
    features = Features(texts, everything, settings)
    targets = np.array([names.index(row.category) for row in rows])[owner]
    print(f"{len(rows)} tickets, {len(rewritten)} rewritten", flush=True)

    fold = np.random.default_rng(seed).permutation(len(rows))[group] % FOLDS  # near-copies share a fold
    fold_of = fold[owner]
    logits = np.zeros((len(rows), len(names)), np.float32)
    own = np.arange(len(rows))
    for number in range(FOLDS):
        head = features.fit(np.flatnonzero(fold_of != number), targets[fold_of != number])
        test = own[fold == number]
        logits[test] = features.logits(head, test)
        print(f"fold {number + 1} of {FOLDS}: {np.mean(logits[test].argmax(1) == targets[test]):.4f}", flush=True)
    house = np.array([row.source == "house" for row in rows])
    t = temperature(logits[house], targets[: len(rows)][house])
    np.save(work / "head_logits.npy", logits)
    head = features.fit(np.arange(len(texts)), targets)

    folder = work / "head"
    folder.mkdir(exist_ok=True)
    evidence = neighbors(rows, per_category=settings["neighbors_per_category"], seed=seed)
    tensors = {name: tensor.astype(np.float16) for name, tensor in head.items()} | {
        "neighbor_vectors": vectors[evidence].astype(np.float16)
    }
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / "head.safetensors")
    shown = [{"category": rows[i].category, "text": rows[i].text[:300]} for i in evidence]
    (folder / "neighbors.json").write_text(json.dumps(shown, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    record = {"classes": list(names), "embedder": EMBEDDER, "temperature": round(t, 4)}
    (folder / "head.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    right = logits.argmax(1) == targets[: len(rows)]
    by_language = {
        lang: round(float(right[house & np.array([r.language == lang for r in rows])].mean()), 4)
        for lang in sorted({r.language for r in rows})
    }
    print(f"temperature {t:.3f}, out-of-fold accuracy {right[house].mean():.4f} {by_language}")


if __name__ == "__main__":
    main(sys.argv[1])
