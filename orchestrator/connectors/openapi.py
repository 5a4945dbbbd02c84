"""Drafts of actions from an OpenAPI document, 3.0 or 3.1. References are followed inside the document alone; nothing is fetched.

Descriptions and examples stay behind: they are prose of somebody else. What cannot be bound exactly (files, headers that a call needs,
bodies without named fields) is left out with the reason, never guessed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.connectors.drafts import Draft, snake, title_of
from orchestrator.domain.errors import BadInput

MAX_DOCUMENT_BYTES = 64 << 20
_METHODS = ("get", "post", "put", "patch", "delete")
_PROSE = frozenset(
    {"description", "example", "examples", "externalDocs", "xml", "discriminator", "deprecated", "readOnly", "writeOnly"}
)
_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_MAX_HOPS = 50  # a reference to a reference to ...
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, written in C


class _LeftOut(Exception):
    """Why an operation cannot be bound."""


def read_document(path: Path) -> dict[str, Any]:
    """The document of a JSON or YAML file. Raises BadInput."""
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise BadInput(f"{path} is larger than {MAX_DOCUMENT_BYTES >> 20} MiB.", hint="Is it an OpenAPI document?")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}.") from error
    try:
        document = json.loads(text) if text.lstrip()[:1] == "{" else yaml.load(text, Loader=_Loader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise BadInput(f"{path} is neither JSON nor YAML: {str(error)[:300]}") from error
    version = document.get("openapi") if isinstance(document, dict) else None
    if not re.match(r"3\.[01](\.|\Z)", str(version)) or not isinstance(document, dict):
        found = f"openapi is {version!r}" if version else "it has no field `openapi`"
        raise BadInput(f"{path} is no OpenAPI 3.0 or 3.1 document: {found}.", hint="Convert an older one with its own tools first.")
    if not isinstance(document.get("paths"), dict):
        raise BadInput(f"{path} has no paths.", hint="Is it the whole document?")
    return document


def draft_of_document(document: Mapping[str, Any], *, system: str) -> Draft:
    """Every operation as an action that nobody has reviewed; a write is at the highest risk."""
    whole = _Document(root=document)
    actions: dict[str, Any] = {}
    skipped: list[tuple[str, str]] = []
    for method, path, item in _operations(whole):
        try:
            operation = whole.resolved(item[method])
            name = _free(f"{system}.{snake(str(operation.get('operationId') or f'{method}_{path}'))}", actions)
            actions[name] = _entry(
                whole, method, path, [*item.get("parameters", []), *operation.get("parameters", [])], operation, system
            )
        except _LeftOut as reason:
            skipped.append((f"{method.upper()} {path}", str(reason)))
    return Draft(actions=actions, schemas=whole.schemas(), skipped=skipped)


def _operations(whole: "_Document") -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, raw in whole.root["paths"].items():
        item = whole.resolved(raw)
        for method in _METHODS:
            if isinstance(item.get(method), Mapping):
                yield method, str(path), item


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


@dataclass(kw_only=True)
class _Document:
    """The document, and the shared schemas that its operations were found to use."""

    root: Mapping[str, Any]
    used: dict[str, str] = field(default_factory=dict)  # component -> name in the draft

    def resolved(self, value: Any) -> Mapping[str, Any]:
        """What stands behind a local reference; the value itself where it is none. Raises _LeftOut."""
        for _ in range(_MAX_HOPS):
            if not isinstance(value, Mapping):
                raise _LeftOut(f"an object is expected, not {value!r:.60}")
            if "$ref" not in value:
                return value
            value = self.at(str(value["$ref"]))
        raise _LeftOut("a reference leads around in a circle")

    def at(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            raise _LeftOut(f"the reference {reference!r} leads out of the document")
        found: Any = self.root
        for part in reference[2:].split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, Mapping) and part in found:
                found = found[part]
            else:
                raise _LeftOut(f"the reference {reference!r} leads nowhere")
        return found

    def schema(self, value: Any) -> Any:
        """A schema in JSON Schema's own words; references lead into the draft's shared schemas, circles and all."""
        if isinstance(value, list):
            return [self.schema(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        if "$ref" in value:
            return {"$ref": f"#/$defs/{self._shared(str(value['$ref']))}"}
        return _modern({name: self._keyword(name, each) for name, each in value.items() if _kept(name)})

    def _keyword(self, name: str, value: Any) -> Any:
        if name in _SCHEMA_MAPS and isinstance(value, Mapping):
            return {key: self.schema(each) for key, each in value.items()}
        return value if name in ("enum", "const", "default", "required") else self.schema(value)

    def _shared(self, reference: str) -> str:
        if reference not in self.used:
            self.at(reference)  # it must lead somewhere
            base = re.sub(r"\W+", "_", reference.rpartition("/")[2]) or "Schema"
            taken = set(self.used.values())
            self.used[reference] = next(
                name for name in (base, *(f"{base}_{number}" for number in range(2, len(taken) + 3))) if name not in taken
            )
        return self.used[reference]

    def schemas(self) -> dict[str, Any]:
        """All shared schemas that were used, by name, with those that they use themselves."""
        done: dict[str, Any] = {}
        while waiting := [reference for reference in self.used if self.used[reference] not in done]:
            for reference in waiting:
                try:
                    done[self.used[reference]] = self.schema(self.at(reference))
                except _LeftOut:
                    done[self.used[reference]] = False  # nothing fits what cannot be found
        return dict(sorted(done.items()))


def _kept(name: str) -> bool:
    return name not in _PROSE and not name.startswith("x-")


def _modern(schema: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.0's own words (nullable, boolean bounds) in those of JSON Schema 2020-12."""
    nullable = schema.pop("nullable", False) is True
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(exclusive), bool):
            is_exclusive = schema.pop(exclusive)
            if is_exclusive and bound in schema:
                schema[exclusive] = schema.pop(bound)
    if nullable and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if "enum" in schema and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
    elif nullable and not {"type"} & set(schema) and schema:
        return {"anyOf": [schema, {"type": "null"}]}
    if isinstance(schema.get("required"), bool):  # a mistake that is often made, and that is no JSON Schema
        schema.pop("required")
    return schema


