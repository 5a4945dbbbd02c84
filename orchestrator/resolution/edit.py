"""Another proposal in the place of one that waits, as a person wants it: only money, and only less of it. Pure; decides nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.domain.actions import Action
from orchestrator.domain.errors import BadInput
from orchestrator.domain.resolution import Approval, Proposal, Provenance
from orchestrator.resolution.conditions import number
from orchestrator.resolution.facts import idempotency_key, proposal_digest


def edit(asked: Approval, action: Action, changed: Mapping[str, Any], *, by: str, epoch: int) -> Proposal:
    """The frozen proposal with other arguments. `epoch`: how often the ticket was reopened. Raises BadInput."""
    proposal = asked.proposal
    allowed = {action.limits.amount} - {None}
    if strange := sorted(set(changed) - allowed):
        can = f"Only {', '.join(sorted(map(str, allowed)))} can be changed" if allowed else "Nothing of it can be changed"
        raise BadInput(
            f"{action.name}: {', '.join(strange)} cannot be edited.", hint=f"{can}; reject it where something else is wrong."
        )
    lowered = {name: value for name, value in changed.items() if value != proposal.arguments.get(name)}
    if not lowered:
        raise BadInput("The edit changes nothing.", hint="Approve it as it stands, or name another amount.")
    for name, value in lowered.items():
        now, new = number(proposal.arguments.get(name)), number(value)
        if now is None or new is None or not 0 < new < now:
            raise BadInput(
                f"{name} can only be lowered: more than 0 and less than {now}, not {value!r}.",
                hint="More needs a request of its own.",
            )
    arguments = {**proposal.arguments, **lowered}
    if problems := action.input_problems(arguments):
        raise BadInput("; ".join(problems), hint=f"See the catalogue's entry of {action.name}.")
    return _rewritten(asked, arguments, list(lowered), by=by, epoch=epoch)


def _rewritten(asked: Approval, arguments: Mapping[str, Any], names: list[str], *, by: str, epoch: int) -> Proposal:
    old = asked.proposal
    where = Provenance(source="record", detail=f"edited by {by}, in the place of {asked.id}")
    preview = dict(old.preview)
    preview["what"] = f"{preview.get('what', old.action)} – edited by {by}: " + ", ".join(f"{n} {arguments[n]}" for n in names)
    return replace(
        old,
        arguments=arguments,
        provenance={**old.provenance, **dict.fromkeys(names, where)},
        idempotency_key=idempotency_key(old.ticket_id, epoch, old.runbook, old.step, dict(arguments)),
        digest=proposal_digest(old.ticket_id, old.runbook, old.step, old.action, dict(arguments)),
        preview={**preview, "edit_of": old.preview.get("edit_of") or old.digest},
    )
