"""A model's way in the running stack, the short form: fitted, through the gate, live, replaced, broken, rolled back, under traffic.

The long form with real data: `python -m tests.acceptance.promotion_run`.
"""

from typing import Any

import pytest

from tests.acceptance.conftest import Running
from tests.acceptance.promotion_data import prepare_house_texts
from tests.acceptance.promotion_run import CANARY_PERCENT, Plan, carry_out
from tests.acceptance.promotion_stack import Stack

pytestmark = pytest.mark.timeout(900)
TYPES = ("vpn", "invoice", "hardware")
SHORT = Plan(minutes=0.1, tuned_encoder=False, refit=False, checked=False, restart=False, canary_tickets=15, watched_s=0.5)


@pytest.fixture(scope="module")
def told(running: Running) -> dict[str, Any]:
    stack = Stack(home=running.home, url=running.url, keys=running.keys)
    return carry_out(stack, prepare_house_texts(running.home / "data", types=TYPES), SHORT, say=lambda line: None)


def test_nothing_goes_wrong_from_the_fit_to_the_last_rollback(told: dict[str, Any]) -> None:
    assert told["problems"] == []


def test_tickets_and_scores_flow_without_an_error_while_models_move(told: dict[str, Any]) -> None:
    counts = told["counts"]
    assert counts["tickets"] > 30 and counts["scores"] > 100
    assert counts["errors"] == 0


def test_no_answer_is_another_models(told: dict[str, Any]) -> None:
    counts = told["counts"]
    assert counts["answers of a wrong model"] == counts["scores with another model's numbers"] == 0
    assert counts["scores compared with the trainer's"] > 100


def test_the_served_model_chooses_what_the_trained_one_chooses(told: dict[str, Any]) -> None:
    parity = told["found"]["gate"]["served as trained"]
    assert parity["same_or_tied"] >= 0.995 * parity["requests"] > 100


def test_a_shadow_sees_the_traffic_and_decides_nothing(told: dict[str, Any]) -> None:
    assert told["found"]["shadow"]["predicted"] > 0
    assert told["found"]["shadow"]["decided"] == 0


def test_a_canary_gets_its_share_and_the_same_ticket_always_the_same_model(told: dict[str, Any]) -> None:
    canary = told["found"]["canary"]
    assert canary["percent"] == CANARY_PERCENT and canary["tickets"] >= 10
    assert 0 < canary["of the canary"] < canary["tickets"]
    assert canary["astray"] == []


def test_every_move_of_live_reaches_all_replicas_within_seconds(told: dict[str, Any]) -> None:
    swaps = told["swaps"]
    assert len(swaps) == 3  # the first, the second of the same plain name, the rollback
    assert all(swap["all_replicas"] < 60 for swap in swaps)


def test_a_model_that_breaks_is_refused_and_the_base_never_answers_for_it(told: dict[str, Any]) -> None:
    broken = told["found"]["broken"]
    assert broken["refused scores"] == broken["of"] > 0
    assert broken["status says"]
