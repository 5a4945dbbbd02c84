"""Budgets and counters of what the desk gives away: for a requester, an account, a ticket, the whole desk. Pure arithmetic.

`spent_for` sums up what the store counted, one query for a batch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.resolution import ObservationStatus, StepRecord
from orchestrator.domain.spending import Spend
from orchestrator.resolution.conditions import number

DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)
BASELINE_DAYS = 14
USUAL_AT_LEAST = 1.0 / (24 * BASELINE_DAYS)  # acts an hour: where there were none yet, one in the whole window


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one action gave away within 24 hours, this ticket's own acts included."""

    requester: float = 0.0
    account: float = 0.0
    desk: float = 0.0
    ticket: float = 0.0
    acts_last_hour: int = 0  # of the whole desk
    usual_per_hour: float = USUAL_AT_LEAST  # mean of the window before this hour

    @property
    def spike_ratio(self) -> float:
        """How many times the usual hour the last one was."""
        return round(self.acts_last_hour / self.usual_per_hour, 2)


def spent_for(
    action: str, spending: Iterable[Spend], *, requester: str, account: str | None, own: Sequence[StepRecord], now: datetime
) -> Spent:
    """`own`: the steps of the ticket itself."""
    rows = [row for row in spending if row.action == action]
    mine = sum(amount_of(step) for step in own if step.action == action and counts(step, now))
    window = sum(row.acts_in_window - row.acts_last_hour for row in rows)
    return Spent(
        requester=_cents(sum(row.amount for row in rows if row.requester == requester.lower())),
        account=_cents(sum(row.amount for row in rows if account and row.account == account)),
        desk=_cents(sum(row.amount for row in rows)),
        ticket=mine,
        acts_last_hour=sum(row.acts_last_hour for row in rows),
        usual_per_hour=max(window / (24 * BASELINE_DAYS - 1), USUAL_AT_LEAST),
    )


def _cents(amount: float) -> float:
    return round(amount, 2)


def counts(step: StepRecord, now: datetime) -> bool:
    """What was given counts unless it was refused or is too long ago; where the answer is missing it counts."""
    if step.observation is None:
        return True
    return step.observation.status is not ObservationStatus.REFUSED and now - step.observation.at <= DAY


def amount_of(step: StepRecord) -> float:
    return float(number(step.arguments.get("amount")) or 0.0) if step.writes else 0.0


def money_facts(spent: Spent, arguments: Mapping[str, Any]) -> dict[str, float]:
    """What policies read as `$money`: given so far, and what it would come to with this act. In the currency of the act."""
    amount = float(number(arguments.get("amount")) or 0.0)
    return {
        "refunded_today": spent.requester,
        "with_this": round(spent.requester + amount, 2),
        "account_with_this": round(spent.account + amount, 2),
        "desk_with_this": round(spent.desk + amount, 2),
        "ticket_with_this": round(spent.ticket + amount, 2),
    }


def anomaly_facts(spent: Spent) -> dict[str, float]:
    """What policies read as `$anomaly` about the pace of acts like this one."""
    return {
        "acts_last_hour": spent.acts_last_hour,
        "usual_per_hour": round(spent.usual_per_hour, 3),
        "spike_ratio": spent.spike_ratio,
    }
