"""The file that a model is judged on: rows in their order, texts as the models read them, labels. Knows files; knows no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from orchestrator.domain.errors import BadInput
from orchestrator.domain.triage import OTHERS
from orchestrator.intake.read_tickets import TicketRow, read_tickets
from training.data.labels import read_labels
from training.data.language import language_of
from training.records import LabeledTicket

LANGUAGE_FIELDS = ("language", "lang")
SOURCE_FIELDS = ("source", "channel")


@dataclass(frozen=True, kw_only=True)
class Exam:
    """All sequences have one entry per row, in the file's order."""

    rows: tuple[TicketRow, ...]
    texts: tuple[str, ...]  # as `Ticket.text` joins subject and description
    labels: tuple[str | None, ...]  # OTHERS for out of scope, None where the file has no label
    languages: tuple[str, ...]  # ISO 639-1, the file's own or detected
    rows_of_file: int  # before --limit

    def __len__(self) -> int:
        return len(self.rows)

    def judged(self, classes: Sequence[str]) -> np.ndarray:
        """[m] positions of the rows whose label is one of `classes`, or out of scope."""
        known = {*classes, OTHERS}
        return np.array([index for index, label in enumerate(self.labels) if label in known], np.int64)

    def spelled_as(self, classes: Sequence[str]) -> "Exam":
        """The same with labels in a model's spelling, where they differ in case and blanks only."""
        names = {name.casefold(): name for name in classes}
        return replace(self, labels=tuple(label and names.get(label.casefold(), label) for label in self.labels))

    def unlabeled(self) -> int:
        return sum(label is None for label in self.labels)

    def unknown(self, classes: Sequence[str]) -> dict[str, int]:
        """Labels that a model does not know, with how many rows carry each; most frequent first."""
        known = {*classes, OTHERS}
        found: dict[str, int] = {}
        for label in self.labels:
            if label is not None and label not in known:
                found[label] = found.get(label, 0) + 1
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def slices(self) -> dict[str, list[str | None]]:
        """For each way to cut the rows (language, source, group, month): the slice of every row."""
        cuts: dict[str, list[str | None]] = {
            "language": list(self.languages),
            "source": [_extra(row, SOURCE_FIELDS) for row in self.rows],
            "group": [row.group for row in self.rows],
            "month": [row.created_at.strftime("%Y-%m") if row.created_at else None for row in self.rows],
        }
        return {name: values for name, values in cuts.items() if any(value is not None for value in values)}


def read_exam(path: Path, *, mapping: Mapping[str, str] | None = None, others_label: str = "oos", limit: int | None = None) -> Exam:
    """Read and label the rows; the first `limit` only, where given. Raises BadInput with every complaint about the file."""
    if others_label == "":
        raise BadInput("--others-label is empty.", hint="Name the category of the rows that are out of scope, e.g. oos.")
    rows = read_tickets(path, mapping)
    kept = tuple(rows[:limit])
    texts = tuple(text_of(row) for row in kept)
    return Exam(
        rows=kept,
        texts=texts,
        labels=read_labels([row.category for row in kept], others_label=others_label).names,
        languages=tuple((_extra(row, LANGUAGE_FIELDS) or language_of(text)) for row, text in zip(kept, texts, strict=True)),
        rows_of_file=len(rows),
    )


def text_of(row: TicketRow) -> str:
    return LabeledTicket(id=row.id, subject=row.subject, description=row.description, category="").text


def _extra(row: TicketRow, names: Sequence[str]) -> str | None:
    return next((str(row.extra[name]) for name in names if row.extra.get(name)), None)
