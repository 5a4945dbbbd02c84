"""What is submitted while processes die, the world it is about, and what must have happened in it afterwards. Knows no process.

Each case is one ticket of one person. Where a matter acts, its effect can happen once for that person, so that a second time shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PORTAL, DOOR = "portal", "door"  # a key that vouches for the requester, and one that does not
TICKETS_PER_SERVICE = 3


@dataclass(frozen=True, kw_only=True)
class Matter:
    """A kind of ticket: who writes it, and the effect it has when it is resolved."""

    name: str  # the category, which the stand-in classifier finds in the text
    key: str = PORTAL
    person: str = "p"  # p: employee, c: customer
    effect: str | None = None  # "POST /path" with {n}; None: nothing is changed
    marks: str | None = None  # what the call's body must hold, where the path alone does not tell whose it is
    ends: str = "resolved"
    words: str = "My case number is {case}."
    natural: str = ""  # the same matter as a person would write it, for real models


MATTERS: tuple[Matter, ...] = (
    Matter(
        name="password_reset",
        effect="POST /identity/users/usr-p{n}/password-reset",
        natural="I forgot my password over the holidays and cannot sign in any more. Please reset it. ({case})",
    ),
    Matter(
        name="mfa_reset",
        effect="POST /identity/users/usr-p{n}/mfa-reset",
        natural="I have a new phone and my authenticator app is gone, so I need my second factor reset. ({case})",
    ),
    Matter(
        name="vpn",
        effect="POST /vpn/sessions/vpn-{n}/reset",
        natural="My VPN session hangs since this morning and I cannot connect again. ({case})",
    ),
    Matter(
        name="software_license",
        effect="POST /billing/licenses/lic-{n}/renew",
        natural="My Drafter license has expired, the program refuses to start. Please renew it. ({case})",
    ),
    Matter(name="order_status", person="c", natural="Where is my order? I am still waiting for the parcel. ({case})"),
    Matter(name="hardware", ends="escalated", natural="The monitor at my desk stays black, I need another one. ({case})"),
    Matter(  # above the limit: a person approves
        name="refund",
        person="c",
        effect="POST /billing/refunds",
        marks="PAY-B{n}",
        natural="I was charged twice for the same thing, please give me back the second payment. ({case})",
    ),
    Matter(  # a one-time code first
        name="mfa_reset",
        key=DOOR,
        person="q",
        effect="POST /identity/users/usr-q{n}/mfa-reset",
        natural="My phone was replaced and the authenticator does not work any more. Please reset my second factor. ({case})",
    ),
    Matter(
        name="service_outage",  # Tier 0, three reports of one outage: a person approves the restart, the others wait for the first
        effect="POST /monitoring/services/svc-{service}/restart",
        words="The service svc-{service} is down, svc-{service} does not answer at all since this morning. ({case})",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One ticket to submit."""

    number: int

    @property
    def matter(self) -> Matter:
        return MATTERS[self.number % len(MATTERS)]

    @property
    def person(self) -> int:
        return self.number // len(MATTERS)

    @property
    def service(self) -> int:
        return self.person // TICKETS_PER_SERVICE

    @property
    def external_id(self) -> str:
        return f"k-{self.number}"

    def body(self, *, natural: bool = False) -> dict[str, Any]:
        matter = self.matter
        words = (matter.natural or matter.words if natural else matter.words).format(case=self.external_id, service=self.service)
        return {
            "source": "kill-test",
            "external_id": self.external_id,
            "subject": "" if natural else f"{matter.name}: please help",
            "description": words,
            "channel": "portal",
            "requester": {"email": f"{matter.person}{self.person}@crash.example"},
        }

    @property
    def effect(self) -> tuple[str, str] | None:
        """(call, mark in its body) that this ticket may cause; "" where the call says it all."""
        matter = self.matter
        if matter.effect is None:
            return None
        return self._filled(matter.effect), self._filled(matter.marks or "")

    def _filled(self, template: str) -> str:
        return template.format(n=self.person, service=self.service)


