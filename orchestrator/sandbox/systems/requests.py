"""What is asked for and can be taken back: devices, badges, purchases, bugs. Each has a number that confirms it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.sandbox.calls import Answer, Call, Handler, Problem, Route, get, listing, one, post

DEVICES = ("laptop", "desktop", "monitor", "phone", "headset")
SEVERITIES = ("low", "medium", "high", "critical")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One system that takes requests of one kind."""

    path: str
    kind: str
    prefix: str  # of the numbers it gives
    texts: tuple[str, ...]
    amounts: tuple[str, ...] = ()
    filters: tuple[str, ...]  # besides `state`
    opened: str  # the state of a new one
    undo: str  # the last segment of the route that takes it back
    undone: str
    once_by: tuple[str, ...]  # an open one with the same values is not opened again
    check: Callable[[Call, Mapping[str, Any]], None] = field(default=lambda call, made: None)


def _known_site(call: Call, made: Mapping[str, Any]) -> None:
    if call.records.get("sites", made["site"]) is None:
        raise Problem(404, f"There is no site {made['site']!r}.")


def _device(call: Call, made: Mapping[str, Any]) -> None:
    _known_site(call, made)
    if made["device"] not in DEVICES:
        raise Problem(422, f"A device is one of {', '.join(DEVICES)}, not {made['device']!r}.")


def _bug(call: Call, made: Mapping[str, Any]) -> None:
    call.the("services", made["service"])
    if made["severity"] not in SEVERITIES:
        raise Problem(422, f"A severity is one of {', '.join(SEVERITIES)}, not {made['severity']!r}.")


DESKS = (
    Desk(
        path="/hardware/orders", kind="device_orders", prefix="HW", texts=("email", "device", "site", "reference"),
        filters=("email", "device", "reference"), opened="ordered", undo="cancel", undone="cancelled",
        once_by=("email", "device", "reference"), check=_device,
    ),
    Desk(
        path="/access/badges", kind="badges", prefix="BDG", texts=("email", "site", "reference"), filters=("email", "site"),
        opened="granted", undo="revoke", undone="revoked", once_by=("email", "site"), check=_known_site,
    ),
    Desk(
        path="/procurement/requests", kind="purchase_requests", prefix="PR", texts=("email", "item", "cost_center", "reference"),
        amounts=("amount",), filters=("email", "reference"), opened="requested", undo="withdraw", undone="withdrawn",
        once_by=("email", "reference"),
    ),
    Desk(
        path="/engineering/bugs", kind="bugs", prefix="BUG", texts=("title", "description", "service", "severity", "ticket"),
        filters=("service", "ticket"), opened="open", undo="close", undone="closed", once_by=("service", "ticket"), check=_bug,
    ),
)  # fmt: skip


def _create(desk: Desk) -> Handler:
    def handler(call: Call) -> Answer:
        made = {name: call.text(name) for name in desk.texts} | {name: call.amount(name) for name in desk.amounts}
        desk.check(call, made)
        same = call.records.find(desk.kind, **{name: made[name] for name in desk.once_by}, state=desk.opened)
        if same:
            raise Problem(409, f"{same[0]['id']} is {desk.opened} for the same {' and '.join(desk.once_by)} already.")
        number = call.records.next_id(desk.kind, desk.prefix)
        return Answer(
            status=201, body=call.records.put(desk.kind, number, {"id": number, **made, "state": desk.opened, "at": call.at})
        )

    return handler


def _take_back(desk: Desk) -> Handler:
    def handler(call: Call) -> Answer:
        found = call.the(desk.kind, call.path["id"])
        if found["state"] != desk.opened:
            raise Problem(409, f"{found['id']} is {found['state']}, not {desk.opened}.")
        return Answer(body=call.records.put(desk.kind, found["id"], {**found, "state": desk.undone, "ended_at": call.at}))

    return handler


def _routes(desk: Desk) -> tuple[Route, ...]:
    filters = (*desk.filters, "state")
    return (
        get(desk.path, listing(desk.kind, **{name: name for name in filters}), *filters),
        get(f"{desk.path}/{{id}}", one(desk.kind)),
        post(desk.path, _create(desk), *desk.texts, *desk.amounts),
        post(f"{desk.path}/{{id}}/{desk.undo}", _take_back(desk)),
    )


ROUTES = tuple(route for desk in DESKS for route in _routes(desk))
