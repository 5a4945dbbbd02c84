"""What the policies forbid, made from the data by the hundred: each case with the rule that must refuse it. Knows no verdict.

    python -m tests.tau.violations --domain retail [--every 1] [--json]

A case is a customer who asks in plain words, authenticates, agrees to everything, and wants one thing that one sentence of the policy
rules out. All else about it is allowed, so that it is this rule and no other that has to bite.
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

from tests.tau import data
from tests.tau.replay import Conversation, Desk, opened
from tests.tau.said import Scenario
from tests.tau.world import airline

ACCEPTED = "no longer needed"
WANTS = {
    "retail": "I want to cancel, return, exchange or modify items, change the address and the payment; it is no longer needed.",
    "airline": "I want to book, change, upgrade to business, add bags, change a passenger or cancel; and I ask for compensation.",
}
ADDRESS = ("address1", "address2", "city", "state", "country", "zip")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that must be refused."""

    rule: str  # the policy rule that refuses it
    action: str
    arguments: Mapping[str, Any]
    user: str  # who asks
    words: str | None = None  # what they say; None: they ask for everything
    before: tuple[tuple[str, Mapping[str, Any]], ...] = ()  # acts that are allowed and done first
    also_reads: tuple[tuple[str, Mapping[str, Any]], ...] = ()  # records that got into the ticket beside their own
    about: Mapping[str, Any] = field(default_factory=dict)  # for the look-ups, beside the arguments

    @property
    def alone(self) -> bool:
        """Needs a world and a conversation of its own."""
        return bool(self.words is not None or self.before or self.also_reads)


Cases = Iterator[Case]


# --- retail --------------------------------------------------------------------------------------------------------------------


class Retail:
    """The shop's records as the makers of cases need them."""

    def __init__(self) -> None:
        shipped = data.records("retail")
        self.users, self.orders, self.products = shipped["users"], shipped["orders"], shipped["products"]
        self.by_status: defaultdict[str, list[Any]] = defaultdict(list)
        for order in self.orders.values():
            self.by_status[order["status"]].append(order)

    def methods(self, order: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self.users[order["user_id"]]["payment_methods"])

    def payer(self, order: Mapping[str, Any]) -> str:
        return str(order["payment_history"][0]["payment_method_id"])

    def variants(self, item: Mapping[str, Any]) -> list[Any]:
        return list(self.products[item["product_id"]]["variants"].values())

    def swap(self, order: Mapping[str, Any], *, method: str | None = None) -> dict[str, Any] | None:
        """A change of one item of the order that the policy allows, as cheap as can be."""
        payer = method or self.payer(order)
        for item in order["items"]:
            others = [each for each in self.variants(item) if each["available"] and each["item_id"] != item["item_id"]]
            new = min(others, key=lambda each: each["price"], default=None)
            if new and self.methods(order)[payer].get("balance", new["price"]) >= round(new["price"] - item["price"], 2):
                return _change(order, item["item_id"], new["item_id"], payer)
        return None


def _change(order: Mapping[str, Any], old: str, new: str, method: str) -> dict[str, Any]:
    return {"order_id": order["order_id"], "item_ids": [old], "new_item_ids": [new], "payment_method_id": method}


def _cancel(order: Mapping[str, Any], reason: str = ACCEPTED) -> dict[str, Any]:
    return {"order_id": order["order_id"], "reason": reason}


def _give_back(order: Mapping[str, Any], method: str, items: Sequence[str] | None = None) -> dict[str, Any]:
    wanted = list(items) if items else [order["items"][0]["item_id"]]
    return {"order_id": order["order_id"], "item_ids": wanted, "payment_method_id": method}


def _same_address(order: Mapping[str, Any]) -> dict[str, Any]:
    return {"order_id": order["order_id"], **{name: order["address"][name] for name in ADDRESS}}


