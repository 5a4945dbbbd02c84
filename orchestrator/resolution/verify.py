"""Did it work: the success probe reads the system of record again. Only what it confirms is told."""

from collections.abc import Generator, Mapping
from typing import Any

from orchestrator.domain.resolution import (
    ObservationStatus,
    Outcome,
    Resolved,
    Verification,
)
from orchestrator.privacy.outgoing import named_ids
from orchestrator.resolution import conditions
from orchestrator.resolution.case import Case, Stop
from orchestrator.resolution.effects import Effect
from orchestrator.resolution.handover import refusal
from orchestrator.resolution.knowing import answering, searched
from orchestrator.resolution.look import arguments_from, look
from orchestrator.resolution.replies import fill, fill_line
from orchestrator.resolution.runbooks import Runbook, Search


def verify(case: Case, runbook: Runbook) -> Generator[Effect, Any, Outcome]:
    """Resolved only when the system of record itself says so; the reply states what it said."""
    if case.shadow and case.proposed:
        case.would_resolve = True
        raise Stop("Shadow: the actions above would have been carried out and verified.")
    probe = runbook.verify
    if probe.read:
        observation = yield from look(case, runbook.ref, probe.as_, probe.read, arguments_from(probe.with_, case.facts), fresh=True)
        if observation.status is not ObservationStatus.OK:
            raise Stop(f"The result could not be confirmed: {refusal(observation)}.")
        case.facts = case.facts.with_fact(probe.as_, observation.body, source="record", detail=probe.read)
    else:
        found = yield from searched(case)
        rows = answering(found, min((step.at_least for step in runbook.steps if isinstance(step, Search)), default=1.0))
        case.facts = case.facts.with_fact(probe.as_, rows, source="knowledge", detail="knowledge.search")
    failing = conditions.first_failing(probe.expect, case.facts.get)
    name = probe.read or "knowledge.search"
    verification = Verification(
        confirmed=failing is None,
        probe=name,
        expected=conditions.all_said(probe.expect),
        observed=conditions.all_said(probe.expect, case.facts.get),
    )
    if failing is not None:
        raise Stop(f"The probe {name} does not confirm success: {conditions.said(failing, case.facts.get)}.")
    case.checked.append(f"Verified with {name}: {verification.observed}")
    case.would_resolve = True
    if runbook.confirmation:
        case.confirmation = str(case.facts.get(runbook.confirmation[1:]) or "")
    names = told_names(case)
    return Resolved(
        reply=fill(runbook.reply, case.language, names),
        verification=verification,
        resolution_code=runbook.resolution_code,
        internal_note=_note(case, runbook, names),
    )


def _note(case: Case, runbook: Runbook, names: Mapping[str, Any]) -> str:
    parts = [f"{runbook.title} ({runbook.ref})."]
    if runbook.note:
        parts.append(fill_line(runbook.note, names))
    parts += [f"{each}." for each in case.actions]
    parts += [f"{row['action']}: {row['decision']} by {row['rule']}." for row in case.verdicts if row["action"] != "ticket"]
    parts.append(f"Identity: {'proven' if case.proven else 'claimed'}.")
    return " ".join(parts)


def told_names(case: Case) -> dict[str, Any]:
    hidden = {"ticket", "requester", "entities", "signals", "desk", "contact", "now"}
    facts = {name: value for name, value in case.facts.values().items() if name not in hidden}
    sayable = {"proven": case.proven, "named": named_ids(case.words)}  # what a text may say depends on who reads it
    named = {"name": case.name, "ticket_id": case.ticket.id, **case.circumstances()}
    return {**facts, **sayable, **named, "now": case.now.isoformat()}
