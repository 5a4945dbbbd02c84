"""The way of one ticket from triage to an outcome, top to bottom. Yields what it wants to know or do; carries out nothing itself.

A run that resumes (after a crash, an approval, an answer, a reopening) starts here again from the top. What it read is read anew,
except what was read before an act that an earlier run began; acts that were observed are taken from the ticket's steps.
"""

from collections.abc import Generator
from typing import Any

from orchestrator.domain.resolution import (
    Decision,
    Linked,
    Outcome,
)
from orchestrator.domain.tickets import State
from orchestrator.domain.triage import OTHERS, LinkKind
from orchestrator.resolution import fan_out, loop
from orchestrator.resolution.act import carry_out, foresee
from orchestrator.resolution.case import Case, Question, Stop, Wait
from orchestrator.resolution.choose import choose_runbook
from orchestrator.resolution.compensate import compensate
from orchestrator.resolution.effects import Effect, Way
from orchestrator.resolution.governance import judge_ticket
from orchestrator.resolution.handover import hand_over
from orchestrator.resolution.identify import identify, know_requester
from orchestrator.resolution.knowing import find_reading
from orchestrator.resolution.linked import linked_reply
from orchestrator.resolution.runbooks import Runbook
from orchestrator.resolution.verify import verify


def resolve(case: Case) -> Generator[Effect, Any, Outcome]:
    """One ticket's way: who is it, does a person have to take it, does it belong to another, which runbook, act, verify."""
    try:
        yield from know_requester(case)
        gate = judge_ticket(case.facts, case.playbook.policies)
        case.note_verdict("ticket", gate)
        if gate.decision is not Decision.ALLOW:
            yield from gather_for_colleague(case)
            raise Stop(gate.reason, verdict=gate)
        if outcome := linked_elsewhere(case):
            return outcome
        if case.category == OTHERS and not case.triage.signals.asks_how:
            yield from ask_or_stop(case)
        plan = yield from choose_runbook(case)
        foresee(case, plan)
        yield from identify(case, plan.runbook)
        if plan.question:
            raise plan.question
        return (yield from work(case, plan.runbook))
    except Stop as stop:
        case.reasons.append(stop.why)
        return hand_over(case, stop)
    except Question as question:
        return question.outcome
    except Wait as wait:
        return wait.outcome


def work(case: Case, runbook: Runbook) -> Generator[Effect, Any, Outcome]:
    """Act and verify. What was done half is undone before a person takes over."""
    try:
        yield from carry_out(case, runbook)
        if runbook.loop:
            yield from loop.work(case, runbook)
        if runbook.fan_out:
            yield from fan_out.work(case, runbook)
        if case.undoing:
            raise Stop("An earlier run could not confirm what was done, and began to undo it.")
        return (yield from verify(case, runbook))
    except Stop as stop:
        yield from compensate(case, runbook, stop)
        raise


def gather_for_colleague(case: Case) -> Way:
    """Look at what the runbook would look at, so that the colleague need not; nothing is asked and nothing is done."""
    if case.memory.stopped or case.category == OTHERS:
        return
    try:
        yield from choose_runbook(case, choose=False)
    except Stop as stop:
        case.checked.append(f"Runbook: {stop.why}")


def linked_elsewhere(case: Case) -> Linked | None:
    """Where the ticket belongs to an open one, it waits for that; a resolved one has nothing more to wait for."""
    link, lead = case.triage.link, case.memory.lead
    if link is None or link.ticket_id == case.ticket.id:
        return None
    if lead is None or lead.state in {State.RESOLVED, State.CLOSED}:
        case.reasons.append(f"Linked to {link.ticket_id}, which is resolved: goes its own way.")
        return None
    what = f"incident {link.incident_id}" if link.kind is LinkKind.INCIDENT else f"ticket {link.ticket_id}"
    case.reasons.append(f"Waits for {what}.")
    case.would_resolve = True
    return Linked(ticket_id=link.ticket_id, incident_id=link.incident_id, reply=linked_reply(case))


def ask_or_stop(case: Case) -> Way:
    """Too little said: one question, once. Anything else that no type fits goes to a person."""
    yield from ()
    triage = case.triage
    if triage.signals.vague and not case.desk_messages():
        macros = case.playbook.macros
        near = [name for name, _ in triage.classification.alternatives if name != OTHERS][:3]
        choices = [macros.matter(name, case.language) for name in near]
        text = macros.say("detail_question", case.language, name=case.name, choices=choices, ticket_id=case.ticket.id)
        raise Question(text, purpose="detail", missing=("what", "message", "since when"))
    yield from find_reading(case)
    if triage.signals.vague:
        raise Stop("Too little is said to act on, and asking once did not change that.")
    raise Stop("No ticket type is certain enough to act on, so nothing was tried.")
