"""Adapt the sentence encoder to the house's labels and duplicates. Knows texts, class numbers and cluster numbers; no files but its own.

Labels: cross-entropy over the cosines to one learned vector per type, times a learned scale, with label smoothing. Tickets out of
scope are pushed away from all types: their target is the uniform distribution (outlier exposure, Hendrycks et al. 2019).
Duplicates: the other tickets of a batch are the negatives of a pair (InfoNCE). The class vectors are a classifier of their own;
the head weighs it against its other parts on tickets that neither has seen.
"""

import hashlib
import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F  # noqa: N812

from models.manifest import Kind, Manifest, write
from orchestrator.domain.errors import BadInput
from training.adapter import checkpoint
from training.adapter.interrupts import Interrupted, listening
from training.head.encoder import FILES, SETTINGS_FILE, Encoder

WARM_UP = 0.1  # share of the steps over which the learning rate rises
POOL = 16  # batches that are sorted by length together, so that little is padded
OUT_OF_SCOPE, UNLABELED = -1, -2  # in place of a class number
SAVE_EVERY_STEPS = 200
AGREEMENT = 1e-2  # distance of unit vectors up to which 16-bit weights count as the same encoder
Progress = Callable[[str, int, int], None]
Pair = tuple[int, int, int]
"""(position, position, cluster) of two duplicates."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    epochs: int = 6
    batch: int = 32
    learning_rate: float = 1e-4
    class_learning_rate: float = 1e-3
    label_smoothing: float = 0.1
    contrastive: float = 0.0  # weight of the supervised-contrastive term (Khosla et al. 2020)
    contrastive_temperature: float = 0.07
    outliers: float = 0.5  # weight of the tickets out of scope
    duplicates: float = 1.0  # weight of the duplicate pairs
    pairs: int = 16  # duplicate pairs per step
    pair_temperature: float = 0.05
    max_tokens: int = 96  # per text while tuning
    weight_decay: float = 0.01
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """`class_vectors` [types, dimensions] of unit length and `scale`: logits are scale x cosine."""

    encoder: Encoder
    class_vectors: np.ndarray
    scale: float
    record: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Batch:
    rows: list[int]
    pairs: list[Pair]


class Cosines(nn.Module):
    """One vector per type and the scale of their cosines."""

    def __init__(self, vectors: np.ndarray, scale: float = 20.0) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.tensor(vectors))
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, embedded: torch.Tensor) -> torch.Tensor:
        """[n, types] logits of unit vectors [n, dimensions]."""
        return self.scale.clamp(1.0, 100.0) * F.linear(embedded, F.normalize(self.vectors, dim=-1))


def tune_encoder(
    texts: Sequence[str],
    targets: np.ndarray | None,
    *,
    settings: TuneSettings | None = None,
    start: Encoder | None = None,
    vectors: np.ndarray | None = None,
    duplicates: np.ndarray | None = None,
    work: Path | None = None,
    progress: Progress | None = None,
) -> Tuned:
    """Tune on all of these texts.

    `targets` [n]: number of the type, OUT_OF_SCOPE, or UNLABELED; None: no labels. `duplicates` [n]: cluster number, negative for
    none. `start` (None: the bundled encoder) is itself changed. `vectors` [n, dimensions]: of the untuned encoder, where they are
    there already. `work`: folder of the checkpoint; an interrupted run goes on from there and ends with the same weights. Raises
    BadInput where there is nothing to learn from.
    """
    settings, start = settings or TuneSettings(), start or Encoder()
    targets = np.full(len(texts), UNLABELED) if targets is None else np.asarray(targets)
    pairs = _pairs(duplicates)
    types = int(targets.max(initial=-1)) + 1
    if types < 2 and not pairs:
        raise BadInput("There are neither two types nor duplicate pairs to learn from.", hint="Name the column with --map.")
    untuned = start.encode(texts, max_length=settings.max_tokens) if vectors is None else vectors
    classifier = Cosines(_centers(untuned, targets, types))
    losses = _train(start, classifier, texts, targets, pairs, settings, work, progress)
    start.model.eval()
    start.changed()
    with torch.no_grad():
        centers, scale = F.normalize(classifier.vectors, dim=-1).numpy(), classifier.scale.clamp(1.0, 100.0).item()
    record = {"settings": asdict(settings), "texts": len(texts), "types": types, "pairs": len(pairs), "loss": losses}
    return Tuned(encoder=start, class_vectors=centers, scale=scale, record=record)


def _centers(vectors: np.ndarray, targets: np.ndarray, types: int) -> np.ndarray:
    """[types, dimensions] mean vector of each type; a random direction for a type without tickets."""
    chance = np.random.default_rng(0).standard_normal((types, vectors.shape[1])).astype(np.float32)
    for number in range(types):
        if (own := targets == number).any():
            chance[number] = vectors[own].mean(0)
    return chance / np.maximum(np.linalg.norm(chance, axis=1, keepdims=True), 1e-9)


def _pairs(duplicates: np.ndarray | None) -> list[Pair]:
    """Neighbors in every cluster's order, and its ends: as many pairs as tickets, none for a cluster of one."""
    members: dict[int, list[int]] = defaultdict(list)
    for index, number in enumerate([] if duplicates is None else duplicates.tolist()):
        if number >= 0:
            members[number].append(index)
    found: list[Pair] = []
    for number, own in members.items():
        ring = [*own, own[0]] if len(own) > 2 else own
        found += [(a, b, number) for a, b in pairwise(ring)]
    return found


