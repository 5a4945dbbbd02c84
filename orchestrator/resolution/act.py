"""Act as the runbook says: propose with provenance, have it judged, carry it out or wait. Governance decides, not the wording."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.domain.autonomy import lowest
from orchestrator.domain.directory import FreezeWindow
from orchestrator.domain.resolution import (
    ApprovalStatus,
    AwaitingApproval,
    Decision,
    Observation,
    ObservationStatus,
    Proposal,
    Provenance,
    Snapshot,
    Verdict,
)
from orchestrator.resolution import arguments as recognize
from orchestrator.resolution import conditions
from orchestrator.resolution.case import Case, Done, Question, Stop, Wait
from orchestrator.resolution.choose import Plan
from orchestrator.resolution.conditions import comparable
from orchestrator.resolution.effects import Act, Acted, Way
from orchestrator.resolution.facts import Facts, canonical, idempotency_key, proposal_digest
from orchestrator.resolution.governance import authorize, lower_rung
from orchestrator.resolution.handover import refusal
from orchestrator.resolution.judged import about_act
from orchestrator.resolution.look import worded
from orchestrator.resolution.replies import fill
from orchestrator.resolution.runbooks import Act as ActStep
from orchestrator.resolution.runbooks import Confirm, Runbook
from orchestrator.resolution.unknown import exact_call
from orchestrator.resolution.verify import told_names

FINAL = frozenset({ObservationStatus.OK, ObservationStatus.REFUSED})
"""What a system of record answered once for a key stays its answer."""


def carry_out(case: Case, runbook: Runbook) -> Way:
    for step in runbook.steps:
        match step:
            case Confirm():
                confirm(case, step)
            case ActStep():
                yield from act(case, runbook, step)


def confirm(case: Case, step: Confirm) -> None:
    """A plain yes to exactly this question, asked after everything was looked up; anything else is for a person."""
    if case.shadow:
        case.reasons.append("The requester would be asked to confirm first.")
        return
    text = fill(step.confirm, case.language, told_names(case))
    answers = case.answers_to(text)
    if not answers:
        raise Question(text, purpose="confirmation", missing=("confirmation",))
    said = recognize.agrees(answers[-1].body)
    if said is None:
        raise Stop("The requester's answer to the request for confirmation is neither a plain yes nor a plain no.")
    if not said:
        raise Stop("The requester did not confirm.")
    case.checked.append("Confirmed by the requester in plain words")


def foresee(case: Case, plan: Plan) -> None:
    """Ask nobody for a code or a confirmation where governance would refuse the first act anyway."""
    runbook = plan.runbook
    asks = (runbook.identity == "proven" and not case.proven) or any(isinstance(step, Confirm) for step in runbook.steps)
    if not asks or plan.question or not runbook.acts or runbook.loop or case.begun(runbook):
        return  # which act of a loop comes first only its turns show
    step = runbook.acts[0]
    proposal = propose(case, runbook, step)
    verdict = judge(case, runbook, proposal, judged_facts(case, runbook, step, proposal))
    if verdict.decision in {Decision.DENY, Decision.HAND_OVER}:
        case.note_verdict(step.act, verdict, proposal.arguments)
        raise Stop(verdict.reason, verdict=verdict)


def judge(case: Case, runbook: Runbook, proposal: Proposal, facts: Facts) -> Verdict:
    """Governance on one act of this case."""
    return authorize(
        proposal,
        facts,
        policies=case.playbook.policies,
        actions=case.playbook.actions,
        runbook=runbook,
        category=case.category,
        words=case.words,
        observed=[*(observation.body for observation in case.observed.values()), *case.derived],
    )


def act(case: Case, runbook: Runbook, step: ActStep) -> Way:
    proposal = as_edited(case, runbook, step, propose(case, runbook, step))
    title = case.playbook.actions[step.act].title
    done = case.memory.act(proposal.idempotency_key)
    verification, before = (done.verification, done.before) if done else (None, None)
    if done and done.observation and done.observation.status in FINAL:
        observation: Observation = done.observation
        if done.verdict:
            case.note_verdict(step.act, done.verdict, proposal.arguments)
    else:
        if done is None and case.undoing:
            raise Stop("An earlier run began to undo what was done, so nothing new is done.")
        if done is None and (other := case.other_approval(proposal)):
            raise Stop(
                f"What {other.id} was asked for ({other.proposal.preview.get('what', step.act)}) no longer fits the records."
            )
        answer: Acted = yield Act(proposal=proposal, facts=judged_facts(case, runbook, step, proposal), runbook=runbook)
        case.note_verdict(step.act, answer.verdict, proposal.arguments)
        case.proposed.append(
            {
                "action": step.act,
                "arguments": dict(proposal.arguments),
                "preview": proposal.preview["what"],
                "decision": str(answer.verdict.decision),
            }
        )
        if answer.verdict.decision is not Decision.ALLOW:
            raise refused(case, step, answer.proposal or proposal, answer)
        if case.shadow:
            return
        assert answer.observation is not None
        observation, verification, before = answer.observation, answer.verification, answer.before
    if observation.status is not ObservationStatus.OK:
        raise not_done(case, step, proposal, observation)
    failed = verification is not None and not verification.confirmed
    case.done.append(carried(case, runbook, proposal, observation, before, failed=failed))
    if verification is not None and failed:
        case.actions.append(f"{title}: answered at {observation.at:%H:%M:%S} UTC, but {verification.probe} does not confirm it")
        raise Stop(f"{title}: it was answered, but {verification.probe} does not confirm it ({verification.observed}).")
    case.proposed = [row for row in case.proposed if row["action"] != step.act]
    case.actions.append(f"{title}: done at {observation.at:%H:%M:%S} UTC")
    case.facts = case.facts.with_fact(step.as_, observation.body, source="record", detail=step.act)


def carried(
    case: Case, runbook: Runbook, proposal: Proposal, observation: Observation, before: Snapshot | None, *, failed: bool
) -> Done:
    return Done(
        action=case.playbook.actions[proposal.action],
        step=proposal.step,
        runbook=runbook.ref,
        key=proposal.idempotency_key,
        arguments=proposal.arguments,
        answer=observation.body,
        before=before,
        owner=proposal.owner,
        failed=failed,
    )


def not_done(case: Case, step: ActStep, proposal: Proposal, observation: Observation) -> Stop:
    """Why an act that was intended is not known to be done."""
    action = case.playbook.actions[step.act]
    call = canonical(exact_call(action, proposal.arguments, proposal.idempotency_key))
    if observation.status is ObservationStatus.UNKNOWN:
        case.actions.append(f"{action.title}: unknown outcome; it may have happened ({call})")
        return Stop(
            f"{action.title}: unknown outcome. Nobody could find out whether it happened. The exact call: {call}", keep=True
        )
    case.actions.append(f"{action.title}: {refusal(observation)}")
    if observation.kind == "probed":
        return Stop(f"{action.title}: {refusal(observation)} The exact call: {call}")
    return Stop(f"{action.title}: the system of record said no ({refusal(observation)}).")


def as_edited(case: Case, runbook: Runbook, step: ActStep, proposal: Proposal) -> Proposal:
    """What a person put in its place, once others approved that; it is judged like any proposal. Raises Wait, Stop."""
    edit = case.edit_of(proposal.digest)
    if edit is None:
        return proposal
    if edit.status is ApprovalStatus.WAITING:
        verdict = Verdict(decision=Decision.NEEDS_APPROVAL, rule=edit.rule, reason=edit.reason, approvers=edit.approvers)
        raise Wait(AwaitingApproval(proposal=edit.proposal, verdict=verdict, reply=_approval_reply(case, step, proposal)))
    if edit.status in {ApprovalStatus.REJECTED, ApprovalStatus.EXPIRED}:
        raise Stop(
            f"{edit.id}, an edit by {edit.proposed_by}, is {edit.status}: {edit.decision_reason or 'nobody decided it in time'}."
        )
    for name, given in step.with_.items():
        value = edit.proposal.arguments.get(name)
        if isinstance(given, str) and given.startswith("$") and value != proposal.arguments.get(name):
            case.facts = case.facts.with_fact(given[1:], value, source="record", detail=f"{edit.id}, edited by {edit.proposed_by}")
    case.derived.append(dict(edit.proposal.arguments))
    found = propose(case, runbook, step)
    if found.digest != edit.proposal.digest:
        raise Stop(f"What {edit.id} was approved for no longer fits the records.")
    return found


def propose(case: Case, runbook: Runbook, step: ActStep) -> Proposal:
    """The act with its exact arguments, each with where it came from."""
    values: dict[str, Any] = {}
    provenance: dict[str, Provenance] = {}
    for name, given in step.with_.items():
        if isinstance(given, str) and given.startswith("$"):
            fact = case.facts.find(given[1:])
            if fact is None or fact.value is None:
                continue  # an optional argument; a required one is missed by the schema when the act is judged
            values[name], provenance[name] = fact.value, fact.provenance
        else:
            values[name], provenance[name] = given, Provenance(source="runbook", detail=runbook.ref)
    action = case.playbook.actions[step.act]
    owner = case.facts.get(step.owner[1:]) if step.owner else None
    return Proposal(
        ticket_id=case.ticket.id,
        runbook=runbook.ref,
        step=step.as_,
        action=step.act,
        arguments=values,
        provenance=provenance,
        owner=str(owner) if owner is not None else None,
        idempotency_key=idempotency_key(case.ticket.id, case.epoch, runbook.ref, step.as_, values),
        preview={
            "what": worded(step.preview, case.facts),
            "risk": str(action.risk),
            "blast_radius": str(action.blast_radius),
            "reversible": action.reversible,
            "compensation": action.compensation,
        },
        digest=proposal_digest(case.ticket.id, runbook.ref, step.as_, step.act, values),
    )


def judged_facts(case: Case, runbook: Runbook, step: ActStep, proposal: Proposal) -> Facts:
    """What governance judges by: all that is known, and the proposal itself."""
    user = case.facts.get("user") or {}
    mine = {comparable(each) for each in (user.get("id"), user.get("email"), user.get("account")) if each}
    rung = runbook.autonomy if case.shadow else lower_rung(lowest(runbook.autonomy, case.memory.rung), case.ticket.autonomy_rung)
    action = case.playbook.actions[step.act]
    about = {
        "action": {
            "name": action.name,
            "risk": str(action.risk),
            "blast_radius": str(action.blast_radius),
            "reversible": action.reversible,
        },
        "arguments": dict(proposal.arguments),
        "runbook": {"name": runbook.name, "rung": str(runbook.autonomy), "identity": runbook.identity},
        "owner": proposal.owner,
        "own": proposal.owner is not None and comparable(proposal.owner) in mine,
        "assurance": "proven" if case.proven or case.shadow else "claimed",
        "rung": str(rung),
    }
    facts = case.facts.with_facts(about, source="record", detail="the proposal")
    if step.service:
        service = facts.get(step.service[1:])
        facts = facts.with_fact("service", service, source="record", detail="catalog.services")
        facts = facts.with_fact("freeze", freeze_at(facts, service), source="record", detail="catalog.freeze_windows")
    return about_act(
        facts,
        proposal,
        case.memory,
        ticket=case.ticket,
        policies=case.playbook.policies,
        now=case.now,
    )


def freeze_at(facts: Facts, service: Mapping[str, Any] | None) -> dict[str, Any]:
    """Whether the change calendar is known, and which window covers the service now."""
    rows = facts.get("freezes")
    if not isinstance(rows, list) or not service:
        return {"known": False, "active": False}
    now = conditions.instant(facts.get("now"))
    assert now is not None
    windows = [window for window in map(FreezeWindow.read, rows) if window.covers(str(service["name"]), now)]
    if not windows:
        return {"known": True, "active": False}
    window = next((each for each in windows if not each.emergency_allowed), windows[0])
    return {
        "known": True,
        "active": True,
        "id": window.id,
        "reason": window.reason,
        "until": window.ends_at.isoformat(),
        "emergency_allowed": window.emergency_allowed,
    }


def refused(case: Case, step: ActStep, proposal: Proposal, answer: Acted) -> Exception:
    """What becomes of an act that governance did not simply allow."""
    verdict, approval = answer.verdict, answer.approval
    if verdict.decision is Decision.NEEDS_APPROVAL and case.shadow:
        return Stop(f"An approval would be asked for: {verdict.reason}", verdict=verdict)
    if verdict.decision is Decision.NEEDS_APPROVAL:
        if approval is None or approval.status is ApprovalStatus.WAITING:
            return Wait(
                AwaitingApproval(
                    proposal=proposal, verdict=replace(verdict, basis=None), reply=_approval_reply(case, step, proposal)
                )
            )
        if approval.status is ApprovalStatus.REJECTED:
            by = f" by {approval.decided_by}" if approval.decided_by else ""
            return Stop(f"{approval.id} was rejected{by}: {approval.decision_reason or 'no reason given'}.", verdict=verdict)
        if approval.status is ApprovalStatus.EXPIRED:
            return Stop(f"{approval.id} expired before anybody decided it.", verdict=verdict)
        return Stop(f"{approval.id} is {approval.status}, but its action was never observed.", verdict=verdict)
    if verdict.decision is Decision.NEEDS_IDENTITY:
        return Stop(f"{proposal.action} needs a proven identity: {verdict.reason}", verdict=verdict)
    return Stop(verdict.reason, verdict=verdict)


def _approval_reply(case: Case, step: ActStep, proposal: Proposal) -> str:
    if step.after:
        return fill(step.after, case.language, told_names(case))
    matter = case.playbook.macros.matter(case.category, case.language)
    return case.playbook.macros.say("awaiting_approval", case.language, name=case.name, ticket_id=case.ticket.id, what=matter)
