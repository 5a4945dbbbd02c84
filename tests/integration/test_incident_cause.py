"""What lies behind an incident: real store, real sandbox; the same tickets say it of a release, of a certificate, or of nothing."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.domain.tickets import IncomingTicket, Requester
from orchestrator.pipeline.causes import explain_incidents
from orchestrator.pipeline.house import House as Telemetry
from orchestrator.storage.store import PostgresStore
from tests.integration.resolution_world import House, clock, open_desk, triage_of


@pytest.fixture
def house(store: PostgresStore, tmp_path: Path) -> Iterator[House]:
    with open_desk(store, tmp_path) as desk:
        yield desk


def tell(house: House, category: str, text: str, *, hours_ago: float, count: int, cause: str = "") -> list[str]:
    """`count` tickets a minute apart."""
    start = clock() - timedelta(hours=hours_ago)
    tickets = [
        IncomingTicket(
            subject="",
            description=f"{text} ({n})",
            requester=Requester(email=f"p{n}@elm.example"),
            created_at=start + timedelta(minutes=n),
        )
        for n in range(count)
    ]
    triage = replace(triage_of(category, text), causes=(cause,) if cause else ())
    with house.store.transaction() as tx:
        ids = [each.ticket_id for each in tx.accept(tickets, now=clock())]
        tx.save_triage(dict.fromkeys(ids, triage), now=clock())
    return ids


def join(house: House, ids: list[str], title: str) -> str:
    with house.store.transaction() as tx:
        for each in ids[1:]:
            incident = tx.join_incident(each, ids[0], title=title, now=clock())
    return incident


def explain(house: House) -> int:
    return explain_incidents(house.store, Telemetry(systems=house.systems, clock=clock, pool=house.desk.pool), clock)


def test_all_of_a_wave_of_crashes_came_after_the_release(house: House) -> None:
    ids = tell(
        house,
        "application_error",
        "The app 2.1.7 has a crash at every start",
        hours_ago=5.9,
        count=47,
        cause="mobile-app/crash_rate/",
    )
    incident = join(house, ids, "crashes")
    assert explain(house) == 1
    record = house.store.run(lambda tx: tx.incident(incident))
    assert record["cause"]["id"] == "dep-931" and record["cause"]["kind"] == "release"
    assert record["cause"]["sentence"].startswith("all 47 tickets came after release 2.1.7 of mobile-app")
    assert "none in" in record["cause"]["sentence"] and "47 name version 2.1.7" in record["cause"]["evidence"]
    assert "a person approves it" in record["cause"]["suggestion"] and house.changes() == []  # it says; it does not act


def test_an_expired_certificate_is_what_lies_behind_the_sign_ins(house: House) -> None:
    text = "Single sign-on shows a certificate warning, I cannot sign in"
    incident = join(
        house, tell(house, "sign_in_failure", text, hours_ago=5.8, count=20, cause="sso-gateway/certificate_expired/"), "sso"
    )
    explain(house)
    cause = house.store.run(lambda tx: tx.incident(incident))["cause"]
    assert cause["id"] == "cert-sso" and "the certificate of sso-gateway ran out" in cause["sentence"]


def test_the_same_complaints_before_the_release_clear_it(house: House) -> None:
    text = "The app has a crash now and then"
    earlier = tell(house, "application_error", text, hours_ago=9, count=110)
    ids = tell(house, "application_error", text, hours_ago=6.9, count=30, cause="mobile-app/crash_rate/")
    incident = join(house, ids, "crashes")
    explain(house)
    record = house.store.run(lambda tx: tx.incident(incident))
    assert not record["cause"] or record["cause"]["id"] != "dep-931", record["cause"]
    assert len(earlier) == 110


def test_it_is_looked_at_again_only_when_its_tickets_have_changed(house: House) -> None:
    ids = tell(house, "application_error", "The app has a crash", hours_ago=5.9, count=12, cause="mobile-app/crash_rate/")
    incident = join(house, ids[:10], "crashes")
    assert (explain(house), explain(house)) == (1, 0)
    join(house, [ids[0], *ids[10:]], "crashes")
    assert explain(house) == 1
    assert house.store.run(lambda tx: tx.incident(incident))["cause"]["after"] == 12
