"""Which runbook: those of the type whose preconditions hold; where several do, the model chooses among them."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.domain.actions import Risk
from orchestrator.domain.resolution import (
    ObservationStatus,
)
from orchestrator.ports import ScoreRequest, ScoreResult
from orchestrator.resolution import arguments as recognize
from orchestrator.resolution import conditions, derive
from orchestrator.resolution.case import Case, Question, Stop
from orchestrator.resolution.effects import Ask, Effect
from orchestrator.resolution.facts import Facts
from orchestrator.resolution.handover import refusal
from orchestrator.resolution.knowing import find_reading, search_step
from orchestrator.resolution.look import arguments_from, look, worded
from orchestrator.resolution.records import pick, take
from orchestrator.resolution.runbooks import Act as ActStep
from orchestrator.resolution.runbooks import Confirm, Let, Pick, Read, Require, Runbook, Search, Take
from orchestrator.triage.prompts import CODES, Option, choice_prompt

QUESTIONS = "how_to"  # the type whose runbooks answer questions
CHOOSE_INSTRUCTION = "Choose the runbook that cures what the ticket reports. Answer with its code."


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A runbook as far as looking goes: its facts, or why it does not fit."""

    runbook: Runbook
    facts: Facts
    passed: int  # steps that went well
    stop: Stop | None = None
    question: Question | None = None


def choose_runbook(case: Case, *, choose: bool = True) -> Generator[Effect, Any, Plan]:
    """The runbook of the type whose preconditions hold; where several do, the model chooses among them."""
    candidates = candidates_for(case)
    if not candidates:
        yield from find_reading(case)
        raise Stop(f"No runbook covers {case.category.replace('_', ' ')}: this is work for {case.group()}.")
    begun = [runbook for runbook in candidates if case.begun(runbook)]
    plans = []
    for runbook in begun or candidates:
        plans.append((yield from prepare(case, runbook)))
    fitting = [plan for plan in plans if plan.stop is None]
    if not fitting:
        raise none_fits(case, plans)
    plan = fitting[0] if len(fitting) == 1 or not choose else (yield from let_model_choose(case, fitting))
    case.runbook, case.facts = plan.runbook, plan.facts
    case.reasons.append(f"Runbook {plan.runbook.ref}: {plan.runbook.title}.")
    return plan


def none_fits(case: Case, plans: Sequence[Plan]) -> Stop:
    """Why no runbook fits; the type's own runbook speaks first, then the one that came furthest."""
    acting = [plan for plan in plans if plan.runbook.acts or plan.runbook.fan_out] or plans
    ordered = sorted(acting, key=lambda plan: (plan.runbook.ticket_types[0] != case.category, -plan.passed))
    case.runbook, case.facts = ordered[0].runbook, ordered[0].facts
    whys = list(dict.fromkeys(plan.stop.why for plan in ordered if plan.stop))
    return Stop(" ".join(whys[:3]))


def candidates_for(case: Case) -> list[Runbook]:
    """The runbooks of the type. A question how something is done is answered from knowledge rather than by changing anything."""
    if case.memory.parent:
        mine = case.playbook.runbooks.get(case.memory.parent.runbook)
        return [mine] if mine and mine.for_parts else []
    candidates = case.playbook.serving(case.category)
    harmless = bool(candidates) and all(_harmless(case, runbook) for runbook in candidates)
    if case.triage.signals.asks_how and not harmless:
        case.reasons.append("Asks how something is done and reports no trouble: to be answered, not acted on.")
        return case.playbook.serving(QUESTIONS)
    return candidates


def _harmless(case: Case, runbook: Runbook) -> bool:
    """Changes nothing, or no more than an extra mail."""
    return all(case.playbook.actions[act.act].risk in {Risk.READ, Risk.LOW} for act in runbook.acts)


