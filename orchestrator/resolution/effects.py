"""What a ticket's way asks of the outside: each effect is one wish, each answer one record. Carries nothing out."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.resolution import (
    Approval,
    ChildOrder,
    Observation,
    Proposal,
    Snapshot,
    Turn,
    Verdict,
    Verification,
)
from orchestrator.domain.tickets import Requester
from orchestrator.domain.triage import Triage
from orchestrator.ports import ANYBODY, Reader, ScoreRequest
from orchestrator.resolution.facts import Facts
from orchestrator.resolution.runbooks import Runbook


@dataclass(frozen=True, kw_only=True)
class Read:
    """Look something up in a system of record. Answered by an Observation."""

    runbook: str
    step: str
    action: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Act:
    """Change something, if governance allows it. Answered by Acted."""

    proposal: Proposal
    facts: Facts
    runbook: Runbook


@dataclass(frozen=True, kw_only=True)
class Acted:
    verdict: Verdict
    observation: Observation | None  # None: not carried out
    approval: Approval | None = None
    verification: Verification | None = None  # by the action's own probe
    before: Snapshot | None = None
    proposal: Proposal | None = None  # where an approval is needed: with what the target looks like now


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One closed choice for the language model. Answered by a ScoreResult."""

    request: ScoreRequest


@dataclass(frozen=True, kw_only=True)
class Search:
    """Passages of knowledge near these words. Answered by a list of Passage, the best first."""

    words: str
    limit: int = 4
    reader: Reader = ANYBODY


@dataclass(frozen=True, kw_only=True)
class SendCode:
    """Mail a one-time code to the address on record. `proposal` and everything stored carry the mask instead of the code."""

    proposal: Proposal
    body: str  # with the code; goes to the mail system and nowhere else
    code: str
    code_sha256: str
    minutes: int


@dataclass(frozen=True, kw_only=True)
class Prove:
    """The requester has proven who they are. Answered by None."""


@dataclass(frozen=True, kw_only=True)
class TakeTurn:
    """Write down what a turn of the loop decided, before it is done. Answered by None."""

    turn: Turn


@dataclass(frozen=True, kw_only=True)
class OpenChildren:
    """Open these parts of the ticket as tickets of their own, each once. Answered by the list of all its Child records."""

    orders: tuple[tuple[ChildOrder, Triage], ...]
    opened_by: str
    requester: Requester


Effect = Read | Act | Ask | Search | SendCode | Prove | TakeTurn | OpenChildren
Way = Generator[Effect, Any, Any]
"""A part of a ticket's way: yields effects, is sent their answers."""
