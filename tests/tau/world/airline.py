"""The airline tools, rebuilt from tau-bench's records, policy and recorded answers. Knows records; knows no HTTP and no governance.

As in the recorded world a tool checks seats, prices and balances, not the rules of the house: "the API does not check these".
`quote_*` are look-ups of our own: the facts of a change that is only wished for, as the airline's records have them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

from tests.tau.world.records import Records, Refused
from tests.tau.world.retail import calculate, transfer_to_human_agents

NOW = datetime(2024, 5, 15, 15, 0, 0)
"""The moment in which the records are taken, EST."""
INSURANCE, EXTRA_BAG = 30, 50  # dollars per passenger, per bag
FREE_BAGS = {  # per passenger, by membership and cabin
    "regular": {"basic_economy": 0, "economy": 1, "business": 2},
    "silver": {"basic_economy": 1, "economy": 2, "business": 3},
    "gold": {"basic_economy": 2, "economy": 3, "business": 4},
}
FLOWN = ("landed", "flying")
RESERVATION_IDS = ("HATHAT", "HATHAU", "HATHAV")
CERTIFICATE_NUMBERS = (3221322, 3221323, 3221324)
AIRPORTS = {
    "SFO": "San Francisco", "JFK": "New York", "LAX": "Los Angeles", "ORD": "Chicago", "DFW": "Dallas", "DEN": "Denver", "SEA": "Seattle",
    "ATL": "Atlanta", "MIA": "Miami", "BOS": "Boston", "PHX": "Phoenix", "IAH": "Houston", "LAS": "Las Vegas", "MCO": "Orlando",
    "EWR": "Newark", "CLT": "Charlotte", "MSP": "Minneapolis", "DTW": "Detroit", "PHL": "Philadelphia", "LGA": "LaGuardia",
}  # fmt: skip
Arguments = Mapping[str, Any]


def get_user_details(records: Records, arguments: Arguments) -> Any:
    return records.get("users", arguments["user_id"])


def get_reservation_details(records: Records, arguments: Arguments) -> Any:
    return records.get("reservations", arguments["reservation_id"])


def list_all_airports(records: Records, arguments: Arguments) -> Any:
    return AIRPORTS


def get_flight_status(records: Records, arguments: Arguments) -> Any:
    return _on(records.get("flights", arguments["flight_number"]), arguments["date"]).get("status")


def search_direct_flight(records: Records, arguments: Arguments) -> Any:
    return list(_offers(records, arguments["date"], origin=arguments["origin"], destination=arguments["destination"]))


def search_onestop_flight(records: Records, arguments: Arguments) -> Any:
    """Pairs of flights on the day; a first leg that lands on the next day is followed by one of that day."""
    return _connections(records, arguments, second_leg_as_of=_next_day)


def search_onestop_flight_as_recorded(records: Records, arguments: Arguments) -> Any:
    """As tau-bench's release did it: a second leg after midnight is shown with the seats and prices of the day before."""
    return _connections(records, arguments, second_leg_as_of=lambda day: day)


def _connections(records: Records, arguments: Arguments, *, second_leg_as_of: Callable[[str], str]) -> Any:
    found, today = [], arguments["date"]
    for first in _offers(records, today, origin=arguments["origin"]):
        overnight = "+1" in first["scheduled_arrival_time_est"]
        seen = second_leg_as_of(today) if overnight else today
        for second in _offers(records, seen, origin=first["destination"], destination=arguments["destination"]):
            if second["scheduled_departure_time_est"] >= first["scheduled_arrival_time_est"]:
                found.append([{**first, "date": today}, {**second, "date": _next_day(today) if overnight else today}])
    return found


