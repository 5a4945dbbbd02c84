"""Functions by which a runbook derives facts from facts. Pure: they read what they are given and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.domain.directory import Alert, Directory, Service, instant
from orchestrator.domain.triage import Entities
from orchestrator.resolution.conditions import number, shift
from orchestrator.triage.link import explaining_alerts


def minus(values: Sequence[Any]) -> float | None:
    """a - b, exact to the cent; None where either is no number."""
    left, right = number(values[0]), number(values[1])
    return None if left is None or right is None else float(left - right)


def days_after(values: Sequence[Any]) -> str | None:
    """An instant some days later, or earlier for a negative number."""
    days = number(values[1])
    return None if days is None else shift(values[0], float(days))


def alerts_behind(values: Sequence[Any]) -> list[Mapping[str, Any]]:
    """[alerts, services, entities, ticket, user]: those of the alerts that account for what the ticket reports.

    A requester who names no site is taken to speak from the site on their record. A ticket that names the service and the very
    version that an alert complains about needs no further symptom.
    """
    alerts, services, entities, ticket, user = values
    if not isinstance(alerts, list) or not isinstance(services, list):
        return []
    named = Entities(**{key: tuple(each) for key, each in (entities or {}).items()})
    if not named.sites and not named.regions and (user or {}).get("site"):
        at_home = Entities(**{**_fields(named), "sites": (str(user["site"]).lower(),)})
    else:
        at_home = named
    directory = _directory(services, alerts)
    at = instant(ticket.get("created_at")) or datetime.now(UTC)
    found = {
        alert.id: alert
        for seen in (at_home, named)
        for alert in explaining_alerts(seen, ticket.get("category"), ticket.get("words", ""), at, directory)
    }
    reach = {name for service in named.services for name in directory.upstream(service)}
    return [row for row in alerts if row["id"] in found or _same_version(row, named, reach)]


def _directory(services: list[Any], alerts: list[Any]) -> Directory:
    """Made once of records that many tickets of a batch were told alike."""
    kept = _KEPT.get("last")
    if kept is None or kept[0] is not services or kept[1] is not alerts:
        directory = Directory(
            services=tuple(map(Service.read, services)), alerts=tuple(Alert.read({**row, "state": "firing"}) for row in alerts)
        )
        kept = _KEPT["last"] = (services, alerts, directory)
    return kept[2]


_KEPT: dict[str, tuple[list[Any], list[Any], Directory]] = {}


def _same_version(alert: Mapping[str, Any], named: Entities, reach: set[str]) -> bool:
    return alert.get("service") in reach and any(version in str(alert.get("detail") or "") for version in named.versions)


def _fields(entities: Entities) -> dict[str, Any]:
    return {name: getattr(entities, name) for name in entities.__dataclass_fields__}


def deployment_before(values: Sequence[Any]) -> Mapping[str, Any] | None:
    """[deployments, instant]: the newest live deployment that is older than the instant (with a few minutes of grace)."""
    rows, at = values
    limit = instant(shift(at, 0.007))
    dated = [(instant(row.get("at")), row) for row in rows or () if row.get("state") == "live"]
    older = [(when, row) for when, row in dated if when and limit and when <= limit]
    return max(older, key=lambda pair: pair[0])[1] if older else None


SUSPECT_HOURS = 24.0  # a release this much older than the trouble is no longer suspected for its time alone


def release_behind(values: Sequence[Any]) -> Mapping[str, Any] | None:
    """[deployments, instant]: the newest live deployment of the day before the instant that can be taken back."""
    rows, at = values
    found = deployment_before([rows, at])
    earliest = instant(shift(at, -SUSPECT_HOURS / 24))
    released = instant(found.get("at")) if found else None
    recent = bool(earliest and released and released >= earliest)
    return found if found and recent and found.get("previous_version") else None


def first_of(values: Sequence[Any]) -> Any:
    """The first of the values that is there."""
    return next((value for value in values if value is not None), None)


OVERDUE_DAYS = 7.0  # after the expected day an order that did not come counts as undelivered


def refund_claims(values: Sequence[Any]) -> list[Mapping[str, Any]]:
    """[payments, orders, now]: the payments, each with what is `left` of it and the `evidence` for giving it back (or None)."""
    payments, orders, now = values
    by_id = {row["id"]: row for row in payments or ()}
    placed = {row["id"]: row for row in orders or ()}
    return [
        {
            **row,
            "left": minus([row.get("amount"), row.get("refunded_amount") or 0]),
            "evidence": _duplicate(row, by_id) or _never_came(placed.get(row.get("order") or ""), now),
        }
        for row in payments or ()
    ]


def _duplicate(payment: Mapping[str, Any], by_id: Mapping[str, Mapping[str, Any]]) -> str | None:
    first = by_id.get(payment.get("duplicate_of") or "")
    if first is None or first["id"] == payment["id"] or first.get("status") != "captured":
        return None
    same = (first.get("amount"), first.get("currency")) == (payment.get("amount"), payment.get("currency"))
    return f"Duplicate of {first['id']}" if same else None


def _never_came(order: Mapping[str, Any] | None, now: Any) -> str | None:
    if order is None:
        return None
    if order.get("status") in {"lost", "cancelled"}:
        return f"Order {order['id']} is {order['status']}"
    due, at = instant(shift(order.get("expected_on"), OVERDUE_DAYS)), instant(now)
    if order.get("status") != "delivered" and not order.get("delivered_at") and due and at and due < at:
        return f"Order {order['id']} was expected on {order['expected_on']} and did not arrive"
    return None


def amount_agrees(values: Sequence[Any]) -> bool:
    """[stated, left, currency]: nothing was stated, or one of the stated amounts is exactly what is left, in that currency."""
    stated, left, currency = values
    if stated is None:
        return True
    rows = stated if isinstance(stated, list) else [stated]
    return any(number(row["amount"]) == number(left) and row["currency"] == currency for row in rows)


def record(values: Sequence[Any]) -> Mapping[str, Any] | None:
    """[rows, field, value]: the first row whose field has this value."""
    rows, field, value = values
    return next((row for row in rows or () if value is not None and row.get(field) == value), None)


FUNCTIONS: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "minus": minus,
    "days_after": days_after,
    "alerts_behind": alerts_behind,
    "deployment_before": deployment_before,
    "release_behind": release_behind,
    "first_of": first_of,
    "refund_claims": refund_claims,
    "amount_agrees": amount_agrees,
    "record": record,
}