def _train(
    encoder: Encoder,
    classifier: Cosines,
    texts: Sequence[str],
    targets: np.ndarray,
    pairs: list[Pair],
    s: TuneSettings,
    work: Path | None,
    progress: Progress | None,
) -> list[float]:
    """Mean loss of each epoch. Raises Interrupted where somebody asked to stop and there is a folder to go on from."""
    ids = encoder.tokens(texts, max_length=s.max_tokens)
    parameters = [list(encoder.model.parameters()), list(classifier.parameters())]
    rates = [s.learning_rate, s.class_learning_rate]
    groups = [{"params": part, "lr": rate} for part, rate in zip(parameters, rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=s.weight_decay)
    fingerprint = {"settings": json.dumps(asdict(s)), "texts": _digest(ids, targets, pairs), "encoder": encoder.name}
    state = checkpoint.load(work, fingerprint=fingerprint) if work else None
    step, losses = _restore(state, encoder, classifier, optimizer) if state else (0, [])
    per_epoch = len(_epoch(ids, targets, pairs, s, 0))
    total = per_epoch * s.epochs
    with listening() as asked:
        while step < total:
            epoch = step // per_epoch
            losses += [0.0] * (epoch + 1 - len(losses))
            for batch in _epoch(ids, targets, pairs, s, epoch)[step % per_epoch :]:
                torch.manual_seed(s.seed * 1_000_003 + step)  # dropout of a step does not depend on where a run began
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * _rate(step, total)
                encoder.model.train()
                loss = _loss(encoder, classifier, ids, targets, batch, s)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_([p for part in parameters for p in part], 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                losses[epoch] += loss.item() / per_epoch
                step += 1
                if progress:
                    progress("tuning the encoder", step, total)
                if work and step < total and (step % SAVE_EVERY_STEPS == 0 or asked.to_stop):
                    checkpoint.save(work, _state(fingerprint, step, losses, encoder, classifier, optimizer))
                if asked.to_stop:
                    raise Interrupted(f"Stopped after {step} of {total} steps.", hint="The same command goes on from there.")
    if work:
        (work / checkpoint.FILE).unlink(missing_ok=True)
    return [round(loss, 4) for loss in losses]


def _rate(step: int, total: int) -> float:
    return min(1.0, (step + 1) / max(1.0, WARM_UP * total)) * max(0.0, 1 - step / total)


def _epoch(ids: Sequence[Sequence[int]], targets: np.ndarray, pairs: list[Pair], s: TuneSettings, epoch: int) -> list[_Batch]:
    """The batches of an epoch: the same for the same seed and number, of texts of similar length."""
    choose = random.Random(f"{s.seed}/{epoch}")
    rows = np.flatnonzero(targets != UNLABELED).tolist()
    choose.shuffle(rows)
    labeled = [batch for pool in _parts(rows, s.batch * POOL) for batch in _parts(sorted(pool, key=lambda i: len(ids[i])), s.batch)]
    choose.shuffle(labeled)
    shuffled = choose.sample(pairs, len(pairs))
    paired = list(_parts(shuffled, s.pairs))
    count = max(len(labeled), len(paired))
    return [
        _Batch(rows=labeled[i] if i < len(labeled) else [], pairs=paired[i % len(paired)] if paired else []) for i in range(count)
    ]


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _loss(
    encoder: Encoder, classifier: Cosines, ids: Sequence[Sequence[int]], targets: np.ndarray, batch: _Batch, s: TuneSettings
) -> torch.Tensor:
    total = torch.zeros(())
    if batch.rows:
        embedded = encoder.embed([ids[i] for i in batch.rows]).cpu()
        wanted = torch.tensor(targets[batch.rows])
        total = total + _label_loss(classifier(embedded), wanted, s)
        if s.contrastive:
            total = total + s.contrastive * _contrast(embedded, wanted, s.contrastive_temperature)
    if len(batch.pairs) > 1:
        first = encoder.embed([ids[a] for a, _, _ in batch.pairs]).cpu()
        second = encoder.embed([ids[b] for _, b, _ in batch.pairs]).cpu()
        clusters, right = torch.tensor([number for _, _, number in batch.pairs]), torch.arange(len(batch.pairs))
        too = (clusters[:, None] == clusters[None]) & ~torch.eye(len(right), dtype=torch.bool)  # duplicates of it too
        similar = (first @ second.T / s.pair_temperature).masked_fill(too, -1e4)
        total = total + s.duplicates * (F.cross_entropy(similar, right) + F.cross_entropy(similar.T, right)) / 2
    return total if total.requires_grad else total + 0.0 * classifier.scale


def _label_loss(logits: torch.Tensor, wanted: torch.Tensor, s: TuneSettings) -> torch.Tensor:
    inside = wanted >= 0
    total = torch.zeros(())
    if inside.any():
        total = total + F.cross_entropy(logits[inside], wanted[inside], label_smoothing=s.label_smoothing)
    if (~inside).any() and s.outliers:
        away = F.log_softmax(logits[~inside], -1).mean(-1)  # cross-entropy against the uniform distribution, less its least value
        total = total - s.outliers * (away.mean() + math.log(logits.shape[1]))
    return total


def _contrast(embedded: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    similar = embedded @ embedded.T / temperature
    similar = similar.masked_fill(torch.eye(len(wanted), dtype=torch.bool), -1e4)
    same = (wanted[:, None] == wanted[None]) & (wanted[:, None] >= 0) & ~torch.eye(len(wanted), dtype=torch.bool)
    counts = same.sum(1)
    if not counts.any():
        return torch.zeros(())
    shares = (F.log_softmax(similar, 1) * same).sum(1)[counts > 0] / counts[counts > 0]
    return -shares.mean()


def _digest(ids: Sequence[Sequence[int]], targets: np.ndarray, pairs: list[Pair]) -> str:
    return hashlib.sha256(json.dumps([list(map(list, ids)), targets.tolist(), pairs]).encode()).hexdigest()


def _state(
    fingerprint: Mapping[str, Any],
    step: int,
    losses: list[float],
    encoder: Encoder,
    classifier: Cosines,
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    parts = {"model": encoder.model.state_dict(), "classifier": classifier.state_dict(), "optimizer": optimizer.state_dict()}
    return {"fingerprint": dict(fingerprint), "step": step, "losses": list(losses), **parts}


def _restore(
    state: Mapping[str, Any], encoder: Encoder, classifier: Cosines, optimizer: torch.optim.Optimizer
) -> tuple[int, list[float]]:
    encoder.model.load_state_dict(state["model"])
    classifier.load_state_dict(state["classifier"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), list(state["losses"])


# --- a model of its own ---------------------------------------------------------------------------------------------------


def save_embedder(
    tuned: Encoder,
    folder: Path,
    *,
    name: str,
    parent: str,
    sample: Sequence[str],
    duplicate_threshold: Mapping[str, Any] | None = None,
    data: Sequence[str] = (),
    made: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write a model of kind `embedder` into an empty folder. `parent`: full name of the encoder that it was tuned from.

    Weights are fp16 where the vectors of `sample` stay within AGREEMENT, else fp32. The folder of `tuned` gives the tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        (folder / file).write_bytes((tuned.folder / file).read_bytes())
    dtype, distance = _precision(tuned, sample)
    weights = {key: t.detach().to(dtype if t.is_floating_point() else t.dtype).contiguous() for key, t in _weights(tuned).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    record = {
        "pooling": "mean",
        "normalize": True,
        "max_tokens": tuned.max_tokens,
        "dimensions": tuned.dimensions,
        "parent": parent,
        **({"duplicate_threshold": dict(duplicate_threshold)} if duplicate_threshold else {}),
    }
    (folder / SETTINGS_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    facts = {"weights": str(dtype).removeprefix("torch."), "largest_distance_to_float32": round(distance, 6), **(made or {})}
    return write(folder, name=name, kind=Kind.EMBEDDER, license="Apache-2.0", data=tuple(data), made=facts)


def _weights(encoder: Encoder) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = encoder.model.state_dict()
    return {key: tensor.cpu() for key, tensor in state.items()}


def _precision(encoder: Encoder, sample: Sequence[str]) -> tuple[torch.dtype, float]:
    """(dtype of the weights, largest distance of the sample's vectors to those of float32)."""
    before = encoder.encode(sample)
    exact = {key: tensor.clone() for key, tensor in _weights(encoder).items()}
    encoder.model.load_state_dict({k: t.half().float() if t.is_floating_point() else t for k, t in exact.items()})
    after = encoder.encode(sample)
    encoder.model.load_state_dict(exact)
    distance = float(np.linalg.norm(before - after, axis=1).max(initial=0.0))
    return (torch.float16, distance) if distance <= AGREEMENT else (torch.float32, 0.0)
