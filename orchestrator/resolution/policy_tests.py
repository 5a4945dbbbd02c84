"""Tests of policies as files beside them: given these facts, this act comes to this decision by this rule. Pure but for reading.

A file holds a list `tests`, and perhaps `facts`: a calm case that each test starts from and changes by paths:
`given: {account.tier: enterprise}`; `absent: [service]` takes a fact away. The figures of the set are there as `$desk.*`.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.domain.resolution import Decision, Verdict
from orchestrator.resolution.evaluate import change_class
from orchestrator.resolution.facts import Facts
from orchestrator.resolution.governance import judge_facts
from orchestrator.resolution.policies import Policies
from orchestrator.resolution.yamlfile import YamlFile, read_yaml


class PolicyTest(BaseModel):
    """One case and what must come of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    action: str | None = None  # None: the whole ticket is judged
    given: dict[str, Any] = {}  # path -> value, over the file's facts
    absent: list[str] = []  # paths that are taken away
    expect: str
    rule: str
    errors: list[str] = []  # rules that cannot be judged, by id
    quorum: int | None = None
    change: str | None = None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One test and what came of it."""

    file: str
    name: str
    problem: str  # empty: as expected
    determining: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Report:
    checked: tuple[Checked, ...]
    undecided: tuple[str, ...]  # rules that no test saw among the determining ones
    problems: tuple[str, ...]  # of the files

    @property
    def failed(self) -> tuple[Checked, ...]:
        return tuple(each for each in self.checked if each.problem)

    @property
    def passed(self) -> bool:
        return not self.failed and not self.problems


def run_policy_tests(paths: Sequence[Path], policies: Policies) -> Report:
    """All tests of all files."""
    checked: list[Checked] = []
    problems: list[str] = []
    for path in paths:
        file = read_yaml(path)
        problems += file.problems
        if not file.problems:
            found, wrong = _run_file(file, policies)
            checked += found
            problems += wrong
    decided = {rule for each in checked if not each.problem for rule in each.determining}
    undecided = tuple(sorted(rule.id for rule in policies.rules if rule.id not in decided))
    return Report(checked=tuple(checked), undecided=undecided, problems=tuple(problems))


def _run_file(file: YamlFile, policies: Policies) -> tuple[list[Checked], list[str]]:
    data = file.data if isinstance(file.data, dict) else {}
    if not isinstance(data.get("tests"), list) or set(data) - {"tests", "facts"}:
        return [], [file.complaint((), "a file of policy tests is a mapping with a list `tests`, and perhaps `facts`")]
    checked: list[Checked] = []
    problems: list[str] = []
    for index, each in enumerate(data["tests"]):
        try:
            test = PolicyTest.model_validate(each)
        except ValidationError as error:
            problems += [file.complaint(("tests", index, *e["loc"]), e["msg"]) for e in error.errors()]
            continue
        if test.expect not in {str(decision) for decision in Decision}:
            problems.append(file.complaint(("tests", index, "expect"), f"is one of {', '.join(Decision)}, not {test.expect!r}"))
            continue
        facts = case_of(data.get("facts") or {}, test.given, test.absent, action=test.action, policies=policies)
        verdict = judge_facts(test.action, facts, policies)
        problem = _problem(test, verdict)
        checked.append(
            Checked(file=file.path.name, name=test.name, problem=problem, determining=verdict.determining, verdict=verdict)
        )
    return checked, problems


def _problem(test: PolicyTest, verdict: Verdict) -> str:
    """What is not as expected; empty where all is."""
    expected = {"decision": test.expect, "rule": test.rule, "errors": sorted(test.errors)}
    found = {
        "decision": str(verdict.decision),
        "rule": verdict.rule,
        "errors": sorted({error.split(":")[0] for error in verdict.errors}) if test.errors else [],
    }
    for name in ("quorum", "change"):
        if (wanted := getattr(test, name)) is not None:
            expected[name], found[name] = wanted, getattr(verdict, name)
    wrong = [f"{name} is {found[name]!r}, expected {expected[name]!r}" for name in expected if found[name] != expected[name]]
    return "; ".join(wrong) + (f" ({verdict.reason})" if wrong else "")


def case_of(
    base: Mapping[str, Any], given: Mapping[str, Any], absent: Sequence[str], *, action: str | None, policies: Policies
) -> Facts:
    """The facts of a written case. What the desk itself derives (its figures, the class of a change) is derived here as well."""
    values = copy.deepcopy(dict(base))
    values["desk"] = {"stopped": False, "stopped_because": "", **policies.settings.model_dump(), **(values.get("desk") or {})}
    for path, value in given.items():
        _set(values, path.split("."), copy.deepcopy(value))
    for path in absent:
        _take_away(values, path.split("."))
    facts = Facts().with_facts(values, source="record", detail="the written case")
    if action and "change" not in values and (change := change_class(policies.changes, action, facts.look)):
        facts = facts.with_fact("change", change, source="runbook", detail="the table of changes")
    return facts


def _set(values: dict[str, Any], names: Sequence[str], value: Any) -> None:
    for name in names[:-1]:
        if not isinstance(values.get(name), dict):
            values[name] = {}
        values = values[name]
    values[names[-1]] = value


def _take_away(values: dict[str, Any], names: Sequence[str]) -> None:
    for name in names[:-1]:
        inner = values.get(name)
        if not isinstance(inner, dict):
            return
        values = inner
    values.pop(names[-1], None)
