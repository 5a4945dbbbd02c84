"""What an MCP server says of its tools, frozen by hash, and drafts of actions from it. Text only: nothing is called here.

A description is data. It goes into a file that a person reviews; it is part of what the pin covers; no model is ever shown it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.connectors.drafts import Draft, snake, title_of, without_prose
from orchestrator.domain.actions import Action

_FROZEN = ("name", "description", "inputSchema", "outputSchema", "annotations")


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One definition as the server gave it: the fields of `tools/list` that say what the tool is."""

    name: str
    description: str | None = None
    input_schema: Mapping[str, Any] = field(default_factory=dict)
    output_schema: Mapping[str, Any] | None = None
    annotations: Mapping[str, Any] | None = None

    @property
    def canonical(self) -> str:
        """The definition in the one form that is hashed: sorted keys, no spaces, absent parts as null."""
        parts = (self.name, self.description, self.input_schema, self.output_schema, self.annotations)
        whole = dict(zip(_FROZEN, parts, strict=True))
        return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @property
    def pin(self) -> str:
        return "sha256:" + hashlib.sha256(self.canonical.encode()).hexdigest()


def disabled(actions: Iterable[Action], system: str, tools: Sequence[Tool]) -> dict[str, str]:
    """Why each action of a server may not be carried out, by name; those that may are not in it."""
    now: dict[str, Tool] = {}
    twice: set[str] = set()
    for tool in tools:
        twice |= {tool.name} & set(now)
        now[tool.name] = tool
    reasons = {
        action.name: _why_not(action, now.get(action.tool), action.tool in twice)
        for action in actions
        if action.system == system and action.tool is not None
    }
    return {name: reason for name, reason in reasons.items() if reason}


def _why_not(action: Action, tool: Tool | None, twice: bool) -> str:
    advice = "It stays disabled until somebody reviews the definition and pins it again (`cloister catalog pin`)."
    if not action.reviewed:
        return f"{action.name} is a draft; nobody has reviewed it yet."
    if tool is None:
        return f"The server has no tool {action.tool!r} any more. {advice}"
    if twice:
        return f"The server names the tool {action.tool!r} more than once. {advice}"
    if tool.pin != action.pin:
        return f"The definition of the tool {action.tool!r} has changed: reviewed as {action.pin}, now {tool.pin}. {advice}"
    return ""


def draft_of_tools(tools: Sequence[Tool], *, system: str) -> Draft:
    """Every tool as an action that nobody has reviewed: it writes, at the highest risk, whatever the server claims of it."""
    actions: dict[str, Any] = {}
    skipped: list[tuple[str, str]] = []
    for tool in tools:
        name = f"{system}.{snake(tool.name)}"
        if name in actions:
            skipped.append((tool.name, f"its name would be {name}, like another's"))
        elif reason := _unusable(tool):
            skipped.append((tool.name, reason))
        else:
            actions[name] = _entry(tool, system)
    return Draft(actions=actions, schemas={}, skipped=skipped)


def _unusable(tool: Tool) -> str:
    if not re.search(r"[A-Za-z]", tool.name):
        return "its name has no letter"
    if tool.input_schema.get("type") != "object":
        return "its input is no object"
    if _leaves(tool.input_schema) or _leaves(tool.output_schema):
        return "a schema of it refers to another document"
    return ""


def _leaves(value: Any) -> bool:
    """Whether a reference points out of the schema."""
    if isinstance(value, Mapping):
        target = value.get("$ref", "#")
        return not str(target).startswith("#") or any(_leaves(each) for each in value.values())
    return isinstance(value, list) and any(_leaves(each) for each in value)


def _entry(tool: Tool, system: str) -> dict[str, Any]:
    claims = {"description": tool.description, "annotations": tool.annotations}
    return {
        "title": title_of(tool.name.replace("_", " ")),
        "system": system,
        "tool": tool.name,
        "pin": tool.pin,
        "claims": {name: value for name, value in claims.items() if value},
        "input": {"properties": {}, **without_prose(tool.input_schema), "additionalProperties": False},
        "output": without_prose(tool.output_schema or {}),
        "writes": True,
        "risk": "high",
        "blast_radius": "everyone",
        "idempotency": "none",
        "reviewed": False,
    }
