"""`cloister policy`: written cases, explanations, findings and replays without a stack."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from orchestrator.domain.errors import BadInput
from orchestrator.resolution.playbook import COMPANY, load_playbook
from orchestrator.resolution.policies import Policies, Rule, Settings
from orchestrator.resolution.policy_lint import lint
from serving.cli.policy import policy
from tests.unit.test_governance import facts as refund_facts
from tests.unit.test_policy_replay import decided


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(policy, [str(each) for each in arguments])


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of the bundled policies, to be changed."""
    return shutil.copytree(COMPANY / "policies", tmp_path / "policies")


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_bundled_policies_pass_their_tests_and_every_rule_decides_one() -> None:
    result = run("test", "--json")
    found = json.loads(result.output)
    assert result.exit_code == 0 and found["failed"] == [] and found["rules_no_test_decides"] == [] and found["tests"] > 60


def test_the_bundled_policies_have_no_rule_that_says_nothing() -> None:
    assert run("lint").exit_code == 0


def test_a_changed_figure_fails_the_test_that_guards_it(changed: Path) -> None:
    replace_in(changed / "settings.yaml", "refund_limit: 100.0", "refund_limit: 500.0")
    result = run("test", "--policies", changed)
    assert result.exit_code == 1 and "above the limit" in result.output


def test_a_rule_without_a_test_is_named(changed: Path) -> None:
    when = "[{value: $signals.distress, is: 99}]"
    more = f"\n  - id: nobody-tests-me\n    effect: forbid\n    applies_to: tickets\n    when: {when}\n    reason: x\n"
    people = changed / "01_people.yaml"
    people.write_text(people.read_text(encoding="utf-8") + more, encoding="utf-8")
    listed = json.loads(run("test", "--policies", changed, "--json").output)["rules_no_test_decides"]
    assert listed == ["nobody-tests-me"]


def test_a_test_file_with_an_unknown_decision_is_refused_with_its_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("tests:\n  - {name: x, expect: maybe, rule: y}\n", encoding="utf-8")
    result = run("test", bad)
    assert isinstance(result.exception, BadInput) and "bad.yaml:2" in str(result.exception)


def test_an_explanation_names_the_first_condition_that_fails_with_what_was_found(tmp_path: Path) -> None:
    case = tmp_path / "case.yaml"
    case.write_text(json.dumps(refund_facts(payment={"status": "captured", "evidence": None}).values()), encoding="utf-8")
    (found,) = json.loads(run("explain", "--action", "billing.refund", "--facts", case, "--json").output)
    lines = {line["rule"]: line for line in found["rules"]}
    assert found["rule"] == "refund-needs-evidence"
    assert lines["small-refund"] == lines["small-refund"] | {
        "applies": False,
        "why": "not: payment evidence exists (found: nothing)",
    }
    assert "found: standard" in lines["enterprise-terms"]["why"]


def test_explain_wants_a_file_or_a_ticket() -> None:
    assert run("explain", "--action", "billing.refund").exit_code == 2


def test_a_replay_says_what_would_have_changed(tmp_path: Path, changed: Path) -> None:
    source = tmp_path / "decisions.jsonl"
    source.write_text(json.dumps(decided("billing.refund", refund_facts(), load_playbook().policies)) + "\n", encoding="utf-8")
    assert run("replay", "--policies", changed, "--from", source).exit_code == 0
    replace_in(changed / "settings.yaml", "refund_limit: 100.0", "refund_limit: 30.0")
    result = run("replay", "--policies", changed, "--from", source, "--json")
    (group,) = json.loads(result.output)["changed"]
    assert result.exit_code == 1
    assert (group["was"], group["becomes"], group["tickets"], group["amount"]) == ("allow", "needs_approval", ["T-1"], 40.0)


def test_a_line_that_is_no_decision_is_named(tmp_path: Path, changed: Path) -> None:
    source = tmp_path / "decisions.jsonl"
    source.write_text('{"ticket_id": "T-1"}\n', encoding="utf-8")
    result = run("replay", "--policies", changed, "--from", source)
    assert isinstance(result.exception, BadInput) and "decisions.jsonl:1" in str(result.exception)


def test_lint_finds_rules_that_say_nothing() -> None:
    def rule(name: str, effect: str, *when: dict[str, object]) -> Rule:
        return Rule(id=name, effect=effect, applies_to=["a.b"], when=list(when), reason="x")  # type: ignore[arg-type]

    small, big = {"value": "$amount", "at_most": 3}, {"value": "$amount", "more_than": 5}
    policies = Policies(
        rules=(
            rule("never", "permit", small, big),
            rule("wide", "forbid", small),
            rule("under", "hand_over", small, {"value": "$x", "is": 1}),
        ),
        settings=Settings(),
    )
    assert lint(policies) == [
        "never can never apply: $amount cannot meet two of its conditions at once",
        "never is never reached: wide (forbid) always applies where it does",
        "under is never reached: wide (forbid) always applies where it does",
    ]
