"""Proposals, verdicts, observations and outcomes. Records only; nothing here calls anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Rung(StrEnum):
    """The autonomy ladder of a ticket type."""

    SHADOW = "shadow"  # decides, does nothing, says nothing
    SUGGEST = "suggest"  # proposes to the analyst
    APPROVE = "approve"  # acts after a person approved
    NOTIFY = "notify"  # acts within guardrails, then tells
    FULL = "full"  # acts, tells only on failure


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where an argument's value came from. A value without one is refused."""

    source: str  # "ticket", "record", "runbook", "knowledge"
    detail: str  # the words in the ticket, or the action and field of the record


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One action with its exact arguments, before anyone has judged it."""

    ticket_id: str
    runbook: str  # "password_reset@3"
    step: str  # unique within the runbook
    action: str  # exact name in the catalogue: "identity.reset_password"
    arguments: Mapping[str, Any]
    provenance: Mapping[str, Provenance]
    owner: str | None  # account or e-mail that the target record belongs to, from the system of record
    idempotency_key: str
    preview: Mapping[str, Any] = field(default_factory=dict)  # before/after, blast radius, reversibility

    writes: bool = True  # changes the world; False: a read, which a resumed run observes anew
    undoes: str | None = None  # idempotency key of the act that this one compensates

    # `digest` (sha256 over the canonical JSON of ticket, runbook, step, action and arguments) freezes an approval.
    digest: str = ""


class Decision(StrEnum):
    ALLOW = "allow"
    NEEDS_APPROVAL = "needs_approval"
    NEEDS_IDENTITY = "needs_identity"
    HAND_OVER = "hand_over"
    DENY = "deny"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What governance said, with the rule that decided."""

    decision: Decision
    rule: str  # the deciding rule's id; "default" when no rule permitted
    reason: str
    approvers: str | None = None  # role that may approve, where an approval is needed
    quorum: int = 1  # different people of that role who must approve
    expires_minutes: int | None = None  # after which the approval counts as a no; None: the desk's default
    change: str | None = None  # "standard", "normal" (CAB) or "emergency" (ECAB), where the act is a change
    review: bool = False  # somebody looks at it again after it was done
    determining: tuple[str, ...] = ()  # ids of all rules that led to this decision, the deciding one among them
    errors: tuple[str, ...] = ()  # "rule: why it could not be judged"; such a rule permits nothing and restricts all the same
    basis: Mapping[str, Any] | None = None  # the recorded decision with its facts, for replay; stands in the audit alone


class ObservationStatus(StrEnum):
    OK = "ok"
    REFUSED = "refused"  # the system of record said no (4xx)
    UNKNOWN = "unknown"  # sent, no answer: it may have happened
    UNAVAILABLE = "unavailable"  # never reached it


@dataclass(frozen=True, kw_only=True)
class Observation:
    status: ObservationStatus
    http_status: int | None
    body: Any  # parsed JSON as answered
    at: datetime
    request: Mapping[str, Any] = field(default_factory=dict)  # the exact call: method, path, query, JSON
    kind: str = "answered"  # "probed": nobody answered, a look at the target showed that it happened
    evidence: Mapping[str, Any] | None = None  # of a probed one: what was read, and what it showed
    retry_after_s: float | None = None  # a system that is busy said when to come back


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a target looked like at one instant."""

    read: str  # the catalogue action that showed it
    arguments: Mapping[str, Any]
    body: Any  # parsed JSON as answered
    at: datetime
    state: str  # digest of the body without what changes by itself


@dataclass(frozen=True, kw_only=True)
class Target:
    """What an act is about, as it was seen just before. Acts on one thing have one name, whichever action they are."""

    name: str  # 'identity.get_user {"user_id":"usr-1"}'
    before: Snapshot | None = None  # None: nothing shows it


@dataclass(frozen=True, kw_only=True)
class Touch:
    """One earlier act on a target, as the circuit breaker reads it."""

    ticket_id: str
    action: str
    target: str
    idempotency_key: str
    at: datetime
    before: str | None  # state digests
    after: str | None
    refused: bool = False  # the system said no: nothing changed
    before_at: datetime | None = None  # when it was looked at: acts of one moment share their look before
    after_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """An action that may not touch a target until a lead gives it free."""

    action: str
    target: str
    kind: str  # "repeats", "oscillation"
    reason: str
    ticket_id: str  # whose act was refused first
    frozen_at: datetime


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One executed (or intended) step of a ticket, as stored; what a resumed run reads instead of acting again."""

    seq: int
    step: str
    action: str
    arguments: Mapping[str, Any]
    idempotency_key: str
    writes: bool
    verdict: Verdict | None
    observation: Observation | None  # None: intended, outcome not yet known
    epoch: int = 0  # the ticket's reopened_count when it was taken
    target: str | None = None
    before: Snapshot | None = None
    after: Snapshot | None = None
    verification: "Verification | None" = None  # by the action's own probe; None: it has none, or could not be read
    undoes: str | None = None  # idempotency key of the act that this one compensates
    unknowns: int = 0  # runs after which nobody could say whether it happened


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn of a runbook's loop, as decided: what could be done, what was chosen and why. Written before it is taken."""

    runbook: str  # "vpn_trouble@1"
    number: int  # from 1, within one round of the ticket
    epoch: int  # the ticket's reopened_count
    options: Mapping[
        str, float | None
    ]  # the steps whose preconditions held, in the file's order, with the model's share where asked
    closed: Mapping[str, str]  # the others, each with the condition that did not hold
    chosen: str | None  # None: nobody could say, and a person takes over
    by: str  # "only", "model", "order", "nobody"
    why: str
    model: str | None = None  # where it was asked: its full name ...
    prompt_sha256: str | None = None  # ... and what it was asked