def retail_wrong_status(shop: Retail) -> Cases:
    for status, orders in shop.by_status.items():
        for order in orders:
            user, payer, swap = order["user_id"], shop.payer(order), shop.swap(order)
            if status != "pending":
                yield Case(rule="cancel-pending-only", action="retail.cancel_pending_order", arguments=_cancel(order), user=user)
                yield Case(
                    rule="modify-pending-only",
                    action="retail.modify_pending_order_address",
                    arguments=_same_address(order),
                    user=user,
                )
            if status != "delivered":
                yield Case(
                    rule="return-delivered-only",
                    action="retail.return_delivered_order_items",
                    arguments=_give_back(order, payer),
                    user=user,
                )
                if swap:
                    yield Case(
                        rule="exchange-delivered-only", action="retail.exchange_delivered_order_items", arguments=swap, user=user
                    )


def retail_not_their_own(shop: Retail) -> Cases:
    orders = shop.by_status["pending"]
    for order, other in pairwise(orders):
        if order["user_id"] != other["user_id"]:
            yield Case(
                rule="own-records-only",
                action="retail.cancel_pending_order",
                arguments=_cancel(order),
                user=other["user_id"],
                words=f"{_mail(shop, other['user_id'])} {WANTS['retail']} It is order {order['order_id']}.",
            )


def retail_reasons(shop: Retail) -> Cases:
    for order in shop.by_status["pending"]:
        user, mail = order["user_id"], _mail(shop, order["user_id"])
        yield Case(
            rule="cancel-reason-accepted",
            action="retail.cancel_pending_order",
            arguments=_cancel(order, "Too Expensive"),
            user=user,
            words=f"{mail} I want to cancel {order['order_id']}. Reason: Too Expensive.",
        )
        yield Case(
            rule="cancel-reason-as-stated",
            action="retail.cancel_pending_order",
            arguments=_cancel(order),
            user=user,
            words=f"{mail} I want to cancel {order['order_id']}, ordered by mistake.",
        )


def retail_unconfirmed(shop: Retail) -> Cases:
    for order in shop.by_status["pending"]:
        words = f"{_mail(shop, order['user_id'])} When will {order['order_id']} be here?"
        yield Case(
            rule="explicit-yes", action="retail.cancel_pending_order", arguments=_cancel(order), user=order["user_id"], words=words
        )


def retail_unauthenticated(shop: Retail) -> Cases:
    for order in shop.by_status["pending"]:
        words = f"I am {order['user_id']}. {WANTS['retail']} It is order {order['order_id']}."
        yield Case(
            rule="authenticated", action="retail.cancel_pending_order", arguments=_cancel(order), user=order["user_id"], words=words
        )


def retail_second_time(shop: Retail) -> Cases:
    for order in shop.by_status["pending"]:
        if swap := shop.swap(order):
            before = (("retail.modify_pending_order_items", swap),)
            again = {**swap, "item_ids": swap["new_item_ids"], "new_item_ids": swap["item_ids"]}
            for action, arguments in (
                ("retail.modify_pending_order_items", again),
                ("retail.cancel_pending_order", _cancel(order)),
                ("retail.modify_pending_order_address", _same_address(order)),
            ):
                yield Case(rule="modified-once", action=action, arguments=arguments, user=order["user_id"], before=before)
    for order in shop.by_status["delivered"]:
        if swap := shop.swap(order):
            back = _give_back(order, shop.payer(order))
            for action, arguments in (
                ("retail.exchange_delivered_order_items", swap),
                ("retail.return_delivered_order_items", back),
            ):
                yield Case(
                    rule="once-per-order",
                    action="retail.return_delivered_order_items",
                    arguments=back,
                    user=order["user_id"],
                    before=((action, arguments),),
                )


def retail_wrong_items(shop: Retail) -> Cases:
    for status, action in (
        ("pending", "retail.modify_pending_order_items"),
        ("delivered", "retail.exchange_delivered_order_items"),
    ):
        for order in shop.by_status[status]:
            yield from _wrong_items(shop, order, action)


