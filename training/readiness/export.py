"""An export as every measure reads it: rows, texts as the models read them, labels with placeholders taken out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from orchestrator.intake.read_tickets import TicketRow
from training.records import LabeledTicket

NO_LABEL = frozenset(
    "n/a na none null nan nil unknown tbd todo ? - -- . x unclassified uncategorized uncategorised unassigned undefined (empty) "
    "unbekannt inconnu desconocido".split()
) | {"not set", "to be defined", "no category", ""}
CATCH_ALL = frozenset(
    "other others misc miscellaneous general generic various sonstiges andere allgemein divers autre autres otros otro oos".split()
) | {"other issue", "other issues", "general inquiry", "out of scope", "anything else"}


@dataclass(frozen=True, kw_only=True)
class Export:
    """All rows of a file. Arrays and tuples run parallel to `rows`."""

    rows: tuple[TicketRow, ...]
    others_label: str = "oos"

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Subject and description joined as the desk joins them."""
        return tuple(
            LabeledTicket(id=row.id, subject=row.subject, description=row.description, category="").text for row in self.rows
        )

    @cached_property
    def labels(self) -> tuple[str | None, ...]:
        """None where there is none, or only a placeholder such as n/a."""
        return tuple(_label(row.category) for row in self.rows)

    @cached_property
    def labeled(self) -> np.ndarray:
        """[m] int: indices of the rows with a label."""
        return np.array([index for index, label in enumerate(self.labels) if label is not None], dtype=int)

    @cached_property
    def counts(self) -> Counter[str]:
        """Tickets per label, of those labeled."""
        return Counter(label for label in self.labels if label is not None)

    def is_catch_all(self, label: str) -> bool:
        """Whether a label is a rest: the out-of-scope label or a usual name for everything else."""
        return label == self.others_label or label.casefold().strip() in CATCH_ALL

    def __len__(self) -> int:
        return len(self.rows)


def export_of(rows: Sequence[TicketRow], *, others_label: str = "oos") -> Export:
    """The rows of a file as an export."""
    return Export(rows=tuple(rows), others_label=others_label)


def _label(category: str | None) -> str | None:
    found = (category or "").strip()
    return None if found.casefold() in NO_LABEL else found
