"""Read and check the policy files: rules, figures, classes of change. Knows their shape; judges nothing.

A folder is one set: which file a rule stands in and in which order changes nothing. `digest` names the set by its content, and
`paths_for` says which facts its rules read about an action: what a recorded decision must hold to be judged again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.domain.actions import Action
from orchestrator.domain.resolution import Decision
from orchestrator.resolution import conditions
from orchestrator.resolution.facts import sha256
from orchestrator.resolution.replies import template_paths, template_problems
from orchestrator.resolution.runbooks import BASE_NAMES
from orchestrator.resolution.yamlfile import YamlFile, read_yaml

APPROVERS = ("approver", "lead")  # roles of the gateway that may decide an approval; the first is the stricter
EFFECTS: Mapping[str, Decision] = {
    "forbid": Decision.DENY,
    "hand_over": Decision.HAND_OVER,
    "require_identity": Decision.NEEDS_IDENTITY,
    "require_approval": Decision.NEEDS_APPROVAL,
    "permit": Decision.ALLOW,
}
"""What a rule can say, the strongest first: a stronger rule that applies always beats a weaker one."""

POLICY_NAMES = BASE_NAMES | {
    "action",
    "anomaly",
    "arguments",
    "assurance",
    "change",
    "confidence",
    "conflict",
    "contact",
    "context",
    "desk",
    "freeze",
    "money",
    "own",
    "owner",
    "priority",
    "rung",
    "runbook",
    "service",
}
"""Facts that every rule can read. `freeze`, `money`, `action` ... are there when an action is judged, not for a whole ticket."""

ALWAYS = frozenset(
    {
        "account.annual_value",
        "account.region",
        "account.tier",
        "action.blast_radius",
        "action.name",
        "action.reversible",
        "action.risk",
        "anomaly",
        "arguments.amount",
        "assurance",
        "change.class",
        "confidence",
        "freeze.active",
        "money",
        "own",
        "owner",
        "priority.level",
        "rung",
        "service.tier",
        "ticket.category",
        "ticket.channel",
    }
)
"""Recorded with every act whether a rule reads it or not, so that a rule of tomorrow can be tried on the decisions of today."""

CHANGE_CLASSES = ("standard", "emergency", "normal")
"""Where several rows of the table of changes hold, the first of these; where none does, a change is a normal one."""


class Rule(BaseModel):
    """One line of policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    effect: Literal["forbid", "hand_over", "require_identity", "require_approval", "permit"]
    applies_to: Literal["tickets", "acts"] | list[str]  # whole tickets (and so all their acts), all acts, or acts by exact name
    when: list[dict[str, Any]] = []
    reason: str  # template over the same facts
    approvers: str | None = None
    quorum: int = Field(default=1, ge=1, le=5)  # different people who must approve
    expires_minutes: int | None = Field(default=None, ge=1, le=43_200)  # then it is a no; not given: the desk's default
    review: bool = False  # somebody looks at it again afterwards
    change: Literal["standard", "normal", "emergency"] | None = None  # which class of change this rule is about

    def concerns(self, action: str | None) -> bool:
        """Whether it is about this act, or about whole tickets where no action is given."""
        if action is None:
            return self.applies_to == "tickets"
        return isinstance(self.applies_to, str) or action in self.applies_to