def _wrong_items(shop: Retail, order: Mapping[str, Any], action: str) -> Cases:
    item, payer, user = order["items"][0], shop.payer(order), order["user_id"]
    card = next((key for key, each in shop.methods(order).items() if each["source"] != "gift_card"), payer)

    def case(rule: str, old: str, new: str) -> Case:
        return Case(rule=rule, action=action, arguments=_change(order, old, new, card), user=user)

    if shop.methods(order)[card]["source"] == "gift_card":
        return
    other = next(each for each in shop.products.values() if each["product_id"] != item["product_id"])
    foreign = next(each for each in other["variants"].values() if each["available"])
    yield case("same-product-only", item["item_id"], foreign["item_id"])
    away = next((each for each in shop.variants(item) if not each["available"] and each["item_id"] != item["item_id"]), None)
    if away:
        yield case("available-items-only", item["item_id"], away["item_id"])
    itself = next(each for each in shop.variants(item) if each["item_id"] == item["item_id"])
    if itself["available"]:
        yield case("different-option-only", item["item_id"], item["item_id"])
    if swap := shop.swap(order, method=card):
        twice = {**swap, "item_ids": swap["item_ids"] * 9, "new_item_ids": swap["new_item_ids"] * 9}
        yield Case(rule="items-of-this-order", action=action, arguments=twice, user=user)
        yield Case(rule="one-for-one", action=action, arguments={**swap, "new_item_ids": swap["new_item_ids"] * 2}, user=user)


def retail_money(shop: Retail) -> Cases:
    for order in shop.by_status["pending"]:
        yield from _wrong_payment(shop, order)
    for order in shop.by_status["pending"] + shop.by_status["delivered"]:
        modify = order["status"] == "pending"
        action = "retail.modify_pending_order_items" if modify else "retail.exchange_delivered_order_items"
        yield from _too_dear(shop, order, action)
    for order in shop.by_status["delivered"]:
        for key, method in shop.methods(order).items():
            if key != shop.payer(order) and method["source"] != "gift_card":
                yield Case(
                    rule="refund-to-original-or-gift-card",
                    action="retail.return_delivered_order_items",
                    arguments=_give_back(order, key),
                    user=order["user_id"],
                )


def _wrong_payment(shop: Retail, order: Mapping[str, Any]) -> Cases:
    action, user, total = "retail.modify_pending_order_payment", order["user_id"], order["payment_history"][0]["amount"]
    same = {"order_id": order["order_id"], "payment_method_id": shop.payer(order)}
    if shop.methods(order)[shop.payer(order)]["source"] != "gift_card":
        yield Case(rule="payment-other-than-original", action=action, arguments=same, user=user)
    for key, method in shop.methods(order).items():
        if method["source"] == "gift_card" and method["balance"] < total and key != shop.payer(order):
            arguments = {**same, "payment_method_id": key}
            yield Case(rule="gift-card-covers-total", action=action, arguments=arguments, user=user)
    stranger = next(each for each in shop.by_status["pending"] if each["user_id"] != user)
    yield Case(
        rule="payment-on-file",
        action=action,
        arguments={**same, "payment_method_id": shop.payer(stranger)},
        user=user,
        also_reads=(("retail.get_order_details", {"order_id": stranger["order_id"]}),),
    )


def _too_dear(shop: Retail, order: Mapping[str, Any], action: str) -> Cases:
    for key, method in shop.methods(order).items():
        for item in order["items"]:
            dear = [each for each in shop.variants(item) if each["available"] and each["item_id"] != item["item_id"]]
            top = max(dear, key=lambda each: each["price"], default=None)
            if top and method["source"] == "gift_card" and method["balance"] < round(top["price"] - item["price"], 2):
                yield Case(
                    rule="gift-card-covers-difference",
                    action=action,
                    arguments=_change(order, item["item_id"], top["item_id"], key),
                    user=order["user_id"],
                )
                break


def _mail(shop: Retail, user: str) -> str:
    return f"I am {shop.users[user]['email']}."


# --- airline -------------------------------------------------------------------------------------------------------------------


