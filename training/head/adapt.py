"""The embedding step by itself: tune the encoder to an export's labels and duplicates, and measure what that changed on tickets kept out.

Knows ticket rows and the encoder. Whole clusters of duplicates are kept out, so that the threshold for duplicates is set on
matters that the encoder has not seen.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.domain.errors import BadInput
from orchestrator.intake.read_tickets import TicketRow
from training.head.calibrate import folds_of
from training.head.duplicates import duplicate_threshold
from training.head.encoder import Encoder
from training.head.tune_encoder import OUT_OF_SCOPE, UNLABELED, Progress, TuneSettings, save_embedder, tune_encoder
from training.metrics import accuracy
from training.records import LabeledTicket

FOLDS = 4  # of the tickets one in so many is kept out
LEAST_PER_TYPE = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Lessons:
    """What an export teaches an encoder; arrays have one entry per ticket."""

    texts: list[str]
    targets: np.ndarray  # number of the type, OUT_OF_SCOPE or UNLABELED
    types: tuple[str, ...]
    clusters: np.ndarray  # of duplicates; -1 for none
    kept_out: np.ndarray  # bool


def lessons(
    rows: Sequence[TicketRow], *, duplicates_field: str | None, others_label: str, labels: bool = True, seed: int = 0
) -> Lessons:
    """Raises BadInput where there are neither labels nor duplicates, or where no ticket has the field."""
    rows = [row for row in rows if (row.subject or row.description).strip()]
    values = [_value(row, duplicates_field) for row in rows]
    if duplicates_field and not any(values):
        raise BadInput(
            f"No ticket has the field {duplicates_field!r}.", hint="Name the field that holds the number of a duplicate's group."
        )
    clusters = _clusters(values)
    names = Counter(row.category for row in rows if labels and row.category and row.category != others_label)
    types = tuple(sorted(name for name, count in names.items() if count >= LEAST_PER_TYPE))
    number = {name: index for index, name in enumerate(types)} | {others_label: OUT_OF_SCOPE}
    targets = np.array([number.get(row.category or "", UNLABELED) for row in rows], np.int64)
    if len(types) < 2:
        targets = np.full(len(rows), UNLABELED)
    if len(types) < 2 and not (clusters >= 0).any():
        raise BadInput(
            "There are neither two types nor duplicates to learn from.", hint="Use --map category=..., or --duplicates-field."
        )
    texts = [_text(row) for row in rows]
    groups = np.where(clusters >= 0, clusters, clusters.max(initial=0) + 1 + _same_text(texts))
    return Lessons(
        texts=texts, targets=targets, types=types, clusters=clusters, kept_out=folds_of(groups, folds=FOLDS, seed=seed) == 0
    )


def _value(row: TicketRow, field: str | None) -> str:
    value = row.extra.get(field) if field else None
    return "" if value is None else str(value).strip()


def _text(row: TicketRow) -> str:
    return LabeledTicket(id=row.id, subject=row.subject, description=row.description, category="").text


def _clusters(values: Sequence[str]) -> np.ndarray:
    """[n] number of each value that stands at least twice; -1 else."""
    counts = Counter(value for value in values if value)
    numbers = {value: index for index, value in enumerate(sorted(v for v, count in counts.items() if count > 1))}
    return np.array([numbers.get(value, -1) for value in values], np.int64)


def _same_text(texts: Sequence[str]) -> np.ndarray:
    _, numbered = np.unique([" ".join(text.casefold().split()) for text in texts], return_inverse=True)
    return numbered


def adapt(
    given: Lessons,
    folder: Path,
    *,
    name: str,
    settings: TuneSettings,
    precision: float,
    work: Path,
    data: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Tune, measure, and write a model of kind `embedder` into `folder`. Gives what was found, before and after."""
    encoder = Encoder()
    parent, learn = encoder.name, np.flatnonzero(~given.kept_out)
    before = encoder.encode(given.texts, progress=_told(progress, "embedding with the untuned encoder"))
    tuned = tune_encoder(
        [given.texts[i] for i in learn],
        given.targets[learn] if len(given.types) else None,
        settings=settings,
        start=encoder,
        vectors=before[learn],
        duplicates=given.clusters[learn],
        work=work,
        progress=progress,
    )
    after = tuned.encoder.encode(given.texts, progress=_told(progress, "embedding with the tuned encoder"))
    was, is_now = measure(before, given, precision), measure(after, given, precision)
    found = {"parent": parent, "before": was, "after": is_now}
    manifest = save_embedder(
        tuned.encoder,
        folder,
        name=name,
        parent=parent,
        sample=given.texts[:256],
        duplicate_threshold=is_now.get("duplicate_threshold"),
        data=data,
        made={"tuned": dict(tuned.record), "kept_out": found},
    )
    return {"model": manifest.full_name, **found, "kept_out_tickets": int(given.kept_out.sum()), "loss": tuned.record["loss"]}


def measure(vectors: np.ndarray, given: Lessons, precision: float) -> dict[str, Any]:
    """Of the tickets kept out: how often the nearest other ticket has the same type; the threshold for duplicates with its recall."""
    found: dict[str, Any] = {}
    out, rest = np.flatnonzero(given.kept_out & (given.targets >= 0)), np.flatnonzero(~given.kept_out & (given.targets >= 0))
    if len(out) and len(rest):
        nearest = rest[np.argmax(vectors[out] @ vectors[rest].T, axis=1)]
        found["nearest_has_its_type"] = round(accuracy(given.targets[out], given.targets[nearest]), 4)
    own = given.kept_out & (given.clusters >= 0)
    if own.any():
        threshold = duplicate_threshold(vectors[given.kept_out], given.clusters[given.kept_out], precision)
        found["duplicate_threshold"] = threshold.record()
    return found


def _told(progress: Progress | None, what: str) -> Any:
    return (lambda done, of: progress(what, done, of)) if progress else False
