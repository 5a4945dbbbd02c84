"""What training works on: labeled tickets, their split, their digest. Records only; knows no files, no models and no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np


class Part(StrEnum):
    """Which use a ticket is put to. Near-copies always share one."""

    TRAIN = "train"
    VALIDATION = "validation"  # fits calibration, thresholds and weights
    GOLDEN = "golden"  # compares candidate and incumbent; nothing is fitted on it


@dataclass(frozen=True, kw_only=True)
class LabeledTicket:
    """One ticket with its type, personal data already replaced."""

    id: str
    subject: str
    description: str
    category: str  # OTHERS for out of scope
    group: str | None = None
    language: str = "en"
    created_at: datetime | None = None
    source: str = "export"
    origin: str | None = None  # who and why, for rows that came from feedback

    @property
    def text(self) -> str:
        """Subject and description exactly as `Ticket.text` joins them: the subject once where the description repeats it."""
        if not self.subject or self.description.startswith(self.subject):
            return self.description
        return f"{self.subject}\n{self.description}" if self.description else self.subject


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Labeled tickets, split. All arrays have one entry per ticket, in the same order."""

    tickets: tuple[LabeledTicket, ...]
    classes: tuple[str, ...]  # OTHERS last, where the data has out-of-scope rows
    clusters: np.ndarray  # [n] int64; near-copies share a number
    parts: np.ndarray  # [n] values of `Part`
    digest: str  # sha256 over the canonical rows and their parts
    record: Mapping[str, Any] = field(default_factory=dict)  # what dataset.json says; never a ticket's text

    def __len__(self) -> int:
        return len(self.tickets)

    def indices(self, *parts: Part) -> np.ndarray:
        """[m] ascending positions of the tickets in any of `parts`; of all tickets when none is named."""
        wanted = [part.value for part in parts or tuple(Part)]
        return np.flatnonzero(np.isin(self.parts, wanted))

    def targets(self) -> np.ndarray:
        """[n] int64 index of each ticket's category in `classes`."""
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number[ticket.category] for ticket in self.tickets], np.int64)

    def texts(self, *parts: Part) -> list[str]:
        """The texts of the tickets in any of `parts`, in the order of `indices`."""
        return [self.tickets[index].text for index in self.indices(*parts)]
