"""What makes an entry of the action catalogue right: alone, and together with the others. Reads records; knows no file."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestrator.domain.actions import Action, Condition, Observe, Risk
from orchestrator.domain.schemas import Schema
from orchestrator.resolution.conditions import problems as condition_problems

_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_MONEY = re.compile(r"(?:^|_)(?:amount|price|total|refund|credit|sum)(?:_|\Z)")
_NUMERIC = {"number", "integer"}


def of_one(action: Action, *, both: bool = False) -> Iterator[str]:
    """Every problem that an entry has by itself. `both`: it names a request and a tool."""
    if both:
        yield "it has a call and a tool; an action is bound to one of them"
    for rules in (_schema_problems, _binding_problems, _naming_problems, _tool_problems, _undo_problems):
        yield from rules(action)
    if action.reviewed:
        yield from _care_problems(action)


def across(action: Action, actions: Mapping[str, Action], written: frozenset[str]) -> Iterator[str]:
    """Every problem that an entry has with the others. `written`: all names of the file, wrong ones too."""
    yield from _compensation_problems(action, actions, written)
    for what, observe in (("observe", action.observe), ("probe", action.probe.observe if action.probe else None)):
        if observe is not None and (what == "observe" or observe != action.observe):
            yield from _observe_problems(action, what, observe, actions, written)
    shown = actions.get(action.observe.read) if action.observe else None
    if shown is not None:
        yield from _shown_problems(action, shown, actions)


# --- alone --------------------------------------------------------------------------------------------------------------


def arguments_of(action: Action) -> Mapping[str, Any]:
    """The schema of every argument, by name."""
    described = action.input.document.get("properties")
    return described if isinstance(described, Mapping) else {}


def _required(action: Action) -> list[str]:
    return action.input.document.get("required", [])


def _schema_problems(action: Action) -> Iterator[str]:
    for what, schema in (("input", action.input), ("output", action.output)):
        own = {name: each for name, each in schema.document.items() if name != "$defs"}  # shared ones are checked once
        if flaw := Schema(own).flaw():
            yield f"{what} is no JSON Schema: {flaw}"
    if action.input.document.get("type") != "object" or action.input.document.get("additionalProperties") is not False:
        yield "input must be an object whose additionalProperties is false"
    properties = action.input.document.get("properties")
    if not isinstance(properties, dict):
        yield "input needs properties (empty where the action takes no arguments)"
    elif unknown := sorted(set(_required(action)) - set(properties)):
        yield f"input requires what it does not describe: {', '.join(unknown)}"


def _binding_problems(action: Action) -> Iterator[str]:
    """Every argument goes to exactly one place of the request, and every place has its argument."""
    if action.tool is not None:
        return
    arguments = set(arguments_of(action))
    placeholders = _PLACEHOLDER.findall(action.path)
    used = [*placeholders, *action.query.values(), *action.body.values()]
    for name in sorted(set(used) - arguments):
        yield f"the request uses {name!r}, which the input does not describe"
    for name in sorted(arguments - set(used)):
        yield f"the input takes {name!r}, which goes nowhere in the request"
    for name in sorted({name for name in used if used.count(name) > 1}):
        yield f"{name!r} goes to more than one place of the request"
    for name in placeholders:
        if name not in _required(action):
            yield f"{name!r} stands in the path, so it must be required"
    if "{" in _PLACEHOLDER.sub("", action.path) or "}" in _PLACEHOLDER.sub("", action.path):
        yield f"the path {action.path!r} has a brace that is no placeholder"
    if action.writes == (action.method == "GET"):
        yield f"writes is {str(action.writes).lower()}, but the method is {action.method}"
    if action.body and action.method in ("GET", "DELETE"):
        yield f"a {action.method} carries no body"


def _naming_problems(action: Action) -> Iterator[str]:
    if not _NAME.fullmatch(action.name):
        yield "a name is 'system.verb_object', lower case"
    elif action.name.partition(".")[0] != action.system:
        yield f"its name does not begin with its system, {action.system!r}"
    if action.writes == (action.risk is Risk.READ):
        yield f"writes is {str(action.writes).lower()}, but the risk is {action.risk}"


def _tool_problems(action: Action) -> Iterator[str]:
    if action.tool is None:
        if action.pin is not None:
            yield "it has a pin, but no tool: only a tool's definition is pinned"
        return
    if action.query or action.body:
        yield f"the tool {action.tool!r} takes its arguments as they are: no query, no body"
    if action.reviewed and action.pin is None:
        yield f"the tool {action.tool!r} has no pin; run `cloister catalog pin`, read what it shows and review it"


def _undo_problems(action: Action) -> Iterator[str]:
    if action.reversible != (action.compensation is not None):
        yield "reversible and compensation go together: name the action that undoes it, or say false"
    for reference in _references(action.compensation_with):
        if not _known(action, {"arguments", "before", "answer"})(reference):
            yield f"its compensation takes ${reference}, which nothing provides; there are $arguments, $before, $answer"


def _care_problems(action: Action) -> Iterator[str]:
    """What a reviewed write must say beyond what it is."""
    if not action.writes:
        for what, given in (("observe", action.observe), ("probe", action.probe), ("approvers", action.approvers)):
            if given is not None:
                yield f"it writes nothing, so it has no {what}"
        if action.preconditions or action.compensation:
            yield "it writes nothing, so it has neither preconditions nor compensation"
        return
    if action.observe is None and not action.unobserved_because:
        yield "it writes, so it needs `observe: {read: ..., with: {...}}` and a probe, or `observe: none` with `because: ...`"
    if action.observe is not None and action.probe is None:
        yield "it has an observe, but no probe: say under `expect` what shows that it took effect"
    if action.observe is None and action.preconditions:
        yield "it has preconditions, but no observe that shows what they ask for"
    if action.approvers is None:
        yield "it writes, so it needs approvers: {roles: [...]}"
    if action.reversible and action.observe is None:
        yield "it is reversible, but nothing shows the state to come back to: give it an observe"
    yield from _condition_problems(action)
    yield from _limit_problems(action)


def _condition_problems(action: Action) -> Iterator[str]:
    for number, condition in enumerate(action.preconditions, start=1):
        yield from condition_problems(condition, _known(action, {"arguments", "before"}), f"precondition {number}: ")
    for number, condition in enumerate(action.probe.expect if action.probe else (), start=1):
        yield from condition_problems(condition, _known(action, {"arguments", "before", "after"}), f"expect {number}: ")


def _limit_problems(action: Action) -> Iterator[str]:
    limits, arguments = action.limits, arguments_of(action)
    money = [name for name, schema in arguments.items() if _MONEY.search(name) and _is_numeric(schema)]
    if limits.amount is not None:
        if limits.amount not in arguments or not _is_numeric(arguments[limits.amount]):
            yield f"limits.amount is {limits.amount!r}, which is no number among its arguments"
        if limits.max_amount is None:
            yield f"limits.amount is {limits.amount!r}, so limits.max_amount must say how much at most"
    elif limits.max_amount is not None:
        yield "limits.max_amount needs limits.amount: the argument that it holds for"
    for name in money:
        if name != limits.amount:
            yield f"the argument {name!r} is money, so limits need amount: {name} and a max_amount"
    if limits.per_target is not None and not action.target:
        yield "limits.per_target needs a target: the arguments that name the record"
    for name in action.target:
        if name not in arguments:
            yield f"the target {name!r} is none of its arguments"


def _is_numeric(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") in _NUMERIC


# --- together -----------------------------------------------------------------------------------------------------------


def _compensation_problems(action: Action, actions: Mapping[str, Action], written: frozenset[str]) -> Iterator[str]:
    if action.compensation is None:
        return
    undo = actions.get(action.compensation)
    if undo is None:
        if action.compensation not in written:  # one that is there, but wrong, was complained about already
            yield f"its compensation {action.compensation!r} is not in the catalogue"
    elif not undo.writes:
        yield f"its compensation {undo.name!r} writes nothing"
    elif action.compensation_with:
        yield from _passing_problems(action, f"its compensation {undo.name!r}", action.compensation_with, undo)
    elif missing := sorted(set(_required(undo)) - set(arguments_of(action))):
        yield f"its compensation {undo.name!r} needs {', '.join(missing)}, which the action does not have"


def _observe_problems(
    action: Action, what: str, observe: Observe, actions: Mapping[str, Action], written: frozenset[str]
) -> Iterator[str]:
    read = actions.get(observe.read)
    if read is None:
        if observe.read not in written:
            yield f"its {what} reads {observe.read!r}, which is not in the catalogue"
        return
    if read.writes:
        yield f"its {what} {read.name!r} writes; it must be a read"
    for reference in _references(observe.arguments):
        if not reference.startswith("arguments."):
            yield f"its {what} takes ${reference}; a read before the act knows $arguments alone"
    yield from _passing_problems(action, f"its {what} {read.name!r}", observe.arguments, read)


def _passing_problems(action: Action, whom: str, given: Mapping[str, Any], taker: Action) -> Iterator[str]:
    """Whether the arguments given to another action are those that it takes."""
    takes = arguments_of(taker)
    for name in sorted(set(given) - set(takes)):
        yield f"{whom} takes no {name!r}; it takes {', '.join(takes) or 'nothing'}"
    for name in sorted(set(_required(taker)) - set(given)):
        yield f"{whom} needs {name!r}"
    for name, value in given.items():
        if name not in takes:
            continue
        if isinstance(value, str) and value.startswith("$"):
            argument = value.removeprefix("$arguments.")
            if value.startswith("$arguments.") and argument not in arguments_of(action):
                yield f"{whom} is given {value}, which is none of the arguments"
            elif value.startswith("$arguments.") and _types(arguments_of(action)[argument]).isdisjoint(_types(takes[name])):
                yield f"{whom} is given {value}, whose type does not fit {name!r}"
        elif sentences := taker.input.problems({name: value}):
            yield from (f"{whom}: {sentence}" for sentence in sentences if f": {name} " in sentence)


def _types(schema: Any) -> set[str]:
    """The JSON types a value may have; all of them where the schema does not say."""
    if not isinstance(schema, Mapping) or not ({"type", "enum"} & set(schema)):
        return {"string", "number", "integer", "boolean", "object", "array", "null"}
    if "type" in schema:
        given = schema["type"]
        return set(given) if isinstance(given, list) else {given}
    return {"string" if isinstance(value, str) else "number" for value in schema["enum"]}


def _shown_problems(action: Action, shown: Action, actions: Mapping[str, Action]) -> Iterator[str]:
    """References to what the reads answer must be fields that their schemas name."""
    probed = actions.get(action.probe.observe.read) if action.probe else None
    undo_uses = list(_references(action.compensation_with))
    uses = [*_condition_references((*action.preconditions, *(action.probe.expect if action.probe else ()))), *undo_uses]
    for reference in dict.fromkeys(uses):
        head, _, rest = reference.partition(".")
        source = {"before": shown, "after": probed, "answer": action}.get(head)
        if source is not None and rest and not _names(source.output.document, rest.split("."), source.output.document):
            yield f"${reference}: {source.name} answers nothing of that name"


def _names(schema: Any, parts: list[str], root: Mapping[str, Any]) -> bool:
    """Whether a schema names this field; anything goes where it names no fields at all."""
    if isinstance(schema, Mapping) and isinstance(target := schema.get("$ref"), str):
        schema = root.get("$defs", {}).get(target.removeprefix("#/$defs/"), {})
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not parts or not isinstance(properties, Mapping):
        return not isinstance(schema, Mapping) or schema.get("type") != "array" or not parts
    return parts[0] in properties and _names(properties[parts[0]], parts[1:], root)


# --- references ---------------------------------------------------------------------------------------------------------


def _known(action: Action, heads: set[str]) -> Callable[[str], bool]:
    def known(reference: str) -> bool:
        head, _, rest = reference.partition(".")
        return head in heads and (head != "arguments" or rest.partition(".")[0] in arguments_of(action))

    return known


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("$"):
        yield value[1:]
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _references(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _references(each)


def _condition_references(conditions: tuple[Condition, ...]) -> Iterator[str]:
    for condition in conditions:
        yield from _references(condition)
