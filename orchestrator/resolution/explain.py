"""Why governance says what it says: every rule about the act, whether it applies, and what it stumbles over first. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.resolution import Verdict
from orchestrator.resolution import conditions
from orchestrator.resolution.conditions import ABSENT, Lookup, Trouble
from orchestrator.resolution.evaluate import Judged, judge_rules
from orchestrator.resolution.governance import judge_facts
from orchestrator.resolution.policies import EFFECTS, Policies
from orchestrator.resolution.recorded import Looked


@dataclass(frozen=True, kw_only=True)
class Line:
    rule: str
    file: str
    effect: str
    applies: bool
    why: str  # the first condition that does not hold, with what was found; for one that applies, its conditions


@dataclass(frozen=True, kw_only=True)
class Explained:
    verdict: Verdict
    lines: tuple[Line, ...]  # the strongest effect first, then by id

    def document(self) -> dict[str, Any]:
        verdict = self.verdict
        return {
            "decision": str(verdict.decision),
            "rule": verdict.rule,
            "reason": verdict.reason,
            "determining": list(verdict.determining),
            "errors": list(verdict.errors),
            "approvers": verdict.approvers,
            "quorum": verdict.quorum,
            "change": verdict.change,
            "rules": [
                {"rule": line.rule, "file": line.file, "effect": line.effect, "applies": line.applies, "why": line.why}
                for line in self.lines
            ],
        }


def explain(action: str | None, facts: Looked, policies: Policies) -> Explained:
    """Every rule about this act (None: the whole ticket), and the verdict."""
    judged = judge_rules(policies.concerning(action), facts.look)
    order = list(EFFECTS)
    judged.sort(key=lambda each: (order.index(each.rule.effect), each.rule.id))
    lines = tuple(
        Line(
            rule=each.rule.id,
            file=policies.files.get(each.rule.id, ""),
            effect=each.rule.effect,
            applies=each.applies,
            why=_why(each, facts.look),
        )
        for each in judged
    )
    return Explained(verdict=judge_facts(action, facts, policies), lines=lines)


def _why(judged: Judged, look: Lookup) -> str:
    if isinstance(judged.met, Trouble):
        return f"cannot be judged: {judged.met.what}"
    if not judged.rule.when:
        return "always"
    if judged.met:
        return "; ".join(said(condition, look) for condition in judged.rule.when)
    failing = next(condition for condition in judged.rule.when if conditions.weigh(condition, look) is False)
    return f"not: {said(failing, look)}"


def said(condition: Mapping[str, Any], look: Lookup) -> str:
    """A condition in words with what was found; what is absent counts as nothing in the words."""
    return conditions.said(condition, lambda path: None if (value := look(path)) is ABSENT else value)
