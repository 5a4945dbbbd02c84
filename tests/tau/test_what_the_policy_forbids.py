"""What tau2's policies forbid is refused, by the rule that carries out the sentence."""

from collections import Counter

import pytest

from orchestrator.domain.resolution import Decision
from tests.tau import data
from tests.tau.asked import forbidden
from tests.tau.replay import Desk
from tests.tau.sentences import plain, sourced
from tests.tau.violations import Refusal, cases, refusals

PER_RULE = 12
REFUSING = ("forbid", "hand_over", "require_identity")


@pytest.fixture(scope="module")
def refused(desk: Desk) -> list[Refusal]:
    return refusals(desk, cases(desk.domain, at_most=PER_RULE))


def test_no_generated_violation_is_allowed_and_nothing_of_it_is_done(desk: Desk, refused: list[Refusal]) -> None:
    assert len(refused) > 200
    assert [each.case for each in refused if each.decision == "allow"] == []


def test_each_violation_is_refused_by_the_rule_of_its_sentence(refused: list[Refusal]) -> None:
    assert [(each.case.rule, each.rules, dict(each.case.arguments)) for each in refused if not each.as_expected] == []


def test_every_refusing_rule_decides_some_generated_case(desk: Desk, refused: list[Refusal]) -> None:
    rules = {rule.id for rule in desk.playbook.policies.rules if rule.effect in REFUSING}
    assert rules == {rule for each in refused for rule in each.rules}


def test_there_are_thousands_of_violations_to_draw_from(desk: Desk) -> None:
    counts = Counter(case.rule for case in cases(desk.domain))
    assert sum(counts.values()) > 5000
    assert min(counts.values()) >= 5, counts


def test_every_quoted_sentence_stands_in_the_policy(desk: Desk) -> None:
    policy = plain(data.policy(desk.domain))
    rules = sourced(desk.domain)
    assert [rule.id for rule in desk.playbook.policies.rules] == [each.rule for each in rules]
    missing = [(each.rule, piece) for each in rules for piece in each.quotes if plain(piece) not in policy]
    assert missing == []
    assert sum(bool(each.quotes) for each in rules) > 15


def test_what_the_tasks_own_assertions_forbid_is_refused(desk: Desk) -> None:
    found = forbidden(desk)
    assert len({each.task for each in found}) >= {"retail": 3, "airline": 15}[desk.domain]
    assert [each for each in found if each.verdict.decision is Decision.ALLOW] == []
    assert "provenance" not in {each.verdict.rule for each in found}
