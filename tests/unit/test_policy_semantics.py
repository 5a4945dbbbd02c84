"""The language of the policies by its documented examples: Cedar's four rules, restrictions that cannot be judged, classes of change."""

from typing import Any

import pytest

from orchestrator.domain.resolution import Decision
from orchestrator.resolution.conditions import ABSENT, Trouble, weigh
from orchestrator.resolution.evaluate import change_class
from orchestrator.resolution.facts import Facts
from orchestrator.resolution.governance import judge_facts
from orchestrator.resolution.playbook import load_playbook
from orchestrator.resolution.policies import ChangeRow, Policies, Rule, Settings

ACT = "photo.view"


def rule(name: str, effect: str, *when: dict[str, Any], **more: Any) -> Rule:
    approvers = "lead" if effect == "require_approval" else None
    return Rule(
        **{"id": name, "effect": effect, "applies_to": [ACT], "when": list(when), "reason": name, "approvers": approvers, **more}
    )


def verdict(rules: list[Rule], /, **facts: Any) -> Any:
    return judge_facts(
        ACT, Facts().with_facts(facts, source="record", detail="t"), Policies(rules=tuple(rules), settings=Settings())
    )


ALICE = {"value": "$principal.name", "is": "alice"}
PRIVATE = {"value": "$resource.private", "is": True}
PERMIT = rule("permit-alice", "permit", ALICE)
FORBID = rule("forbid-private", "forbid", PRIVATE)


@pytest.mark.parametrize(
    ("rules", "facts", "decision", "deciding", "errors"),
    [
        # Cedar: no policy is satisfied -> Deny
        ([], {"principal": {"name": "alice"}}, Decision.DENY, "default", 0),
        ([PERMIT], {"principal": {"name": "bob"}}, Decision.DENY, "default", 0),
        # Cedar: a permit is satisfied and no forbid -> Allow
        ([PERMIT], {"principal": {"name": "alice"}}, Decision.ALLOW, "permit-alice", 0),
        ([PERMIT, FORBID], {"principal": {"name": "alice"}, "resource": {"private": False}}, Decision.ALLOW, "permit-alice", 0),
        # Cedar: a forbid is satisfied -> Deny, whatever permits
        ([PERMIT, FORBID], {"principal": {"name": "alice"}, "resource": {"private": True}}, Decision.DENY, "forbid-private", 0),
        # Cedar: a permit that errors is skipped and told
        ([PERMIT], {"principal": {}}, Decision.DENY, "default", 1),
        # stricter than Cedar, which skips an erring forbid: what cannot be judged counts against the act
        ([PERMIT, FORBID], {"principal": {"name": "alice"}, "resource": {}}, Decision.DENY, "forbid-private", 1),
        ([PERMIT, FORBID], {"principal": {"name": "alice"}}, Decision.DENY, "forbid-private", 1),
        # known to be nothing is no error: it just satisfies nothing
        ([PERMIT, FORBID], {"principal": {"name": "alice"}, "resource": None}, Decision.ALLOW, "permit-alice", 0),
    ],
)
def test_the_documented_examples(rules: list[Rule], facts: dict[str, Any], decision: Decision, deciding: str, errors: int) -> None:
    found = verdict(rules, **facts)
    assert (found.decision, found.rule, len(found.errors)) == (decision, deciding, errors), found


@pytest.mark.parametrize("effect", ["forbid", "hand_over", "require_identity", "require_approval"])
@pytest.mark.parametrize("amount", ["a lot", True, [1]])
def test_a_restriction_on_a_fact_of_the_wrong_type_applies(effect: str, amount: Any) -> None:
    limit = rule("limit", effect, {"value": "$amount", "more_than": 10})
    found = verdict([rule("anything", "permit"), limit], amount=amount)
    assert found.rule == "limit" and "no number" in found.errors[0] and "counts against" in found.reason, found
    assert verdict([rule("anything", "permit"), limit], amount=10).decision is Decision.ALLOW


def test_all_rules_that_led_to_the_decision_are_named() -> None:
    found = verdict([rule("b", "forbid"), rule("a", "forbid"), rule("c", "hand_over"), rule("d", "permit")])
    assert (found.rule, found.determining) == ("a", ("a", "b"))


def test_of_several_approvals_the_strictest_decides_and_the_others_count() -> None:
    found = verdict(
        [
            rule("a-lead", "require_approval", expires_minutes=10),
            rule("b-board", "require_approval", approvers="approver", quorum=2, expires_minutes=60),
            rule("c-after", "require_approval", review=True),
        ]
    )
    assert (found.rule, found.approvers, found.quorum, found.expires_minutes, found.review) == ("b-board", "approver", 2, 10, True)


def test_a_reason_that_cannot_be_filled_never_stops_a_decision() -> None:
    found = verdict([rule("told-badly", "forbid", reason="Of {{ nobody.name }}")])
    assert found.decision is Decision.DENY and "cannot be filled" in found.errors[0]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"any": [{"value": "$gone", "is": 1}, {"value": "$one", "is": 1}]}, True),
        ({"any": [{"value": "$one", "is": 1}, {"value": "$gone", "is": 1}]}, True),
        ({"any": [{"value": "$gone", "is": 1}, {"value": "$one", "is": 2}]}, "gone is missing"),
        ({"all": [{"value": "$gone", "is": 1}, {"value": "$one", "is": 2}]}, False),
        ({"all": [{"value": "$gone", "is": 1}, {"value": "$one", "is": 1}]}, "gone is missing"),
        ({"not": {"value": "$gone", "is": 1}}, "gone is missing"),
        ({"value": "$one", "is": "$gone"}, "gone is missing"),
        ({"value": "$one", "in": [2, "$gone"]}, "gone is missing"),
        ({"value": "$gone", "exists": False}, True),
        ({"value": "$one", "after": "2026-01-01"}, "one is '1', no instant"),
        ({"value": "$one", "has": 1}, "one is '1', no list"),
    ],
)
def test_what_cannot_be_told_decides_only_where_it_matters(condition: dict[str, Any], expected: bool | str) -> None:
    found = weigh(condition, lambda path: {"one": 1}.get(path, ABSENT))
    assert (found.what if isinstance(found, Trouble) else found) == expected


def test_every_change_in_the_bundled_catalog_is_of_exactly_one_class_and_normal_where_nothing_is_known() -> None:
    playbook = load_playbook()
    changes = {action for row in playbook.policies.changes for action in row.actions}
    assert changes == {"monitoring.restart_service", "monitoring.rotate_certificate", "monitoring.roll_back_deployment"}
    for action in changes:
        assert playbook.policies.concerning(action) and "change.class" in playbook.policies.paths_for(action)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"safe": True, "urgent": True}, "standard"),
        ({"safe": False, "urgent": True}, "emergency"),
        ({"safe": False, "urgent": False}, "normal"),
        ({}, "normal"),  # nothing is known, so nobody approved it beforehand
    ],
)
@pytest.mark.parametrize("step", [1, -1])
def test_a_change_is_normal_unless_the_table_shows_otherwise(known: dict[str, Any], expected: str, step: int) -> None:
    rows = [
        ChangeRow(change="standard", actions=[ACT], when=[{"value": "$safe", "is": True}], because="safe"),
        ChangeRow(change="emergency", actions=[ACT], when=[{"value": "$urgent", "is": True}], because="urgent"),
    ][::step]
    facts = Facts().with_facts(known, source="record", detail="t")
    assert (change_class(rows, ACT, facts.look) or {})["class"] == expected
    assert change_class(rows, "another.act", facts.look) is None
