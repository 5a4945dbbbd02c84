"""Small records for tests of the desk: a ticket, its triage, a proposal.

Each builder takes what the test is about and fills in the rest.
"""

from datetime import datetime
from typing import Any

import numpy as np

from orchestrator.domain.resolution import (
    AwaitingApproval,
    Decision,
    HandedOver,
    Handover,
    Linked,
    Observation,
    ObservationStatus,
    Proposal,
    Provenance,
    Resolved,
    Verdict,
    Verification,
)
from orchestrator.domain.tickets import IncomingTicket, Requester
from orchestrator.domain.triage import (
    Assignment,
    Classification,
    Entities,
    Neighbor,
    Priority,
    PriorityLevel,
    Sentiment,
    Signals,
    Triage,
)


def incoming(subject: str = "Password forgotten", *, email: str = "ada@example.test", **more: Any) -> IncomingTicket:
    return IncomingTicket(subject=subject, description=f"{subject}. Please help.", requester=Requester(email=email), **more)


def triage(category: str = "password_reset", *, level: int = 4, assignee: str | None = None, due: datetime | None = None) -> Triage:
    return Triage(
        classification=Classification(
            category=category,
            confidence=0.97,
            abstained=False,
            alternatives=((category, 0.97), ("vpn", 0.02)),
            stage="head",
            option_logprobs={category: -0.03, "vpn": -4.0},
            neighbors=(Neighbor(category=category, similarity=0.9, text="I forgot my password"),),
        ),
        entities=Entities(services=("sso",)),
        signals=Signals(sentiment=Sentiment.NEUTRAL, urgency=3, cues=("please",)),
        link=None,
        priority=Priority(level=PriorityLevel(level), impact=4, urgency=3, sla_due_at=due, reasons=("one person",)),
        assignment=Assignment(group="Service Desk", assignee=assignee, reasons=("owns the type",)),
        explanation=("The nearest labeled ticket says so.",),
    )


def proposal(ticket_id: str, *, step: str = "reset", key: str = "key-1", writes: bool = True, digest: str = "digest-1") -> Proposal:
    return Proposal(
        ticket_id=ticket_id,
        runbook="password_reset@3",
        step=step,
        action="identity.reset_password",
        arguments={"account": "ada"},
        provenance={"account": Provenance(source="record", detail="identity.find_user: account")},
        owner="ada@example.test",
        idempotency_key=key,
        writes=writes,
        digest=digest,
    )


ALLOW = Verdict(decision=Decision.ALLOW, rule="own-records", reason="the requester's own account")
NEEDS_APPROVAL = Verdict(decision=Decision.NEEDS_APPROVAL, rule="refund-limit", reason="above the limit", approvers="approver")


def observed(at: datetime, *, status: str = "ok", body: Any = None) -> Observation:
    request = {"method": "POST"}
    return Observation(status=ObservationStatus(status), http_status=200, body=body or {"reset": True}, at=at, request=request)


def resolved(reply: str = "Your password was reset.") -> Resolved:
    verification = Verification(confirmed=True, probe="identity.get_user", expected="password changed", observed="changed at 10:02")
    return Resolved(reply=reply, verification=verification, resolution_code="password_reset")


def handed_over(why: str = "a person must look") -> HandedOver:
    return HandedOver(packet=Handover(summary="Something odd.", why_stopped=why), reply="A colleague takes over.")


def linked(ticket_id: str, incident_id: str | None = None) -> Linked:
    return Linked(ticket_id=ticket_id, incident_id=incident_id, reply="We are on it.")


def awaiting_approval(ticket_id: str, **more: Any) -> AwaitingApproval:
    return AwaitingApproval(proposal=proposal(ticket_id, **more), verdict=NEEDS_APPROVAL, reply="We asked for an approval.")


def vector(*values: float) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)