class ChangeRow(BaseModel):
    """One row of the table that tells standard, normal and emergency changes apart."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    change: Literal["standard", "normal", "emergency"]
    actions: list[str] = Field(min_length=1)
    when: list[dict[str, Any]] = []
    because: str


class Settings(BaseModel):
    """Figures that rules refer to as `$desk.<name>` and that the desk needs to carry them out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    code_minutes: int = Field(default=30, ge=5, le=1440)  # how long a one-time code is good for
    code_tries: int = Field(default=1, ge=1, le=5)  # wrong ones before a person takes over
    exchanges_max: int = Field(default=4, ge=1, le=20)  # answered questions of one ticket, before a person takes over
    contact_days: int = Field(default=14, ge=1, le=90)  # how far back earlier contacts count
    refund_limit: float = Field(default=100.0, ge=0)  # up to this a refund needs no approval
    refund_daily_cap: float = Field(default=200.0, ge=0)  # per requester and 24 hours
    refund_account_cap: float = Field(default=500.0, ge=0)  # per account and 24 hours
    refund_desk_cap: float = Field(default=5000.0, ge=0)  # of the whole desk in 24 hours
    refund_ticket_max: float = Field(default=1000.0, ge=0)  # for one ticket; more is never given back without a person
    refund_attempts: int = Field(default=3, ge=1)  # of one requester within 24 hours, given or not, before a person looks
    spike_factor: float = Field(default=3.0, ge=1)  # refunds of the last hour, by the usual hour of the last days
    spike_floor: int = Field(default=20, ge=1)  # fewer refunds in an hour than this are no spike
    valuable_account: float = Field(default=250_000.0, ge=0)  # yearly value from which a person gives money back
    wide_confidence: float = Field(default=0.99, ge=0, le=1)  # of the type, for an act that touches more than one account
    narrow_confidence: float = Field(default=0.5, ge=0, le=1)  # of the type, for any act at all
    license_limit: float = Field(default=300.0, ge=0)  # yearly seat cost that is renewed without approval
    breaker_repeats: int = Field(default=3, ge=2)  # so often the same act on an unchanged target is refused, and frozen
    breaker_alternations: int = Field(default=2, ge=1)  # returns of a target to an earlier state, by whomever
    breaker_minutes: float = Field(default=15.0, gt=0)  # within which both count
    unknown_tries: int = Field(default=4, ge=1, le=5)  # runs that look for the end of an act, before a person does
    choice_confidence: float = Field(default=0.6, ge=0.5, le=1)  # below it the model's choice of a runbook counts for nothing
    regions: list[str] = []  # where data of accounts may be handled by this desk; empty: everywhere


@dataclass(frozen=True, kw_only=True)
class Policies:
    rules: tuple[Rule, ...]
    settings: Settings
    changes: tuple[ChangeRow, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)  # rule id -> file, for people

    @cached_property
    def digest(self) -> str:
        """sha256 of what the set says; the order of rules and files does not count."""
        rules = sorted((rule.model_dump(mode="json") for rule in self.rules), key=lambda rule: str(rule["id"]))
        rows = sorted(sha256(row.model_dump(mode="json")) for row in self.changes)
        return sha256("policies", rules, rows, self.settings.model_dump(mode="json"))

    def concerning(self, action: str | None) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.concerns(action))

    @cached_property
    def _reads(self) -> dict[str | None, "Read"]:
        return {}

    def paths_for(self, action: str | None) -> frozenset[str]:
        """Every fact that a rule about this action (None: the whole ticket) reads, in its conditions or its reason."""
        read = set(ALWAYS if action else ())
        for rule in self.concerning(action):
            read |= {path for condition in rule.when for path in conditions.references(condition)}
            read |= template_paths(rule.reason)
        for row in (row for row in self.changes if action in row.actions):
            read |= {path for condition in row.when for path in conditions.references(condition)}
        return frozenset(read - {f"desk.{name}" for name in Settings.model_fields})  # figures belong to the set, not to the case

    def reads_for(self, action: str | None) -> "Read":
        """The same as a tree by name, made once per action."""
        if action not in self._reads:
            self._reads[action] = tree_of(self.paths_for(action))
        return self._reads[action]


@dataclass(kw_only=True)
class Read:
    """A place in the facts: read as it stands, in parts, or both."""

    itself: bool = False
    parts: dict[str, "Read"] = field(default_factory=dict)


def tree_of(paths: Iterable[str]) -> Read:
    """What is always recorded is recorded whole, whichever of its parts a rule reads."""
    root = Read()
    for path in sorted(paths):
        place = root
        for name in path.split("."):
            place = place.parts.setdefault(name, Read())
        place.itself = True
    for path in ALWAYS & set(paths):
        place = root
        for name in path.split("."):
            place = place.parts.get(name, Read())
        place.parts.clear()
    return root


