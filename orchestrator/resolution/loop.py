"""The loop inside a runbook: plan, act, observe, refine. At each turn one of the steps whose preconditions hold is taken, until the
probe says solved, no step is left, the limit is reached or there is a reason to hand over.

Code says which steps are open; the language model only scores among those, and only where several are. Each turn is written down
before it is taken, so that a run that resumes takes the same way again. Knows the effects; carries nothing out.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from orchestrator.domain.resolution import Observation, ObservationStatus, Turn
from orchestrator.ports import ScoreRequest, ScoreResult
from orchestrator.resolution import conditions
from orchestrator.resolution.act import act
from orchestrator.resolution.case import IN_TURN, Case, Stop
from orchestrator.resolution.choose import look_step
from orchestrator.resolution.effects import Ask, Effect, TakeTurn, Way
from orchestrator.resolution.handover import refusal
from orchestrator.resolution.look import arguments_from, look, note_look, worded
from orchestrator.resolution.runbooks import Act, Candidate, Loop, Read, Runbook
from orchestrator.triage.prompts import CODES, Option, next_step_prompt


def work(case: Case, runbook: Runbook) -> Way:
    """Turn after turn until the probe says solved; everything else raises Stop, with what was tried."""
    loop = runbook.loop
    assert loop is not None
    unseen = dict.fromkeys(sorted(loop.bound | {runbook.probe.as_}))
    case.facts = case.facts.with_facts(unseen, source="runbook", detail="not observed yet")
    taken: Counter[str] = Counter()
    for number in range(1, loop.step_limit + 1):
        yield from _derive(case, runbook, loop)
        _check_reasons(case, loop)
        candidate = yield from _plan(case, runbook, number, taken)
        yield from _take(case, runbook, candidate, number)
        taken[candidate.name] += 1
        if isinstance(candidate.step, Act) and (case.shadow or (yield from _solved(case, runbook, number))):
            return
    raise Stop(f"{loop.step_limit} steps were taken ({_told(taken)}) and {runbook.probe.read} still does not say solved.")


def open_steps(loop: Loop, facts: Any, taken: Mapping[str, int]) -> tuple[list[Candidate], dict[str, str]]:
    """The steps whose preconditions hold, in the file's order; and the others, each with why it cannot be taken."""
    found, closed = [], {}
    for each in loop.steps:
        failing = conditions.first_failing(each.when, facts.get)
        if taken.get(each.name, 0) >= each.at_most:
            closed[each.name] = f"taken {taken[each.name]} of {each.at_most} times"
        elif failing is not None:
            closed[each.name] = conditions.said(failing, facts.get)
        else:
            found.append(each)
    return found, closed


def _derive(case: Case, runbook: Runbook, loop: Loop) -> Way:
    for let in loop.derive:
        case.facts = yield from look_step(case, runbook, let, case.facts)


def _check_reasons(case: Case, loop: Loop) -> None:
    for rule in loop.hand_over_when:
        if conditions.all_hold(rule.when, case.facts.get):
            raise Stop(worded(rule.because, case.facts))


# plan


def _plan(case: Case, runbook: Runbook, number: int, taken: Mapping[str, int]) -> Generator[Effect, Any, Candidate]:
    """The step of this turn, written down before it is taken. What an earlier run wrote is taken again while it is still open."""
    loop = runbook.loop
    assert loop is not None
    candidates, closed = open_steps(loop, case.facts, taken)
    by_name = {each.name: each for each in candidates}
    known = case.memory.turn(case.epoch, runbook.ref, number)
    if known and known.chosen in by_name:
        turn = known
    else:
        if not candidates:
            raise Stop(_nothing_left(closed, taken))
        turn = yield from _decide(case, runbook, number, candidates, closed)
        yield TakeTurn(turn=turn)
    case.turns.append(turn)
    case.reasons.append(f"Turn {number}: {turn.why}")
    if turn.chosen is None:
        raise Stop(turn.why)
    return by_name[turn.chosen]


