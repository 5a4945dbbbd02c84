"""Recorded decisions judged again: the same rules say the same; other rules say what would have changed; nothing is made up."""

import json
from typing import Any

import pytest
from hypothesis import given

from orchestrator.resolution.facts import Facts
from orchestrator.resolution.governance import judge_facts
from orchestrator.resolution.playbook import load_playbook
from orchestrator.resolution.policies import Policies, Rule, Settings
from orchestrator.resolution.replay import UNKNOWN, replay
from tests.unit.test_governance import facts as refund_facts
from tests.unit.test_governance_properties import acts, facts, sets

POLICIES = load_playbook().policies


def decided(action: str | None, known: Facts, policies: Policies) -> dict[str, Any]:
    """As it comes back from the log: JSON."""
    basis = judge_facts(action, known, policies).basis
    return json.loads(json.dumps({"ticket_id": "T-1", "at": "2026-11-20T12:00:00Z", "basis": basis}))


@given(sets, acts, facts)
def test_the_same_rules_come_to_the_same_verdict_on_what_was_recorded(chosen: list[Rule], act: str, known: Facts) -> None:
    policies = Policies(rules=tuple(chosen), settings=Settings())
    again = replay([decided(act, known, policies), decided(None, known, policies)], policies)
    assert [row.same for row in again.rows] == [True, True], again


def test_a_lower_limit_shows_which_refunds_would_have_waited_and_how_much_money_that_is() -> None:
    lower = Policies(
        rules=POLICIES.rules, changes=POLICIES.changes, settings=POLICIES.settings.model_copy(update={"refund_limit": 30.0})
    )
    known = [decided("billing.refund", refund_facts(), POLICIES)]
    assert replay(known, POLICIES).changed == ()
    assert replay(known, lower).table() == [
        {
            "was": "allow",
            "becomes": "needs_approval",
            "decisions": 1,
            "tickets": ["T-1"],
            "amount": 40.0,
            "rules": ["refund-over-limit"],
        }
    ]


def test_a_rule_that_asks_for_what_was_never_recorded_cannot_tell() -> None:
    nosy = Rule(id="nosy", effect="forbid", applies_to=["billing.refund"], when=[{"value": "$weather", "is": "bad"}], reason="x")
    (row,) = replay(
        [decided("billing.refund", refund_facts(), POLICIES)], Policies(rules=(*POLICIES.rules, nosy), settings=Settings())
    ).rows
    assert (row.becomes, row.changed) == (UNKNOWN, True) and "weather" in row.reason


def test_a_refusal_by_code_stays_whatever_the_rules_say() -> None:
    decision = decided("billing.refund", refund_facts(), POLICIES)
    decision["basis"] |= {"by_code": True, "decision": "deny", "rule": "provenance"}
    permissive = Policies(rules=(Rule(id="p", effect="permit", applies_to=["billing.refund"], reason="x"),), settings=Settings())
    (row,) = replay([decision], permissive).rows
    assert (row.becomes, row.becomes_rule, row.changed) == ("deny", "provenance", False)


def test_only_facts_that_rules_read_are_recorded_and_their_digest_names_them() -> None:
    first, again, other = (decided("billing.refund", refund_facts(**more), POLICIES)["basis"] for more in ({}, {}, {"left": 50.0}))
    assert "name" not in first["facts"]["user"] and first["facts"]["left"] == 40.0
    assert first["facts_sha256"] == again["facts_sha256"] != other["facts_sha256"]
    assert first["policies"] == POLICIES.digest


@pytest.mark.parametrize("turned", [lambda rules: rules[::-1], lambda rules: rules[3:] + rules[:3]])
def test_the_digest_of_a_set_does_not_depend_on_the_order_of_its_rules(turned: Any) -> None:
    assert (
        Policies(rules=turned(POLICIES.rules), changes=POLICIES.changes[::-1], settings=POLICIES.settings).digest == POLICIES.digest
    )
    assert Policies(rules=POLICIES.rules[1:], changes=POLICIES.changes, settings=POLICIES.settings).digest != POLICIES.digest
