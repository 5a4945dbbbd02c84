"""Routing: who owns it, who can, who is there, who has least to do."""

from orchestrator.domain.directory import Directory
from orchestrator.domain.triage import Assignment, Entities
from orchestrator.triage.route import route
from tests.unit.desk_house import HOUSE, alert, signals


def routed(category: str = "vpn", **given: object) -> Assignment:
    usual: dict[str, object] = {"default_group": "Service Desk", "entities": Entities(), "signals": signals(), "alerts": ()}
    return route(category=category, **{**usual, "directory": HOUSE, "load": {}, **given})  # type: ignore[arg-type]


def test_the_types_group_has_it_and_its_least_loaded_colleague() -> None:
    found = routed()
    assert (found.group, found.assignee) == ("Service Desk", "bo@desk.example")
    assert found.reasons == ("Service Desk handles vpn", "Bo: skills vpn; speaks en; 0 open")


def test_tickets_given_out_meanwhile_count_as_load() -> None:
    assert routed(load={"bo@desk.example": 9}).assignee == "ada@desk.example"


def test_a_skill_weighs_more_than_a_few_open_tickets() -> None:
    assert routed("password_reset", load={"bo@desk.example": 7}).assignee == "bo@desk.example"


def test_a_colleague_who_speaks_the_language_comes_first() -> None:
    assert routed(signals=signals(language="de"), load={"bo@desk.example": 5}).assignee == "bo@desk.example"


def test_who_is_away_gets_nothing() -> None:
    away = Directory(services=HOUSE.services, staff=tuple(c for c in HOUSE.staff if not c.available))
    found = routed(directory=away)
    assert found.assignee is None and "nobody of Service Desk is available" in found.reasons[-1]


def test_the_owner_of_the_failing_service_comes_before_the_types_group() -> None:
    found = routed("email", alerts=(alert("sso", "certificate_expired"),), entities=Entities(services=("sso",)))
    assert (found.group, found.assignee) == ("Identity", "di@desk.example")
    assert "Identity owns sso, where certificate_expired is firing" in found.reasons[0]


def test_an_alert_on_a_service_that_nobody_knows_leaves_the_types_group() -> None:
    assert routed(alerts=(alert("unknown"),)).group == "Service Desk"


def test_a_house_without_staff_leaves_it_to_the_queue() -> None:
    assert routed(directory=Directory()).assignee is None


def test_the_same_tickets_always_go_to_the_same_people() -> None:
    assert len({routed("network").assignee for _ in range(5)}) == 1