def let_model_choose(case: Case, plans: Sequence[Plan]) -> Generator[Effect, Any, Plan]:
    options = [Option(code=CODES[index], name=plan.runbook.name, means=plan.runbook.about) for index, plan in enumerate(plans)]
    prompt = choice_prompt(CHOOSE_INSTRUCTION, options, case.shown.text)
    result: ScoreResult = yield Ask(request=ScoreRequest(prompt=prompt, options=tuple(option.code for option in options)))
    total = math.fsum(math.exp(each) for each in result.logprobs)
    shares = [math.exp(each) / total if total else 0.0 for each in result.logprobs]
    best = max(range(len(plans)), key=shares.__getitem__)
    told = ", ".join(f"{plan.runbook.name} {share:.0%}" for plan, share in zip(plans, shares, strict=True))
    case.reasons.append(f"Several runbooks fit; {result.model} says: {told}.")
    if shares[best] < case.playbook.policies.settings.choice_confidence:
        raise Stop(f"Several runbooks fit and the choice between them is not clear ({told}).")
    return plans[best]


def prepare(case: Case, runbook: Runbook) -> Generator[Effect, Any, Plan]:
    """Go through the runbook's looking steps. Neither asks nor acts: a question is kept for when identity is settled."""
    passed = 0
    facts = case.facts
    try:
        check_person(case, runbook)
        for rule in runbook.eligible:
            if not conditions.holds(rule.that, facts.get):
                raise Stop(worded(rule.otherwise, facts))
        for step in runbook.steps:
            if isinstance(step, Confirm | ActStep):
                break
            facts = yield from look_step(case, runbook, step, facts)
            passed += 1
        for trigger in runbook.escalate_when:
            if conditions.all_hold(trigger.when, facts.get):
                raise Stop(worded(trigger.because, facts))
    except Stop as stop:
        return Plan(runbook=runbook, facts=facts, passed=passed, stop=stop)
    except Question as question:
        return Plan(runbook=runbook, facts=facts, passed=passed, question=question)
    return Plan(runbook=runbook, facts=facts, passed=passed)


def check_person(case: Case, runbook: Runbook) -> None:
    """A runbook for known people, and only for the one who writes."""
    user = case.facts.get("user")
    if runbook.identity != "none" and not user:
        raise Stop(f"The directory knows nobody with the address {case.ticket.requester.email or '(none given)'}.")
    if runbook.for_requester_only:
        own = [case.ticket.requester.email, *((user["id"], user["email"], user.get("account")) if user else ())]
        if words := recognize.somebody_else(case.words, own=own):
            raise Stop(f"The ticket speaks for somebody else (“{words}”), and the desk acts for the requester alone.")


def look_step(case: Case, runbook: Runbook, step: Any, facts: Facts) -> Generator[Effect, Any, Facts]:
    match step:
        case Read():
            return (yield from _read_step(case, runbook, step, facts))
        case Pick():
            record = pick(case, step, facts)
            return facts.with_fact(step.pick, record, source="record", detail=f"one of {step.from_.lstrip('$')}")
        case Take():
            return take(case, step, facts)
        case Let():
            values = [facts.get(each[1:]) if isinstance(each, str) and each.startswith("$") else each for each in step.of]
            detail = f"derived: {step.be} of {', '.join(str(each).lstrip('$') for each in step.of)}"
            derived = derive.FUNCTIONS[step.be](values)
            case.derived.append(derived)
            return facts.with_fact(step.let, derived, source="record", detail=detail)
        case Require():
            failing = conditions.first_failing(step.require, facts.get)
            if failing is not None:
                raise Stop(worded(step.otherwise, facts))
            if told := [rule for rule in step.require if rule.get("value") != "$ticket.words"]:
                case.checked.append(f"Holds: {conditions.all_said(told, facts.get)}")
            return facts
        case Search():
            return (yield from search_step(case, step, facts))
    raise AssertionError(f"no way to take a step {step!r}")


def _read_step(case: Case, runbook: Runbook, step: Read, facts: Facts) -> Generator[Effect, Any, Facts]:
    observation = yield from look(case, runbook.ref, step.as_, step.read, arguments_from(step.with_, facts))
    if observation.status is not ObservationStatus.OK:
        raise Stop(f"{case.playbook.actions[step.read].title}: {refusal(observation)}.")
    body = observation.body
    if step.one is not None:
        if not isinstance(body, list) or len(body) != 1:
            raise Stop(step.one)
        body = body[0]
    return facts.with_fact(step.as_, body, source="record", detail=step.read)
