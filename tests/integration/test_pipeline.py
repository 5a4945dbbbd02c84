"""What a batch knows of the house, and how its tickets are linked: real store, systems of record in memory."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.domain.errors import FencedOut
from orchestrator.domain.resolution import Observation, ObservationStatus
from orchestrator.domain.tickets import IncomingTicket, Requester
from orchestrator.domain.triage import LinkKind, Triage
from orchestrator.pipeline.house import House
from orchestrator.pipeline.models import Served, TriageModels, standing
from orchestrator.pipeline.triage import Triager
from orchestrator.resolution.catalog import load_catalog
from orchestrator.standins import HashEmbedder, InstantSystems, NamedClassifier
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.taxonomy import load_taxonomy
from tests.acceptance.kill_cases import world


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class CountedSystems:
    """Systems in memory that count what they are asked, and can be away."""

    systems: InstantSystems
    clock: Clock
    asked: Counter[str] = field(default_factory=Counter)
    away: bool = False

    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        self.asked[action] += 1
        if self.away:
            return Observation(status=ObservationStatus.UNAVAILABLE, http_status=None, body=None, at=self.clock(), request={})
        return self.systems.call(action, arguments, idempotency_key=idempotency_key)


class Rooms:
    """The house and a triager on it."""

    def __init__(self, store: PostgresStore, people: int = 6) -> None:
        self.store, self.clock = store, Clock()
        self.systems = CountedSystems(InstantSystems(load_catalog(), world(people), clock=self.clock), self.clock)
        self.house = House(systems=self.systems, clock=self.clock, pool=ThreadPoolExecutor(2))
        taxonomy = load_taxonomy()
        classifier = NamedClassifier(names=tuple(category.name for category in taxonomy.categories))
        self.triager = Triager(
            store=store,
            models=standing(TriageModels(live=Served(classifier=classifier, taxonomy=taxonomy), embedder=HashEmbedder())),
            house=self.house,
            clock=self.clock,
        )

    def accept(self, *tickets: tuple[str, str, str]) -> list[str]:
        """(category, who, text) each."""
        incoming = [
            IncomingTicket(subject=f"{category}: please", description=text, requester=Requester(email=f"{who}@crash.example"))
            for category, who, text in tickets
        ]
        return [accepted.ticket_id for accepted in self.store.run(lambda tx: tx.accept(incoming, now=self.clock()))]

    def triage(self, *tickets: tuple[str, str, str]) -> list[Triage]:
        """Accepted and triaged as one batch, in this order."""
        ids = self.accept(*tickets)
        found = self.store.run(lambda tx: tx.tickets(ids))
        triages = self.triager.triage(list(found.values()))
        return [triages[ticket_id] for ticket_id in ids]


@pytest.fixture
def rooms(store: PostgresStore) -> Rooms:
    return Rooms(store)


# --- the house ----------------------------------------------------------------------------------------------------------


def test_the_catalogue_is_read_once_a_minute_and_telemetry_every_few_seconds(rooms: Rooms) -> None:
    rooms.house.directory()
    rooms.clock.now += timedelta(seconds=5)
    rooms.house.directory()
    assert rooms.systems.asked["catalog.services"] == 1 and rooms.systems.asked["monitoring.list_alerts"] == 2
    rooms.clock.now += timedelta(seconds=61)
    rooms.house.directory()
    assert rooms.systems.asked["catalog.services"] == 2


def test_the_same_directory_is_given_while_nothing_has_changed(rooms: Rooms) -> None:
    first = rooms.house.directory()
    rooms.clock.now += timedelta(minutes=2)
    assert rooms.house.directory() is first
    rooms.systems.call("monitoring.restart_service", {"service": "svc-0"}, idempotency_key="k")
    rooms.clock.now += timedelta(minutes=2)
    assert len(rooms.house.directory().alerts) == len(first.alerts) - 1


def test_after_an_action_telemetry_is_read_anew_and_the_catalogue_is_kept(rooms: Rooms) -> None:
    rooms.house.directory()
    rooms.house.forget()
    rooms.house.directory()
    asked = rooms.systems.asked
    assert (asked["catalog.services"], asked["monitoring.list_alerts"], asked["monitoring.list_deployments"]) == (1, 2, 2)


def test_systems_that_are_away_leave_what_was_known(rooms: Rooms) -> None:
    known = rooms.house.directory()
    rooms.systems.away = True
    rooms.clock.now += timedelta(minutes=2)
    assert rooms.house.directory() == known
    assert rooms.house.profiles(["p1@crash.example"])["p1@crash.example"].known is False


def test_a_person_is_known_by_the_directory_and_their_account(rooms: Rooms) -> None:
    profiles = rooms.house.profiles(["P1@crash.example", "nobody@elsewhere.example"])
    known, unknown = profiles["p1@crash.example"], profiles["nobody@elsewhere.example"]
    assert (known.known, known.name, known.account_tier) == (True, "Person p1", "standard")
    assert not unknown.known


# --- linking ------------------------------------------------------------------------------------------------------------

DOWN = "The service svc-0 is down, svc-0 does not answer at all since this morning."


def test_reports_of_one_outage_in_one_batch_join_one_incident(rooms: Rooms) -> None:
    first, *others = rooms.triage(*(("service_outage", f"p{n}", DOWN) for n in range(4)))
    assert first.link is None
    links = [other.link for other in others]
    assert {link.kind for link in links if link} == {LinkKind.INCIDENT}
    assert len({link.incident_id for link in links if link}) == 1 and None not in links


def test_reports_in_a_later_batch_join_the_incident_of_an_earlier_one(rooms: Rooms) -> None:
    rooms.triage(("service_outage", "p0", DOWN))
    (second,) = rooms.triage(("service_outage", "p1", DOWN))
    (third,) = rooms.triage(("service_outage", "p2", DOWN))
    assert second.link and third.link and second.link.incident_id == third.link.incident_id


def test_the_same_words_of_two_people_about_their_own_matter_stay_apart(rooms: Rooms) -> None:
    text = "I forgot my password and cannot sign in any more."
    triages = rooms.triage(*(("password_reset", f"p{n}", text) for n in range(4)))
    assert [triage.link for triage in triages] == [None] * 4


def test_the_same_persons_same_matter_is_a_duplicate(rooms: Rooms) -> None:
    text = "I forgot my password and cannot sign in any more."
    rooms.triage(("password_reset", "p1", text), ("password_reset", "p2", text))
    (again,) = rooms.triage(("password_reset", "p1", text))
    assert again.link and again.link.kind is LinkKind.DUPLICATE and again.link.ticket_id == "T-1001"


def test_triage_with_a_lost_lease_writes_nothing(rooms: Rooms) -> None:
    (ticket_id,) = rooms.accept(("password_reset", "p1", "I forgot my password."))
    with rooms.store.transaction() as tx:
        claims = tx.claim(worker="first", limit=1, lease_s=0.0)
    with rooms.store.transaction() as tx:
        tx.claim(worker="second", limit=1, lease_s=60.0)
    with pytest.raises(FencedOut):
        rooms.triager.triage([rooms.store.run(lambda tx: tx.ticket(ticket_id))], claims=claims)
    assert rooms.store.run(lambda tx: tx.triage(ticket_id)) is None


def test_own_only_looks_at_the_requesters_earlier_tickets_alone(rooms: Rooms) -> None:
    text = "My laptop does not start."
    mine, theirs, asking = rooms.accept(*(("hardware", who, text) for who in ("p1", "p2", "p1")))
    tickets = rooms.store.run(lambda tx: tx.tickets([mine, theirs, asking]))
    rooms.triager.triage(list(tickets.values()))

    def near(own_only: tuple[str, ...]) -> set[str]:
        with rooms.store.transaction() as tx:
            found = tx.similar("standin-hash", [asking], window_s=3600, at_least=0.5, limit=9, own_only=own_only)
        return {similar.ticket_id for similar in found[asking]}

    assert near(()) == {mine, theirs}
    assert near((asking,)) == {mine}
