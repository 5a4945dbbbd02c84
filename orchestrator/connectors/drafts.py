"""Drafts of catalogue entries, as YAML for a person to review. Knows no protocol and calls nothing."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

HEADER = """\
# A draft, made by `cloister catalog {command}` from {source}. Nothing in it can be carried out: `reviewed: false`.
#
# For each action that the desk should have: check what it does, give it its real risk, blast radius, observe, probe, limits,
# identity and approvers (docs/actions.md), set `reviewed: true`, and move it into actions.yaml. Throw the others away.
"""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What could be made of a description, and what could not."""

    actions: Mapping[str, Any]
    schemas: Mapping[str, Any]  # shared ones
    skipped: Sequence[tuple[str, str]]  # operation or tool, and why


def as_yaml(draft: Draft, *, command: str, source: str) -> str:
    """The draft as a catalogue file, with what was left out as comments."""
    left = "".join(f"# Left out: {_one_line(name)}: {_one_line(why)}\n" for name, why in draft.skipped)
    document = {**({"schemas": dict(draft.schemas)} if draft.schemas else {}), "actions": dict(draft.actions)}
    text = yaml.dump(document, Dumper=_Plain, sort_keys=False, width=130, allow_unicode=True)
    return HEADER.format(command=command, source=_one_line(source)) + left + "\n" + text


class _Plain(yaml.SafeDumper):
    """Without anchors: a reviewer reads each entry by itself."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


PROSE = frozenset({"description", "title", "example", "examples", "$comment", "externalDocs", "xml", "deprecated"})
MAPS = frozenset(
    {"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"}
)  # keys here are names, not keywords
_VALUES = frozenset({"enum", "const", "default", "required"})


def without_prose(schema: Any) -> Any:
    """The schema without what somebody else wrote in it for people or models to read."""
    if isinstance(schema, list):
        return [without_prose(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {name: _kept(name, value) for name, value in schema.items() if name not in PROSE and not name.startswith("x-")}


def _kept(name: str, value: Any) -> Any:
    if name in MAPS and isinstance(value, Mapping):
        return {key: without_prose(each) for key, each in value.items()}
    return value if name in _VALUES else without_prose(value)


def snake(name: str) -> str:
    """`getIssueWorklog` -> `get_issue_worklog`: small letters, digits and single underscores, a letter first."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    small = re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")
    return small if small[:1].isalpha() else f"op_{small}"


def title_of(text: str) -> str:
    """One line of at most 120 characters."""
    return _one_line(text)[:120] or "Untitled"


def _one_line(text: str) -> str:
    return re.sub(r"[\s\x00-\x1f\x7f\x85\u2028\u2029]+", " ", text).strip()
