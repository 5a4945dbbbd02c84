"""The head of one desk: linear weights over its embedder's vectors and its words, a tuned encoder's cosines, labeled neighbors.

The tuned encoder saw the training tickets and is over-confident on them, so its own class vectors are kept as they are; what the
two parts count, and how readily a ticket is out of scope, is fitted on validation tickets that neither has seen. All of it folds
into one sum of matrix products. Knows arrays, texts and classes; knows no file formats but the head's own.
"""

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from scipy.optimize import minimize

from orchestrator.domain.errors import BadInput
from orchestrator.domain.triage import OTHERS
from orchestrator.triage.confidence import Neighborhood
from orchestrator.triage.head import Head, dense_name, nearest, softmax
from training.head.linear import Features, LinearSettings, Tensors, as_head

SHOWN_CHARS = 300  # of a labeled ticket that is kept as evidence
EXTREME_ODDS = 60.0
FEW = 5  # out-of-scope tickets for validation, below which the readiness for Others is not fitted


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedPart:
    """What a tuned sentence encoder brings: its name, vectors of all tickets, and its cosine classifier."""

    embedder: str  # full name
    vectors: np.ndarray  # [tickets, dimensions], unit length
    class_vectors: np.ndarray  # [types in scope, dimensions], unit length, in the order of the classes
    scale: float

    def logits(self, index: np.ndarray) -> np.ndarray:
        """[len(index), classes]; Others has 0, which its bias moves."""
        scope = self.scale * (self.vectors[index] @ self.class_vectors.T)
        return np.hstack([scope, np.zeros((len(index), 1), scope.dtype)]).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Blend:
    """How much each part counts. `others` is added to the logit of Others."""

    linear: float
    tuned: float
    others: float

    def __call__(self, linear: np.ndarray, tuned: np.ndarray | None) -> np.ndarray:
        out = self.linear * linear
        if tuned is not None:
            out = out + self.tuned * tuned
        out[:, -1] += self.others
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgments:
    """What heads that had not seen these tickets make of them."""

    logits: np.ndarray  # [k, classes]
    near: Neighborhood
    targets: np.ndarray  # [k]
    clusters: np.ndarray  # [k]


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadFit:
    """`head` is what is served; `logits` are of the validation tickets, by a head that has not seen them."""

    head: Head
    blend: Blend
    validation: np.ndarray  # [m] positions
    logits: np.ndarray  # [m, classes]
    linear_logits: np.ndarray  # [m, classes] of the linear part alone
    tuned_logits: np.ndarray | None  # [m, classes] of the tuned encoder alone
    unseen_logits: np.ndarray | None  # [m, classes] by heads that never saw the ticket's class, where nothing is out of scope
    near: Neighborhood  # of the validation tickets
    similar: np.ndarray  # [m, kept] cosines to the kept tickets
    more: Judgments | None  # the training tickets, each judged out of fold; where no tuned encoder has seen them
    kept: np.ndarray  # [kept] positions of the tickets that are kept as evidence
    record: Mapping[str, Any]

    @property
    def probabilities(self) -> np.ndarray:
        return softmax(self.logits)


def fit_head(
    texts: Sequence[str],
    targets: np.ndarray,
    vectors: np.ndarray,
    *,
    classes: Sequence[str],
    embedder: str,
    train: np.ndarray,
    validation: np.ndarray,
    tuned: TunedPart | None = None,
    clusters: np.ndarray | None = None,
    settings: LinearSettings | None = None,
    refit: bool = True,
    neighbors_per_class: int = 60,
    voters: int = 10,
    seed: int = 0,
) -> HeadFit:
    """Fit on `train`, weigh and judge on `validation` (both positions), then refit the linear part on both.

    `targets` [n] index `classes`, whose last is Others (it may have no ticket); `vectors` [n, dimensions] are of `embedder`.
    With `clusters` [n] of near-copies the training tickets are judged too, out of fold: more to calibrate on.
    Raises BadInput where there is nothing to learn from.
    """
    _check(targets, classes, train, validation)
    count = len(classes)
    features = Features(texts, vectors, settings or LinearSettings())
    first = features.fit(train, targets[train], count)
    linear = features.logits(first, validation)
    theirs = tuned.logits(validation) if tuned is not None else None
    blend = fit_blend(linear, theirs, targets[validation])
    unseen = None
    if not np.any(targets[validation] == count - 1):
        unseen = blend(features.without_their_class(train, validation, targets, count, seed=seed), None)
    final = features.fit(both, targets[both], count) if refit and len(both := np.union1d(train, validation)) else first
    kept = keep_neighbors(targets[train], per_class=neighbors_per_class, seed=seed)
    head = assemble(final, blend, tuned, classes=classes, embedder=embedder)
    head = with_neighbors(head, train[kept], texts, targets, vectors)
    similar = head.similar(vectors[validation])
    more = None
    if clusters is not None and blend.tuned == 0:
        unseen_by = features.out_of_fold(train, targets[train], count, clusters[train], seed=seed)
        own = clusters[train][:, None] == clusters[train[kept]][None]  # no ticket is its own neighbor
        near = _neighborhood(head, np.where(own, -1.0, head.similar(vectors[train])), voters)
        more = Judgments(logits=blend(unseen_by, None), near=near, targets=targets[train], clusters=clusters[train])
    return HeadFit(
        head=head,
        blend=blend,
        validation=validation,
        logits=blend(linear, theirs),
        linear_logits=linear,
        tuned_logits=theirs,
        unseen_logits=unseen,
        near=_neighborhood(head, similar, voters),
        similar=similar,
        more=more,
        kept=train[kept],
        record=_record(blend, linear, theirs, targets[validation]),
    )


