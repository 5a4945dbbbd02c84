"""Budgets and counters by hand-made sums: who counts toward which, and what is left after one more."""

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.domain.resolution import Observation, ObservationStatus, StepRecord
from orchestrator.domain.spending import Spend
from orchestrator.resolution.budgets import Spent, money_facts, spent_for

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
REFUND = "billing.refund"


def row(
    amount: float, *, requester: str = "ada@elm.example", account: str = "acc-elm", hour: int = 1, window: int = 1, **more: Any
) -> Spend:
    about = {"action": REFUND, "requester": requester, "account": account, "amount": amount}
    return Spend(**{**about, "acts_last_hour": hour, "acts_in_window": window, **more})


def step(amount: float, *, hours: float = 1, status: ObservationStatus | None = ObservationStatus.OK) -> StepRecord:
    seen = None if status is None else Observation(status=status, http_status=200, body={}, at=NOW - timedelta(hours=hours))
    about: dict[str, Any] = {"seq": 1, "step": "s", "action": REFUND, "arguments": {"amount": amount}, "idempotency_key": "k"}
    return StepRecord(**about, writes=True, verdict=None, observation=seen)


def spent(*rows: Spend, own: tuple[StepRecord, ...] = ()) -> Spent:
    return spent_for(REFUND, rows, requester="Ada@Elm.example", account="acc-elm", own=own, now=NOW)


def test_requester_account_and_desk_are_summed_apart_and_other_acts_count_for_none() -> None:
    found = spent(
        row(10),
        row(20, requester="ben@elm.example"),
        row(40, account="acc-oak", requester="dora@oak.example"),
        row(80, action="x.y"),
    )
    assert (found.requester, found.account, found.desk) == (10, 30, 70)


def test_what_was_refused_or_is_older_than_a_day_counts_for_no_ticket_and_what_has_no_answer_does() -> None:
    refused, old = step(10, status=ObservationStatus.REFUSED), step(20, hours=24.1)
    unanswered, unknown = step(40, status=None), step(80, status=ObservationStatus.UNKNOWN)
    assert spent(own=(refused, old, unanswered, unknown)).ticket == 120


def test_a_spike_is_measured_by_the_usual_hour_before_it() -> None:
    assert spent(row(1, hour=6, window=6 + 2 * 335)).spike_ratio == 3.0
    assert spent(row(1, hour=1, window=1)).spike_ratio == 336.0  # a first act is no rate yet: `spike_floor` keeps it from being one


def test_with_this_act_every_budget_grows_by_its_amount() -> None:
    money = money_facts(Spent(requester=150, account=480, desk=4000, ticket=20), {"amount": 20.01})
    assert money == {
        "refunded_today": 150,
        "with_this": 170.01,
        "account_with_this": 500.01,
        "desk_with_this": 4020.01,
        "ticket_with_this": 40.01,
    }


def test_an_act_without_an_amount_gives_nothing() -> None:
    assert money_facts(Spent(requester=5), {"amount": "a lot"})["with_this"] == 5
