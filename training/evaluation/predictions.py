"""Prediction lines: one JSON object per input row, in the input's order. Knows classifications; knows no model.

    {"id", "category", "confidence", "abstained", "alternatives": [[category, probability], ...], "stage": "head"|"model"}

`category` is the best label or `Others`; `abstained` means that it would not be acted on; `confidence` is the probability that the
category is right and in scope; `alternatives` include the winner and sum to at most 1.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.domain.triage import Classification


def prediction(ticket_id: str, found: Classification) -> dict[str, Any]:
    return {
        "id": ticket_id,
        "category": found.category,
        "confidence": found.confidence,
        "abstained": found.abstained,
        "alternatives": [[name, probability] for name, probability in found.alternatives],
        "stage": found.stage,
    }


def write_predictions(path: Path, ids: Sequence[str], found: Sequence[Classification]) -> None:
    """One line per row. The file appears whole or not at all."""
    lines = [json.dumps(prediction(i, each), ensure_ascii=False) for i, each in zip(ids, found, strict=True)]
    whole = path.with_name(f".{path.name}.part")
    whole.write_text("\n".join(lines) + "\n", encoding="utf-8")
    whole.replace(path)
