"""Authorize a proposal: default is refusal, forbid wins, and the verdict names the rule that decided. Pure; calls nothing.

Rules are reviewed YAML files of conditions over facts. What no rule file could loosen is code: the action must stand in the
ticket type's runbook by exact name, its arguments must fit the catalogue, and every argument must have a trusted source.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.domain.actions import Action
from orchestrator.domain.resolution import Decision, Proposal, Provenance, Rung, Verdict
from orchestrator.resolution.arguments import RECOGNIZERS, Recognizers
from orchestrator.resolution.conditions import comparable
from orchestrator.resolution.evaluate import errors_of, judge_rules, strongest
from orchestrator.resolution.facts import Facts, scalars
from orchestrator.resolution.policies import Policies
from orchestrator.resolution.recorded import Looked, recorded
from orchestrator.resolution.runbooks import Runbook

RUNGS: Sequence[Rung] = (Rung.SHADOW, Rung.SUGGEST, Rung.APPROVE, Rung.NOTIFY, Rung.FULL)


def lower_rung(runbook: Rung, override: str | None) -> Rung:
    """The more careful of the runbook's rung and the ticket's override: an override never widens what may be done."""
    if override is None:
        return runbook
    return min(runbook, Rung(override), key=RUNGS.index)


def judge_ticket(facts: Facts, policies: Policies) -> Verdict:
    """Whether this ticket may be handled without a person at all. ALLOW says only that nothing speaks against it."""
    return judge_facts(None, facts, policies)


def judge_facts(action: str | None, facts: Looked, policies: Policies) -> Verdict:
    """What the rules say of an act (None: of the whole ticket) by these facts alone. The verdict carries its record for replay."""
    judged = judge_rules(policies.concerning(action), facts.look)
    verdict = strongest(judged, facts.values()) or _default(action, errors_of(judged))
    return replace(verdict, basis=recorded(action, verdict, facts, policies))


def _default(action: str | None, errors: tuple[str, ...]) -> Verdict:
    if action is None:
        return Verdict(decision=Decision.ALLOW, rule="none", reason="Nothing asks for a person.", errors=errors)
    reason = f"No rule permits {action}, and what is not permitted is refused."
    return Verdict(decision=Decision.DENY, rule="default", reason=reason, errors=errors)


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
        return replace(flaw, basis=recorded(proposal.action, flaw, facts, policies, by_code=True))
    return judge_facts(proposal.action, facts, policies)


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