def _decide(
    case: Case, runbook: Runbook, number: int, candidates: Sequence[Candidate], closed: Mapping[str, str]
) -> Generator[Effect, Any, Turn]:
    about: dict[str, Any] = {"runbook": runbook.ref, "number": number, "epoch": case.epoch, "closed": dict(closed)}
    first = candidates[0].name
    if len(candidates) == 1:
        why = f"{first} is the only step whose preconditions hold."
        return Turn(**about, options={first: None}, chosen=first, by="only", why=why)
    if case.shadow and not case.reads_in_shadow:
        raise Stop("A shadow run without systems of record cannot choose a step.")
    prompt, codes = _prompt(case, runbook, candidates)
    result: ScoreResult = yield Ask(request=ScoreRequest(prompt=prompt, options=codes))
    shares = dict(zip((each.name for each in candidates), _shares(result.logprobs), strict=True))
    best = max(shares, key=shares.__getitem__)
    told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    about |= {"options": shares, "model": result.model, "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest()}
    assert runbook.loop is not None
    if shares[best] >= case.playbook.policies.settings.choice_confidence:
        return Turn(**about, chosen=best, by="model", why=f"{best}: of the open steps {result.model} scores it best ({told}).")
    if runbook.loop.unclear == "order":
        why = f"{first}: the scores do not decide ({told}), so the runbook's order does."
        return Turn(**about, chosen=first, by="order", why=why)
    return Turn(**about, chosen=None, by="nobody", why=f"Several steps are open and the choice is not clear ({told}).")


def _prompt(case: Case, runbook: Runbook, candidates: Sequence[Candidate]) -> tuple[str, tuple[str, ...]]:
    """Every step of the loop has one code for good, so that all turns of all tickets share the head of the prompt."""
    assert runbook.loop is not None
    code = {each.name: CODES[index] for index, each in enumerate(runbook.loop.steps)}
    steps = [Option(code=code[each.name], name=each.name.replace("_", " "), means=each.about) for each in runbook.loop.steps]
    codes = tuple(code[each.name] for each in candidates)
    ticket, seen = case.shown, [case.pseudonyms.hide(each) for each in (*case.checked, *case.actions)]
    return next_step_prompt(steps, codes, seen, ticket.text), codes


def _shares(logprobs: Sequence[float]) -> list[float]:
    """Probabilities that sum to 1; what is no number counts for nothing."""
    weights = [math.exp(min(each, 0.0)) if not math.isnan(each) else 0.0 for each in logprobs]
    total = math.fsum(weights)
    return [weight / total if total else 0.0 for weight in weights]


def _nothing_left(closed: Mapping[str, str], taken: Mapping[str, int]) -> str:
    tried = f"After {_told(taken)} the" if taken else "The"
    left = "; ".join(f"{name}: {why}" for name, why in closed.items() if name not in taken)
    return f"{tried} trouble is not solved and no step is left{f' ({left})' if left else ''}."


def _told(taken: Mapping[str, int]) -> str:
    return ", ".join(name.replace("_", " ") for name in taken)


# act and observe


def _take(case: Case, runbook: Runbook, candidate: Candidate, number: int) -> Way:
    match candidate.step:
        case Act():
            yield from act(case, runbook, candidate.step)
        case Read():
            step = candidate.step
            arguments = arguments_from(step.with_, case.facts)
            observation = yield from _observe(case, runbook, f"{step.as_}{IN_TURN}{number}", step.read, arguments)
            body = observation.body if observation.status is ObservationStatus.OK else None
            if step.one is not None:
                body = body[0] if isinstance(body, list) and len(body) == 1 else None
            case.facts = case.facts.with_fact(step.as_, body, source="record", detail=step.read)


def _solved(case: Case, runbook: Runbook, number: int) -> Generator[Effect, Any, bool]:
    """The probe after an act. It is read anew, whatever was read before."""
    probe = runbook.probe
    assert probe.read is not None
    arguments = arguments_from(probe.with_, case.facts)
    observation = yield from _observe(case, runbook, f"{probe.as_}{IN_TURN}{number}", probe.read, arguments)
    if observation.status is not ObservationStatus.OK:
        raise Stop(f"Whether it is solved could not be seen: {refusal(observation)}.")
    case.facts = case.facts.with_fact(probe.as_, observation.body, source="record", detail=probe.read)
    failing = conditions.first_failing(probe.expect, case.facts.get)
    if failing is not None:
        case.checked.append(f"Not solved after turn {number}: {conditions.said(failing, case.facts.get)}")
    return failing is None


def _observe(
    case: Case, runbook: Runbook, name: str, action: str, arguments: Mapping[str, Any]
) -> Generator[Effect, Any, Observation]:
    """A look-up of this very turn: what an earlier run saw in it, or the world now."""
    known = case.seen_at(name)
    if known is None:
        return (yield from look(case, runbook.ref, name, action, arguments, fresh=True, key=name))
    note_look(case, name, action, known)
    return known
