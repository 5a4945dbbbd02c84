"""What the desk would do with a ticket as far as its wording shows: for shadow runs over an export. Does nothing."""

from dataclasses import dataclass
from datetime import datetime

from orchestrator.domain.resolution import Decision
from orchestrator.domain.tickets import Ticket
from orchestrator.domain.triage import OTHERS, Triage
from orchestrator.resolution.arguments import somebody_else
from orchestrator.resolution.case import Case, Memory
from orchestrator.resolution.governance import judge_ticket
from orchestrator.resolution.playbook import Playbook
from orchestrator.resolution.runbooks import Runbook
from orchestrator.triage.link import INCIDENT_CATEGORIES


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """The resolution part of a shadow run's decision line (DESIGN, section 9)."""

    runbook: str | None  # one runbook, or several joined by " or " where the world would decide
    proposed_actions: tuple[str, ...]
    would_resolve: bool  # as far as the ticket itself shows; the records could still say otherwise
    explanation: tuple[str, ...]


def foresee(ticket: Ticket, triage: Triage, playbook: Playbook, *, now: datetime) -> Foresight:
    """Judge by the wording alone: a person's matter, somebody else's, too vague, or a runbook that would be tried."""
    case = Case(ticket=ticket, triage=triage, memory=Memory(), playbook=playbook, started_at=now, secret=b"", shadow=True)
    gate = judge_ticket(case.facts, playbook.policies)
    if gate.decision is not Decision.ALLOW:
        return _person(f"{gate.rule}: {gate.reason}")
    if triage.link is not None:
        return Foresight(
            runbook=None,
            proposed_actions=(),
            would_resolve=True,
            explanation=(f"Would wait for {triage.link.ticket_id} and be resolved with it.",),
        )
    if case.category == OTHERS:
        asks = (
            "Would ask one question, then hand over."
            if triage.signals.vague
            else "Would be handed over: no type is certain enough."
        )
        return _person(asks)
    runbooks = playbook.serving(case.category)
    if not runbooks:
        return _person(f"No runbook covers {case.category}: work for {case.group()}.")
    open_to_all = [runbook for runbook in runbooks if not runbook.for_requester_only]
    words = somebody_else(ticket.words_of_requester, own=[ticket.requester.email])
    if words and not open_to_all:
        return _person(f"Speaks for somebody else (“{words}”).")
    tried = [runbook for runbook in (open_to_all if words else runbooks) if triage.causes or not _cures_a_cause(runbook)]
    if not tried:
        return _person(f"No alert explains it, and nothing else covers {case.category}: work for {case.group()}.")
    actions = tuple(sorted({act.act for runbook in tried for act in runbook.acts}))
    return Foresight(
        runbook=" or ".join(runbook.ref for runbook in tried),
        proposed_actions=actions,
        would_resolve=True,
        explanation=("Would be tried; whether the records bear it out only the systems of record can say.",),
    )


def _cures_a_cause(runbook: Runbook) -> bool:
    """Restart, rollback, rotation: without an alert that explains the ticket there is nothing to cure."""
    return not runbook.for_requester_only and bool(INCIDENT_CATEGORIES & set(runbook.ticket_types))


def _person(why: str) -> Foresight:
    return Foresight(runbook=None, proposed_actions=(), would_resolve=False, explanation=(why,))
