"""What a model learned from, as far as this machine still knows: shares of types, words, tickets. Knows model folders and the dataset
that `train fit` keeps in the state folder."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.triage.taxonomy import load_taxonomy
from training.feedback.collect import text_key
from training.records import Dataset, Part


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Of one model."""

    full_name: str
    classes: tuple[str, ...]  # of its taxonomy, OTHERS last
    counts: Mapping[str, int]  # training tickets per type; empty where nobody knows any more
    counted: str  # where the counts are from, in words
    texts: tuple[str, ...]  # that its words are known from
    keys: frozenset[str]  # `text_key` of the tickets that it was fitted on, as far as they are known


def reference_of(folder: Path, full_name: str, *, home: Path) -> Reference:
    """From the kept dataset where it is this model's, else from the model folder alone."""
    classes = load_taxonomy(folder / "taxonomy.json").names
    record = _json(folder / "dataset.json")
    neighbors = _json(folder / "neighbors.json") or []
    evidence = [str(row["text"]) for row in neighbors]
    dataset = _kept(home, full_name, record)
    if dataset is not None:
        rows = [dataset.tickets[index] for index in dataset.indices(Part.TRAIN)]
        texts = tuple(ticket.text for ticket in rows)
        keys = frozenset(text_key(ticket.text) for ticket in dataset.tickets)
        return _reference(full_name, classes, Counter(t.category for t in rows), "the training part of its dataset", texts, keys)
    told = per_class(record or {})
    if told:
        return _reference(full_name, classes, told, "its dataset.json", tuple(evidence), frozenset(map(text_key, evidence)))
    return _reference(
        full_name, classes, {}, "nothing: its folder tells no shares of types", tuple(evidence), frozenset(map(text_key, evidence))
    )


def _reference(
    name: str, classes: tuple[str, ...], counts: Mapping[str, int], counted: str, texts: tuple[str, ...], keys: frozenset[str]
) -> Reference:
    return Reference(full_name=name, classes=classes, counts=dict(counts), counted=counted, texts=texts, keys=keys)


def per_class(record: Mapping[str, Any]) -> dict[str, int]:
    """Training tickets per type as a dataset's record tells them: {type: {train: n, ...}} or {type: n}; empty where it does not."""
    found = record.get("per_class")
    if found is None:
        inner = (per_class(value) for value in record.values() if isinstance(value, Mapping))
        return next((counts for counts in inner if counts), {})
    return {
        str(name): int(counts.get(Part.TRAIN.value, 0) if isinstance(counts, Mapping) else counts) for name, counts in found.items()
    }


def _kept(home: Path, full_name: str, record: Mapping[str, Any] | None) -> Dataset | None:
    from training.evaluation.material import kept_dataset

    folder = kept_dataset(home, full_name)
    if record is None or not (folder / "dataset.jsonl").is_file():
        return None
    from training.data.store import load_dataset

    dataset = load_dataset(folder)
    return dataset if record.get("digest") in (None, dataset.digest) else None


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
