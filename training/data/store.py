"""Write a dataset to a folder and read it back, its digest checked. Knows files; knows no rules.

`dataset.jsonl` has one line per ticket, redacted; `dataset.json` the record, without any text.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.domain.errors import BadInput, NotFound
from training.records import Dataset, LabeledTicket, Part

ROWS, RECORD = "dataset.jsonl", "dataset.json"
FIELDS = ("id", "subject", "description", "category", "group", "language", "created_at", "source", "origin")


def canonical(ticket: LabeledTicket, part: str) -> str:
    """One ticket as one line: all fields in a fixed order, no spaces, UTF-8, and its part."""
    values = {name: getattr(ticket, name) for name in FIELDS}
    values["created_at"] = ticket.created_at.isoformat() if ticket.created_at else None
    return json.dumps({**values, "part": part}, ensure_ascii=False, separators=(",", ":"))


def digest_of(tickets: Sequence[LabeledTicket], parts: np.ndarray) -> str:
    """sha256 over the canonical lines, in order."""
    digest = hashlib.sha256()
    for ticket, part in zip(tickets, parts, strict=True):
        digest.update(canonical(ticket, str(part)).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def save_dataset(dataset: Dataset, folder: Path) -> None:
    """Write both files, the record last; each appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (
        json.dumps({**json.loads(canonical(ticket, str(part))), "near": int(cluster)}, ensure_ascii=False)
        for ticket, part, cluster in zip(dataset.tickets, dataset.parts, dataset.clusters, strict=True)
    )
    _write(folder / ROWS, "".join(f"{line}\n" for line in lines))
    _write(folder / RECORD, json.dumps(dataset.record, ensure_ascii=False, indent=1) + "\n")


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.part")
    with beside.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def load_dataset(folder: Path) -> Dataset:
    """Read a saved dataset. Raises NotFound where there is none, BadInput where its rows are not those of its digest."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        rows = list(_rows(folder / ROWS))
    except FileNotFoundError as error:
        raise NotFound(f"there is no dataset in {folder}.", hint="`cloister train fit` writes one.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"the dataset in {folder} cannot be read ({error!r}).", hint="Build it again with `cloister train fit`."
        ) from error
    tickets = tuple(ticket for ticket, _, _ in rows)
    parts = np.array([part for _, part, _ in rows], dtype=f"<U{max(map(len, Part))}")
    if (digest := digest_of(tickets, parts)) != record.get("digest"):
        raise BadInput(
            f"the rows of the dataset in {folder} were changed: sha256 {digest[:12]}..., recorded {str(record.get('digest'))[:12]}....",
            hint="Build it again with `cloister train fit`.",
        )
    return Dataset(
        tickets=tickets,
        classes=tuple(record["classes"]),
        clusters=np.array([cluster for _, _, cluster in rows], np.int64),
        parts=parts,
        digest=digest,
        record=record,
    )


def _rows(path: Path) -> Iterator[tuple[LabeledTicket, str, int]]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            row: dict[str, Any] = json.loads(line)
            created = row["created_at"]
            ticket = {name: row[name] for name in FIELDS} | {"created_at": datetime.fromisoformat(created) if created else None}
            yield LabeledTicket(**ticket), Part(row["part"]).value, int(row["near"])
