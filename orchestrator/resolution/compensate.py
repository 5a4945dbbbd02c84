"""Undo what was done, in reverse order, each by its own compensation: an act like any other, governed, intended, verified, recorded.

What cannot be undone is said plainly. Yields effects; carries nothing out.
"""

from collections.abc import Sequence

from orchestrator.domain.resolution import Decision, ObservationStatus, Proposal, Provenance
from orchestrator.resolution.case import Case, Done, Stop
from orchestrator.resolution.effects import Act, Acted, Way
from orchestrator.resolution.facts import proposal_digest, sha256
from orchestrator.resolution.handover import refusal
from orchestrator.resolution.runbooks import Runbook
from orchestrator.resolution.undo_rules import undoing

STEP = "undo:"


def compensate(case: Case, runbook: Runbook, stop: Stop) -> Way:
    """After a way that stopped half done. Remedies of a loop stand by themselves: of those only one that failed is undone."""
    if case.shadow or stop.keep:
        return
    undone = [done for done in case.done if done.failed] if runbook.loop else case.done
    if undone:
        told = yield from undo_all(case, runbook, undone)
        stop.why = f"{stop.why.rstrip('.')}. {' '.join(told)}"


def undo_all(case: Case, runbook: Runbook, acts: Sequence[Done]) -> Way:
    """Gives one sentence for each act, the last one first."""
    told: list[str] = []
    for done in reversed(acts):
        told.append((yield from _undo(case, runbook, done)))
    case.actions += told
    return told


def _undo(case: Case, runbook: Runbook, done: Done) -> Way:
    title = done.action.title
    if done.action.compensation is None:
        return f"{title}: cannot be undone."
    proposal = propose_undo(case, done)
    known = case.memory.act(proposal.idempotency_key)
    if known and known.observation and known.observation.status is ObservationStatus.OK:
        observation, verification = known.observation, known.verification
    else:
        answer: Acted = yield Act(proposal=proposal, facts=case.facts, runbook=runbook)
        case.note_verdict(proposal.action, answer.verdict, proposal.arguments)
        if answer.verdict.decision is not Decision.ALLOW or answer.observation is None:
            return f"{title}: not undone ({answer.verdict.reason.rstrip('.')})."
        observation, verification = answer.observation, answer.verification
    if observation.status is not ObservationStatus.OK:
        return f"{title}: could not be undone ({refusal(observation).rstrip('.')})."
    if verification is not None and not verification.confirmed:
        return f"{title}: undone, but {verification.probe} does not confirm it ({verification.observed})."
    return f"{title}: undone at {observation.at:%H:%M:%S} UTC."


def propose_undo(case: Case, done: Done) -> Proposal:
    assert done.action.compensation is not None
    name, step = done.action.compensation, f"{STEP}{done.step}"
    arguments = undoing(case, done)
    return Proposal(
        ticket_id=case.ticket.id,
        runbook=done.runbook,
        step=step,
        action=name,
        arguments=arguments,
        provenance={each: Provenance(source="record", detail=f"the act {done.action.name}") for each in arguments},
        owner=done.owner,
        idempotency_key=sha256("undo", done.key),
        preview={"what": f"Undo: {done.action.title}"},
        undoes=done.key,
        digest=proposal_digest(case.ticket.id, done.runbook, step, name, arguments),
    )
