"""Decisions of a desk as records: what triage said of a ticket and what became of it. Knows the fields of `GET /v1/training/decisions`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from orchestrator.domain.triage import OTHERS
from training.records import LabeledTicket

QUIET_DAYS = 14  # a verified resolution counts once nobody came back for so long


class Ending(StrEnum):
    """What became of a decision, by what the system of record and people said."""

    GOOD = "good"  # resolved, verified, quiet since, never corrected
    WRONG = "wrong"  # another type named, reopened, an action rejected, or rated bad
    HANDED_OVER = "handed_over"
    OPEN = "open"  # under way, or resolved too short a time ago


@dataclass(frozen=True, kw_only=True)
class Decision:
    id: str
    subject: str
    description: str
    at: datetime  # of the triage
    category: str
    confidence: float
    abstained: bool
    alternatives: tuple[tuple[str, float], ...]
    stage: str
    model: str  # full name, where the language model was asked
    language: str
    corrected_to: str | None  # another type than `category`, named by a person
    ending: Ending

    @property
    def text(self) -> str:
        return LabeledTicket(id="", subject=self.subject, description=self.description, category="").text

    @property
    def decided(self) -> bool:
        """A type in scope, sure enough to act on."""
        return not self.abstained and self.category != OTHERS

    @property
    def standing(self) -> str:
        """The type as people left it."""
        return self.corrected_to or self.category


def decisions_from(records: Iterable[Mapping[str, Any]], *, now: datetime) -> list[Decision]:
    """Oldest first. Tickets without a classification, and those of shadow runs, are left out."""
    kept = [_decision(r, now) for r in records if r.get("category") and r.get("confidence") is not None and not r.get("shadow")]
    return sorted(kept, key=lambda decision: decision.at)


def of_model(decisions: Sequence[Decision], full_name: str) -> tuple[list[Decision], int]:
    """(those that this model may have made, how many another one surely made). A decision of the head alone names no model."""
    own = [d for d in decisions if d.model in ("", full_name)]
    return own, len(decisions) - len(own)


def _decision(record: Mapping[str, Any], now: datetime) -> Decision:
    return Decision(
        id=str(record["id"]),
        subject=str(record.get("subject") or ""),
        description=str(record.get("description") or ""),
        at=datetime.fromisoformat(record["triaged_at"]),
        category=str(record["category"]),
        confidence=float(record["confidence"]),
        abstained=bool(record["abstained"]),
        alternatives=tuple((str(name), float(share)) for name, share in record.get("alternatives") or ()),
        stage=str(record.get("stage") or ""),
        model=str(record.get("model") or ""),
        language=str(record.get("language") or "en"),
        corrected_to=record.get("corrected_to"),
        ending=_ending(record, now),
    )


def _ending(record: Mapping[str, Any], now: datetime) -> Ending:
    if any(record.get(name) for name in ("corrected_to", "reopened", "rejected", "rated_bad")):
        return Ending.WRONG
    if record.get("outcome") == "handed_over":
        return Ending.HANDED_OVER
    resolved = record.get("outcome") == "resolved" and record.get("state") in ("resolved", "closed") and record.get("verified")
    if not resolved or not record.get("resolved_at"):
        return Ending.OPEN
    quiet = now - datetime.fromisoformat(record["resolved_at"]) >= timedelta(days=QUIET_DAYS)
    return Ending.GOOD if quiet else Ending.OPEN
