"""What a batch is triaged with: classifiers by alias, the desk's embedder. One frozen record, taken once per batch; loads nothing."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from orchestrator.domain.aliases import CANARY, LIVE
from orchestrator.domain.triage import Classification
from orchestrator.ports import Embedder
from orchestrator.triage.link import DUPLICATE_COSINE
from orchestrator.triage.taxonomy import Taxonomy

log = logging.getLogger("cloister.models")


class Classifier(Protocol):
    def classify(self, texts: Sequence[str], vectors: np.ndarray) -> list[Classification]: ...


@dataclass(frozen=True, kw_only=True)
class Served:
    """A classifier with the types that it knows, of one model."""

    classifier: Classifier
    taxonomy: Taxonomy
    alias: str = LIVE
    name: str = ""  # the model's full name, which the language model is asked for, too; empty for a stand-in


@dataclass(frozen=True, kw_only=True)
class TriageModels:
    """Everything of a batch comes from one of these, however the aliases move meanwhile."""

    live: Served
    embedder: Embedder
    canary: Served | None = None
    canary_percent: float = 0.0  # of the tickets
    shadow: Served | None = None
    duplicate_cosine: float = DUPLICATE_COSINE  # from which two texts of this embedder are the same matter

    def served_to(self, ticket_id: str) -> Served:
        """The canary for its share of the tickets. The same ticket always gets the same answer; a larger share keeps those of a smaller."""
        if self.canary is None or _place(self.canary.name, ticket_id) >= self.canary_percent:
            return self.live
        return self.canary

    def classify(self, ids: Sequence[str], texts: Sequence[str], vectors: np.ndarray) -> list[tuple[Classification, Served]]:
        """Each ticket by the classifier that serves it. Tickets that the canary fails on go to the live one."""
        decided: dict[int, tuple[Classification, Served]] = {}
        canaries = [n for n, ticket_id in enumerate(ids) if self.served_to(ticket_id).alias == CANARY]
        if self.canary and canaries:
            try:
                decided = _classified(self.canary, canaries, texts, vectors)
            except Exception:  # a candidate may do what it likes: no ticket depends on it
                log.exception("the canary %s failed on %d tickets; the live model takes them", self.canary.name, len(canaries))
        decided |= _classified(self.live, [n for n in range(len(ids)) if n not in decided], texts, vectors)
        return [decided[n] for n in range(len(ids))]


Models = Callable[[], TriageModels]
"""This moment's. Raises ModelUnavailable where no classifier could be loaded yet."""


def standing(models: TriageModels) -> Models:
    """The same at every moment."""
    return lambda: models


def _classified(
    served: Served, places: list[int], texts: Sequence[str], vectors: np.ndarray
) -> dict[int, tuple[Classification, Served]]:
    if not places:
        return {}
    found = served.classifier.classify([texts[n] for n in places], vectors[places])
    named = (replace(one, alias=served.alias, classifier=served.name) for one in found)
    return {n: (one, served) for n, one in zip(places, named, strict=True)}


def _place(name: str, ticket_id: str) -> float:
    """0..100, evenly, by model and ticket."""
    digest = hashlib.sha256(f"{name}\n{ticket_id}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 * 100
