"""A small world and a whole desk for tests of resolution: real store, real sandbox, real connector; stand-ins for the models only."""
# ruff: noqa: E501 (records of the world, one a line)

import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.connectors.http import HttpSystemsOfRecord
from orchestrator.domain.directory import Alert, Directory, Service, Site
from orchestrator.domain.resolution import Outcome
from orchestrator.domain.tickets import Assurance, Author, IncomingTicket, Message, Requester, State, Ticket
from orchestrator.domain.triage import (
    Assignment,
    Classification,
    Link,
    Priority,
    PriorityLevel,
    Triage,
)
from orchestrator.ports import Claim
from orchestrator.resolution.drive import Desk, Driven, Work, drive
from orchestrator.resolution.playbook import load_playbook
from orchestrator.sandbox.process import SandboxProcess
from orchestrator.standins import CountingLanguageModel, HashEmbedder
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.entities import find_entities
from orchestrator.triage.signals import read_signals

PLAYBOOK = load_playbook()
SECRET = b"a secret of tests only"


def at(days: float = 0, *, hours: float = 0) -> str:
    return (datetime.now(UTC) + timedelta(days=days, hours=hours)).isoformat()


def user(number: int, name: str, account: str, **more: Any) -> dict[str, Any]:
    email = f"{name.lower().replace(' ', '.')}@{account.removeprefix('acc-')}.example"
    defaults = {"kind": "employee", "status": "active", "language": "en", "mfa_enrolled": True, "groups": ["staff"], "vip": False}
    return {"id": f"usr-{number:03}", "email": email, "name": name, "account": account, **defaults, **more}


