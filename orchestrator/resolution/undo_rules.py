"""Whether an act may be undone by its compensation. Pure. The permission of an act covers undoing exactly that act, and no more:
its arguments come from the act's own record, and every rule that restricts the compensating action still bites.
"""

from orchestrator.domain.resolution import Decision, Proposal, Verdict
from orchestrator.resolution.case import Case, Done
from orchestrator.resolution.governance import judge_facts
from orchestrator.resolution.runbooks import Runbook

UNDO = "undo"


def judge_undo(case: Case, runbook: Runbook, proposal: Proposal) -> Verdict:
    done = next((each for each in case.done if each.key == proposal.undoes), None)
    if done is None or done.action.compensation != proposal.action:
        return _deny(f"{proposal.action} undoes nothing that was done for this ticket.")
    action = case.playbook.actions.get(proposal.action)
    if action is None or not action.reviewed:
        return _deny(f"The catalogue has no reviewed action {proposal.action!r}.")
    if dict(proposal.arguments) != undoing(case, done):
        return _deny(f"The arguments of {proposal.action} are not those that undo the act.")
    if wrong := action.input_problems(proposal.arguments):
        return _deny(f"{'; '.join(wrong)}.")
    facts = case.facts.with_facts(
        {"arguments": dict(proposal.arguments), "action": {"name": action.name, "risk": str(action.risk)}, "owner": proposal.owner},
        source="record",
        detail="the act that is undone",
    )
    said = judge_facts(proposal.action, facts, case.playbook.policies)
    if said.decision is Decision.ALLOW or said.rule == "default" or said.errors:
        reason = f"Undoes {done.action.name}, which was allowed for this ticket and is not confirmed, or not wanted any more."
        return Verdict(decision=Decision.ALLOW, rule=UNDO, reason=reason)
    return said


def undoing(case: Case, done: Done) -> dict[str, object]:
    """The compensation's arguments, from the record of the act."""
    assert done.action.compensation is not None
    takes = case.playbook.actions[done.action.compensation].input.document.get("properties") or {}
    return done.action.undo(done.arguments, takes, before=done.before.body if done.before else None, answer=done.answer)


def _deny(reason: str) -> Verdict:
    return Verdict(decision=Decision.DENY, rule=UNDO, reason=reason)
