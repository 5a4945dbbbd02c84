"""Chaos days: may automation of this type be off for these hours, and when must the day end early. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from orchestrator.autonomy.settings import Chaos
from orchestrator.domain.actions import Action, Risk
from orchestrator.domain.autonomy import ChaosDay
from orchestrator.domain.errors import BadInput, Conflict

_RISKS = list(Risk)


def check_chaos_day(
    settings: Chaos,
    *,
    type: str,
    starts_at: datetime,
    ends_at: datetime,
    now: datetime,
    acts: Iterable[Action],
    planned: Sequence[ChaosDay],
) -> None:
    """Raises BadInput or Conflict that says why the day cannot be; `acts`: what the type's runbooks may do."""
    if ends_at <= starts_at or starts_at < now - timedelta(minutes=5):
        raise BadInput(
            f"A chaos day from {starts_at:%Y-%m-%d %H:%M} to {ends_at:%Y-%m-%d %H:%M} UTC cannot be held.",
            hint="It begins now or later, and ends after it began.",
        )
    hours = (ends_at - starts_at).total_seconds() / 3600
    if hours > settings.max_hours:
        raise BadInput(f"{hours:g} hours are too long; at most {settings.max_hours:g}.", hint="autonomy.yaml: chaos.max_hours.")
    risky = [act.name for act in acts if _RISKS.index(act.risk) > _RISKS.index(settings.risk)]
    if risky:
        raise Conflict(
            f"{type} is no low-risk type: it may {', '.join(sorted(risky))}.", hint="Hold chaos days on types of lower risk."
        )
    clash = next(
        (day for day in planned if day.type == type and day.cancelled_at is None and _overlap(day, starts_at, ends_at)), None
    )
    if clash:
        raise Conflict(f"{clash.id} of the same type overlaps.", hint=f"Cancel {clash.id} first, or choose other hours.")


def _overlap(day: ChaosDay, starts_at: datetime, ends_at: datetime) -> bool:
    return day.starts_at < ends_at and starts_at < day.ends_at


def must_end(settings: Chaos, *, waiting: int, urgent: int) -> str:
    """Why the running day ends now; empty where it goes on. `urgent`: open P1 tickets of the type."""
    if urgent:
        return f"{urgent} urgent ticket(s) of the type are open."
    if waiting >= settings.stop_at_waiting:
        return f"{waiting} tickets of the type wait; the day ends at {settings.stop_at_waiting}."
    return ""
