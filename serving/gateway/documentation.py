"""The OpenAPI document and its page, rendered here from the app: nothing is fetched. Knows routes and the table of roles."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.gateway.console.rendering import render
from serving.gateway.problems import MEDIA_TYPE, TITLES
from serving.gateway.roles import OPEN, ROUTE_ROLES
from serving.gateway.schemas import ProblemOut

ABOUT = """Cloister resolves support and IT tickets on an organization's own machines.

Every route but health needs `Authorization: Bearer KEY`. Errors are RFC 9457 problem details. Lists are `{items, next_cursor}`. \
Times are UTC, ISO 8601. Every POST takes an `Idempotency-Key`: the same key and body give the stored answer, another body 409."""

GET_ERRORS = (401, 403, 422, 429, 503)
POST_ERRORS = (400, 401, 403, 409, 413, 422, 429, 503)
IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "1 to 255 printable characters; counts per caller and path",
    "schema": {"type": "string", "maxLength": 255},
}


def document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1, the same for every start of the same version."""
    if app.openapi_schema is None:
        made = get_openapi(title="Cloister", version=app.version, description=ABOUT, routes=app.routes)
        made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schemas = made["components"]["schemas"]
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = ProblemOut.model_json_schema()
        for path, operations in made["paths"].items():
            for method, operation in operations.items():
                _complete(path, method.upper(), operation)
        app.openapi_schema = made
    return app.openapi_schema


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    roles = ROUTE_ROLES.get((method, path), frozenset())
    operation["operationId"] = "_".join([method.lower(), *(part.strip("{}") for part in path.strip("/").split("/"))]).replace(
        "-", "_"
    )
    operation["responses"].pop("422", None)
    if roles == OPEN:
        operation["security"] = []
        return
    operation["security"] = [{"key": []}]
    operation["x-roles"] = sorted(roles)
    errors = [*(POST_ERRORS if method == "POST" else GET_ERRORS), *((404,) if "{" in path else ())]
    for status in sorted(errors):
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        operation["responses"][str(status)] = {"description": TITLES[status], "content": content}
    if method == "POST":
        operation.setdefault("parameters", []).append(IDEMPOTENCY)


def page(api: Mapping[str, Any]) -> str:
    """The document for people: routes by matter, with fields, answers and roles; then the types."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            shown = _shown(path, method.upper(), operation)
            groups.setdefault((operation.get("tags") or ["other"])[0], []).append(shown)
    types = {name: _fields(schema) for name, schema in sorted(api["components"]["schemas"].items())}
    return render(
        "docs.html",
        api=api,
        groups=groups,
        types=types,
        docs={n: s.get("description", "") for n, s in api["components"]["schemas"].items()},
    )


def _shown(path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return {
        "method": method,
        "path": path,
        "anchor": operation["operationId"],
        "text": operation.get("description") or operation.get("summary", ""),
        "roles": operation.get("x-roles"),
        "parameters": [{**p, "type": type_words(p["schema"])} for p in operation.get("parameters", ()) if p["in"] != "header"],
        "body": _reference(body),
        "answers": [_answer(status, answer) for status, answer in sorted(operation["responses"].items()) if status < "400"],
        "errors": [status for status in sorted(operation["responses"]) if status >= "400"],
    }


def _answer(status: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    schemas = [content.get("schema", {}) for content in answer.get("content", {}).values()]
    return {"status": status, "text": answer.get("description", ""), "type": _reference(schemas[0]) if schemas else ""}


def _reference(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _fields(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "type": type_words(field),
            "required": name in required,
            "text": field.get("description", ""),
            "default": _default(field),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _default(field: Mapping[str, Any]) -> str:
    return json.dumps(field["default"]) if field.get("default") not in (None, "", [], {}) else ""


def type_words(schema: Mapping[str, Any]) -> str:
    """A schema in a few words: `string, 1..255 characters`, `"approve" or "reject"`, `list of ScoreItem`."""
    if "$ref" in schema:
        return _reference(schema)
    if "anyOf" in schema:
        return " or ".join(type_words(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if schema.get("type") == "array":
        return f"list of {type_words(schema.get('items', {}))}{_bounds(schema, 'minItems', 'maxItems', '')}"
    words = str(schema.get("format") or schema.get("type") or "any")
    return f"{words}{_bounds(schema, 'minLength', 'maxLength', ' characters')}{_bounds(schema, 'minimum', 'maximum', '')}"


def _bounds(schema: Mapping[str, Any], low: str, high: str, unit: str) -> str:
    if low in schema and high in schema:
        return f", {schema[low]}..{schema[high]}{unit}"
    if high in schema:
        return f", at most {schema[high]}{unit}"
    return f", at least {schema[low]}{unit}" if low in schema else ""
