"""What monitoring makes of a ticket: alerts that explain it, the type it settles, one incident per cause."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.domain.directory import Alert, Directory, Profile, Service, Site
from orchestrator.domain.triage import Classification, Entities
from orchestrator.triage.cause import at_home, cause_of, explain_by_alerts
from orchestrator.triage.entities import find_entities
from orchestrator.triage.link import Subject

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
HOUSE = Directory(
    services=(
        Service(name="tills", aliases=("tills", "Kassen"), sites=("Graz", "Bristol"), symptoms=("no connection to till server",)),
        Service(name="sso", aliases=("sign-in page",), symptoms=("certificate",)),
    ),
    sites=(Site(name="Graz", region="Europe"), Site(name="Bristol", region="Europe")),
    alerts=(
        Alert(id="al-1", service="tills", kind="down", site="Graz", since=NOW - timedelta(hours=1), cleared_by="restart"),
        Alert(id="al-2", service="tills", kind="down", site="Bristol", since=NOW - timedelta(hours=1), cleared_by=None),
    ),
)
UNSURE = Classification(
    category="email", confidence=0.3, abstained=True, alternatives=(("email", 0.3), ("service_outage", 0.25)), stage="head"
)


def subject(text: str, category: str | None = None) -> Subject:
    return Subject(
        ticket_id="T-1",
        text=text,
        requester_email="a@b.example",
        category=category,
        entities=find_entities(text, HOUSE),
        created_at=NOW,
    )


def profile(site: str | None) -> Profile:
    return Profile(email="a@b.example", known=True, site=site, region="Europe" if site else None)


def test_an_alert_settles_the_type_that_the_wording_left_open() -> None:
    settled, alerts = explain_by_alerts(subject("All tills in Graz are down"), UNSURE, profile(None), HOUSE)
    assert (settled.abstained, settled.settled_by) == (False, "al-1")
    assert alerts[0].id == "al-1"


def test_without_an_alert_the_desk_still_abstains() -> None:
    settled, alerts = explain_by_alerts(subject("All tills in Lille are down"), UNSURE, profile(None), replace(HOUSE, alerts=()))
    assert settled == UNSURE
    assert alerts == ()


def test_a_type_that_the_wording_does_not_suggest_is_never_settled_on() -> None:
    elsewhere = replace(UNSURE, alternatives=(("refund", 0.5), ("invoice", 0.4)))
    settled, _ = explain_by_alerts(subject("All tills in Graz are down, I want my money back"), elsewhere, profile(None), HOUSE)
    assert settled.abstained


@pytest.mark.parametrize(("site", "alert"), [("Graz", "al-1"), ("Bristol", "al-2")])
def test_who_names_no_place_means_their_own_site(site: str, alert: str) -> None:
    outage = replace(UNSURE, category="service_outage", abstained=False)
    _, alerts = explain_by_alerts(subject("the tills are down"), outage, profile(site), HOUSE)
    assert [a.id for a in alerts] == [alert]


def test_who_names_a_place_is_taken_at_their_word() -> None:
    assert at_home(Entities(sites=("bristol",)), profile("Graz")).sites == ("bristol",)


def test_two_sites_have_two_causes_and_two_regions_one() -> None:
    graz, bristol = HOUSE.alerts
    assert cause_of(graz) != cause_of(bristol)
    europe = Alert(id="al-3", service="sso", kind="certificate_expired", region="Europe", since=NOW)
    assert cause_of(europe) == cause_of(replace(europe, id="al-4", region="Americas"))


def test_what_is_settled_is_the_outage_where_that_can_be_cured() -> None:
    settled, _ = explain_by_alerts(subject("All tills in Graz are down"), UNSURE, profile(None), HOUSE)
    assert (settled.category, settled.abstained) == ("service_outage", False)


def test_mail_that_fails_with_a_service_that_can_be_cured_is_an_outage() -> None:
    sure = replace(UNSURE, abstained=False, confidence=0.9)
    settled, _ = explain_by_alerts(subject("mail from the tills in Graz is down"), sure, profile(None), HOUSE)
    assert settled.category == "service_outage"
    not_curable, _ = explain_by_alerts(subject("mail from the tills in Bristol is down"), sure, profile(None), HOUSE)
    assert not_curable.category == "email"
