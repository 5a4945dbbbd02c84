"""How often and how much an action may be done, as the catalogue says. Pure: the counts are given."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from orchestrator.domain.actions import Action
from orchestrator.resolution.conditions import number

DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was done already, this act not counted."""

    of_ticket: int = 0
    on_target: int = 0  # within the action's own window
    of_desk: int = 0  # within a day


def exceeded(action: Action, arguments: Mapping[str, Any], counts: Counts) -> str | None:
    """Which limit one more would break, in a sentence."""
    limits = action.limits
    if limits.per_ticket is not None and counts.of_ticket >= limits.per_ticket:
        return f"{action.name} was done {counts.of_ticket} time(s) for this ticket; the catalogue allows {limits.per_ticket}."
    if limits.per_target is not None and counts.on_target >= limits.per_target:
        minutes = f"{limits.target_window_minutes} minutes" if limits.target_window_minutes else "a day"
        return (
            f"{action.name} was done {counts.on_target} time(s) on this target within {minutes}; the limit is {limits.per_target}."
        )
    if limits.per_desk_per_day is not None and counts.of_desk >= limits.per_desk_per_day:
        return f"The desk did {action.name} {counts.of_desk} time(s) within a day; the limit is {limits.per_desk_per_day}."
    amount = number(arguments.get(limits.amount)) if limits.amount else None
    if limits.max_amount is not None and amount is not None and float(amount) > limits.max_amount:
        return f"{amount} is more than {action.name} may move at once ({limits.max_amount:g})."
    return None


def target_window(action: Action) -> timedelta:
    return timedelta(minutes=action.limits.target_window_minutes) if action.limits.target_window_minutes else DAY
