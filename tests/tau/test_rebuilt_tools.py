"""The rebuilt tools answer what tau-bench recorded, and leave the database that it published the hash of."""

import pytest

from tests.tau import data, recorded
from tests.tau.world import airline, retail
from tests.tau.world.records import Records, Refused


def test_every_recorded_airline_answer_is_given_again() -> None:
    found = recorded.airline_answers()
    assert found.differ == []
    assert sum(found.calls.values()) == 1072
    assert min(found.calls[tool] for tool in ("book_reservation", "cancel_reservation", "update_reservation_flights")) > 50


def test_every_recorded_retail_answer_is_given_again() -> None:
    found = recorded.retail_answers()
    assert found.differ == []
    assert sum(found.calls.values()) == 347
    assert all(found.calls[tool] for tool in ("cancel_pending_order", "exchange_delivered_order_items", "modify_user_address"))


def test_the_published_hash_of_every_reference_end_state_is_ours() -> None:
    tasks, equal, differ = recorded.airline_end_states()
    assert (tasks, equal, differ) == (46, 46, [])


def test_a_single_changed_value_gives_another_hash() -> None:
    shipped = data.records("airline")
    hashed, records = recorded.StateHash(shipped), Records(shipped)
    untouched = hashed.of(records)
    records.edit("reservations", "4WQ150")["total_baggages"] += 1
    assert hashed.of(records) != untouched
    records.reset()
    assert hashed.of(records) == untouched


def test_the_two_oddities_of_the_recorded_release_are_ours_only_when_comparing() -> None:
    """It kept the old cabin's name, and showed a second leg after midnight with the day before's prices; we do neither."""
    arguments = {"origin": "IAH", "destination": "SEA", "date": "2024-05-24"}
    records = Records(data.records("airline"))
    ours = airline.search_onestop_flight(records, arguments)
    theirs = airline.search_onestop_flight_as_recorded(records, arguments)
    assert [pair[1]["date"] for pair in ours] == [pair[1]["date"] for pair in theirs]
    assert ours != theirs
    change = {
        "reservation_id": "JG7FMM", "cabin": "economy", "payment_id": "credit_card_2929732",
        "flights": [{"flight_number": "HAT028", "date": "2024-05-21"}, {"flight_number": "HAT277", "date": "2024-05-21"}],
    }  # fmt: skip
    assert airline.update_reservation_flights(records, change)["cabin"] == "economy"
    records.reset()
    assert airline.update_reservation_flights_as_recorded(records, change)["cabin"] == "business"


def test_a_sum_is_worked_out_and_code_is_not_run() -> None:
    records = Records({})
    assert airline.calculate(records, {"expression": "2 * ((350 - 122) + (499 - 127))"}) == "1200.0"
    with pytest.raises(Refused):
        airline.calculate(records, {"expression": "__import__('os').getpid()"})


def _balance(records: Records, user: str, method: str) -> float:
    return float(records.get("users", user)["payment_methods"][method]["balance"])


def test_gift_cards_are_settled_at_once_and_to_the_cent() -> None:
    """ "The total will be refunded via the original payment method immediately if it is gift card": what no recorded answer shows."""
    records = Records(data.records("retail"))
    orders = [
        (order, order["payment_history"][0])
        for order in data.records("retail")["orders"].values()
        if order["status"] == "pending" and order["payment_history"][0]["payment_method_id"].startswith("gift_card")
    ]
    assert len(orders) > 20
    for order, paid in orders:
        card, user = paid["payment_method_id"], order["user_id"]
        records.reset()
        before = _balance(records, user, card)
        retail.cancel_pending_order(records, {"order_id": order["order_id"], "reason": "no longer needed"})
        assert _balance(records, user, card) == round(before + paid["amount"], 2)
        records.reset()
        other = next((key for key in records.get("users", user)["payment_methods"] if key != card), None)
        if other is not None:
            change = {"order_id": order["order_id"], "payment_method_id": other}
            retail.modify_pending_order_payment(records, change)
            assert _balance(records, user, card) == round(before + paid["amount"], 2)


def test_changed_items_are_paid_from_the_gift_card_by_their_difference() -> None:
    """Order #W9911714: shoes for 155.33 instead of 147.05, a keyboard for 268.77 instead of 235.13 (the sum of task 21)."""
    records = Records(data.records("retail"))
    wanted = {
        "order_id": "#W9911714", "payment_method_id": "gift_card_4332117",
        "item_ids": ["9791469541", "1340995114"], "new_item_ids": ["4107812777", "1421289881"],
    }  # fmt: skip
    changed = retail.modify_pending_order_items(records, wanted)
    assert changed["status"] == "pending (item modified)"
    assert _balance(records, "ethan_garcia_1261", "gift_card_4332117") == round(86.0 - (155.33 - 147.05 + 268.77 - 235.13), 2)
    assert sorted(item["item_id"] for item in changed["items"] if item["item_id"] in wanted["new_item_ids"]) == [
        "1421289881",
        "4107812777",
    ]