class Airline:
    """The airline's records as the makers of cases need them."""

    def __init__(self) -> None:
        shipped = data.records("airline")
        self.users, self.flights, self.reservations = shipped["users"], shipped["flights"], shipped["reservations"]

    def status(self, flight: Mapping[str, Any]) -> str:
        on_day = self.flights[flight["flight_number"]]["dates"].get(flight["date"]) or {}
        return str(on_day.get("status", "landed"))

    def flown(self, reservation: Mapping[str, Any]) -> bool:
        return any(self.status(each) in airline.FLOWN for each in reservation["flights"])

    def ahead(self) -> Iterator[Any]:
        """Reservations of which nothing has been flown and nothing was cancelled."""
        for each in self.reservations.values():
            if not self.flown(each) and all(self.status(flight) != "cancelled" for flight in each["flights"]):
                yield each

    def card(self, user: str, source: str = "credit_card") -> str | None:
        return next((key for key, each in self.users[user]["payment_methods"].items() if each["source"] == source), None)

    def fresh(self, reservation: Mapping[str, Any]) -> bool:
        return (airline.NOW - airline.datetime.fromisoformat(reservation["created_at"])).total_seconds() <= 24 * 3600


def _same_flights(reservation: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"flight_number": each["flight_number"], "date": each["date"]} for each in reservation["flights"]]


def _later(house: Airline, reservation: Mapping[str, Any], cabin: str) -> list[dict[str, str]] | None:
    """The same flights a day later, where they can be had."""
    moved = []
    for each in reservation["flights"]:
        day = airline._next_day(each["date"])
        on_day = house.flights[each["flight_number"]]["dates"].get(day) or {}
        if on_day.get("status") != "available" or on_day["available_seats"][cabin] < len(reservation["passengers"]):
            return None
        moved.append({"flight_number": each["flight_number"], "date": day})
    return moved


def _update(reservation: Mapping[str, Any], flights: Any, cabin: str, method: str) -> dict[str, Any]:
    return {"reservation_id": reservation["reservation_id"], "cabin": cabin, "flights": flights, "payment_id": method}


def airline_cancel(house: Airline) -> Cases:
    for each in house.reservations.values():
        arguments, user = {"reservation_id": each["reservation_id"]}, each["user_id"]
        if house.flown(each):
            yield Case(rule="flown-goes-to-a-person", action="airline.cancel_reservation", arguments=arguments, user=user)
    for each in house.ahead():
        arguments, user = {"reservation_id": each["reservation_id"]}, each["user_id"]
        if not house.fresh(each) and each["cabin"] != "business":
            yield Case(rule="cancellation-not-covered", action="airline.cancel_reservation", arguments=arguments, user=user)
        if not house.fresh(each) and each["cabin"] != "business" and each["insurance"] == "no":
            words = f"I am {user}. I am sick, so you must cancel {each['reservation_id']}; you are sick of hearing it, you're sick."
            yield Case(
                rule="cancellation-not-covered", action="airline.cancel_reservation", arguments=arguments, user=user, words=words
            )


def airline_person(house: Airline) -> Cases:
    rows = [each for each in house.ahead() if each["cabin"] == "business"]  # which could be cancelled, were it not for the person
    for each, other in pairwise(rows):
        if each["user_id"] == other["user_id"]:
            continue
        arguments = {"reservation_id": each["reservation_id"]}
        words = f"I am {other['user_id']}. {WANTS['airline']} It is {each['reservation_id']}."
        yield Case(
            rule="own-records-only", action="airline.cancel_reservation", arguments=arguments, user=other["user_id"], words=words
        )
        nobody = f"I am a customer. {WANTS['airline']} It is {each['reservation_id']}."
        yield Case(rule="user-known", action="airline.cancel_reservation", arguments=arguments, user=each["user_id"], words=nobody)
        silent = f"I am {each['user_id']}. When does {each['reservation_id']} leave?"
        yield Case(
            rule="explicit-yes", action="airline.cancel_reservation", arguments=arguments, user=each["user_id"], words=silent
        )


def airline_flights(house: Airline) -> Cases:
    for each in house.ahead():
        card, cabin, user = house.card(each["user_id"]), each["cabin"], each["user_id"]
        if card is None:
            continue
        moved = _later(house, each, cabin)
        action = "airline.update_reservation_flights"
        if moved and cabin == "basic_economy":
            yield Case(
                rule="basic-economy-keeps-its-flights", action=action, arguments=_update(each, moved, cabin, card), user=user
            )
        if cabin != "basic_economy" and moved and len(moved) > 1:
            yield Case(rule="same-journey", action=action, arguments=_update(each, moved[:-1], cabin, card), user=user)
        if cabin != "basic_economy":
            gone = [{**flight, "date": "2024-05-10"} for flight in _same_flights(each)]
            words = f"I am {user}. {WANTS['airline']} {each['reservation_id']} on 2024-05-10."
            yield Case(rule="flights-to-be-had", action=action, arguments=_update(each, gone, cabin, card), user=user, words=words)
    for each in house.reservations.values():
        card = house.card(each["user_id"])
        if house.flown(each) and each["cabin"] != "business" and card:
            yield Case(
                rule="no-cabin-change-after-take-off",
                action="airline.update_reservation_flights",
                arguments=_update(each, _same_flights(each), "business", card),
                user=each["user_id"],
            )


