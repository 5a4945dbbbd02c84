"""One call of a round: what is stored of it, what really goes out, what came back. Made of an effect, judged; sends nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from orchestrator.domain.actions import Action
from orchestrator.domain.resolution import (
    Approval,
    ApprovalStatus,
    Decision,
    Observation,
    ObservationStatus,
    Proposal,
    Provenance,
    Snapshot,
    StepRecord,
    Target,
    Verdict,
    Verification,
)
from orchestrator.resolution.act import judge
from orchestrator.resolution.effects import Act, Effect, Read, SendCode
from orchestrator.resolution.facts import canonical, proposal_digest, sha256
from orchestrator.resolution.identify import verdict_of_code
from orchestrator.resolution.judged import about_act
from orchestrator.resolution.runs import Desk, Run
from orchestrator.resolution.undo_rules import judge_undo

READ_VERDICT = Verdict(decision=Decision.ALLOW, rule="read", reason="A look-up of the runbook changes nothing.")
Spent = dict[str, float]
"""What this round gives away, by requester: the caps count it at once."""


@dataclass
class Call:
    run: Run
    proposal: Proposal
    verdict: Verdict
    arguments: Mapping[str, Any]
    action: Action | None
    secret: str | None = None  # a code that must not be stored
    begun: StepRecord | None = None  # an earlier run intended it, and its end is not known
    approval: Approval | None = None
    target: Target | None = None
    seen: Observation | None = None  # what the target looks like now
    observation: Observation | None = None
    after: Snapshot | None = None
    verification: Verification | None = None

    @property
    def writes(self) -> bool:
        return self.proposal.writes

    @property
    def key(self) -> str:
        return self.proposal.idempotency_key

    @property
    def before(self) -> Snapshot | None:
        return self.target.before if self.target else None

    @property
    def in_doubt(self) -> bool:
        """It may have happened already."""
        return self.begun is not None

    def as_begun(self) -> StepRecord:
        """As an earlier run would have left it that died now."""
        return StepRecord(
            seq=0,
            step=self.proposal.step,
            action=self.proposal.action,
            arguments=self.arguments,
            idempotency_key=self.key,
            writes=True,
            verdict=self.verdict,
            observation=None,
            before=self.before,
        )


def call_of(run: Run, effect: Effect | None, desk: Desk, spent: Spent) -> Call:
    """What this effect calls, with what governance says of it."""
    match effect:
        case Read():
            return Call(run, _look_up(run, effect), READ_VERDICT, effect.arguments, _action(desk, effect.action))
        case SendCode():
            arguments = {**effect.proposal.arguments, "body": effect.body}
            action = _action(desk, effect.proposal.action)
            begun = _begun(run, effect.proposal)
            return Call(run, effect.proposal, verdict_of_code(), arguments, action, secret=effect.code, begun=begun)
        case Act():
            return _judged(run, effect, desk, spent)
    raise TypeError(f"{type(effect).__name__} calls nothing.")


def _action(desk: Desk, name: str) -> Action | None:
    return desk.playbook.actions.get(name)


def _begun(run: Run, proposal: Proposal) -> StepRecord | None:
    """The step of an earlier run whose end is not known. What never reached the system has an end: it did not happen."""
    step = run.case.memory.act(proposal.idempotency_key)
    if step is None or step.verdict is None or step.verdict.decision is not Decision.ALLOW:
        return None
    never_sent = step.observation is not None and step.observation.status is ObservationStatus.UNAVAILABLE
    return None if never_sent and not step.unknowns else step


def _judged(run: Run, effect: Act, desk: Desk, spent: Spent) -> Call:
    proposal, case = effect.proposal, run.case
    call = Call(run, proposal, READ_VERDICT, proposal.arguments, _action(desk, proposal.action))
    begun = _begun(run, proposal)
    if begun is not None and begun.verdict is not None:
        call.begun, call.verdict = begun, begun.verdict  # it was allowed, and may have happened
        return call
    if proposal.undoes is not None:
        call.verdict = judge_undo(case, effect.runbook, proposal)
        return call
    email = case.ticket.requester.email.lower()
    call.verdict = judge(case, effect.runbook, proposal, _with_round(run, effect, spent.get(email, 0.0)))
    approval = call.approval = case.approval_for(proposal)
    if call.verdict.decision is Decision.NEEDS_APPROVAL and approval and _carries(approval, call.verdict, desk.clock()):
        reason = f"{approval.id} approved by {approval.decided_by}: {approval.decision_reason or 'no reason given'}"
        call.verdict = replace(call.verdict, decision=Decision.ALLOW, reason=reason)
    if call.verdict.decision is Decision.ALLOW and "amount" in proposal.arguments:
        spent[email] = spent.get(email, 0.0) + float(proposal.arguments["amount"] or 0)
    return call


def _carries(approval: Approval, verdict: Verdict, now: datetime) -> bool:
    """Whether people's yes is enough for what governance asks now: not run out, and by as many as it wants today."""
    holds = approval.valid_until is None or now < approval.valid_until
    return approval.status is ApprovalStatus.APPROVED and holds and approval.quorum >= verdict.quorum


def _with_round(run: Run, effect: Act, already: float) -> Any:
    """The facts with what is known of money now: the store's latest word, and what this very round gives away."""
    case, facts = run.case, effect.facts
    if run.spending_changed:
        settings = case.playbook.policies
        facts = about_act(facts, effect.proposal, case.memory, ticket=case.ticket, policies=settings, now=case.now)
    if not already:
        return facts
    money = dict(facts.get("money") or {})
    for name in ("with_this", "account_with_this", "desk_with_this"):
        money[name] = money.get(name, 0.0) + already
    return facts.with_fact("money", money, source="record", detail="the desk's own refunds")


def _look_up(run: Run, effect: Read) -> Proposal:
    """A look-up as it is stored. Its key is new in every run, for what it says may be new as well."""
    claim = run.work.claim
    turn = claim.token if claim else 0
    arguments = dict(effect.arguments)
    return Proposal(
        ticket_id=run.id,
        runbook=effect.runbook,
        step=effect.step,
        action=effect.action,
        arguments=arguments,
        provenance={name: Provenance(source="record", detail=effect.runbook) for name in arguments},
        owner=None,
        idempotency_key=sha256("read", run.id, turn, run.reads, effect.runbook, effect.step, effect.action, canonical(arguments)),
        writes=False,
        digest=proposal_digest(run.id, effect.runbook, effect.step, effect.action, arguments),
    )