def load_policies(folder: Path, *, actions: Mapping[str, Action], bound_names: Iterable[str]) -> tuple[Policies, list[str]]:
    """All rules of a folder, and every problem of every file. `settings.yaml` holds the figures."""
    known = POLICY_NAMES | frozenset(bound_names)
    rules: list[Rule] = []
    changes: list[ChangeRow] = []
    files: dict[str, str] = {}
    problems: list[str] = []
    settings = Settings()
    for path in sorted(folder.glob("*.yaml")):
        file = read_yaml(path)
        problems += file.problems
        if file.problems:
            continue
        if path.stem == "settings":
            settings, found = _settings(file)
        else:
            mine, rows, found = _rules(file, actions, known)
            rules += mine
            changes += rows
            files |= {rule.id: path.name for rule in mine}
        problems += found
    names = [rule.id for rule in rules]
    problems += [f"{folder.name}: the rule id {name!r} is used twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if not rules and not problems:
        problems.append(f"{folder}: no rule in this folder, so nothing could ever be done")
    return Policies(rules=tuple(rules), settings=settings, changes=tuple(changes), files=files), problems


def _settings(file: YamlFile) -> tuple[Settings, list[str]]:
    try:
        return Settings.model_validate(file.data or {}), []
    except ValidationError as error:
        return Settings(), file.complaints(error)


def _rules(file: YamlFile, actions: Mapping[str, Action], known: frozenset[str]) -> tuple[list[Rule], list[ChangeRow], list[str]]:
    data = file.data if isinstance(file.data, dict) else {}
    lists = {name: data.get(name, []) for name in ("rules", "changes")}
    if not data or set(data) - set(lists) or not all(isinstance(each, list) for each in lists.values()):
        return [], [], [file.complaint((), "a policy file is a mapping with a list `rules`, and perhaps a list `changes`")]
    rules: list[Rule] = []
    rows: list[ChangeRow] = []
    problems: list[str] = []
    for name, index, each in [(name, index, each) for name, listed in lists.items() for index, each in enumerate(listed)]:
        place = (name, index)
        try:
            read: Rule | ChangeRow = Rule.model_validate(each) if name == "rules" else ChangeRow.model_validate(each)
        except ValidationError as error:
            problems += [file.complaint((*place, *e["loc"]), e["msg"]) for e in error.errors()]
            continue
        if isinstance(read, Rule):
            found = _rule_problems(read, actions, known)
            rules.append(read)
        else:
            found = [*_condition_problems(read.when, known), *_action_problems("actions", read.actions, actions)]
            rows.append(read)
        problems += [file.complaint((*place, *where), problem) for where, problem in found]
    return rules, rows, problems


Found = tuple[tuple[str | int, ...], str]  # place inside the rule, problem


def _condition_problems(when: Sequence[Mapping[str, Any]], known: frozenset[str]) -> list[Found]:
    return [
        (("when", index), problem)
        for index, condition in enumerate(when)
        for problem in conditions.problems(condition, lambda path: path.split(".")[0] in known)
    ]


def _action_problems(place: str, names: Sequence[str], actions: Mapping[str, Action]) -> list[Found]:
    unknown = [((place, i), f"the catalogue has no action {name!r}") for i, name in enumerate(names) if name not in actions]
    reads = [
        ((place, i), f"{name} changes nothing; rules are about acts")
        for i, name in enumerate(names)
        if name in actions and not actions[name].writes
    ]
    return [*unknown, *reads]


def _rule_problems(rule: Rule, actions: Mapping[str, Action], known: frozenset[str]) -> list[Found]:
    named = rule.applies_to if isinstance(rule.applies_to, list) else []
    found: list[Found] = [*_condition_problems(rule.when, known), *_action_problems("applies_to", named, actions)]
    found += [(("reason",), problem) for problem in template_problems(rule.reason, known)]
    if rule.effect == "permit" and isinstance(rule.applies_to, str):
        found.append((("applies_to",), "a permit names its actions one by one"))
    if (rule.approvers is not None) != (rule.effect == "require_approval"):
        found.append((("approvers",), "goes with require_approval, and only with it"))
    elif rule.approvers is not None and rule.approvers not in APPROVERS:
        found.append((("approvers",), f"must be one of {', '.join(APPROVERS)}, not {rule.approvers!r}"))
    if rule.effect != "require_approval":
        given = {"quorum", "expires_minutes", "review"} & rule.model_fields_set
        found += [((name,), "goes with require_approval, and only with it") for name in sorted(given)]
    return found