def _next_day(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def _offers(records: Records, day: str, *, origin: str, destination: str | None = None) -> Iterator[dict[str, Any]]:
    for flight in records.all("flights").values():
        if flight["origin"] != origin or destination not in (None, flight["destination"]):
            continue
        on_day = _on(flight, day)
        if on_day.get("status") == "available":
            yield {**{key: value for key, value in flight.items() if key != "dates"}, **on_day}


def _on(flight: Mapping[str, Any] | None, day: str) -> Mapping[str, Any]:
    """What is known of a flight on a day; nothing where it does not fly."""
    return dict(flight["dates"].get(day) or {}) if flight else {}


# --- reservations ----------------------------------------------------------------------------------------------------------


def book_reservation(records: Records, arguments: Arguments) -> Any:
    user_id, passengers = arguments["user_id"], arguments["passengers"]
    user = records.get("users", user_id)
    flights = [_seat(records, flight, arguments["cabin"], len(passengers), kept=()) for flight in arguments["flights"]]
    total = len(passengers) * sum(flight["price"] for flight in flights) + EXTRA_BAG * arguments["nonfree_baggages"]
    if arguments["insurance"] == "yes":
        total += INSURANCE * len(passengers)
    _require_payments(user, arguments["payment_methods"], total)
    key = next(each for each in RESERVATION_IDS if records.find("reservations", each) is None)
    user = records.edit("users", user_id)
    for payment in arguments["payment_methods"]:
        _spend(user, payment["payment_id"], payment["amount"])
    user["reservations"].append(key)
    same = ("user_id", "origin", "destination", "flight_type", "cabin")
    reservation = {
        "reservation_id": key,
        **{name: arguments[name] for name in same},
        "flights": flights,
        "passengers": passengers,
        "payment_history": arguments["payment_methods"],
        "created_at": NOW.isoformat(),
        **{name: arguments[name] for name in ("total_baggages", "nonfree_baggages", "insurance")},
    }
    records.add("reservations", key, reservation)
    return reservation


def update_reservation_flights(records: Records, arguments: Arguments) -> Any:
    reservation = _change_flights(records, arguments)
    reservation["cabin"] = arguments["cabin"]
    return reservation


def update_reservation_flights_as_recorded(records: Records, arguments: Arguments) -> Any:
    """As tau-bench's first release did it: the reservation keeps the name of its old cabin."""
    return _change_flights(records, arguments)


def _change_flights(records: Records, arguments: Arguments) -> Any:
    reservation = records.get("reservations", arguments["reservation_id"])
    kept = reservation["flights"] if arguments["cabin"] == reservation["cabin"] else ()
    flights = [
        _seat(records, flight, arguments["cabin"], len(reservation["passengers"]), kept=kept) for flight in arguments["flights"]
    ]
    owed = (sum(f["price"] for f in flights) - sum(f["price"] for f in reservation["flights"])) * len(reservation["passengers"])
    _charge(records, reservation, arguments["payment_id"], owed)
    reservation = records.edit("reservations", arguments["reservation_id"])
    reservation["flights"] = flights
    return reservation


def update_reservation_baggages(records: Records, arguments: Arguments) -> Any:
    reservation = records.get("reservations", arguments["reservation_id"])
    owed = EXTRA_BAG * max(0, arguments["nonfree_baggages"] - reservation["nonfree_baggages"])
    _charge(records, reservation, arguments["payment_id"], owed)
    reservation = records.edit("reservations", arguments["reservation_id"])
    return _set(reservation, {name: arguments[name] for name in ("total_baggages", "nonfree_baggages")})


def update_reservation_passengers(records: Records, arguments: Arguments) -> Any:
    reservation = records.get("reservations", arguments["reservation_id"])
    if len(arguments["passengers"]) != len(reservation["passengers"]):
        raise Refused("Error: number of passengers does not match")
    return _set(records.edit("reservations", arguments["reservation_id"]), {"passengers": arguments["passengers"]})


def cancel_reservation(records: Records, arguments: Arguments) -> Any:
    records.get("reservations", arguments["reservation_id"])
    reservation = records.edit("reservations", arguments["reservation_id"])
    refunds = [{"payment_id": paid["payment_id"], "amount": -paid["amount"]} for paid in reservation["payment_history"]]
    reservation["payment_history"] = [*reservation["payment_history"], *refunds]
    return _set(reservation, {"status": "cancelled"})


def send_certificate(records: Records, arguments: Arguments) -> Any:
    records.get("users", arguments["user_id"])
    methods = records.edit("users", arguments["user_id"])["payment_methods"]
    key = next(f"certificate_{each}" for each in CERTIFICATE_NUMBERS if f"certificate_{each}" not in methods)
    methods[key] = {"source": "certificate", "amount": arguments["amount"], "id": key}
    return f"Certificate {key} added to user {arguments['user_id']} with amount {arguments['amount']}."


def _set(record: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    record |= values
    return record


def _seat(
    records: Records, wanted: Mapping[str, Any], cabin: str, seats: int, *, kept: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """One flight of a reservation with its price; one that is kept keeps what was paid for it."""
    number, day = wanted["flight_number"], wanted["date"]
    flight = records.get("flights", number)
    same = next((each for each in kept if (each["flight_number"], each["date"]) == (number, day)), None)
    if same is not None:
        price = same["price"]
    else:
        if day not in flight["dates"]:
            raise Refused(f"Error: flight {number} not found on date {day}")
        if flight["dates"][day]["status"] != "available":
            raise Refused(f"Error: flight {number} not available on date {day}")
        if flight["dates"][day]["available_seats"][cabin] < seats:
            raise Refused(f"Error: not enough seats on flight {number}")
        price = flight["dates"][day]["prices"][cabin]
    return {**wanted, "price": price, "origin": flight["origin"], "destination": flight["destination"]}


def _require_payments(user: Mapping[str, Any], payments: Sequence[Mapping[str, Any]], total: float) -> None:
    for payment in payments:
        method = user["payment_methods"].get(payment["payment_id"])
        if method is None:
            raise Refused(f"Error: payment method {payment['payment_id']} not found")
        if method["source"] in ("gift_card", "certificate") and method["amount"] < payment["amount"]:
            raise Refused(f"Error: not enough balance in payment method {payment['payment_id']}")
    paid = sum(payment["amount"] for payment in payments)
    if paid != total:
        raise Refused(f"Error: payment amount does not add up, total price is {total}, but paid {paid}")


def _spend(user: dict[str, Any], method_id: str, amount: float) -> None:
    """A certificate is used up whole, a gift card by what was paid; a card settles elsewhere."""
    source = user["payment_methods"][method_id]["source"]
    if source == "certificate":
        del user["payment_methods"][method_id]
    elif source == "gift_card":
        user["payment_methods"][method_id]["amount"] -= amount


def _charge(records: Records, reservation: Mapping[str, Any], method_id: str, owed: float) -> None:
    method = records.get("users", reservation["user_id"])["payment_methods"].get(method_id)
    if method is None:
        raise Refused("Error: payment method not found")
    if method["source"] == "certificate":
        raise Refused("Error: certificate cannot be used to update reservation")
    if method["source"] == "gift_card" and method["amount"] < owed:
        raise Refused("Error: gift card balance is not enough")
    if method["source"] == "gift_card":
        _spend(records.edit("users", reservation["user_id"]), method_id, owed)
    if owed:
        changed = records.edit("reservations", reservation["reservation_id"])
        changed["payment_history"] = [*changed["payment_history"], {"payment_id": method_id, "amount": owed}]


# --- what a wished change would mean ------------------------------------------------------------------------------------------


def quote_cancellation(records: Records, arguments: Arguments) -> Any:
    reservation = records.get("reservations", arguments["reservation_id"])
    return _standing(records, reservation)


def quote_flight_change(records: Records, arguments: Arguments) -> Any:
    """Whether the wished flights are the same ones, still the same journey, and what they would cost."""
    reservation = records.get("reservations", arguments["reservation_id"])
    wanted, cabin, seats = _flights(arguments["flights"]), arguments["cabin"], len(reservation["passengers"])
    kept = reservation["flights"] if cabin == reservation["cabin"] else ()
    known = [each for each in wanted if records.find("flights", each["flight_number"])]
    path = [records.get("flights", each["flight_number"]) for each in known]
    costs = [_costs(records, each, cabin, seats, kept) for each in known]
    owed = sum(each or 0 for each in costs) - sum(each["price"] for each in reservation["flights"])
    before = [(each["flight_number"], each["date"]) for each in reservation["flights"]]
    return {
        **_standing(records, reservation),
        "flights_changed": before != [(each["flight_number"], each["date"]) for each in wanted],
        "cabin_changed": cabin != reservation["cabin"],
        "same_journey": len(known) == len(wanted) and _journey(path, reservation),
        "flights": _as_listed(records, known),
        "not_to_be_had": costs.count(None) + len(wanted) - len(known),
        "difference": owed * seats,
        "payment": _payment(records, reservation["user_id"], arguments["payment_id"]),
    }


def quote_baggage(records: Records, arguments: Arguments) -> Any:
    reservation = records.get("reservations", arguments["reservation_id"])
    user = records.get("users", reservation["user_id"])
    free = FREE_BAGS[user["membership"]][reservation["cabin"]] * len(reservation["passengers"])
    extra = max(0, int(arguments["total_baggages"]) - free)
    return {
        **_standing(records, reservation),
        "bags_before": reservation["total_baggages"],
        "free_bags": free,
        "extra_bags": max(extra, reservation["nonfree_baggages"]),
        "difference": EXTRA_BAG * max(0, extra - reservation["nonfree_baggages"]),
        "payment": _payment(records, reservation["user_id"], arguments["payment_id"]),
    }


def quote_booking(records: Records, arguments: Arguments) -> Any:
    """What a booking would cost, and what of the wished payment does not fit."""
    user = records.get("users", arguments["user_id"])
    wanted, cabin, seats = _flights(arguments["flights"]), arguments["cabin"], int(arguments["passengers"])
    known = [each for each in wanted if records.find("flights", each["flight_number"])]
    costs = [_costs(records, each, cabin, seats, ()) for each in known]
    free = FREE_BAGS[user["membership"]][cabin] * seats
    extra = max(0, int(arguments["total_baggages"]) - free)
    fares = sum(each or 0 for each in costs) * seats
    total = fares + EXTRA_BAG * extra + (INSURANCE * seats if arguments["insurance"] == "yes" else 0)
    payments = [_payment(records, arguments["user_id"], each) for each in str(arguments["payments"]).split(",") if each]
    return {
        "flights": _as_listed(records, known),
        "not_to_be_had": costs.count(None) + len(wanted) - len(known),
        "passengers": seats,
        "free_bags": free,
        "extra_bags": extra,
        "total": total,
        "amounts": _amounts(payments, total),
        "certificates": sum(each["source"] == "certificate" for each in payments),
        "credit_cards": sum(each["source"] == "credit_card" for each in payments),
        "gift_cards": sum(each["source"] == "gift_card" for each in payments),
        "not_on_file": sum(not each["on_file"] for each in payments),
        "payments": payments,
    }


def quote_certificate(records: Records, arguments: Arguments) -> Any:
    """What the records say about a complaint: whom, which flights, and the amounts that the house's table gives."""
    reservation = records.get("reservations", arguments["reservation_id"])
    user = records.get("users", reservation["user_id"])
    statuses = [_status(records, each) for each in reservation["flights"]]
    return {
        **_standing(records, reservation),
        "membership": user["membership"],
        "cancelled_flights": statuses.count("cancelled"),
        "delayed_flights": statuses.count("delayed"),
        "amount_if_cancelled": 100 * len(reservation["passengers"]),
        "amount_if_delayed": 50 * len(reservation["passengers"]),
    }


def _standing(records: Records, reservation: Mapping[str, Any]) -> dict[str, Any]:
    statuses = [_status(records, each) for each in reservation["flights"]]
    hours = (NOW - datetime.fromisoformat(reservation["created_at"])).total_seconds() / 3600
    return {
        "flown": [each["flight_number"] for each, s in zip(reservation["flights"], statuses, strict=True) if s in FLOWN],
        "cancelled_by_airline": "cancelled" in statuses,
        "cancelled": reservation.get("status") == "cancelled",
        "hours_since_booking": round(hours, 3),
        "passenger_count": len(reservation["passengers"]),
        "insured": reservation["insurance"] == "yes",
        "cabin": reservation["cabin"],
    }


def _status(records: Records, flight: Mapping[str, Any]) -> str | None:
    """A flight of a day that has passed counts as flown even where its record is silent."""
    status = _on(records.find("flights", flight["flight_number"]), flight["date"]).get("status")
    return str(status) if status else ("landed" if flight["date"] < NOW.date().isoformat() else None)


def _costs(records: Records, wanted: Mapping[str, Any], cabin: str, seats: int, kept: Iterable[Mapping[str, Any]]) -> int | None:
    try:
        return int(_seat(records, wanted, cabin, seats, kept=kept)["price"])
    except Refused:
        return None


def _as_listed(records: Records, known: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Those of the wished flights that fly on their day, as the timetable has them."""
    rows = [(each, records.get("flights", each["flight_number"])) for each in known]
    return [
        {"flight_number": row["flight_number"], "date": each["date"], "origin": row["origin"], "destination": row["destination"]}
        for each, row in rows
        if each["date"] in row["dates"]
    ]


def _journey(path: Sequence[Mapping[str, Any]], reservation: Mapping[str, Any]) -> bool:
    """From the reservation's origin to its destination, and back where it is a round trip, without a gap."""
    stops = [path[0]["origin"], *(each["destination"] for each in path)] if path else []
    joined = all(one["destination"] == two["origin"] for one, two in pairwise(path))
    there, back = reservation["destination"], reservation["origin"]
    if reservation["flight_type"] == "one_way":
        return joined and bool(stops) and (stops[0], stops[-1]) == (back, there)
    return joined and bool(stops) and (stops[0], stops[-1]) == (back, back) and there in stops[1:-1]


def _flights(text: str) -> list[dict[str, str]]:
    """ "HAT001@2024-05-20,HAT002@2024-05-21" """
    pairs = [each.partition("@") for each in str(text).split(",") if each]
    return [{"flight_number": number, "date": day} for number, _, day in pairs]


def _payment(records: Records, user_id: str, asked: str) -> dict[str, Any]:
    method = records.get("users", user_id)["payment_methods"].get(asked)
    found = method or {}
    known = {"id": found.get("id"), "source": found.get("source"), "balance": found.get("amount")}
    return {"on_file": method is not None, **known}


def _amounts(payments: Sequence[Mapping[str, Any]], total: float) -> list[float]:
    """What each payment takes of the total, in their order: a certificate or gift card what it holds, a credit card what is left."""
    left, taken = total, []
    for each in payments:
        taken.append(left if each["source"] == "credit_card" else min(left, each["balance"] or 0))
        left -= taken[-1]
    return taken


TOOLS: Mapping[str, Callable[[Records, Arguments], Any]] = {
    tool.__name__: tool
    for tool in (
        get_user_details, get_reservation_details, list_all_airports, get_flight_status, search_direct_flight, search_onestop_flight,
        calculate, transfer_to_human_agents, book_reservation, update_reservation_flights, update_reservation_baggages,
        update_reservation_passengers, cancel_reservation, send_certificate, quote_cancellation, quote_flight_change, quote_baggage,
        quote_booking, quote_certificate,
    )
}  # fmt: skip
AS_RECORDED = {
    **TOOLS,
    "search_onestop_flight": search_onestop_flight_as_recorded,
    "update_reservation_flights": update_reservation_flights_as_recorded,
}
"""The tools with the two oddities of the recorded release, for comparing with what it answered."""
