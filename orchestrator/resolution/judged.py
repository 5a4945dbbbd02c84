"""What governance reads beside the proposal: confidence, priority, budgets, anomalies, conflicts, the class of a change.

Derives facts from what the case already knows; asks nobody and decides nothing.
"""

from datetime import datetime
from typing import Any

from orchestrator.domain.resolution import Proposal, StepRecord
from orchestrator.domain.tickets import Ticket
from orchestrator.domain.triage import Triage
from orchestrator.resolution.budgets import anomaly_facts, money_facts, spent_for
from orchestrator.resolution.conditions import ABSENT, comparable
from orchestrator.resolution.evaluate import change_class
from orchestrator.resolution.facts import Facts
from orchestrator.resolution.policies import Policies

CONFLICTS = (
    ("user.account", "account.id", "the directory and billing name different accounts"),
    ("payment.account", "account.id", "the payment is booked to another account than the requester's"),
    ("subscription.account", "account.id", "the subscription belongs to another account than the requester's"),
    ("alert.service", "service.name", "the alert is about another service than the change"),
)
"""Two systems that must agree: path, path, what it means where they do not."""


def about_ticket(ticket: Ticket, triage: Triage) -> dict[str, Any]:
    """What is known of a ticket before anything was looked up."""
    priority = triage.priority
    return {
        "confidence": triage.classification.confidence,
        "priority": {"level": int(priority.level), "impact": priority.impact, "urgency": priority.urgency},
        "context": {"region": _text(ticket.context.get("region"))},
    }


def about_act(facts: Facts, proposal: Proposal, memory: Any, *, ticket: Ticket, policies: Policies, now: datetime) -> Facts:
    """The facts of an act with those that governance derives. `memory` has `spending`, `steps` and `attempts`."""
    steps: list[StepRecord] = list(memory.steps)
    spent = spent_for(
        proposal.action,
        memory.spending,
        requester=ticket.requester.email,
        account=proposal.owner,
        own=steps,
        now=now,
    )
    derived = {
        "money": money_facts(spent, proposal.arguments),
        "anomaly": {**anomaly_facts(spent), "attempts": memory.attempts, "region_differs": region_differs(facts, ticket)},
        "conflict": conflict(facts),
    }
    facts = facts.with_facts(derived, source="record", detail="derived for governance")
    change = change_class(policies.changes, proposal.action, facts.look)
    return facts.with_fact("change", change, source="runbook", detail="the table of changes") if change else facts


def conflict(facts: Facts) -> dict[str, Any]:
    """{found, what}: whether two systems of record contradict each other. What one of them does not say is no contradiction."""
    for left, right, what in CONFLICTS:
        values = [facts.look(left), facts.look(right)]
        if all(value is not ABSENT and value is not None for value in values) and comparable(values[0]) != comparable(values[1]):
            return {"found": True, "what": what}
    return {"found": False, "what": ""}


def region_differs(facts: Facts, ticket: Ticket) -> bool:
    """Whether the ticket came from another region than the account's, as far as both are known."""
    said, known = _text(ticket.context.get("region")), facts.get("account.region")
    return bool(said and known) and comparable(said) != comparable(known)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
