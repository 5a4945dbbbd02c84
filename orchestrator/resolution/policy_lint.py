"""Rules that say nothing: never reached, or contradicting themselves. Pure; looks at the shape of conditions, never at facts."""

from collections.abc import Mapping
from typing import Any

from orchestrator.resolution.conditions import comparable, number
from orchestrator.resolution.facts import canonical
from orchestrator.resolution.policies import EFFECTS, Policies, Rule

ORDER = list(EFFECTS)


def lint(policies: Policies) -> list[str]:
    """Findings in sentences, sorted. Cheap: shadowing by a stronger rule, the same rule twice, conditions that exclude each other."""
    found = [problem for rule in policies.rules for problem in _never_met(rule)]
    for rule in policies.rules:
        for other in policies.rules:
            if rule.id != other.id and (problem := _shadowed(rule, other)):
                found.append(problem)
    return sorted(set(found))


def _shadowed(rule: Rule, other: Rule) -> str | None:
    """Whether `other` always decides where this rule would: stronger, about at least the same acts, with no condition of its own."""
    if not _covers(other, rule) or not _conditions(other) <= _conditions(rule):
        return None
    if ORDER.index(other.effect) < ORDER.index(rule.effect):
        if (rule.effect, other.effect) == ("permit", "require_approval"):
            return None  # a permit under a general approval is the usual way to say: and after approval it may be done
        return f"{rule.id} is never reached: {other.id} ({other.effect}) always applies where it does"
    same = other.effect == rule.effect and _conditions(other) == _conditions(rule) and _covers(rule, other)
    return f"{min(rule.id, other.id)} and {max(rule.id, other.id)} say the same" if same else None


def _conditions(rule: Rule) -> frozenset[str]:
    return frozenset(canonical(condition) for condition in rule.when)


def _covers(wide: Rule, narrow: Rule) -> bool:
    if wide.applies_to == "tickets":
        return True
    if narrow.applies_to == "tickets":
        return False
    if wide.applies_to == "acts":
        return True
    return isinstance(narrow.applies_to, list) and set(narrow.applies_to) <= set(wide.applies_to)


def _never_met(rule: Rule) -> list[str]:
    """Two conditions of one rule on the same fact that nothing can satisfy together."""
    simple = [condition for condition in rule.when if "value" in condition]
    return [
        f"{rule.id} can never apply: {left['value']} cannot meet two of its conditions at once"
        for index, left in enumerate(simple)
        for right in simple[index + 1 :]
        if left["value"] == right["value"] and _exclude(left, right)
    ]


def _exclude(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return _different(left, right) or _apart(left, right) or _apart(right, left)


def _different(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    if "is" in left and "is" in right and not _reference(left["is"], right["is"]):
        return bool(comparable(left["is"]) != comparable(right["is"]))
    return "is" in left and "is_not" in right and comparable(left["is"]) == comparable(right["is_not"])


def _apart(low: Mapping[str, Any], high: Mapping[str, Any]) -> bool:
    """At most 3 and at least 5."""
    top = number(low.get("at_most", low.get("less_than")))
    bottom = number(high.get("at_least", high.get("more_than")))
    return top is not None and bottom is not None and top < bottom


def _reference(*operands: Any) -> bool:
    return any(isinstance(each, str) and each.startswith("$") for each in operands)