def effect_of(call: Mapping[str, Any]) -> tuple[str, str]:
    """The same pair, of a call that the sandbox recorded."""
    named = f"{call['method']} {call['path']}"
    body = call["body"] if isinstance(call["body"], Mapping) else {}
    return named, str(body.get("payment_id", "")) if named == "POST /billing/refunds" else ""


def world(people: int) -> dict[str, Any]:
    """Everybody has what their matters are about: a hung session, an expired license, a double payment, a service that is down."""
    numbers = range(people)
    instant = "2026-01-01T00:00:00Z"
    return {
        "now": instant,
        "company": {"name": "Crash Test Co", "mail_domain": "crash.example", "currency": "EUR"},
        "accounts": [_account("acc-1"), *(_account(f"acc-c{n}") for n in numbers)],
        "users": [
            *(_user("p", n, "acc-1", "employee") for n in numbers),
            *(_user("q", n, "acc-1", "employee") for n in numbers),
            *(_user("c", n, f"acc-c{n}", "customer") for n in numbers),
        ],
        "vpn_sessions": [
            {"id": f"vpn-{n}", "user_id": f"usr-p{n}", "gateway": "gw-1", "state": "hung", "since": instant} for n in numbers
        ],
        "licenses": [
            {
                "id": f"lic-{n}",
                "user_id": f"usr-p{n}",
                "product": "Drafter",
                "state": "expired",
                "expires_at": "2025-12-01T00:00:00Z",
                "auto_renew": False,
                "seat_cost": 20,
            }
            for n in numbers
        ],
        "payments": [payment for n in numbers for payment in (_payment(n, "A"), _payment(n, "B"))],
        "orders": [_order(n) for n in numbers],
        "services": [_service(n) for n in range(-(-people // TICKETS_PER_SERVICE))],
        "alerts": [
            {
                "id": f"alert-{n}",
                "service": f"svc-{n}",
                "site": None,
                "region": None,
                "kind": "down",
                "since": instant,
                "state": "firing",
                "detail": "does not answer",
                "cleared_by": "restart",
            }
            for n in range(-(-people // TICKETS_PER_SERVICE))
        ],
    }


def _account(account_id: str) -> dict[str, Any]:
    return {"id": account_id, "name": account_id, "tier": "standard", "vip": False, "annual_value": 1000}


def _user(letter: str, n: int, account: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"usr-{letter}{n}",
        "email": f"{letter}{n}@crash.example",
        "name": f"Person {letter}{n}",
        "account": account,
        "kind": kind,
        "status": "active",
        "vip": False,
        "language": "en",
        "mfa_enrolled": True,
        "groups": [],
    }


def _payment(n: int, letter: str) -> dict[str, Any]:
    return {
        "id": f"PAY-{letter}{n}",
        "account": f"acc-c{n}",
        "invoice": None,
        "order": None,
        "amount": 150.0,
        "currency": "EUR",
        "at": "2025-12-20T09:00:00Z",
        "status": "captured",
        "duplicate_of": f"PAY-A{n}" if letter == "B" else None,
        "refunded_amount": 0,
    }


def _order(n: int) -> dict[str, Any]:
    return {
        "id": f"ORD-{n}",
        "account": f"acc-c{n}",
        "customer_email": f"c{n}@crash.example",
        "placed_at": "2025-12-30T09:00:00Z",
        "items": [{"name": "Lamp", "quantity": 1, "price": 30.0}],
        "total": 30.0,
        "currency": "EUR",
        "status": "shipped",
        "carrier": "Post",
        "tracking": f"TR{n}",
        "expected_on": "2099-01-01",
    }


def _service(n: int) -> dict[str, Any]:
    return {
        "name": f"svc-{n}",
        "title": f"Service {n}",
        "aliases": [f"svc-{n}"],
        "tier": 0,
        "owner_group": "Site Reliability",
        "regions": [],
        "sites": [],
        "depends_on": [],
        "state": "down",
        "symptoms": [],
    }
