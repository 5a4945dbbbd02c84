"""The desk's own tickets as a dataset for the general recipe: the held-out fifth calibrates and judges, the rest is learned from.

Knows the split that pre-training keeps away from; knows no model. Half of the held-out tickets are the golden part, on which
nothing is fitted; near-copies stay in one part. Training tickets come once as they are and again written otherwise.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from training.data.store import digest_of
from training.records import Dataset, LabeledTicket, Part
from training.triage.dataset import Row, groups, otherwise

GOLDEN_SHARE = 0.5  # of the held-out tickets


def desk_dataset(
    rows: Sequence[Row], held_out: np.ndarray, vectors: np.ndarray, *, rewrites: int, classes: tuple[str, ...], seed: int
) -> Dataset:
    """`held_out` [rows], `vectors` [rows, dimensions]; classes in the taxonomy's order, Others last."""
    group = groups(rows, vectors)
    golden = _golden(group, held_out, seed)
    parts = np.where(golden, Part.GOLDEN.value, np.where(held_out, Part.VALIDATION.value, Part.TRAIN.value)).tolist()
    tickets = [_ticket(f"{row.source}-{number}", row, row.subject, row.description) for number, row in enumerate(rows)]
    clusters = group.tolist()
    choose = random.Random(seed)
    for number, row in enumerate(rows):
        for again in range(0 if held_out[number] else rewrites):
            tickets.append(_ticket(f"{row.source}-{number}-{again}", row, "", otherwise(row, choose)))
            parts.append(Part.TRAIN.value)
            clusters.append(int(group[number]))
    part = np.array(parts)
    digest = digest_of(tickets, part)
    return Dataset(
        tickets=tuple(tickets),
        classes=classes,
        clusters=np.array(clusters, np.int64),
        parts=part,
        digest=digest,
        record=_record(rows, part, classes, rewrites, digest),
    )


def _golden(group: np.ndarray, held_out: np.ndarray, seed: int) -> np.ndarray:
    """[rows] True for the golden half of the held-out tickets."""
    names = np.unique(group[held_out])
    chosen = np.random.default_rng(seed).permutation(names)[: round(GOLDEN_SHARE * len(names))]
    found: np.ndarray = held_out & np.isin(group, chosen)
    return found


def _ticket(name: str, row: Row, subject: str, description: str) -> LabeledTicket:
    return LabeledTicket(
        id=name, subject=subject, description=description, category=row.category, language=row.language, source=row.source
    )


def _record(rows: Sequence[Row], parts: np.ndarray, classes: Sequence[str], rewrites: int, digest: str) -> Mapping[str, Any]:
    sources = sorted({row.source for row in rows})
    return {
        "version": 1,
        "digest": digest,
        "classes": list(classes),
        "tickets": len(parts),
        "parts": {part.value: int((parts == part.value).sum()) for part in Part},
        "sources": {source: sum(row.source == source for row in rows) for source in sources},
        "rewritten": f"every training ticket {rewrites} times",
    }
