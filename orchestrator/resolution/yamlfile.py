"""Read a reviewed YAML file and know on which line everything stands. Knows nothing of what the file means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

Place = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class YamlFile:
    path: Path
    data: Any
    lines: Mapping[Place, int] = field(default_factory=dict)  # 1-based
    problems: tuple[str, ...] = ()

    def line(self, place: Iterable[str | int]) -> int:
        """The line of a field, or of the nearest thing around it."""
        keys = tuple(place)
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 1)

    def complaint(self, place: Iterable[str | int], message: str) -> str:
        keys = tuple(place)
        dotted = ".".join(str(key) for key in keys)
        return f"{self.path.name}:{self.line(keys)}: {dotted + ': ' if dotted else ''}{message}"

    def complaints(self, error: ValidationError, within: "Place" = ()) -> list[str]:
        """Every finding of pydantic, with file and line. `within`: where in the file the validated piece stands."""
        return [self.complaint((*within, *_place(each["loc"])), _plain(each)) for each in error.errors()]


def read_yaml(path: Path) -> YamlFile:
    """The file's data with lines; what cannot be read is a problem, not an exception."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.load(text, Loader=_NoDates)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        return YamlFile(
            path=path, data=None, problems=(f"{path.name}:{line}: cannot be read: {getattr(error, 'problem', None) or error}",)
        )
    lines: dict[Place, int] = {}
    twice: list[str] = []
    if node is not None:
        _walk(node, (), lines, twice)
    return YamlFile(path=path, data=data, lines=lines, problems=tuple(f"{path.name}:{each}" for each in twice))


class _NoDates(yaml.SafeLoader):
    """Dates stay text: they are compared as instants where a rule says so."""


_NoDates.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int], twice: list[str]) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*place, str(key.value))
            if here in lines:
                twice.append(f"{key.start_mark.line + 1}: `{key.value}` stands here twice; the second would silently win")
            lines[here] = key.start_mark.line + 1
            _walk(value, here, lines, twice)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*place, index), lines, twice)


def _place(loc: tuple[int | str, ...]) -> Place:
    return tuple(loc)


def _plain(error: Any) -> str:
    words = {"extra_forbidden": "unknown field", "missing": "is missing"}
    return words.get(error["type"], error["msg"][:1].lower() + error["msg"][1:])
