"""What a set of rules says about facts: Cedar's semantics, with five effects instead of two. Pure; knows no file and no proposal.

1. Default is refusal: where no rule applies there is no decision, and the caller refuses.
2. The strongest effect that applies wins (forbid first, permit last), whichever file or line it stands in.
3. A rule whose conditions cannot be judged (a fact is missing, or of the wrong type) permits nothing; where it restricts, it
   applies. Its trouble is told in `errors`.
4. Of several rules with the winning effect all are `determining`; one is named as deciding: a rule that could be judged before one
   that could not, then the strictest approval (the larger quorum, the stricter role, the shorter life), then the first by its id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.resolution import Verdict
from orchestrator.resolution.conditions import Lookup, Trouble, weigh_all
from orchestrator.resolution.policies import APPROVERS, CHANGE_CLASSES, EFFECTS, ChangeRow, Rule
from orchestrator.resolution.replies import fill_line


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One rule on one case."""

    rule: Rule
    met: bool | Trouble

    @property
    def applies(self) -> bool:
        """Trouble counts against the act: it permits nothing and restricts all the same."""
        return self.rule.effect != "permit" if isinstance(self.met, Trouble) else self.met

    @property
    def error(self) -> str | None:
        return f"{self.rule.id}: {self.met.what}" if isinstance(self.met, Trouble) else None


def judge_rules(rules: Sequence[Rule], look: Lookup) -> list[Judged]:
    return [Judged(rule=rule, met=weigh_all(rule.when, look)) for rule in rules]


def strongest(judged: Sequence[Judged], names: Mapping[str, Any]) -> Verdict | None:
    """The verdict of these rules, None where none applies. `names`: the values that a reason may tell."""
    errors = tuple(sorted(each.error for each in judged if each.error))
    for effect, decision in EFFECTS.items():
        applied = sorted((each for each in judged if each.applies and each.rule.effect == effect), key=_strictest_first)
        if applied:
            rule = applied[0].rule
            reason, trouble = _reason(applied[0], names)
            return Verdict(
                decision=decision,
                rule=rule.id,
                reason=reason,
                approvers=rule.approvers,
                quorum=max(each.rule.quorum for each in applied),
                expires_minutes=min((m for each in applied if (m := each.rule.expires_minutes)), default=None),
                change=rule.change,
                review=any(each.rule.review for each in applied),
                determining=tuple(sorted(each.rule.id for each in applied)),
                errors=errors + trouble,
            )
    return None


def errors_of(judged: Sequence[Judged]) -> tuple[str, ...]:
    return tuple(sorted(each.error for each in judged if each.error))


def _strictest_first(judged: Judged) -> tuple[Any, ...]:
    rule = judged.rule
    role = APPROVERS.index(rule.approvers) if rule.approvers else len(APPROVERS)
    return (isinstance(judged.met, Trouble), -rule.quorum, role, rule.expires_minutes or 10**9, rule.id)


def _reason(judged: Judged, names: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The sentence, and what is wrong with it: a reason that cannot be filled never stops a decision."""
    rule = judged.rule
    if isinstance(judged.met, Trouble):
        return f"The rule {rule.id} could not be judged ({judged.met.what}); what cannot be judged counts against the act.", ()
    if "{" not in rule.reason:
        return rule.reason, ()
    try:
        return fill_line(rule.reason, names), ()
    except ConfigurationError:
        return f"The rule {rule.id} applies.", (f"{rule.id}: its reason cannot be filled",)


def change_class(rows: Sequence[ChangeRow], action: str, look: Lookup) -> dict[str, str] | None:
    """{class, because} of a change, by the table; None for an act that is none. A row that cannot be judged does not hold."""
    mine = [row for row in rows if action in row.actions]
    if not mine:
        return None
    held = [row for row in mine if weigh_all(row.when, look) is True]
    for name in CHANGE_CLASSES:
        if because := sorted(row.because for row in held if row.change == name):
            return {"class": name, "because": because[0]}
    return {"class": "normal", "because": "nothing makes it a standard or an emergency change"}
