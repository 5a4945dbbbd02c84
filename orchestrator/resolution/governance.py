"""Authorize a proposal: default is refusal, forbid wins, and the verdict names the rule that decided. Pure; calls nothing.

Rules are reviewed YAML files of conditions over facts. What no rule file could loosen is code: the action must stand in the
ticket type's runbook by exact name, its arguments must fit the catalogue, and every argument must have a trusted source.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.domain.actions import Action
from orchestrator.domain.resolution import Decision, Proposal, Provenance, Rung, Verdict
from orchestrator.resolution import conditions
from orchestrator.resolution.arguments import RECOGNIZERS, Recognizers
from orchestrator.resolution.conditions import comparable
from orchestrator.resolution.facts import Facts, scalars
from orchestrator.resolution.replies import fill_line, template_problems
from orchestrator.resolution.runbooks import BASE_NAMES, Runbook
from orchestrator.resolution.yamlfile import YamlFile, read_yaml

APPROVERS = ("approver", "lead")  # roles of the gateway that may decide an approval
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
    "arguments",
    "runbook",
    "owner",
    "own",
    "assurance",
    "contact",
    "desk",
    "freeze",
    "service",
    "money",
    "rung",
}
"""Facts that every rule can read. `freeze`, `money`, `action` ... are there when an action is judged, not for a whole ticket."""

RUNGS: Sequence[Rung] = (Rung.SHADOW, Rung.SUGGEST, Rung.APPROVE, Rung.NOTIFY, Rung.FULL)


class Rule(BaseModel):
    """One line of policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    effect: Literal["forbid", "hand_over", "require_identity", "require_approval", "permit"]
    applies_to: Literal["tickets", "acts"] | list[str]  # whole tickets (and so all their acts), all acts, or acts by exact name
    when: list[dict[str, Any]] = []
    reason: str  # template over the same facts
    approvers: str | None = None


@dataclass(frozen=True, kw_only=True)
class Policies:
    rules: tuple[Rule, ...]  # in the order of the files and of their lines
    settings: "Settings"