@dataclass(frozen=True, kw_only=True)
class ChildOrder:
    """One part of a parent request, as a ticket of its own: what it is, and the values of records that it begins with."""

    key: str  # unique within the parent: the same part is opened once
    runbook: str  # its name; the child follows this one and no other
    category: str
    subject: str
    description: str
    facts: Mapping[str, Any]  # what the parent read in systems of record


@dataclass(frozen=True, kw_only=True)
class Child:
    """A part as its parent sees it."""

    key: str
    ticket_id: str
    opened_by: str  # the parent's runbook, "employee_onboarding@1"
    state: str
    outcome: str | None
    why: str  # the reason of its state, in a sentence
    verified: bool  # resolved by the desk, confirmed by its own probe
    confirmation: str | None = None  # the id that the system of record gave


@dataclass(frozen=True, kw_only=True)
class ParentOf:
    """What a child knows of where it came from. Read from the desk's own table, never from what a ticket says."""

    ticket_id: str
    key: str
    runbook: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The answer of the success probe: the world's word, not the model's."""

    confirmed: bool
    probe: str  # action name
    expected: str  # the conditions, in words
    observed: str


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What a colleague needs, so that nothing is asked twice."""

    summary: str  # 2-5 sentences built from facts
    why_stopped: str
    checked: tuple[str, ...] = ()  # what was looked at, with results
    actions: tuple[str, ...] = ()  # tools and outcomes
    policies: tuple[str, ...] = ()
    suggested_next_action: str = ""
    draft_reply: str = ""
    urgency: str = ""
    asked: tuple[str, ...] = ()  # what the requester was asked already, with their answers: never to be asked again
    told: tuple[str, ...] = ()  # who was told what


@dataclass(frozen=True, kw_only=True)
class Resolved:
    reply: str
    verification: Verification
    resolution_code: str
    internal_note: str = ""


@dataclass(frozen=True, kw_only=True)
class Linked:
    ticket_id: str
    incident_id: str | None
    reply: str


@dataclass(frozen=True, kw_only=True)
class AwaitingApproval:
    proposal: Proposal
    verdict: Verdict
    reply: str


@dataclass(frozen=True, kw_only=True)
class AwaitingRequester:
    question: str
    purpose: str  # "identity", "detail", "confirmation"
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AwaitingChildren:
    """The parts of a parent request are under way, each as a ticket of its own."""

    children: tuple[str, ...]  # the tickets that are not done yet
    reply: str  # empty once the requester was told


@dataclass(frozen=True, kw_only=True)
class HandedOver:
    packet: Handover
    reply: str


Outcome = Resolved | Linked | AwaitingApproval | AwaitingRequester | AwaitingChildren | HandedOver


class ApprovalStatus(StrEnum):
    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    EXECUTED = "executed"
    SUPERSEDED = "superseded"  # somebody edited it: another proposal stands in its place


def person_of(name: str) -> str:
    """How a person is told from others, whatever the case and spacing of their name."""
    return " ".join(name.strip().casefold().split())


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One person's word on an approval."""

    by: str
    role: str
    approve: bool
    reason: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Approval:
    id: str  # "A-17"
    ticket_id: str
    proposal: Proposal  # frozen: `proposal.digest` is what was approved
    status: ApprovalStatus
    approvers: str  # role that may decide
    rule: str
    reason: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    decision_reason: str | None = None
    quorum: int = 1  # different people who must approve
    votes: tuple[Vote, ...] = ()
    change: str | None = None
    valid_until: datetime | None = None  # approved, but not carried out by then: a no
    proposed_by: str = "cloister"  # a person, where it is an edit
    superseded_by: str | None = None
    review_due_at: datetime | None = None  # carried out as an emergency: to be looked at again
    reviewed_by: str | None = None
    reviewed_at: datetime | None = None
    review: str | None = None
