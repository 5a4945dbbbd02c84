"""From rows of an export to a dataset. Knows every step and their order; knows no model and writes no file.

Labels read, personal data replaced, exact duplicates settled, rare types folded, near-copies found, parts given, all of it counted.
Nothing that a requester wrote leaves this module unredacted, and the record holds no text at all.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.domain.errors import BadInput
from orchestrator.domain.triage import OTHERS
from orchestrator.intake.read_tickets import TicketRow
from orchestrator.privacy.names import People, names_in
from orchestrator.privacy.redact import redact_fields
from training.data.labels import Labels, fold_rare, read_labels, settle_duplicates
from training.data.language import language_of
from training.data.near import Near, near_copies
from training.data.split import Split, split
from training.data.store import digest_of, load_dataset, save_dataset
from training.records import Dataset, LabeledTicket, Part

__all__ = ["build_dataset", "load_dataset", "save_dataset", "source_record"]

MIN_PER_CLASS = 8
NAME_FIELDS = frozenset(
    "caller caller_name requester requester_name requested_by requested_for opened_by reported_by reporter contact contact_name customer"
    " customer_name user user_name full_name name author employee assignee assigned_to affected_user submitter".split()
)
LANGUAGE_FIELDS = ("language", "lang", "locale")
FARTHEST = float("inf")  # the age of a ticket without a time: it gives way to one with a time
Progress = Callable[[str, int, int], None]
Embed = Callable[[list[str]], np.ndarray]


def build_dataset(
    rows: Sequence[TicketRow],
    *,
    others_label: str = "oos",
    validation: float = 0.15,
    golden: float = 0.05,
    min_per_class: int = MIN_PER_CLASS,
    seed: int = 0,
    vectors: np.ndarray | None = None,
    embed: Embed | None = None,
    people: Iterable[str] = (),
    redaction: bool = True,
    source: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """The dataset of an export. Raises BadInput where fewer than two types remain.

    Near-copies are found by text and by ids of the export; by vectors too where `vectors` [len(rows), d] (unit length) or `embed` (called
    once with the redacted texts that remain) is given. `people` are names beside those that the rows' own fields hold. `validation` and
    `golden` are shares of the tickets; see `split.golden_size` for the bounds. `source` goes into the record as it is.
    """
    _check(len(rows), validation, golden, min_per_class, vectors)
    labels = read_labels([row.category for row in rows], others_label=others_label)
    labeled = [
        index for index, name in enumerate(labels.names) if name and (rows[index].subject or rows[index].description).strip()
    ]
    if not labeled:
        raise BadInput(
            f"none of the {len(rows)} tickets has both a text and a category.", hint="Name the column: --map category=COLUMN."
        )
    cleaned = _cleaned(rows, labeled, known_people(rows, people), redaction, progress)
    settled = settle_duplicates(
        [ticket.text for ticket in cleaned.tickets],
        [str(labels.names[index]) for index in labeled],
        [created.timestamp() if (created := rows[index].created_at) else FARTHEST for index in labeled],
    )
    names, folded = fold_rare([settled.label.get(at, str(labels.names[labeled[at]])) for at in settled.kept], least=min_per_class)
    classes = _classes(names, folded, min_per_class)
    tickets = [_with_category(cleaned.tickets[at], name) for at, name in zip(settled.kept, names, strict=True)]
    kept = [rows[labeled[at]] for at in settled.kept]
    texts = [ticket.text for ticket in tickets]
    if vectors is not None:
        vectors = vectors[[labeled[at] for at in settled.kept]]
    elif embed is not None:
        vectors = embed(texts)
    near = near_copies(texts, ids=[row.id for row in kept], extras=[row.extra for row in kept], vectors=vectors, progress=progress)
    number = {name: index for index, name in enumerate(classes)}
    parted = split(
        np.array([number[name] for name in names]), near.clusters, [ticket.created_at for ticket in tickets],
        validation=validation, golden=golden, seed=seed,
    )  # fmt: skip
    digest = digest_of(tickets, parted.parts)
    record = {
        "version": 1,
        "digest": digest,
        "classes": list(classes),
        "tickets": len(tickets),
        **_counts(tickets, parted.parts, classes),
        "rows": {
            "read": len(rows),
            "without_category": sum(name is None for name in labels.names),
            "without_text": sum(name is not None for name in labels.names) - len(labeled),
            "repeats_dropped": settled.repeats,
            "contradicting_texts": settled.contradicting,
            "contradicting_rows_dropped": settled.undecided,
            "labels_outvoted": len(settled.label),
        },
        "labels": _label_record(labels, folded, others_label, min_per_class),
        "redactions": {"by_kind": dict(sorted(cleaned.counts.items())), "tickets": cleaned.touched, "applied": redaction},
        "near_copies": _near_record(near, vectors is not None),
        "split": _split_record(parted, validation, golden, seed),
        "created": _span([ticket.created_at for ticket in tickets]),
        "source": dict(source or {}),
    }
    return Dataset(
        tickets=tuple(tickets), classes=classes, clusters=near.clusters, parts=parted.parts, digest=digest, record=record
    )


def source_record(path: Path, mapping: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the record says of the file: its name without folders, its sha256 and how fields were renamed."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "map": dict(mapping or {})}


def _check(count: int, validation: float, golden: float, min_per_class: int, vectors: np.ndarray | None) -> None:
    if not (0 <= validation < 0.5 and 0 <= golden < 0.5):
        raise BadInput(f"validation {validation} and golden {golden} must be shares from 0 to below 0.5.")
    if min_per_class < 2:
        raise BadInput(f"min_per_class is {min_per_class}; a type needs at least 2 tickets.")
    if vectors is not None and len(vectors) != count:
        raise BadInput(f"{len(vectors)} vectors for {count} tickets; there must be one for each.")


# --- personal data --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Cleaned:
    tickets: list[LabeledTicket]
    counts: Counter[str]
    touched: int  # tickets in which something was replaced


def known_people(rows: Sequence[TicketRow], people: Iterable[str]) -> People:
    """Requesters and whoever else the export's own fields name."""
    found = dict.fromkeys(people)
    for row in rows:
        values = [row.requester, *(value for key, value in row.extra.items() if key.casefold() in NAME_FIELDS)]
        found |= dict.fromkeys(name for value in values for name in names_in(value))
    return People(found)