def _neighborhood(head: Head, similar: np.ndarray, voters: int) -> Neighborhood:
    found = nearest(similar, voters)
    return Neighborhood(labels=head.neighbor_classes[found], similarities=np.take_along_axis(similar, found, 1))


def _check(targets: np.ndarray, classes: Sequence[str], train: np.ndarray, validation: np.ndarray) -> None:
    if classes[-1] != OTHERS:
        raise BadInput(f"The last class is {classes[-1]!r}, not {OTHERS}.")
    if len(np.unique(targets[train])) < 2:
        raise BadInput("The training tickets have fewer than two types.", hint="Give an export with at least two types.")
    if not len(validation):
        raise BadInput("There are no validation tickets.", hint="Build the dataset with a share for validation.")


def fit_blend(linear: np.ndarray, tuned: np.ndarray | None, targets: np.ndarray) -> Blend:
    """Weights of both parts (>= 0) and the offset of Others, by least negative log-likelihood on validation tickets."""
    scope = linear.shape[1] - 1
    few = int(np.sum(targets == scope)) < FEW
    rows = np.arange(len(targets))

    def loss(x: np.ndarray) -> float:
        blend = Blend(linear=x[0], tuned=x[1], others=x[2])
        logits = blend(linear, tuned)
        top = logits.max(axis=1)
        total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
        return float(np.mean(total - logits[rows, targets])) + 1e-3 * float(np.square(x[2] / 10))

    bounds = [(0.05, 5.0), (0.0, 5.0 if tuned is not None else 0.0), (0.0, 0.0) if few else (-EXTREME_ODDS, EXTREME_ODDS)]
    starts = [np.array([1.0, 0.5 if tuned is not None else 0.0, 0.0])]
    if not few and tuned is not None:
        starts.append(np.array([0.8, 0.6, 8.0]))
    best = min((minimize(loss, start, bounds=bounds, method="L-BFGS-B") for start in starts), key=lambda found: found.fun)
    return Blend(linear=float(best.x[0]), tuned=float(best.x[1]), others=float(best.x[2]))


def assemble(weights: Tensors, blend: Blend, tuned: TunedPart | None, *, classes: Sequence[str], embedder: str) -> Head:
    """The served head: blend and scales are inside its weights, its temperature is 1."""
    head = as_head(weights, classes=classes, embedder=embedder)
    factor, bias = np.float32(blend.linear), blend.linear * weights["bias"]
    bias[-1] += blend.others
    dense, embedders = [head.dense[0] * factor], [embedder]
    if tuned is not None and blend.tuned > 0:
        scope = np.float32(blend.tuned * tuned.scale) * tuned.class_vectors.T.astype(np.float32)
        dense.append(np.hstack([scope, np.zeros((len(scope), 1), np.float32)]))
        embedders.append(tuned.embedder)
    return replace(
        head,
        embedders=tuple(embedders),
        dense=tuple(dense),
        pieces=replace(head.pieces, weights=head.pieces.weights * factor),
        concepts=replace(head.concepts, weights=head.concepts.weights * factor),
        bias=bias.astype(np.float32),
    )


def keep_neighbors(targets: np.ndarray, *, per_class: int, seed: int) -> np.ndarray:
    """Ascending positions of the tickets to keep as evidence, the same number of each class where it has so many."""
    choose, by_class = random.Random(seed), defaultdict(list)
    for index, target in enumerate(targets.tolist()):
        by_class[target].append(index)
    return np.array(sorted(i for found in by_class.values() for i in choose.sample(found, min(per_class, len(found)))), np.int64)


def with_neighbors(head: Head, kept: np.ndarray, texts: Sequence[str], targets: np.ndarray, vectors: np.ndarray) -> Head:
    """The head with these tickets as evidence; vectors as they will be read back."""
    return replace(
        head,
        neighbor_vectors=vectors[kept].astype(np.float16).astype(np.float32),
        neighbor_labels=tuple(head.classes[targets[i]] for i in kept),
        neighbor_texts=tuple(texts[i][:SHOWN_CHARS] for i in kept),
    )


def save_head(head: Head, folder: Path) -> None:
    """Write `head.json`, `head.safetensors` (fp16) and `neighbors.json`; `load_head` reads them back."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {dense_name(index): weights for index, weights in enumerate(head.dense)} | {
        "pieces.weights": head.pieces.weights,
        "concepts.weights": head.concepts.weights,
        "pieces.rarity": head.pieces.rarity,
        "concepts.rarity": head.concepts.rarity,
        "bias": head.bias,
        "neighbor_vectors": head.neighbor_vectors,
    }
    save_file({name: np.ascontiguousarray(t.astype(np.float16)) for name, t in tensors.items()}, folder / "head.safetensors")
    shown = [{"category": c, "text": t} for c, t in zip(head.neighbor_labels, head.neighbor_texts, strict=True)]
    (folder / "neighbors.json").write_text(json.dumps(shown, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    record = {"classes": list(head.classes), "embedders": list(head.embedders), "temperature": head.temperature}
    (folder / "head.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _record(blend: Blend, linear: np.ndarray, tuned: np.ndarray | None, targets: np.ndarray) -> dict[str, Any]:
    def right(logits: np.ndarray) -> float:
        return round(float(np.mean(logits.argmax(1) == targets)), 4)

    found: dict[str, Any] = {"validation_tickets": len(targets), "linear_accuracy": right(linear)}
    if tuned is not None:
        scope = targets < linear.shape[1] - 1
        if scope.any():
            found["tuned_accuracy_in_scope"] = round(float(np.mean(tuned[scope, :-1].argmax(1) == targets[scope])), 4)
    found["accuracy"] = right(blend(linear, tuned))
    return found | {"blend": {"linear": round(blend.linear, 4), "tuned": round(blend.tuned, 4), "others": round(blend.others, 4)}}
