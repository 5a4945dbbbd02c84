"""Priority: the matrix as a table, and every move with its reason."""

from datetime import timedelta
from itertools import pairwise

import pytest

from orchestrator.domain.triage import Link, LinkKind, Priority, Sentiment
from orchestrator.triage.prioritize import MATRIX, SLA_HOURS, prioritize
from tests.unit.desk_house import HOUSE, NOW, alert, profile, signals

INCIDENT = Link(kind=LinkKind.INCIDENT, ticket_id="T-1", incident_id="INC-1", similarity=0.8, score=0.9, evidence=())


def priority(**given: object) -> Priority:
    usual: dict[str, object] = {"base_impact": 4, "signals": signals(), "profile": profile(), "link": None}
    return prioritize(**{**usual, "alerts": (), "directory": HOUSE, "created_at": NOW, **given})  # type: ignore[arg-type]


def test_the_matrix_is_the_one_on_the_wall() -> None:
    table = "\n".join(f"impact {impact} | " + " ".join(f"P{level}" for level in row) for impact, row in enumerate(MATRIX, start=1))
    assert (
        table
        == """\
impact 1 | P1 P1 P2 P2
impact 2 | P1 P2 P2 P3
impact 3 | P2 P2 P3 P3
impact 4 | P2 P3 P4 P4"""
    )


def test_more_impact_and_more_urgency_never_lower_a_priority() -> None:
    for row, below in pairwise(MATRIX):
        assert all(upper <= lower for upper, lower in zip(row, below, strict=True))
    assert all(list(row) == sorted(row) for row in MATRIX)


@pytest.mark.parametrize(("tier", "hours"), [("standard", 72), ("business", 48), ("enterprise", 24)])
def test_the_deadline_follows_priority_and_contract(tier: str, hours: int) -> None:
    assert priority(profile=profile(account_tier=tier)).sla_due_at == NOW + timedelta(hours=hours)
    assert all(row == tuple(sorted(row, reverse=True)) for row in SLA_HOURS.values())


def test_a_contract_that_the_desk_does_not_know_is_a_standard_one() -> None:
    found = priority(profile=profile(account_tier="platinum"))
    assert found.sla_due_at == NOW + timedelta(hours=72) and any("SLA standard" in reason for reason in found.reasons)


def test_one_persons_small_matter_is_p4() -> None:
    assert (priority().level, priority().impact, priority().urgency) == (4, 4, 4)


def test_who_loses_money_now_is_p1_whatever_the_type() -> None:
    found = priority(signals=signals(losing_money=True, urgency=1))
    assert found.level == 1 and any("money is being lost" in reason for reason in found.reasons)


def test_a_firing_alert_makes_it_a_matter_of_many() -> None:
    assert priority(alerts=(alert("wiki"),)).impact == 2


def test_a_tier_0_service_that_fails_concerns_everyone() -> None:
    found = priority(alerts=(alert("sso", "certificate_expired"),))
    assert found.impact == 1 and any("Tier 0" in reason for reason in found.reasons)


def test_a_matter_that_several_report_has_their_impact() -> None:
    assert priority(link=INCIDENT).impact == 2
    assert priority(link=INCIDENT, base_impact=1).impact == 1


def test_a_duplicate_is_still_one_persons_matter() -> None:
    one = Link(kind=LinkKind.DUPLICATE, ticket_id="T-1", incident_id=None, similarity=0.9, score=0.9, evidence=())
    assert priority(link=one).impact == 4


def test_a_person_at_risk_comes_first() -> None:
    assert priority(signals=signals(distress=True, urgency=1)).level == 1


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ({"vip": True}, "VIP"),
        ({"account_vip": True}, "VIP"),
        ({"annual_value": 80_000.0}, "worth 80,000 a year"),
        ({"health": "risk"}, "at risk of leaving"),
    ],
)
def test_who_asks_moves_urgency_by_one_and_says_so(who: dict[str, object], why: str) -> None:
    found = priority(profile=profile(**who))
    assert found.urgency == 3 and any(why in reason for reason in found.reasons)


def test_all_moves_together_never_pass_urgency_2() -> None:
    angry = signals(repeat_contact=True, sentiment=Sentiment.FURIOUS)
    assert priority(signals=angry, profile=profile(vip=True, annual_value=1e6, health="risk")).urgency == 2


def test_a_type_that_never_waits_sets_a_floor() -> None:
    assert priority(base_urgency=2).urgency == 2
    assert priority(base_urgency=2, signals=signals(urgency=1)).urgency == 1


def test_every_priority_says_how_it_came_about() -> None:
    reasons = priority(signals=signals(urgency=2, cues=("now: “asap”",))).reasons
    assert any("now: “asap”" in reason for reason in reasons)
    assert any("impact 4 x urgency 2 gives P3" in reason for reason in reasons)