# --- one operation ------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Binding:
    """Where the arguments of one operation go."""

    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, str] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)

    def take(self, name: str, schema: Any, *, required: bool, where: str) -> str:
        """The argument's own name: the parameter's, or with `_in_body` where that is taken."""
        argument = re.sub(r"\W+", "_", name).strip("_") or "value"
        for candidate in (argument, f"{argument}_in_{where}", *(f"{argument}_{number}" for number in range(2, 99))):
            if candidate not in self.properties:
                self.properties[candidate] = schema
                if required:
                    self.required.append(candidate)
                return candidate
        raise _LeftOut(f"it has too many parameters like {name!r}")


def _entry(
    whole: _Document, method: str, path: str, parameters: list[Any], operation: Mapping[str, Any], system: str
) -> dict[str, Any]:
    used = dict(whole.used)
    try:
        binding = _bound(whole, method, path, parameters, operation)
        output = _output(whole, operation)
    except _LeftOut:
        whole.used = used  # what it alone used is not needed
        raise
    writes = method != "get"
    return {
        "title": title_of(str(operation.get("summary") or operation.get("operationId") or f"{method.upper()} {path}")),
        "system": system,
        "call": f"{method.upper()} {binding.path}",
        **({"query": binding.query} if binding.query else {}),
        **({"body": binding.body} if binding.body else {}),
        "input": {**({"required": binding.required} if binding.required else {}), "properties": binding.properties},
        "output": output,
        "writes": writes,
        "risk": "high" if writes else "read",
        "blast_radius": "everyone",
        **({"idempotency": "none"} if writes else {}),
        "reviewed": False,
    }


