"""Everything reviewed that the desk acts by: catalogue, runbooks, policies, texts. Loads all, or lists all problems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from orchestrator.autonomy.settings import Ladder, load_ladder
from orchestrator.domain.actions import Action
from orchestrator.domain.autonomy import RUNGS
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.resolution import Rung
from orchestrator.domain.triage import OTHERS
from orchestrator.resolution.catalog import load_catalog
from orchestrator.resolution.policies import Policies, load_policies
from orchestrator.resolution.replies import Macros, load_macros
from orchestrator.resolution.runbook_files import load_runbooks, part_problems
from orchestrator.resolution.runbooks import Runbook

COMPANY = Path(__file__).parent.parent / "company"


@dataclass(frozen=True, kw_only=True)
class Playbook:
    actions: Mapping[str, Action]
    runbooks: Mapping[str, Runbook]
    policies: Policies
    macros: Macros
    groups: Mapping[str, str]  # category -> assignment group
    ladder: Ladder = field(default_factory=Ladder)

    def serving(self, category: str) -> list[Runbook]:
        """The runbooks of a ticket type, in the order of their files."""
        return [runbook for runbook in self.runbooks.values() if category in runbook.ticket_types and not runbook.for_parts]

    def acts(self, category: str) -> list[Action]:
        """What the runbooks of a type may do."""
        return [self.actions[name] for name in sorted({act.act for book in self.serving(category) for act in book.acts})]

    def ceiling(self, category: str) -> Rung:
        """The freest rung that a runbook of the type is reviewed for."""
        return max((runbook.autonomy for runbook in self.serving(category)), key=RUNGS.index, default=Rung.SUGGEST)

    def first_rungs(self) -> dict[str, Rung]:
        """Where each ticket type begins."""
        return {type: self.ladder.begins(type) for type in self.groups if type != OTHERS}

    def eligible(self, category: str) -> bool:
        """Whether tickets of this type can be resolved without a person at all: the denominator of the KPI."""
        return bool(self.serving(category))


def load_playbook(company: Path = COMPANY, *, actions: Mapping[str, Action] | None = None) -> Playbook:
    """Raises ConfigurationError with every problem of every file, each with its line."""
    taxonomy = yaml.safe_load((company / "taxonomy.yaml").read_text(encoding="utf-8"))
    categories: Sequence[str] = [row["name"] for row in taxonomy["categories"]]
    catalog = load_catalog(company / "actions.yaml") if actions is None else actions
    macros, problems = load_macros(company / "macros" / "replies.yaml", categories)
    runbooks, found = load_runbooks(company / "runbooks", actions=catalog, ticket_types=categories, things=macros.things)
    problems += found
    bound = {name for runbook in runbooks.values() for name in runbook.bound}
    policies, found = load_policies(company / "policies", actions=catalog, bound_names=bound)
    problems += found
    problems += _never_permitted(runbooks, policies) + part_problems(runbooks)
    ladder, found = load_ladder(company, categories)
    problems += found
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigurationError(f"The desk's runbooks, policies and texts have {len(problems)} problem(s):\n{listed}")
    groups = {row["name"]: row["group"] for row in [*taxonomy["categories"], taxonomy["others"]]}
    return Playbook(actions=catalog, runbooks=runbooks, policies=policies, macros=macros, groups=groups, ladder=ladder)


def _never_permitted(runbooks: Mapping[str, Runbook], policies: Policies) -> list[str]:
    """Acts that a runbook wants and no rule could ever let through: default is refusal, so this is a mistake."""
    named = {
        name
        for rule in policies.rules
        if rule.effect in {"permit", "require_approval"} and isinstance(rule.applies_to, list)
        for name in rule.applies_to
    }
    return [
        f"{runbook.name}.yaml: no policy permits {act.act}, so step `{act.as_}` could never be taken"
        for runbook in runbooks.values()
        for act in runbook.acts
        if act.act not in named
    ]