def world() -> dict[str, Any]:
    """People, money, orders and machines of one small house, all times around now."""
    payment = {"account": "acc-elm", "currency": "EUR", "status": "captured", "refunded_amount": 0, "at": at(-3)}
    return {
        "now": at(),
        "company": {"name": "Elm House", "mail_domain": "elm.example", "currency": "EUR"},
        "accounts": [
            {"id": "acc-elm", "name": "Elm House", "tier": "standard", "vip": False, "annual_value": 1000},
            {"id": "acc-oak", "name": "Oak Works", "tier": "enterprise", "vip": False, "annual_value": 90000},
            {"id": "acc-yew", "name": "Yew Crown", "tier": "business", "vip": True, "annual_value": 50000},
        ],
        "users": [
            user(1, "Ada Quill", "acc-elm", status="locked", site="Graz", region="Europe"),
            user(2, "Ben Reed", "acc-elm", status="active", site="Bristol", region="Europe"),
            user(3, "Cleo Marsh", "acc-elm", status="invited"),
            user(4, "Dora Vane", "acc-oak"),
            user(5, "Egon Falk", "acc-yew", language="de"),
            user(6, "Fay Moor", "acc-elm", kind="customer"),
            user(7, "Gus Pine", "acc-elm", status="disabled"),
        ],
        "vpn_sessions": [
            {"id": "vpn-1", "user_id": "usr-006", "gateway": "gw-1", "state": "hung", "since": at(hours=-2)},
            {"id": "vpn-2", "user_id": "usr-002", "gateway": "gw-1", "state": "connected", "since": at(hours=-1)},
        ],
        "licenses": [
            {"id": "lic-1", "user_id": "usr-002", "product": "DrawPro", "state": "expired", "expires_at": at(-5), "seat_cost": 240},
            {"id": "lic-2", "user_id": "usr-002", "product": "Sheetwise", "state": "active", "expires_at": at(200), "seat_cost": 60},
            {"id": "lic-3", "user_id": "usr-004", "product": "CadGiant", "state": "expired", "expires_at": at(-5), "seat_cost": 1900},
        ],
        "invoices": [
            {"id": "INV-20431", "account": "acc-elm", "amount": 49.0, "currency": "EUR", "issued_on": "2026-10-01", "period": "2026-10",
             "status": "paid", "pdf": "a.pdf"},
            {"id": "INV-20432", "account": "acc-elm", "amount": 51.0, "currency": "EUR", "issued_on": "2026-11-01", "period": "2026-11",
             "status": "open", "pdf": "b.pdf"},
            {"id": "INV-29999", "account": "acc-oak", "amount": 900.0, "currency": "EUR", "issued_on": "2026-11-01", "period": "2026-11",
             "status": "open", "pdf": "c.pdf"},
        ],
        "payments": [
            {**payment, "id": "PAY-88120", "amount": 49.0, "invoice": "INV-20431"},
            {**payment, "id": "PAY-88121", "amount": 49.0, "invoice": "INV-20431", "duplicate_of": "PAY-88120"},
            {**payment, "id": "PAY-88130", "amount": 180.0, "order": "ORD-70013"},
            {**payment, "id": "PAY-99001", "amount": 20.0, "account": "acc-oak", "invoice": "INV-29999"},
            {**payment, "id": "PAY-99002", "amount": 20.0, "account": "acc-oak", "invoice": "INV-29999", "duplicate_of": "PAY-99001"},
        ],
        "subscriptions": [
            {"id": "SUB-311", "account": "acc-elm", "owner_email": "fay.moor@elm.example", "plan": "Team", "seats": 3, "monthly_price": 30,
             "currency": "EUR", "status": "active", "renews_on": "2027-01-01", "minimum_term_ends_on": None},
            {"id": "SUB-312", "account": "acc-elm", "owner_email": "ben.reed@elm.example", "plan": "Chain", "seats": 9, "monthly_price": 90,
             "currency": "EUR", "status": "active", "renews_on": "2027-01-01", "minimum_term_ends_on": at(300)[:10]},
        ],
        "orders": [
            {"id": "ORD-70012", "account": "acc-elm", "customer_email": "fay.moor@elm.example", "placed_at": at(-4), "items": [], "total": 20,
             "currency": "EUR", "status": "shipped", "carrier": "Parcel One", "tracking": "P1-99", "expected_on": at(2)[:10]},
            {"id": "ORD-70013", "account": "acc-elm", "customer_email": "ben.reed@elm.example", "placed_at": at(-30), "items": [], "total": 180,
             "currency": "EUR", "status": "lost", "carrier": "Parcel One", "tracking": "P1-98", "expected_on": at(-20)[:10]},
            {"id": "ORD-70099", "account": "acc-oak", "customer_email": "dora.vane@oak.example", "placed_at": at(-4), "items": [], "total": 20,
             "currency": "EUR", "status": "packed", "carrier": None, "tracking": None, "expected_on": at(2)[:10]},
        ],
        "services": [
            {"name": "sso-gateway", "title": "Single sign-on", "aliases": ["sso"], "tier": 0, "owner_group": "Identity Engineering",
             "regions": ["Europe"], "sites": ["Graz", "Bristol"], "state": "down", "symptoms": ["certificate"]},
            {"name": "depot-terminals", "title": "Depot terminals", "aliases": ["terminals"], "tier": 2, "owner_group": "Site Reliability",
             "sites": ["Graz", "Bristol"], "state": "down", "symptoms": ["terminal"]},
            {"name": "mobile-app", "title": "Mobile app", "aliases": ["the app"], "tier": 1, "owner_group": "Application Engineering",
             "state": "degraded", "symptoms": ["crash"]},
            {"name": "insight", "title": "Insight dashboards", "aliases": ["dashboards"], "tier": 2, "state": "degraded", "symptoms": ["slow"]},
            {"name": "till-sync", "title": "Till sync", "aliases": ["till sync"], "tier": 2, "state": "degraded", "symptoms": ["tills"]},
        ],
        "certificates": [
            {"id": "cert-sso", "service": "sso-gateway", "subject": "CN=sso.elm.example", "expires_at": at(hours=-6), "state": "expired",
             "regions": ["Europe"]},
        ],
        "deployments": [
            {"id": "dep-930", "service": "mobile-app", "version": "2.1.6", "previous_version": "2.1.5", "at": at(-20), "state": "live"},
            {"id": "dep-931", "service": "mobile-app", "version": "2.1.7", "previous_version": "2.1.6", "at": at(hours=-7), "state": "live"},
        ],
        "alerts": [
            {"id": "al-1", "service": "sso-gateway", "region": "Europe", "kind": "certificate_expired", "since": at(hours=-6),
             "detail": "certificate expired", "cleared_by": "rotate"},
            {"id": "al-2", "service": "depot-terminals", "site": "Graz", "kind": "down", "since": at(hours=-1), "detail": "process hung",
             "cleared_by": "restart"},
            {"id": "al-3", "service": "depot-terminals", "site": "Bristol", "kind": "down", "since": at(hours=-1), "detail": "no power",
             "cleared_by": None},
            {"id": "al-4", "service": "mobile-app", "kind": "crash_rate", "since": at(hours=-6), "detail": "crashes", "cleared_by": "rollback"},
            {"id": "al-5", "service": "insight", "kind": "latency", "since": at(hours=-2), "detail": "slow", "cleared_by": "restart"},
            {"id": "al-6", "service": "till-sync", "kind": "down", "since": at(hours=-2), "detail": "queue stuck", "cleared_by": "restart"},
        ],
        "sites": [{"name": "Graz", "aliases": [], "region": "Europe"}, {"name": "Bristol", "aliases": [], "region": "Europe"}],
        "staff": [],
        "freeze_windows": [
            {"id": "fw-1", "from": at(-1), "until": at(1), "services": ["insight"], "reason": "Valuation week", "emergency_allowed": False},
            {"id": "fw-2", "from": at(-1), "until": at(1), "services": ["till-sync"], "reason": "Peak weekend", "emergency_allowed": True},
        ],
    }  # fmt: skip