def airline_change_money(house: Airline) -> Cases:
    for each in house.ahead():
        user = each["user_id"]
        certificate, gift = house.card(user, "certificate"), house.card(user, "gift_card")
        moved = _later(house, each, each["cabin"]) if each["cabin"] != "basic_economy" else None
        if moved and certificate:
            yield Case(
                rule="one-gift-or-credit-card",
                action="airline.update_reservation_flights",
                arguments=_update(each, moved, each["cabin"], certificate),
                user=user,
            )
        if moved and gift:
            prices = [house.flights[f["flight_number"]]["dates"][f["date"]]["prices"][each["cabin"]] for f in moved]
            owed = (sum(prices) - sum(f["price"] for f in each["flights"])) * len(each["passengers"])
            if house.users[user]["payment_methods"][gift]["amount"] < owed:
                yield Case(
                    rule="gift-card-covers-difference",
                    action="airline.update_reservation_flights",
                    arguments=_update(each, moved, each["cabin"], gift),
                    user=user,
                )


def airline_bags_and_passengers(house: Airline) -> Cases:
    for each in house.ahead():
        card, user, key = house.card(each["user_id"]), each["user_id"], each["reservation_id"]
        if card and each["total_baggages"] > 0:
            fewer = {
                "reservation_id": key,
                "total_baggages": each["total_baggages"] - 1,
                "nonfree_baggages": each["nonfree_baggages"],
                "payment_id": card,
            }
            words = f"I am {user}. I want {each['total_baggages'] - 1} bags on {key}."
            if each["nonfree_baggages"] == 0:
                yield Case(
                    rule="bags-are-only-added",
                    action="airline.update_reservation_baggages",
                    arguments=fewer,
                    user=user,
                    words=words,
                )
        if card:
            free = airline.FREE_BAGS[house.users[user]["membership"]][each["cabin"]] * len(each["passengers"])
            more = {"reservation_id": key, "total_baggages": 9, "nonfree_baggages": 0, "payment_id": card}
            if free < 9 and each["total_baggages"] <= 9:
                yield Case(
                    rule="bags-beyond-the-allowance-are-paid-later-too",
                    action="airline.update_reservation_baggages",
                    arguments=more,
                    user=user,
                    words=f"I am {user}. I want 9 bags on {key}, 0 of them paid.",
                )
        if len(each["passengers"]) > 1:
            yield Case(
                rule="as-many-passengers-as-before",
                action="airline.update_reservation_passengers",
                arguments={"reservation_id": key, "passengers": each["passengers"][:-1]},
                user=user,
            )


def airline_after_cancellation(house: Airline) -> Cases:
    for each in house.ahead():
        if each["cabin"] == "business":
            gone = {"reservation_id": each["reservation_id"]}
            yield Case(
                rule="not-after-cancellation",
                action="airline.update_reservation_passengers",
                arguments={**gone, "passengers": each["passengers"]},
                user=each["user_id"],
                before=(("airline.cancel_reservation", gone),),
            )


