"""Load runbooks: reviewed YAML files become checked records, or every problem of every file is listed at once. Calls nothing."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.domain.actions import Action
from orchestrator.resolution.runbook_check import Check
from orchestrator.resolution.runbooks import Act, Candidate, Confirm, Let, Pick, Read, Require, Runbook, Search, Step, Take
from orchestrator.resolution.yamlfile import Place, YamlFile, read_yaml

_KINDS: Mapping[str, type[BaseModel]] = {
    "read": Read, "pick": Pick, "take": Take, "let": Let, "require": Require, "search": Search, "confirm": Confirm, "act": Act,
}  # fmt: skip


def part_problems(runbooks: Mapping[str, Runbook]) -> list[str]:
    """What only all runbooks together can show of parent requests: each part has a runbook, and it goes no deeper."""
    problems = []
    for runbook in runbooks.values():
        for part in runbook.fan_out.parts if runbook.fan_out else ():
            theirs = runbooks.get(part.runbook)
            said = f"{runbook.name}.yaml: part `{part.key}`"
            if theirs is None:
                problems.append(f"{said}: there is no runbook {part.runbook!r}")
            elif not theirs.for_parts:
                problems.append(f"{said}: {part.runbook} does not say `for_parts: true`")
            elif part.category not in theirs.ticket_types:
                problems.append(f"{said}: {part.runbook} does not serve {part.category}")
            elif missing := sorted(_ordered(theirs) - set(part.facts) - {"parent", "key"}):
                problems.append(f"{said}: {part.runbook} begins with {', '.join(missing)}, which the part does not give")
    return problems


def _ordered(runbook: Runbook) -> set[str]:
    """The names that a part's runbook was given."""
    return set(re.findall(r"\$part\.([a-z0-9_]+)", runbook.model_dump_json(by_alias=True)))


def load_runbooks(
    folder: Path, *, actions: Mapping[str, Action], ticket_types: Sequence[str], things: Iterable[str] = ()
) -> tuple[dict[str, Runbook], list[str]]:
    """Every runbook of a folder by name, and every problem of every file."""
    runbooks: dict[str, Runbook] = {}
    problems: list[str] = []
    for path in sorted(folder.glob("*.yaml")):
        file = read_yaml(path)
        problems += file.problems
        runbook, found = _read(file) if not file.problems else (None, [])
        problems += found
        if runbook is None:
            continue
        problems += [
            file.complaint(place, problem)
            for place, problem in Check(runbook, actions=actions, ticket_types=ticket_types, things=frozenset(things)).problems()
        ]
        if runbook.name != path.stem:
            problems.append(file.complaint(("name",), f"must be the file's name, {path.stem!r}, not {runbook.name!r}"))
        runbooks[runbook.name] = runbook
    if not runbooks and not problems:
        problems.append(f"{folder}: no runbook (*.yaml) in this folder")
    return runbooks, problems


def _read(file: YamlFile) -> tuple[Runbook | None, list[str]]:
    if not isinstance(file.data, dict):
        return None, [file.complaint((), "a runbook is a mapping")]
    problems: list[str] = []
    steps: list[Step] = []
    raw = file.data.get("steps")
    for index, each in enumerate(raw if isinstance(raw, list) else []):
        step, found = _read_step(file, ("steps", index), each)
        problems += found
        if step is not None:
            steps.append(step)
    data = {**file.data, "steps": steps if isinstance(raw, list) else raw}
    if isinstance(loop := data.get("loop"), dict):
        candidates, found = _read_candidates(file, loop.get("steps"))
        problems += found
        data["loop"] = {**loop, "steps": candidates}
        data.setdefault("verify", loop.get("solved"))
    try:
        runbook = Runbook.model_validate(data)
    except ValidationError as error:
        return None, [*problems, *file.complaints(error)]
    return (None if problems else runbook), problems


def _read_candidates(file: YamlFile, raw: Any) -> tuple[Any, list[str]]:
    """A loop's steps: what every one has, and beside it one look-up or act."""
    if not isinstance(raw, list):
        return raw, []
    candidates, problems = [], []
    for index, each in enumerate(raw):
        place: Place = ("loop", "steps", index)
        own = {key: value for key, value in each.items() if key in _OF_CANDIDATE} if isinstance(each, dict) else {}
        rest = {key: value for key, value in each.items() if key not in own} if isinstance(each, dict) else each
        if isinstance(rest, dict) and not {"read", "act"} & set(rest):
            problems.append(
                file.complaint(place, f"a step of the loop is a `read` or an `act`; got {', '.join(rest) or 'neither'}")
            )
            continue
        step, found = _read_step(file, place, rest)
        problems += found
        try:
            candidates.append(Candidate.model_validate({**own, "step": step}))
        except ValidationError as error:
            problems += file.complaints(error, place) if step is not None else []
    return candidates, problems


_OF_CANDIDATE = frozenset({"name", "about", "when", "at_most"})


def _read_step(file: YamlFile, place: Place, raw: Any) -> tuple[Any, list[str]]:
    kinds = [kind for kind in _KINDS if isinstance(raw, dict) and kind in raw]
    if len(kinds) != 1:
        return None, [file.complaint(place, f"a step is exactly one of {', '.join(_KINDS)}; got {raw!r:.80}")]
    try:
        return _KINDS[kinds[0]].model_validate(raw), []
    except ValidationError as error:
        return None, file.complaints(error, place)