def _bound(whole: _Document, method: str, path: str, parameters: list[Any], operation: Mapping[str, Any]) -> _Binding:
    if re.search(r"[\s?#]", path):
        raise _LeftOut(f"the path {path!r} holds more than a path")
    binding = _Binding(path=path)
    found = {(each.get("in"), each.get("name")): each for each in map(whole.resolved, parameters)}  # an operation's own win
    for name in dict.fromkeys(re.findall(r"\{([^{}]*)\}", path)):
        _take_path(whole, binding, name, found.get(("path", name), {}))
    for (where, name), parameter in found.items():
        if where == "query":
            _take_query(whole, binding, str(name), parameter)
        elif where in ("header", "cookie") and parameter.get("required"):
            raise _LeftOut(f"it needs the {where} {name!r}")
    _take_body(whole, binding, method, operation)
    return binding


def _take_path(whole: _Document, binding: _Binding, name: str, parameter: Mapping[str, Any]) -> None:
    argument = binding.take(name, whole.schema(parameter.get("schema") or {"type": "string"}), required=True, where="path")
    if binding.path.count(f"{{{name}}}") > 1:
        raise _LeftOut(f"{name!r} stands in its path more than once")
    binding.path = binding.path.replace(f"{{{name}}}", f"{{{argument}}}")


def _take_query(whole: _Document, binding: _Binding, name: str, parameter: Mapping[str, Any]) -> None:
    schema = parameter.get("schema")
    if schema is None or _is_deep(whole.resolved(schema)):
        if parameter.get("required"):
            raise _LeftOut(f"its query parameter {name!r} is no single value")
        return
    binding.query[name] = binding.take(name, whole.schema(schema), required=bool(parameter.get("required")), where="query")


def _is_deep(schema: Mapping[str, Any]) -> bool:
    """A list or an object in a query is written in many ways; only single values are bound."""
    return schema.get("type") in ("array", "object")


def _take_body(whole: _Document, binding: _Binding, method: str, operation: Mapping[str, Any]) -> None:
    if "requestBody" not in operation:
        return
    body = whole.resolved(operation["requestBody"])
    schema = _json_schema(body.get("content"))
    if schema is None:
        if not body.get("required"):
            return
        raise _LeftOut(f"its body is {', '.join(map(str, body.get('content') or {})) or 'of no type'}, not JSON")
    if method in ("get", "delete"):
        if not body.get("required"):
            return
        raise _LeftOut(f"a {method.upper()} with a body")
    properties, required = _fields(whole, schema, set())
    if not properties:
        if not body.get("required"):
            return
        raise _LeftOut("its body has no named fields")
    for name, each in properties.items():
        must = bool(body.get("required")) and name in required
        binding.body[name] = binding.take(name, whole.schema(each), required=must, where="body")


def _fields(whole: _Document, schema: Any, seen: set[int]) -> tuple[dict[str, Any], set[str]]:
    """The named fields of a body's schema, those of allOf too."""
    found = whole.resolved(schema)
    if id(found) in seen:
        return {}, set()
    seen.add(id(found))
    properties = dict(found.get("properties") or {}) if isinstance(found.get("properties"), Mapping) else {}
    required = set(found["required"]) if isinstance(found.get("required"), list) else set()
    for part in found.get("allOf") or []:
        more, needed = _fields(whole, part, seen)
        properties, required = {**more, **properties}, required | needed
    return {name: each for name, each in properties.items() if not _read_only(each)}, required


def _read_only(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("readOnly") is True


def _json_schema(content: Any) -> Any:
    """The schema of the JSON among the media types; None where there is none."""
    for media, described in content.items() if isinstance(content, Mapping) else ():
        kind = str(media).partition(";")[0].strip().lower()
        if (kind in ("application/json", "*/*") or kind.endswith("+json")) and isinstance(described, Mapping):
            return described.get("schema", {})
    return None


def _output(whole: _Document, operation: Mapping[str, Any]) -> Any:
    """Of the first success that answers JSON; anything where none does."""
    responses = operation.get("responses") or {}
    for status in sorted(map(str, responses)):
        if status.startswith("2"):
            response = whole.resolved(responses[status] if status in responses else responses[int(status)])
            schema = _json_schema(response.get("content"))
            if schema is not None:
                return whole.schema(schema)
    return {}