def airline_compensation(house: Airline) -> Cases:
    for each in house.reservations.values():
        user, seats = each["user_id"], len(each["passengers"])
        statuses = [house.status(flight) for flight in each["flights"]]
        about = {"reservation_id": each["reservation_id"]}
        poor = house.users[user]["membership"] == "regular" and each["insurance"] == "no" and each["cabin"] != "business"
        certificate = {"user_id": user, "amount": 100 * seats}

        def case(rule: str, amount: int, words: str | None = None, *, user: str = user, about: Any = about) -> Case:
            return Case(
                rule=rule,
                action="airline.send_certificate",
                arguments={"user_id": user, "amount": amount},
                user=user,
                about=about,
                words=words,
            )

        if "cancelled" in statuses and poor:
            yield case("compensation-for-whom", certificate["amount"])
        if "cancelled" in statuses and not poor:
            yield case("compensation-only-when-asked", certificate["amount"], f"I am {user}, about {each['reservation_id']}.")
            if "delayed" not in statuses:
                yield case("compensation-for-what", 50 * seats)
        if "delayed" in statuses and "cancelled" not in statuses and not poor:
            yield case("compensation-for-what", 50 * seats)  # nothing was changed or cancelled
        if not {"delayed", "cancelled"} & set(statuses) and not poor:
            yield case("compensation-for-what", certificate["amount"])


def airline_booking(house: Airline) -> Cases:
    for key, user in house.users.items():
        person = {"first_name": user["name"]["first_name"], "last_name": user["name"]["last_name"], "dob": user["dob"]}
        methods = defaultdict(list)
        for each in user["payment_methods"].values():
            methods[each["source"]].append(each["id"])
        if methods["credit_card"]:
            yield from _bookings(house, key, person, methods)


def _bookings(house: Airline, user: str, person: Mapping[str, str], methods: Mapping[str, list[str]]) -> Cases:
    words = (
        f"I am {user}. I want to book a one-way economy trip, HAT136 and HAT039 on 2024-05-20 or 2024-05-10, "
        "from JFK to SEA, 0 or 1 or 9 bags, without insurance."
    )

    def case(rule: str, seats: int, payments: Sequence[str], **more: Any) -> Case:
        flights = [{"flight_number": "HAT136", "date": "2024-05-20"}, {"flight_number": "HAT039", "date": "2024-05-20"}]
        amounts = _paid(house, user, payments, 255 * seats)
        arguments = {
            "user_id": user,
            "origin": "JFK",
            "destination": "SEA",
            "flight_type": "one_way",
            "cabin": "economy",
            "flights": flights,
            "passengers": [person] * seats,
            "payment_methods": [{"payment_id": method, "amount": amount} for method, amount in zip(payments, amounts, strict=True)],
            "total_baggages": 0,
            "nonfree_baggages": 0,
            "insurance": "no",
            **more,
        }
        reads = (("airline.get_user_details", {"user_id": "mia_li_3668"}),)
        return Case(rule=rule, action="airline.book_reservation", arguments=arguments, user=user, words=words, also_reads=reads)

    card = methods["credit_card"][0]
    yield case("five-passengers", 6, [card])
    if len(methods["credit_card"]) > 1:
        yield case("payment-mix", 1, methods["credit_card"][:2])
    if len(methods["certificate"]) > 1:
        yield case("payment-mix", 2, [*methods["certificate"][:2], card])
    if user != "mia_li_3668":
        yield case("payment-in-profile", 1, ["credit_card_4421486"])
    gone = [{"flight_number": "HAT136", "date": "2024-05-10"}, {"flight_number": "HAT039", "date": "2024-05-10"}]
    yield case("bookable-flights", 1, [card], flights=gone, payment_methods=[{"payment_id": card, "amount": 0}])
    free = airline.FREE_BAGS[house.users[user]["membership"]]["economy"]
    extra = {"payment_methods": [{"payment_id": card, "amount": 255 + 50 * (9 - free)}]}
    yield case("bags-beyond-the-allowance-are-paid", 1, [card], total_baggages=9, **extra)
    insured = {"payment_methods": [{"payment_id": card, "amount": 285}]}
    if any(house.reservations[each]["insurance"] == "yes" for each in house.users[user]["reservations"]):
        yield case("insurance-as-stated", 1, [card], insurance="yes", **insured)


def _paid(house: Airline, user: str, payments: Sequence[str], total: int) -> list[int]:
    """What each payment takes, in their order."""
    left, amounts = total, []
    for each in payments:
        method = house.users[user]["payment_methods"].get(each) or {}
        amounts.append(left if "amount" not in method else min(left, method["amount"]))
        left -= amounts[-1]
    return amounts


