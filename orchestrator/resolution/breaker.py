"""The circuit breaker: the same act on the same target without any change, or acts that undo each other. Pure; keeps nothing.

Reads the acts on a target within a window and the state that is seen now. State digests leave out what changes by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from orchestrator.domain.resolution import Touch

REPEATS, OSCILLATION = "repeats", "oscillation"


@dataclass(frozen=True, kw_only=True)
class Limit:
    repeats: int = 3  # this many times the same act on an unchanged target is refused
    alternations: int = 2  # this many returns to an earlier state, too
    window: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class Tripped:
    kind: str  # "repeats", "oscillation"
    reason: str
    actions: tuple[str, ...]  # that are frozen on this target


def trips(action: str, key: str, now: str | None, touches: Sequence[Touch], limit: Limit) -> Tripped | None:
    """Whether one more act is one too many. `touches`: earlier acts on its target within the window, oldest first; `now`: the state
    that is seen just before. The act's own earlier intention (the same key) does not count."""
    others = [touch for touch in touches if touch.idempotency_key != key]
    same = [touch for touch in others if touch.action == action and touch.before == now]
    minutes = f"{limit.window / timedelta(minutes=1):g} minutes"
    if len(same) + 1 >= limit.repeats:
        tickets = ", ".join(dict.fromkeys(touch.ticket_id for touch in same))
        reason = f"{action} was tried {len(same)} times within {minutes} ({tickets}) and its target is as it was before."
        return Tripped(kind=REPEATS, reason=reason, actions=(action,))
    returns = alternations(states(others, now))
    if returns >= limit.alternations:
        names = tuple(dict.fromkeys([*(touch.action for touch in others if not touch.refused), action]))
        reason = (
            f"The target of {action} went back to an earlier state {returns} times within {minutes}: "
            f"somebody undoes what {', '.join(names)} does."
        )
        return Tripped(kind=OSCILLATION, reason=reason, actions=names)
    return None


def states(touches: Sequence[Touch], now: str | None) -> list[str]:
    """The states that the target was seen in, in the order of the looks, each once in a row.

    A change from outside shows as a look before that is not the last look after. Acts of one moment share their look before, so the
    order is that of the looks and not that of the acts.
    """
    looks = [(touch.before_at or touch.at, touch.before) for touch in touches if touch.before and not touch.refused]
    looks += [(touch.after_at or touch.at, touch.after) for touch in touches if touch.after and not touch.refused]
    seen = [state for _, state in sorted(looks, key=lambda look: look[0])]
    return [state for state, _ in groupby([*seen, *([now] if now else [])])]


def alternations(found: Sequence[str]) -> int:
    """How often it came back to the state before the last: X, Y, X, Y does so twice."""
    return sum(found[index] == found[index - 2] for index in range(2, len(found)))
