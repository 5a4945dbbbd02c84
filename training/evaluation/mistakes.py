"""The tickets that were decided wrongly, with what the model knew, and the labels that look wrong. Knows texts and decisions.

A label is suspected where the model is sure of another type, and most of the labeled neighbors that it keeps as evidence carry
that type; or where a text of the same words carries another label in the same file. A suspicion is a row to look at, no verdict:
nothing is left out of any figure because of it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from orchestrator.domain.triage import OTHERS, Classification
from orchestrator.triage.head import normalize

SHOWN = 200
SURE = 0.9
ALIKE = 0.6  # cosine from which a neighbor says something about the label
TEXT_CHARS = 400
Redact = Callable[[str], str]


def errors(
    ids: Sequence[str], texts: Sequence[str], targets: np.ndarray, found: Sequence[Classification], *, redact: Redact
) -> list[dict[str, Any]]:
    """Wrong decisions, those that would have been acted on first, then by confidence. At most `SHOWN`, texts redacted and cut."""
    wrong = [index for index, each in enumerate(found) if each.category != targets[index]]
    wrong.sort(key=lambda index: (found[index].abstained, -found[index].confidence))
    return [_shown(ids[i], texts[i], targets[i], found[i], redact) for i in wrong[:SHOWN]]


def suspected_labels(
    ids: Sequence[str], texts: Sequence[str], targets: np.ndarray, found: Sequence[Classification], *, redact: Redact
) -> dict[str, Any]:
    """Labels of the evaluated file that look wrong, surest first, each with its reasons."""
    twins = contradictions(texts, targets)
    suspects = {
        index: ["the model is sure of another type and so are its neighbors"]
        for index in range(len(found))
        if _sure(found[index], targets[index])
    }
    for index, other in twins.items():
        suspects.setdefault(index, []).append(f"the same words carry {other} elsewhere in the file")
    ordered = sorted(suspects, key=lambda index: (-len(suspects[index]), -found[index].confidence))
    shown = [_shown(ids[i], texts[i], targets[i], found[i], redact) | {"reasons": suspects[i]} for i in ordered[:SHOWN]]
    return {"count": len(suspects), "contradictions": len(twins), "rows": shown}


def contradictions(texts: Sequence[str], targets: np.ndarray) -> dict[int, str]:
    """Position -> another label that the same normalized text carries in this file."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, text in enumerate(texts):
        places[normalize(text)].append(index)
    found: dict[int, str] = {}
    for same in places.values():
        labels = Counter(targets[index] for index in same)
        if len(labels) > 1:
            found |= {i: next(name for name, _ in labels.most_common() if name != targets[i]) for i in same}
    return found


def _sure(found: Classification, label: str) -> bool:
    near = [each for each in found.neighbors if each.similarity >= ALIKE]
    agreeing = sum(each.category == found.category for each in near)
    return (
        found.category not in (label, OTHERS)
        and found.confidence >= SURE
        and agreeing * 2 > len(near)
        and not any(each.category == label for each in near)
    )


def _shown(ticket_id: str, text: str, label: str, found: Classification, redact: Redact) -> dict[str, Any]:
    return {
        "id": ticket_id,
        "text": shorten(redact(text)),
        "label": label,
        "category": found.category,
        "confidence": found.confidence,
        "abstained": found.abstained,
        "stage": found.stage,
        "alternatives": [list(pair) for pair in found.alternatives[:3]],
        "neighbors": [
            {"category": each.category, "similarity": each.similarity, "text": shorten(redact(each.text), TEXT_CHARS // 2)}
            for each in found.neighbors
        ],
    }


def shorten(text: str, chars: int = TEXT_CHARS) -> str:
    return text if len(text) <= chars else f"{text[:chars].rstrip()} …"
