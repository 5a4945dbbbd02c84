"""What triage finds out about a ticket. Records only; each carries its reasons in words and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

OTHERS = "Others"
"""The open-set category: novel, too vague or too technical. The desk's word for *we do not guess*."""


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A labeled training ticket near this one, kept as evidence."""

    category: str
    similarity: float  # cosine, -1..1
    text: str


@dataclass(frozen=True, kw_only=True)
class Classification:
    category: str  # the best label, or `Others`
    confidence: float  # 0..1, calibrated: probability that the category is right and in scope
    abstained: bool  # True: would not be acted on
    alternatives: tuple[tuple[str, float], ...]  # best first, the winner included; sums to at most 1
    stage: str  # "head" or "model": who decided
    model: str = ""  # adapter name with digest, where the model was asked
    prompt_sha256: str = ""
    option_logprobs: Mapping[str, float] = field(default_factory=dict)  # by category, as the model gave them
    neighbors: tuple[Neighbor, ...] = ()
    alias: str = ""  # live or canary: which one decided
    classifier: str = ""  # full name of the model whose head, thresholds and types decided
    settled_by: str = ""  # the alert that decided where the wording alone left the type open


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One reason for or against a link: `kind` says what was compared, `weight` how much it moved the score."""

    kind: str  # cosine, service, region, site, error_code, version, alert, deployment, words, time
    detail: str
    weight: float


class LinkKind(StrEnum):
    DUPLICATE = "duplicate"  # the same requester's same matter
    INCIDENT = "incident"  # one cause, several requesters


@dataclass(frozen=True, kw_only=True)
class Link:
    kind: LinkKind
    ticket_id: str  # the earlier ticket that it was linked to
    incident_id: str | None  # None for a duplicate
    similarity: float  # cosine to that ticket
    score: float  # 0..1, all evidence together
    evidence: tuple[Evidence, ...]


class Sentiment(StrEnum):
    POSITIVE = "positive"
    NEUTRAL = "neutral"
    NEGATIVE = "negative"
    FURIOUS = "furious"


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What the wording says beside the matter itself. Every flag names the words that raised it in `cues`."""

    sentiment: Sentiment
    urgency: int  # 1 (today, now) .. 4 (whenever)
    cues: tuple[str, ...] = ()
    legal_threat: bool = False
    distress: bool = False  # a person at risk, not a system
    losing_money: bool = False
    repeat_contact: bool = False
    vague: bool = False  # too little said to act on
    smuggled_instruction: bool = False  # telemetry only; never a boundary
    asks_how: bool = False  # asks how something is done, and reports no trouble
    language: str = "en"  # ISO 639-1


class PriorityLevel(IntEnum):
    P1 = 1
    P2 = 2
    P3 = 3
    P4 = 4


@dataclass(frozen=True, kw_only=True)
class Priority:
    level: PriorityLevel
    impact: int  # 1 (everyone) .. 4 (one person, small)
    urgency: int  # 1 .. 4
    sla_due_at: datetime | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Assignment:
    group: str
    assignee: str | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Entities:
    """Things named in a ticket, recognized by rules and the service catalogue; all lower case, sorted."""

    services: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    error_codes: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    order_numbers: tuple[str, ...] = ()
    invoice_numbers: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    amounts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Triage:
    classification: Classification
    entities: Entities
    signals: Signals
    link: Link | None
    priority: Priority
    assignment: Assignment
    explanation: tuple[str, ...]  # sentences, for the analyst
    causes: tuple[str, ...] = ()  # of the alerts that explain it: "service/kind/site"
