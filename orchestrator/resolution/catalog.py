"""Loads the action catalogue: a reviewed YAML file becomes frozen records, or every problem in it is listed. Calls nothing."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.domain.actions import Action, BlastRadius, Risk
from orchestrator.domain.errors import BadInput, ConfigurationError
from orchestrator.domain.schemas import Schema

BUNDLED = Path(__file__).parent.parent / "company" / "actions.yaml"

_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_CALL = re.compile(r"(GET|POST|PUT|DELETE) (/[^\s?#]*)")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class _Entry(BaseModel):
    """One action as the file writes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: str = Field(min_length=1)
    system: str = Field(min_length=1)
    call: str
    query: dict[str, str] = {}
    body: dict[str, str] = {}
    input: dict[str, Any]
    output: dict[str, Any]
    writes: bool
    risk: Literal["read", "low", "medium", "high"]
    blast_radius: Literal["one_person", "one_account", "one_service", "everyone"]
    reversible: bool = False
    compensation: str | None = None
    idempotent: bool = True
    timeout_s: float = Field(default=10.0, gt=0, le=120)


class Catalog(Mapping[str, Action]):
    """Actions by exact name. An unknown name raises BadInput; nothing is ever matched by prefix."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = dict(actions)

    def __getitem__(self, name: str) -> Action:
        return self._actions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._actions)

    def __len__(self) -> int:
        return len(self._actions)

    def action(self, name: str) -> Action:
        """The action of exactly this name; raises BadInput where there is none."""
        if name not in self._actions:
            raise BadInput(f"The catalogue has no action {name!r}.", hint="Actions are matched by exact name; see actions.yaml.")
        return self._actions[name]

    @property
    def systems(self) -> frozenset[str]:
        return frozenset(action.system for action in self._actions.values())


def load_catalog(path: Path = BUNDLED) -> Catalog:
    """Read and check the whole file; raises ConfigurationError that lists every problem at once."""
    problems: list[str] = []
    entries = _entries(path, problems)
    actions = {name: action for name, entry in entries.items() if (action := _action(name, entry, problems)) is not None}
    for action in actions.values():
        problems += _compensation_problems(action, actions, entries)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ConfigurationError(f"The action catalogue {path} has {len(problems)} problem(s):\n{listed}")
    return Catalog(actions)


class _OnceLoader(yaml.SafeLoader):
    """YAML that refuses the same key twice: the second would silently replace a reviewed action."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _entries(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problems.append(f"it cannot be read: {error}")
        return {}
    entries = document.get("actions") if isinstance(document, dict) else None
    if not isinstance(entries, dict) or not entries:
        problems.append("it has no mapping 'actions' with at least one action")
        return {}
    if unknown := sorted(str(key) for key in set(document) - {"actions", "types"}):
        problems.append(f"unknown top-level key(s): {', '.join(unknown)}; known: types, actions")
    return {str(name): entry for name, entry in entries.items()}


def _action(name: str, raw: Any, problems: list[str]) -> Action | None:
    try:
        entry = _Entry.model_validate(raw)
    except ValidationError as error:
        problems += [
            f"{name}: {'.'.join(map(str, e['loc'])) or 'the entry'}: {e['msg']} (got {e['input']!r:.60})" for e in error.errors()
        ]
        return None
    call = _CALL.fullmatch(entry.call)
    if call is None:
        problems.append(f"{name}: call must be 'METHOD /path', with GET, POST, PUT or DELETE, not {entry.call!r}")
        return None
    schema = {"type": "object", "additionalProperties": False, **entry.input}
    action = Action(
        name=name,
        title=entry.title,
        system=entry.system,
        method=call[1],
        path=call[2],
        query=entry.query,
        body=entry.body,
        input=Schema(schema),
        output=Schema(entry.output),
        writes=entry.writes,
        risk=Risk(entry.risk),
        blast_radius=BlastRadius(entry.blast_radius),
        reversible=entry.reversible,
        compensation=entry.compensation,
        idempotent=entry.idempotent,
        timeout_s=entry.timeout_s,
    )
    found = [f"{name}: {problem}" for problem in (*_schema_problems(action), *_binding_problems(action), *_rule_problems(action))]
    problems += found
    return None if found else action


def _schema_problems(action: Action) -> Iterator[str]:
    for what, schema in (("input", action.input), ("output", action.output)):
        if flaw := schema.flaw():
            yield f"{what} is no JSON Schema: {flaw}"
    if action.input.document.get("type") != "object" or action.input.document.get("additionalProperties") is not False:
        yield "input must be an object whose additionalProperties is false"
    properties = action.input.document.get("properties")
    if not isinstance(properties, dict):
        yield "input needs properties (empty where the action takes no arguments)"
    elif unknown := sorted(set(action.input.document.get("required", [])) - set(properties)):
        yield f"input requires what it does not describe: {', '.join(unknown)}"


def _binding_problems(action: Action) -> Iterator[str]:
    """Every argument goes to exactly one place of the request, and every place has its argument."""
    arguments = set(action.input.document.get("properties") or {})
    placeholders = _PLACEHOLDER.findall(action.path)
    used = [*placeholders, *action.query.values(), *action.body.values()]
    for name in sorted(set(used) - arguments):
        yield f"the request uses {name!r}, which the input does not describe"
    for name in sorted(arguments - set(used)):
        yield f"the input takes {name!r}, which goes nowhere in the request"
    for name in sorted({name for name in used if used.count(name) > 1}):
        yield f"{name!r} goes to more than one place of the request"
    for name in placeholders:
        if name not in action.input.document.get("required", []):
            yield f"{name!r} stands in the path, so it must be required"
    if "{" in _PLACEHOLDER.sub("", action.path) or "}" in _PLACEHOLDER.sub("", action.path):
        yield f"the path {action.path!r} has a brace that is no placeholder"


def _rule_problems(action: Action) -> Iterator[str]:
    if not _NAME.fullmatch(action.name):
        yield "a name is 'system.verb_object', lower case"
    elif action.name.partition(".")[0] != action.system:
        yield f"its name does not begin with its system, {action.system!r}"
    if action.writes == (action.method == "GET"):
        yield f"writes is {str(action.writes).lower()}, but the method is {action.method}"
    if action.writes == (action.risk is Risk.READ):
        yield f"writes is {str(action.writes).lower()}, but the risk is {action.risk}"
    if action.body and action.method in ("GET", "DELETE"):
        yield f"a {action.method} carries no body"
    if action.reversible != (action.compensation is not None):
        yield "reversible and compensation go together: name the action that undoes it, or say false"


def _compensation_problems(action: Action, actions: Mapping[str, Action], entries: Mapping[str, Any]) -> Iterator[str]:
    if action.compensation is None:
        return
    undo = actions.get(action.compensation)
    if undo is None:
        if action.compensation not in entries:  # one that is there, but wrong, was complained about already
            yield f"{action.name}: its compensation {action.compensation!r} is not in the catalogue"
    elif not undo.writes:
        yield f"{action.name}: its compensation {undo.name!r} writes nothing"
    elif missing := sorted(set(undo.input.document.get("required", [])) - set(action.input.document["properties"])):
        yield f"{action.name}: its compensation {undo.name!r} needs {', '.join(missing)}, which the action does not have"
