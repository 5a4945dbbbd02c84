"""Look something up, once per run, and put what was found into words. Reads records; knows no runbook's purpose."""

from collections.abc import Generator, Mapping
from typing import Any

from orchestrator.domain.resolution import (
    Observation,
)
from orchestrator.resolution import effects
from orchestrator.resolution.case import Case, Stop
from orchestrator.resolution.effects import Effect
from orchestrator.resolution.facts import Facts, canonical
from orchestrator.resolution.handover import looked_up
from orchestrator.resolution.replies import fill_line


def look(
    case: Case, runbook: str, step: str, action: str, arguments: Mapping[str, Any], *, fresh: bool = False, key: str = ""
) -> Generator[Effect, Any, Observation]:
    """One look-up: what an earlier run read before it acted, what this run has read, or the world now.

    `key`: what it is kept under, where the same look-up at another time is another observation.
    """
    key = key or f"{action} {canonical(dict(arguments))}"
    if not fresh:
        known = case.remembered(action, arguments) or case.observed.get(key)
        if known is not None:
            note_look(case, key, action, known)
            return known
    case.steps_taken += 1
    limit = case.runbook.step_limit if case.runbook else 40
    if case.steps_taken > limit:
        raise Stop(f"More than {limit} steps were needed, which is more than the runbook allows.")
    if case.shadow and not case.reads_in_shadow:
        raise Stop("A shadow run without systems of record cannot look anything up.")
    observation: Observation = yield effects.Read(runbook=runbook, step=step, action=action, arguments=arguments)
    note_look(case, key, action, observation)
    return observation


def note_look(case: Case, key: str, action: str, observation: Observation) -> None:
    if key not in case.observed:
        case.checked.append(looked_up(case.playbook.actions[action].title, observation))
    case.observed[key] = observation


def arguments_from(given: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    filled = {
        name: facts.get(value[1:]) if isinstance(value, str) and value.startswith("$") else value for name, value in given.items()
    }
    return {name: value for name, value in filled.items() if value is not None}


def worded(template: str, facts: Facts) -> str:
    return fill_line(template, facts.values()) if "{" in template else template
