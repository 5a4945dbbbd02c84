"""What the store knows of a batch of tickets: steps, approvals, codes, earlier contacts, spending, leads, the kill switch. Reads only."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.resolution import Rung, StepRecord
from orchestrator.domain.spending import Spend
from orchestrator.domain.tickets import CHILD_SOURCE
from orchestrator.domain.triage import OTHERS
from orchestrator.ports import Transaction
from orchestrator.resolution.budgets import BASELINE_DAYS, DAY, HOUR
from orchestrator.resolution.case import Memory
from orchestrator.resolution.playbook import Playbook
from orchestrator.resolution.runs import Work


def recall(tx: Transaction, works: Sequence[Work], playbook: Playbook, *, now: datetime) -> dict[str, Memory]:
    """By ticket id."""
    ids = [work.ticket.id for work in works]
    settings = playbook.policies.settings
    steps, approvals = tx.steps(ids), tx.approvals_of(ids)
    emails = sorted({work.ticket.requester.email.lower() for work in works if work.ticket.requester.email})
    contacts = tx.contacts(emails, since=now - timedelta(days=settings.contact_days)) if emails else {}
    leads = tx.tickets(sorted({work.triage.link.ticket_id for work in works if work.triage.link}))
    switch = tx.kill_switch()
    rungs, stopped_types = tx.ladder.rungs(), tx.ladder.stopped_types(now=now)
    resumed = [ticket_id for ticket_id, found in steps.items() if found]
    parts, turns = tx.children(resumed), tx.turns(resumed)
    parents = tx.parents([work.ticket.id for work in works if work.ticket.source == CHILD_SOURCE])
    gives = any(_gives_away(playbook, work.triage.classification.category) for work in works)
    spent = spending(tx, now=now) if gives else []
    memories = {}
    for work in works:
        email, category = work.ticket.requester.email.lower(), _type_of(work)
        memories[work.ticket.id] = Memory(
            steps=steps.get(work.ticket.id, []),
            approvals=approvals.get(work.ticket.id, []),
            code=tx.live_code(work.ticket.id) if _was_asked(steps.get(work.ticket.id, [])) else None,
            earlier_contacts=sum(
                row["id"] != work.ticket.id and row["created_at"] <= work.ticket.created_at for row in contacts.get(email, [])
            ),
            stopped=switch if switch.get("stopped") else stopped_types.get(category),
            lead=leads.get(work.triage.link.ticket_id) if work.triage.link else None,
            turns=turns.get(work.ticket.id, ()),
            spending=spent,
            attempts=_attempts(work, contacts.get(email, []), now=now),
            rung=_rung_of(category, rungs, playbook),
            parent=parents.get(work.ticket.id),
            children=parts.get(work.ticket.id, ()),
        )
    return memories


def spending(tx: Transaction, *, now: datetime) -> list[Spend]:
    """What the desk gave away of late: one query for the batch."""
    return tx.spending(day=now - DAY, hour=now - HOUR, since=now - timedelta(days=BASELINE_DAYS))


def _type_of(work: Work) -> str:
    classification = work.triage.classification
    return OTHERS if classification.abstained else classification.category


def _rung_of(category: str, rungs: Mapping[str, Rung], playbook: Playbook) -> Rung:
    """As the ladder has it, else as the reviewed file begins. For `Others` there is nothing to be careful with: no runbook serves it."""
    return Rung.FULL if category == OTHERS else rungs.get(category) or playbook.ladder.begins(category)


def _was_asked(steps: Sequence[StepRecord]) -> bool:
    return any(step.action == "mail.send" for step in steps)


def _gives_away(playbook: Playbook, category: str) -> bool:
    return any("amount" in act.with_ for runbook in playbook.serving(category) for act in runbook.acts)


def _attempts(work: Work, rows: Sequence[Mapping[str, Any]], *, now: datetime) -> int:
    """Tickets of the same type by the same requester within a day, this one included."""
    category = work.triage.classification.category
    others = [r for r in rows if r["id"] != work.ticket.id and r["category"] == category and now - r["created_at"] <= DAY]
    return 1 + len(others)
