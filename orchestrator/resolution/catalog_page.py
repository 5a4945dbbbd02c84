"""The catalogue as a table for people to read, in Markdown. Reads records; writes nothing."""

from collections.abc import Iterable

from orchestrator.domain.actions import Action
from orchestrator.resolution.conditions import all_said

HEAD = (
    "| action | what it does | bound to | risk, blast radius | undone by | needs first | identity | approvers | limits |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def page(actions: Iterable[Action]) -> str:
    """One row for every action that writes."""
    return HEAD + "".join(_row(action) for action in actions if action.writes)


def _row(action: Action) -> str:
    cells = (
        f"`{action.name}`" + ("" if action.reviewed else " (draft)"),
        action.title,
        f"`tool {action.tool}`" if action.tool else f"`{action.method} {action.path}`",
        f"{action.risk}, {action.blast_radius.replace('_', ' ')}",
        f"`{action.compensation}`" if action.compensation else "nothing",
        all_said(action.preconditions) or "nothing",
        str(action.identity),
        f"{', '.join(action.approvers.roles)} ({action.approvers.quorum})" if action.approvers else "nobody",
        _limits(action) or "none",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _limits(action: Action) -> str:
    limits = action.limits
    said = [
        f"{limits.per_ticket} a ticket" if limits.per_ticket else "",
        f"{limits.per_target} a target in {limits.target_window_minutes} min" if limits.per_target else "",
        f"{limits.per_desk_per_day} a day" if limits.per_desk_per_day else "",
        f"{limits.amount} at most {limits.max_amount:g}" if limits.amount and limits.max_amount else "",
    ]
    return ", ".join(each for each in said if each)