class Settings(BaseModel):
    """Figures that rules refer to as `$desk.<name>` and that the desk needs to carry them out."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    code_minutes: int = Field(default=30, ge=5, le=1440)  # how long a one-time code is good for
    code_tries: int = Field(default=1, ge=1, le=5)  # wrong ones before a person takes over
    contact_days: int = Field(default=14, ge=1, le=90)  # how far back earlier contacts count
    refund_limit: float = Field(default=100.0, ge=0)  # up to this a refund needs no approval
    refund_daily_cap: float = Field(default=200.0, ge=0)  # per requester and day
    license_limit: float = Field(default=300.0, ge=0)  # yearly seat cost that is renewed without approval
    choice_confidence: float = Field(default=0.6, ge=0.5, le=1)  # below it the model's choice of a runbook counts for nothing


def load_policies(folder: Path, *, actions: Mapping[str, Action], bound_names: Iterable[str]) -> tuple[Policies, list[str]]:
    """All rules of a folder, and every problem of every file. `settings.yaml` holds the figures."""
    known = POLICY_NAMES | frozenset(bound_names)
    rules: list[Rule] = []
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
            mine, found = _rules(file, actions, known)
            rules += mine
        problems += found
    names = [rule.id for rule in rules]
    problems += [f"{folder.name}: the rule id {name!r} is used twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if not rules and not problems:
        problems.append(f"{folder}: no rule in this folder, so nothing could ever be done")
    return Policies(rules=tuple(rules), settings=settings), problems


def _settings(file: YamlFile) -> tuple[Settings, list[str]]:
    try:
        return Settings.model_validate(file.data or {}), []
    except ValidationError as error:
        return Settings(), file.complaints(error)


def _rules(file: YamlFile, actions: Mapping[str, Action], known: frozenset[str]) -> tuple[list[Rule], list[str]]:
    raw = file.data.get("rules") if isinstance(file.data, dict) else None
    if not isinstance(raw, list) or set(file.data) - {"rules"}:
        return [], [file.complaint((), "a policy file is a mapping with one list, `rules`")]
    rules: list[Rule] = []
    problems: list[str] = []
    for index, each in enumerate(raw):
        place = ("rules", index)
        try:
            rule = Rule.model_validate(each)
        except ValidationError as error:
            problems += [file.complaint((*place, *e["loc"]), e["msg"]) for e in error.errors()]
            continue
        problems += [file.complaint((*place, *where), problem) for where, problem in _rule_problems(rule, actions, known)]
        rules.append(rule)
    return rules, problems


def _rule_problems(rule: Rule, actions: Mapping[str, Action], known: frozenset[str]) -> list[tuple[tuple[str | int, ...], str]]:
    found: list[tuple[tuple[str | int, ...], str]] = []
    for index, condition in enumerate(rule.when):
        found += [(("when", index), p) for p in conditions.problems(condition, lambda path: path.split(".")[0] in known)]
    for index, name in enumerate(rule.applies_to if isinstance(rule.applies_to, list) else ()):
        if name not in actions:
            found.append((("applies_to", index), f"the catalogue has no action {name!r}"))
        elif not actions[name].writes:
            found.append((("applies_to", index), f"{name} changes nothing; rules are about acts"))
    found += [(("reason",), problem) for problem in template_problems(rule.reason, known)]
    if rule.effect == "permit" and rule.applies_to == "acts":
        found.append((("applies_to",), "a permit names its actions one by one"))
    if (rule.approvers is not None) != (rule.effect == "require_approval"):
        found.append((("approvers",), "goes with require_approval, and only with it"))
    elif rule.approvers is not None and rule.approvers not in APPROVERS:
        found.append((("approvers",), f"must be one of {', '.join(APPROVERS)}, not {rule.approvers!r}"))
    return found


def lower_rung(runbook: Rung, override: str | None) -> Rung:
    """The more careful of the runbook's rung and the ticket's override: an override never widens what may be done."""
    if override is None:
        return runbook
    return min(runbook, Rung(override), key=RUNGS.index)


def judge_ticket(facts: Facts, policies: Policies) -> Verdict:
    """Whether this ticket may be handled without a person at all. ALLOW says only that nothing speaks against it."""
    rules = [rule for rule in policies.rules if rule.applies_to == "tickets"]
    return _strongest(rules, facts) or Verdict(decision=Decision.ALLOW, rule="none", reason="Nothing asks for a person.")


def authorize(
    proposal: Proposal,
    facts: Facts,
    *,
    policies: Policies,
    actions: Mapping[str, Action],
    runbook: Runbook,
    category: str,
    words: str,
    observed: Iterable[Any],
    recognizers: Recognizers = RECOGNIZERS,
) -> Verdict:
    """Judge one act.

    `words`: what the requester wrote; `observed`: the bodies that systems of record answered for this ticket. Both show where the
    arguments come from; `recognizers` say what counts as said in the words. A structured argument (a list of ids, of passengers)
    has one source for all of it under its name, or one for each value in it under its place: `passengers.1.first_name`. The
    verdict is ALLOW only where a rule permits this exact action and nothing stronger applies.
    """
    flaw = _flaw(
        proposal, actions=actions, runbook=runbook, category=category, words=words, observed=observed, recognizers=recognizers
    )
    if flaw:
        return flaw
    rules = [rule for rule in policies.rules if isinstance(rule.applies_to, str) or proposal.action in rule.applies_to]
    found = _strongest(rules, facts)
    if found:
        return found
    return Verdict(
        decision=Decision.DENY, rule="default", reason=f"No rule permits {proposal.action}, and what is not permitted is refused."
    )


def _strongest(rules: Sequence[Rule], facts: Facts) -> Verdict | None:
    for effect, decision in EFFECTS.items():
        for rule in rules:
            if rule.effect == effect and conditions.all_hold(rule.when, facts.get):
                return Verdict(decision=decision, rule=rule.id, reason=_reason(rule, facts), approvers=rule.approvers)
    return None


def _reason(rule: Rule, facts: Facts) -> str:
    return fill_line(rule.reason, facts.values()) if "{" in rule.reason else rule.reason


def _flaw(
    proposal: Proposal,
    *,
    actions: Mapping[str, Action],
    runbook: Runbook,
    category: str,
    words: str,
    observed: Iterable[Any],
    recognizers: Recognizers,
) -> Verdict | None:
    def refuse(rule: str, reason: str) -> Verdict:
        return Verdict(decision=Decision.DENY, rule=rule, reason=reason)

    action = actions.get(proposal.action)
    step = next((act for act in runbook.acts if act.as_ == proposal.step), None)
    if action is None:
        return refuse("catalogue", f"The catalogue has no action {proposal.action!r}.")
    if proposal.runbook != runbook.ref or category not in runbook.ticket_types:
        return refuse("runbook-of-type", f"{proposal.runbook} does not serve tickets of type {category}.")
    if step is None or step.act != proposal.action:
        return refuse("runbook-of-type", f"{runbook.ref} has no step {proposal.step!r} that does {proposal.action}.")
    if wrong := action.input_problems(dict(proposal.arguments)):
        return refuse("arguments", f"{'; '.join(wrong)}.")
    bodies = list(observed)
    for name, argument in proposal.arguments.items():
        literal = step.with_.get(name)
        for place, value in _values(name, argument, whole=_is_literal(proposal.provenance.get(name), argument, literal)):
            provenance = proposal.provenance.get(place) or proposal.provenance.get(name)
            if reason := _untrusted(place, value, provenance, literal=literal, words=words, bodies=bodies, recognizers=recognizers):
                return refuse("provenance", reason)
    return None


def _is_literal(provenance: Provenance | None, argument: Any, literal: Any) -> bool:
    return provenance is not None and provenance.source == "runbook" and argument == literal


def _values(place: str, argument: Any, *, whole: bool) -> Iterator[tuple[str, Any]]:
    """Every single value of an argument with its place: each must have a source of its own. An empty structure is one value."""
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(argument, Mapping) and not whole:
        inside = argument.items()
    elif isinstance(argument, list | tuple) and not whole:
        inside = enumerate(argument)
    empty = True
    for key, value in inside:
        empty = False
        yield from _values(f"{place}.{key}", value, whole=False)
    if empty:
        yield place, argument


def _held(value: Any, bodies: Sequence[Any]) -> bool:
    """Some record holds this very value: text without regard to case, numbers by what they are worth."""
    if any(type(each) is type(value) and each == value for body in bodies for each in scalars(body)):
        return True
    wanted = _key(value)
    return any(_key(each) == wanted for body in bodies for each in scalars(body))


def _key(value: Any) -> tuple[str, Any]:
    return type(comparable(value)).__name__, comparable(value)


def _untrusted(
    name: str,
    value: Any,
    provenance: Provenance | None,
    *,
    literal: Any,
    words: str,
    bodies: Sequence[Any],
    recognizers: Recognizers,
) -> str | None:
    """Why an argument's source cannot be trusted; None where it can."""
    if provenance is None:
        return f"Nothing says where {name} comes from."
    match provenance.source:
        case "runbook":
            return None if value == literal else f"{name} is said to be a literal of the runbook, which it is not."
        case "record":
            if _held(value, bodies):
                return None
            return f"{name} is said to come from {provenance.detail}, but no record of this ticket holds it."
        case "ticket":
            return _not_in_words(name, value, provenance.detail, words, recognizers)
    return f"{name} comes from {provenance.source!r}, which is no source for an act."


def _not_in_words(name: str, value: Any, said: str, words: str, recognizers: Recognizers) -> str | None:
    if said not in words:
        return f"{name} is said to stand in the ticket as “{said}”, which it does not."
    for recognize in recognizers.values():
        for found in recognize(words):
            values = [found.value, *(found.value.values() if isinstance(found.value, dict) else ())]
            if found.words == said and any(comparable(each) == comparable(value) for each in values):
                return None
    return f"{name} was not recognized in “{said}”."
