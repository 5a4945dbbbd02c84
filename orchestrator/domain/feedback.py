"""What people said about the desk's work on a ticket, and the training rows made of it. Records only; judges nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Said(StrEnum):
    """How somebody, or the system of record, spoke about a ticket."""

    OVERRIDE = "override"  # changed category, group or priority
    FEEDBACK = "feedback"  # judged the result, perhaps with the right category
    APPROVED = "approved"  # let an action of the ticket's type be carried out
    REJECTED = "rejected"
    REOPENED = "reopened"
    FINISHED = "finished"  # a person resolved what was handed over
    VERIFIED = "verified"  # nobody spoke: confirmed in the system of record and quiet since


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One word on one ticket."""

    said: Said
    at: datetime
    who: str  # the actor as the log names it
    why: str
    role: str | None = None  # of the key or session; None: not known any more
    category: str | None = None
    group: str | None = None
    rating: str | None = None  # "good" or "bad"
    alike: int = 1  # statements of the same kind and category by the same person around the same time, this one included


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """A ticket as triage judged it, with everything that was said about it, oldest first."""

    ticket_id: str
    subject: str
    description: str
    created_at: datetime
    category: str | None  # as triage found it; None: never triaged
    confidence: float | None
    abstained: bool
    stage: str
    model: str
    group: str | None
    language: str
    smuggled_instruction: bool
    triaged_at: datetime | None
    handed_over_at: datetime | None
    statements: tuple[Statement, ...]
    source: str = ""  # the system that it came from, and its id there
    external_id: str | None = None

    @property
    def text(self) -> str:
        return f"{self.subject}\n{self.description}"


class RowKind(StrEnum):
    OVERRIDE = "override"
    CONFIRMED = "confirmed"
    REOPENED = "reopened"
    QA_RIGHT = "qa_right"
    QA_WRONG = "qa_wrong"
    HANDED_OVER = "handed_over"


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One statement as a possible label. `ineligible_because`: rule -> sentence; empty where the row may be learned from."""

    id: str  # the ticket's
    subject: str
    description: str
    category: str | None  # the label; None where the statement names none
    was: Mapping[str, object]  # category, confidence, stage, model: what the desk decided
    group: str | None
    language: str
    created_at: datetime
    decided_at: datetime
    who: str
    why: str
    kind: RowKind
    weight: float  # 0..1, how far the statement is worth a label
    by_person: bool  # False: no person spoke, the system of record did
    eligible: bool
    ineligible_because: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    external_id: str | None = None  # in `source`
