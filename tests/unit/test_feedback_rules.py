"""What of people's words may be learned from: each rule seen to fire and not to fire."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.domain.feedback import RowKind, Said, Statement, TrainingRow, Verdicts
from orchestrator.domain.triage import OTHERS
from orchestrator.triage.eligibility import BURST, RULES, rows_of

START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
OWNERS = {"vpn": "Network", "password_reset": "Service Desk", "mfa_reset": "Service Desk", "invoice": "Billing"}


def say(said: Said, *, hour: float, who: str = "lena", role: str | None = "analyst", **more: Any) -> Statement:
    return Statement(said=said, at=START + timedelta(hours=hour), who=who, role=role, why="I read it", **more)


def verdicts(*statements: Statement, **changed: Any) -> Verdicts:
    plain = Verdicts(
        ticket_id="T-1001",
        subject="Tunnel drops",
        description="The tunnel client disconnects every ten minutes on the hotel's network.",
        created_at=START - timedelta(hours=2),
        category="vpn",
        confidence=0.8,
        abstained=False,
        stage="head",
        model="",
        group="Network",
        language="en",
        smuggled_instruction=False,
        triaged_at=START - timedelta(hours=1),
        handed_over_at=None,
        statements=tuple(sorted(statements, key=lambda s: s.at)),
    )
    return replace(plain, **changed)


def rows(*statements: Statement, **changed: Any) -> list[TrainingRow]:
    return rows_of(verdicts(*statements, **changed), owners=OWNERS)


OVERRIDE = say(Said.OVERRIDE, hour=1, category="invoice")
APPROVED = say(Said.APPROVED, hour=1, role="approver")
VERIFIED = say(Said.VERIFIED, hour=400, who="cloister", role=None)

FIRES: dict[str, tuple[TrainingRow, TrainingRow]] = {  # rule -> (a row that it refuses, one much like it that it lets pass)
    "names_no_type": (
        rows(say(Said.FEEDBACK, hour=1, rating="bad"))[0],
        rows(say(Said.FEEDBACK, hour=1, rating="bad", category="invoice"))[0],
    ),
    "by_a_service": (rows(replace(OVERRIDE, role="service"))[0], rows(OVERRIDE)[0]),
    "text_erased": (
        rows(OVERRIDE, subject="", description="[erased]")[0],
        rows(OVERRIDE, subject="", description="My file was erased")[0],
    ),
    "text_vague": (
        rows(OVERRIDE, subject="", description="it does not work please help")[0],
        rows(say(Said.OVERRIDE, hour=1, category=OTHERS), subject="", description="it does not work please help")[0],
    ),
    "type_unknown": (rows(say(Said.OVERRIDE, hour=1, category="telepathy"))[0], rows(OVERRIDE)[0]),
    "contradicted": (
        rows(OVERRIDE, say(Said.OVERRIDE, hour=2, who="max", category="mfa_reset"))[0],
        rows(OVERRIDE, say(Said.OVERRIDE, hour=2, who="max", category="mfa_reset"))[1],
    ),
    "said_again": (
        rows(OVERRIDE, say(Said.OVERRIDE, hour=2, who="max", category="invoice"))[0],
        rows(OVERRIDE, say(Said.OVERRIDE, hour=2, who="max", category="invoice"))[1],
    ),
    "objected": (rows(APPROVED, say(Said.REOPENED, hour=3))[0], rows(say(Said.REOPENED, hour=0.5), APPROVED)[1]),
    "to_and_fro": (
        rows(OVERRIDE, say(Said.OVERRIDE, hour=2, category="vpn"), say(Said.OVERRIDE, hour=3, category="invoice"))[2],
        rows(OVERRIDE, say(Said.OVERRIDE, hour=2, category="vpn", who="max"), say(Said.OVERRIDE, hour=3, category="invoice"))[2],
    ),
    "smuggled_instruction": (rows(OVERRIDE, smuggled_instruction=True)[0], rows(OVERRIDE)[0]),
    "burst": (rows(replace(OVERRIDE, alike=BURST))[0], rows(replace(OVERRIDE, alike=BURST - 1))[0]),
    "triaged_again": (
        rows(APPROVED, triaged_at=START + timedelta(hours=5))[0],
        rows(OVERRIDE, triaged_at=START + timedelta(hours=5))[0],
    ),
    "never_decided": (
        rows(VERIFIED, abstained=True, category=OTHERS)[0],
        rows(OVERRIDE, abstained=True, category=OTHERS)[0],
    ),
}


def test_every_rule_has_its_pair_of_rows() -> None:
    assert set(FIRES) == {rule.name for rule in RULES}


@pytest.mark.parametrize("rule", sorted(FIRES))
def test_a_rule_refuses_what_it_is_for_and_lets_its_like_pass(rule: str) -> None:
    refused, passed = FIRES[rule]
    assert not refused.eligible and rule in refused.ineligible_because and refused.weight == 0
    assert passed.eligible, passed.ineligible_because


def test_the_override_is_the_label_and_tells_who_and_why() -> None:
    (row,) = rows(OVERRIDE)
    assert (row.category, row.kind, row.who, row.why, row.weight) == ("invoice", RowKind.OVERRIDE, "lena", "I read it", 1.0)
    assert row.was == {"category": "vpn", "confidence": 0.8, "stage": "head", "model": ""} and row.by_person


def test_what_automation_alone_decided_is_a_weak_label_only_when_verified_and_quiet() -> None:
    (row,) = rows(VERIFIED)
    assert (row.eligible, row.weight, row.by_person, row.kind) == (True, 0.3, False, RowKind.CONFIRMED)
    assert rows() == []


def test_a_person_s_word_stands_above_the_system_of_record() -> None:
    told, quiet = rows(say(Said.FEEDBACK, hour=1, rating="bad", category="invoice"), VERIFIED)
    assert told.eligible and told.category == "invoice"
    assert not quiet.eligible and "contradicted" in quiet.ineligible_because


def test_naming_the_type_stands_above_letting_it_stand_later() -> None:
    named, let = rows(say(Said.FEEDBACK, hour=1, category="invoice"), say(Said.APPROVED, hour=2, who="max"))
    assert named.eligible and not let.eligible


def test_an_approval_confirms_the_type_that_stood_then() -> None:
    first, second = rows(OVERRIDE, say(Said.APPROVED, hour=2, who="max"))
    assert second.category == "invoice" and "said_again" in second.ineligible_because and first.eligible


def test_a_rejection_and_a_reopening_say_what_is_wrong_and_never_what_is_right() -> None:
    kinds = [(row.kind, row.category, row.eligible) for row in rows(say(Said.REJECTED, hour=1), say(Said.REOPENED, hour=2))]
    assert kinds == [(RowKind.QA_WRONG, None, False), (RowKind.REOPENED, None, False)]


def test_where_people_put_a_handed_over_ticket_is_a_label_if_the_group_owns_one_type() -> None:
    after = {"handed_over_at": START, "abstained": False}
    (billing,) = rows(say(Said.OVERRIDE, hour=1, group="Billing"), **after)
    assert (billing.kind, billing.category, billing.eligible, billing.weight) == (RowKind.HANDED_OVER, "invoice", True, 0.6)
    (desk,) = rows(say(Said.OVERRIDE, hour=1, group="Service Desk"), **after)
    assert desk.category is None and not desk.eligible


def test_a_change_of_the_priority_alone_is_no_row() -> None:
    assert rows(say(Said.OVERRIDE, hour=1)) == []


def test_at_most_one_row_of_a_ticket_is_learned_from() -> None:
    found = rows(OVERRIDE, APPROVED, say(Said.FEEDBACK, hour=4, rating="good"), say(Said.FINISHED, hour=5, who="max"), VERIFIED)
    assert len(found) == 5 and sum(row.eligible for row in found) == 1
