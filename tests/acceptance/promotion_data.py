"""Labeled tickets for the promotion run: a part to learn from, a newer part that nothing is learned from. Knows files and rows."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.intake.read_tickets import TicketRow, read_tickets
from tests.conftest import DATA
from training.nano.corpus import house_texts

BANKING77 = DATA / "banking77" / "train.jsonl.gz"
HOUSE_TEXTS = Path(__file__).parents[2] / "training" / "texts"
NEWER_SHARE = 0.1  # of the tickets: held out for `train evaluate`, for the gate where nothing else is, and for the traffic


@dataclass(frozen=True, kw_only=True)
class Tickets:
    """Both files hold {id, subject, description, category}, one ticket a line."""

    told: str  # where they came from, in words
    learn: Path
    newer: Path
    learned: int
    texts: tuple[tuple[str, str], ...]  # subject and description of the newer ones


def prepare(
    folder: Path, *, file: Path | None = None, mapping: Mapping[str, str] | None = None, limit: int | None = None
) -> Tickets:
    """From `file`; where none is named from banking77 beside the checkout, else from the house's own texts. Raises BadInput."""
    if file is None and not BANKING77.is_file():
        return prepare_house_texts(folder)
    rows = read_tickets(file, mapping or {}) if file else read_tickets(BANKING77, {"description": "text"})
    chosen = sorted((row for row in rows if row.category), key=lambda row: _place(row, "limit"))[:limit]
    return _written(folder, chosen, told=f"{file.name if file else 'banking77/train'}, {len(chosen):,} tickets")


def prepare_house_texts(folder: Path, *, types: Collection[str] = ()) -> Tickets:
    """The house's own texts, of these types alone where any are named."""
    found = [each for each in house_texts(HOUSE_TEXTS) if not types or each["category"] in types]
    rows = [
        TicketRow(id=str(n), subject=each["subject"], description=each["description"], category=each["category"])
        for n, each in enumerate(found)
    ]
    told = f"the house's own texts, {len(rows):,} tickets of {len({row.category for row in rows})} types"
    return _written(folder, sorted(rows, key=lambda row: _place(row, "limit")), told=told)


def _written(folder: Path, rows: Sequence[TicketRow], *, told: str) -> Tickets:
    """Equal texts fall into the same part: the place in the order is made from the text."""
    folder.mkdir(parents=True, exist_ok=True)
    newer = [row for row in rows if _place(row) < NEWER_SHARE]
    learn = [row for row in rows if _place(row) >= NEWER_SHARE]
    _write(folder / "export.jsonl", learn)
    _write(folder / "newer.jsonl", newer)
    texts = tuple((row.subject, row.description) for row in newer)
    return Tickets(told=told, learn=folder / "export.jsonl", newer=folder / "newer.jsonl", learned=len(learn), texts=texts)


def _place(row: TicketRow, purpose: str = "newer") -> float:
    """0..1, evenly, by the words alone; for another purpose another place."""
    words = " ".join(f"{purpose} {row.subject} {row.description}".lower().split())
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8]) / 2**64


def _write(path: Path, rows: Sequence[TicketRow]) -> None:
    lines = [
        json.dumps(
            {"id": row.id, "subject": row.subject, "description": row.description, "category": row.category}, ensure_ascii=False
        )
        for row in rows
    ]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