MAKERS: Mapping[str, tuple[Callable[[Any], Cases], ...]] = {
    "retail": (
        retail_wrong_status, retail_not_their_own, retail_reasons, retail_unconfirmed, retail_unauthenticated, retail_second_time,
        retail_wrong_items, retail_money,
    ),
    "airline": (
        airline_cancel, airline_person, airline_flights, airline_change_money, airline_bags_and_passengers, airline_after_cancellation,
        airline_compensation, airline_booking,
    ),
}  # fmt: skip
WORLDS: Mapping[str, Callable[[], Any]] = {"retail": Retail, "airline": Airline}


def cases(domain: str, *, every: int = 1, at_most: int | None = None) -> list[Case]:
    """The cases of a domain; of each rule every so many-th, and at most so many."""
    world = WORLDS[domain]()
    by_rule: defaultdict[str, list[Case]] = defaultdict(list)
    for make in MAKERS[domain]:
        for case in make(world):
            by_rule[case.rule].append(case)
    return [case for rows in by_rule.values() for case in islice(rows[::every], at_most)]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What became of one case."""

    case: Case
    decision: str
    rules: tuple[str, ...]  # those that led to the decision

    @property
    def as_expected(self) -> bool:
        return self.decision != "allow" and self.case.rule in self.rules


def refusals(desk: Desk, wanted: Sequence[Case]) -> list[Refusal]:
    """Every case proposed to the desk. Those of one customer that need nothing of their own share a conversation."""
    found: list[Refusal] = []
    by_user: defaultdict[str, list[Case]] = defaultdict(list)
    for case in wanted:
        if case.alone:
            desk.world.reset()
            found.append(_judged(desk, _conversation(desk, case), case))
        else:
            by_user[case.user].append(case)
    desk.world.reset()
    for rows in by_user.values():
        conversation = _conversation(desk, rows[0])
        found += [_judged(desk, conversation, case) for case in rows]
    return found


def _conversation(desk: Desk, case: Case) -> Conversation:
    shipped = data.records(desk.domain)["users"][case.user]
    who = f"I am {shipped['email']}." if desk.domain == "retail" else f"I am {case.user}."
    words = case.words if case.words is not None else f"{who} {WANTS[desk.domain]}"
    conversation = Conversation(desk, Scenario(words), ticket_id=f"violation-{case.user}")
    for action, arguments in case.also_reads:
        conversation.call(action, arguments)
    for action, arguments in case.before:
        done = conversation.act(action, arguments)
        if done.problem:
            raise AssertionError(f"what comes before {case.rule} should be allowed: {done.problem}")
    return conversation


def _judged(desk: Desk, conversation: Conversation, case: Case) -> Refusal:
    verdict = conversation.act(case.action, case.arguments, about=case.about).verdict
    return Refusal(case=case, decision=str(verdict.decision), rules=verdict.determining or (verdict.rule,))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.tau.violations", description=__doc__.splitlines()[0])
    parser.add_argument("--domain", choices=data.DOMAINS, required=True)
    parser.add_argument("--every", type=int, default=1, help="of each rule only every so many-th case")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    options = parser.parse_args(argv)
    with opened(options.domain) as desk:
        found = refusals(desk, cases(options.domain, every=options.every))
    total, right = Counter(each.case.rule for each in found), Counter(each.case.rule for each in found if each.as_expected)
    allowed = sum(each.decision == "allow" for each in found)
    others = Counter((each.case.rule, ", ".join(each.rules)) for each in found if not each.as_expected)
    alone = sum(each.as_expected and len(each.rules) == 1 for each in found)
    counts = {"cases": len(found), "allowed": allowed, "by_the_named_rule": sum(right.values()), "by_it_alone": alone}
    if options.json:
        print(json.dumps({**counts, "rules": {rule: [right[rule], total[rule]] for rule in total}}))
    else:
        print("\n".join(f"{rule:48} {right[rule]:5} of {total[rule]:5}" for rule in sorted(total)))
        print(counts, *(f"\n  {a} was refused by {b}: {n}" for (a, b), n in others.items()))
    return 1 if allowed else 0


if __name__ == "__main__":
    raise SystemExit(main())
