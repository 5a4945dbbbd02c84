"""What a world file holds: kinds of record, their keys, and the values a record has when the file says nothing. Knows no HTTP."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

World = Mapping[str, Any]


class BadWorld(ValueError):
    """The world cannot be used. The message lists every problem found."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One list of the world file."""

    key: str = "id"  # the field that names a record
    defaults: Mapping[str, Any] = field(default_factory=dict)  # for what the file leaves out
    addresses: tuple[str, ...] = ()  # fields that hold a mail address on record


KINDS: Mapping[str, Kind] = {
    "accounts": Kind(
        defaults={
            "name": "", "tier": "standard", "vip": False, "annual_value": 0, "region": None, "manager_email": None,
            "refunds_this_year": 0, "health": "good",
        },
        addresses=("manager_email",),
    ),
    "users": Kind(
        defaults={
            "email": "", "name": "", "account": None, "kind": "employee", "status": "active", "vip": False, "language": "en",
            "site": None, "region": None, "department": None, "manager_email": None, "password_expires_at": None,
            "mfa_enrolled": True, "groups": [], "password_reset_sent_at": None, "mfa_reset_at": None, "activation_sent_at": None,
            "tokens_revoked_at": None,
        },
        addresses=("email", "manager_email"),
    ),
    "vpn_sessions": Kind(defaults={"user_id": None, "gateway": None, "state": "connected", "since": None, "reset_at": None}),
    "vpn_certificates": Kind(defaults={"user_id": None, "state": "valid", "expires_at": None, "renewed_at": None}),
    "hires": Kind(  # people who will start, as HR has them: who asked for them and what they shall get
        defaults={
            "name": "", "email": "", "manager_email": None, "department": None, "site": None, "starts_on": None, "group": None,
            "device": None, "product": None, "seat_cost": None, "cost_center": None, "badge_site": None, "state": "accepted",
        },
        addresses=("email",),
    ),
    "licenses": Kind(
        defaults={
            "user_id": None, "product": "", "state": "active", "expires_at": None, "auto_renew": False, "seat_cost": 0,
            "renewed_at": None,
        }
    ),
    "invoices": Kind(
        defaults={
            "account": None, "amount": 0, "currency": "EUR", "issued_on": None, "period": None, "status": "open", "pdf": None,
            "last_sent_to": None, "last_sent_at": None,
        }
    ),
    "payments": Kind(
        defaults={
            "account": None, "invoice": None, "order": None, "amount": 0, "currency": "EUR", "at": None, "status": "captured",
            "duplicate_of": None, "refunded_amount": 0,
        }
    ),
    "subscriptions": Kind(
        defaults={
            "account": None, "owner_email": None, "plan": "", "seats": 1, "monthly_price": 0, "currency": "EUR", "status": "active",
            "renews_on": None, "minimum_term_ends_on": None, "ends_on": None, "cancelled_at": None,
            "cancelled_from": None,
        },
        addresses=("owner_email",),
    ),
    "orders": Kind(
        defaults={
            "account": None, "customer_email": None, "placed_at": None, "items": [], "total": 0, "currency": "EUR",
            "status": "placed", "carrier": None, "tracking": None, "expected_on": None, "delivered_at": None, "address": None,
            "return_id": None,
        },
        addresses=("customer_email",),
    ),
    "services": Kind(
        key="name",
        defaults={
            "title": "", "aliases": [], "tier": 3, "owner_group": None, "regions": [], "sites": [], "depends_on": [],
            "state": "up", "symptoms": [], "restarted_at": None, "disk_cleared_at": None,
        },
    ),
    "certificates": Kind(
        defaults={"service": None, "subject": "", "expires_at": None, "state": "valid", "regions": [], "rotated_at": None}
    ),
    "deployments": Kind(
        defaults={
            "service": None, "version": "", "previous_version": None, "at": None, "state": "live", "by": None,
            "rolled_back_at": None,
        }
    ),
    "alerts": Kind(
        defaults={
            "service": None, "site": None, "region": None, "kind": "down", "since": None, "state": "firing", "detail": "",
            "cleared_by": None, "cleared_at": None,
            "needs": None,  # what really clears it, where that is not what monitoring advises; told to nobody
        }
    ),
    "sites": Kind(key="name", defaults={"aliases": [], "region": None}),
    "staff": Kind(
        key="email",
        defaults={"name": "", "group": None, "skills": [], "available": True, "open_tickets": 0, "languages": ["en"]},
        addresses=("email",),
    ),
    "freeze_windows": Kind(defaults={"from": None, "until": None, "services": [], "reason": "", "emergency_allowed": False}),
}  # fmt: skip

MADE_HERE = (
    "refunds", "mail", "helpdesk", "returns", "device_orders", "badges", "purchase_requests", "bugs", "crm_accounts",
)  # fmt: skip
"""Kinds of record that calls make; a world file may hold earlier ones."""


def read_world(path: Path) -> dict[str, Any]:
    try:
        world = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadWorld(f"{path} cannot be read as a world: {error}.") from error
    if not isinstance(world, dict):
        raise BadWorld(f"{path} must hold one JSON object, not {type(world).__name__}.")
    return world


def records(world: World) -> dict[str, dict[str, dict[str, Any]]]:
    """The world's records by kind and key, defaults filled in; raises BadWorld with every problem found."""
    problems: list[str] = []
    found = {name: _records_of(name, kind, world.get(name) or [], problems) for name, kind in KINDS.items()}
    for name in MADE_HERE:
        found[name] = _records_of(name, Kind(), world.get(name) or [], problems)
    if problems:
        raise BadWorld(f"The world has {len(problems)} problem(s): " + "; ".join(problems) + ".")
    return found


def _records_of(name: str, kind: Kind, rows: Any, problems: list[str]) -> dict[str, dict[str, Any]]:
    if not isinstance(rows, list):
        problems.append(f"{name} must be a list, not {type(rows).__name__}")
        return {}
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            problems.append(f"{name}[{number}] must be an object, not {row!r}")
            continue
        key = row.get(kind.key, f"{name}-{number}" if kind.key == "id" else None)
        if not isinstance(key, str) or not key:
            problems.append(f"{name}[{number}] needs a {kind.key}, a non-empty string, not {key!r}")
        elif key in found:
            problems.append(f"{name} has {kind.key} {key!r} twice")
        else:
            found[key] = _completed(kind, row, key)
    return found


def _completed(kind: Kind, row: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The row with defaults for what is missing; null counts as missing where a record must have a value."""
    given = {name: value for name, value in row.items() if value is not None or kind.defaults.get(name) is None}
    return {**kind.defaults, **given, kind.key: key}


def addresses(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> set[str]:
    """Every mail address on record, lower case."""
    return {
        row[name].lower()
        for kind_name, kind in KINDS.items()
        for row in found.get(kind_name, {}).values()
        for name in kind.addresses
        if isinstance(row.get(name), str) and row[name]
    }


# --- time -----------------------------------------------------------------------------------------------------------

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def instant(text: str) -> datetime:
    """An ISO 8601 instant, in UTC; one without a zone is read as UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def shifted(value: Any, by: timedelta) -> Any:
    """The same value with every instant moved by `by`, and every date by the whole days in it."""
    if isinstance(value, str):
        if _INSTANT.fullmatch(value):
            return iso(instant(value) + by)
        if _DATE.fullmatch(value):
            return (date.fromisoformat(value) + timedelta(days=round(by / timedelta(days=1)))).isoformat()
        return value
    if isinstance(value, Mapping):
        return {key: shifted(item, by) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shifted(item, by) for item in value]
    return value