def _cleaned(
    rows: Sequence[TicketRow], labeled: Sequence[int], people: People, redaction: bool, progress: Progress | None
) -> _Cleaned:
    tickets, counts, touched = [], Counter[str](), 0
    for done, index in enumerate(labeled):
        row = rows[index]
        (subject, description), found = (
            redact_fields((row.subject, row.description), people) if redaction else ((row.subject, row.description), {})
        )
        counts.update(found)
        touched += bool(found)
        tickets.append(_ticket(row, subject, description))
        if progress and done % 256 == 0:
            progress("personal data replaced", done, len(labeled))
    return _Cleaned(tickets=tickets, counts=counts, touched=touched)


def _ticket(row: TicketRow, subject: str, description: str) -> LabeledTicket:
    text = f"{subject}\n{description}"
    told = next((row.extra[key] for key in LANGUAGE_FIELDS if isinstance(row.extra.get(key), str)), "")[:2].lower()
    guessed = told if len(told) == 2 and told.isalpha() else language_of(text)
    origin = row.extra.get("origin")
    return LabeledTicket(
        id=row.id,
        subject=subject,
        description=description,
        category="",
        group=row.group,
        language=guessed if guessed.isalpha() else "en",
        created_at=row.created_at,
        source=str(row.extra.get("origin_kind") or "export"),
        origin=str(origin) if origin else None,
    )


def _with_category(ticket: LabeledTicket, category: str) -> LabeledTicket:
    return LabeledTicket(**{**vars(ticket), "category": category})


# --- the record -----------------------------------------------------------------------------------------------------------


def _classes(names: Sequence[str], folded: Mapping[str, int], least: int) -> tuple[str, ...]:
    """In alphabetical order, OTHERS last. Raises BadInput below two types."""
    there = sorted(set(names) - {OTHERS})
    if len(there) < 2:
        raise BadInput(
            f"{len(there)} type(s) have at least {least} tickets, {len(folded)} have fewer; training needs two.",
            hint="Bring more labeled tickets, or check --map category=COLUMN.",
        )
    return (*there, *((OTHERS,) if OTHERS in names else ()))


def _counts(tickets: Sequence[LabeledTicket], parts: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    per_class = {name: dict.fromkeys((part.value for part in Part), 0) for name in classes}
    for ticket, part in zip(tickets, parts, strict=True):
        per_class[ticket.category][str(part)] += 1
    return {
        "per_part": {part.value: int((parts == part.value).sum()) for part in Part},
        "per_class": per_class,
        "per_language": dict(Counter(ticket.language for ticket in tickets).most_common()),
        "per_source": dict(Counter(ticket.source for ticket in tickets).most_common()),
    }


def _label_record(labels: Labels, folded: Mapping[str, int], others_label: str, least: int) -> dict[str, Any]:
    return {"others_label": others_label, "min_per_class": least, "folded": dict(folded), "merged_spellings": dict(labels.merged)}


def _near_record(near: Near, with_vectors: bool) -> dict[str, Any]:
    sizes = np.bincount(near.clusters)
    return {
        "clusters": len(sizes),
        "tickets_with_a_near_copy": int(sizes[sizes > 1].sum()),
        "largest": int(sizes.max(initial=0)),
        "joined_by": dict(near.joined),
        "ids_ignored_as_too_common": dict(near.ignored),
        "vectors_compared": with_vectors,
    }


def _split_record(parted: Split, validation: float, golden: float, seed: int) -> dict[str, Any]:
    return {
        "rule": parted.rule,
        "validation": validation,
        "golden": golden,
        "seed": seed,
        "validation_from": _iso(parted.validation_from),
        "golden_from": _iso(parted.golden_from),
        "moved_to_keep_near_copies_together": parted.kept_together,
        "moved_to_train_for_their_type": parted.kept_for_types,
    }


def _span(times: Sequence[datetime | None]) -> dict[str, Any]:
    found = [time for time in times if time is not None]
    return {"known": len(found), "first": _iso(min(found, default=None)), "last": _iso(max(found, default=None))}


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