class House:
    """A desk, its sandbox and its queue; `say` a ticket, `run` it, look at the end state of the world."""

    def __init__(self, store: PostgresStore, sandbox: SandboxProcess, pool: ThreadPoolExecutor) -> None:
        self.store = store
        self.sandbox = sandbox
        self.systems = HttpSystemsOfRecord(PLAYBOOK.actions, base_urls=sandbox.base_urls(), tokens=sandbox.tokens(), clock=clock)
        self.desk = Desk(
            playbook=PLAYBOOK,
            store=store,
            systems=self.systems,
            language_model=CountingLanguageModel(),
            embedder=HashEmbedder(),
            clock=clock,
            pool=pool,
            secret=SECRET,
        )

    def say(self, category: str, text: str, *, by: str, portal: bool = False, link: Link | None = None, **more: Any) -> str:
        """Accept and triage one ticket of this category; gives its id."""
        requester = Requester(email=by, assurance=Assurance.AUTHENTICATED if portal else Assurance.CLAIMED)
        incoming = IncomingTicket(subject=more.pop("subject", ""), description=text, requester=requester)
        with self.store.transaction() as tx:
            ticket_id = tx.accept([incoming], now=clock())[0].ticket_id
            if link and link.incident_id:
                link = replace(link, incident_id=tx.join_incident(ticket_id, link.ticket_id, title=text, now=clock()))
            tx.save_triage({ticket_id: triage_of(category, text, link=link, **more)}, now=clock())
        return ticket_id

    def run(self, *ticket_ids: str) -> dict[str, Outcome]:
        """Claim everything that is ready, drive it, write the outcomes; gives those of this run."""
        driven, claims = self.drive_only()
        self.write(driven, claims)
        return driven.outcomes

    def drive_only(self, *, lease_s: float = 60.0) -> tuple[Driven, list[Claim]]:
        """As `run`, but nothing is written in the end: what a worker leaves that dies just then."""
        claims = self.store.run(lambda tx: tx.claim(worker="test", limit=50, lease_s=lease_s))
        ids = [claim.ticket_id for claim in claims]
        tickets, triages = self.store.run(lambda tx: (tx.tickets(ids), tx.triages(ids)))
        works = [Work(ticket=tickets[claim.ticket_id], triage=triages[claim.ticket_id], claim=claim) for claim in claims]
        return drive(works, self.desk), claims

    def write(self, driven: Driven, claims: list[Claim]) -> None:
        done = [claim for claim in claims if claim.ticket_id in driven.outcomes]
        back = [claim for claim in claims if claim.ticket_id in driven.retry]
        with self.store.transaction() as tx:
            tx.hold(done)
            tx.save_outcomes(driven.outcomes, notes=driven.notes, now=clock())
            tx.finish(done)
            for claim in back:
                tx.retry([claim], error=driven.retry[claim.ticket_id], now=clock() - timedelta(hours=1))

    def handle(self, category: str, text: str, *, by: str, **more: Any) -> tuple[str, Outcome]:
        ticket_id = self.say(category, text, by=by, **more)
        return ticket_id, self.run()[ticket_id]

    def answer(self, ticket_id: str, body: str, *, when: datetime | None = None) -> Outcome:
        """The requester writes again; the ticket goes its way once more."""
        with self.store.transaction() as tx:
            tx.add_message(ticket_id, Message(author=Author.REQUESTER, body=body, at=when or clock(), by=""))
            tx.set_state(ticket_id, State.ACTIVE, reason="the requester answered")
            tx.wake([ticket_id])
        return self.run()[ticket_id]

    def code(self, to: str) -> str:
        """The one-time code in the newest mail to this address."""
        mail = [each for each in self.sandbox.state()["mail"] if each["to"] == to and each["by"] == "mail"]
        return next(word.strip(".") for word in mail[-1]["body"].split() if word.strip(".").isdigit() and len(word.strip(".")) == 6)

    def ticket(self, ticket_id: str) -> Ticket:
        return self.store.run(lambda tx: tx.ticket(ticket_id))

    def changes(self) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Every call that changed the world, but mail: (method, path, body)."""
        return [
            (call["method"], call["path"], call["body"] or {})
            for call in self.sandbox.calls()
            if call["changed"] and call["system"] not in {"mail", "helpdesk"}
        ]


def clock() -> datetime:
    return datetime.now(UTC)


DIRECTORY = Directory(
    services=tuple(map(Service.read, world()["services"])),
    sites=tuple(map(Site.read, world()["sites"])),
    alerts=tuple(map(Alert.read, [{"state": "firing", **alert} for alert in world()["alerts"]])),
)


def triage_of(
    category: str, text: str, *, link: Link | None = None, level: int = 4, language: str | None = None, **_: Any
) -> Triage:
    """What triage would say, with the category given: signals and entities are the real ones."""
    others = category == "Others"
    signals = read_signals(text)
    return Triage(
        classification=Classification(
            category=category,
            confidence=0.3 if others else 0.95,
            abstained=others,
            alternatives=(("vpn", 0.3), ("email", 0.2)) if others else ((category, 0.95),),
            stage="head",
        ),
        entities=find_entities(text, DIRECTORY),
        signals=replace(signals, language=language) if language else signals,
        link=link,
        priority=Priority(level=PriorityLevel(level), impact=4, urgency=3, sla_due_at=None, reasons=("one person",)),
        assignment=Assignment(group=PLAYBOOK.groups[category], assignee=None, reasons=()),
        explanation=(),
    )


@contextmanager
def open_desk(store: PostgresStore, folder: Path) -> Iterator[House]:
    """A desk over a fresh sandbox."""
    with SandboxProcess(folder / "sandbox.db", secret=secrets.token_hex(8)) as sandbox, ThreadPoolExecutor(8) as pool:
        sandbox.seed(world())
        desk = House(store, sandbox, pool)
        try:
            yield desk
        finally:
            desk.systems.close()
