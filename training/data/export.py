"""Write a part of a dataset as a file of tickets, as `train evaluate` and `tickets shadow` read it. Knows the ticket contract."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.domain.triage import OTHERS
from training.records import Dataset, LabeledTicket, Part


def to_ticket_rows(dataset: Dataset, *parts: Part, others_label: str = "oos") -> Iterator[dict[str, Any]]:
    """The tickets of any of `parts` (of all when none is named) as rows of a JSONL file; out of scope is `others_label`."""
    return (_row(dataset.tickets[index], others_label) for index in dataset.indices(*parts))


def _row(ticket: LabeledTicket, others_label: str) -> dict[str, Any]:
    values = {
        "id": ticket.id,
        "subject": ticket.subject,
        "description": ticket.description,
        "category": others_label if ticket.category == OTHERS else ticket.category,
        "group": ticket.group,
        "created_at": ticket.created_at.isoformat() if ticket.created_at else None,
        "language": ticket.language,
    }
    return {name: value for name, value in values.items() if value is not None}


def write_ticket_rows(dataset: Dataset, path: Path, *parts: Part, others_label: str = "oos") -> int:
    """Write them to `path` and answer how many there are."""
    rows = list(to_ticket_rows(dataset, *parts, others_label=others_label))
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return len(rows)
