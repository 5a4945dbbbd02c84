"""A JSON Schema that says in words what is wrong with a value. Knows no action and no wire format."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import ValidationError

MAX_PROBLEMS = 10


class Schema:
    """One JSON Schema (draft 2020-12). Equal, and pickled, by its document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and other.document == self.document

    def __hash__(self) -> int:
        return hash(repr(self.document))

    def __repr__(self) -> str:
        return f"Schema({self.document!r})"

    def __reduce__(self) -> tuple[type["Schema"], tuple[Mapping[str, Any]]]:
        return Schema, (self.document,)

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator(self.document)

    def flaw(self) -> str | None:
        """Why the document itself is no JSON Schema; None where it is one."""
        try:
            Draft202012Validator.check_schema(self.document)
        except SchemaError as error:
            return f"{_place(error.absolute_path) or 'the schema'}: {error.message}"
        return None

    def problems(self, value: Any, *, what: str = "value") -> list[str]:
        """What is wrong with `value`, at most ten sentences; each names the place and what was found there."""
        sentences = dict.fromkeys(_sentence(error, what) for error in self._validator.iter_errors(value))
        return list(sentences)[:MAX_PROBLEMS]


def _place(path: Iterable[Any]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _sentence(error: ValidationError, what: str) -> str:
    place = _place(error.absolute_path)
    known = ", ".join(error.schema.get("properties", {})) if isinstance(error.schema, Mapping) else ""
    subject = f"{what}: {place}" if place else what
    match error.validator:
        case "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            return f"{subject} lacks {', '.join(map(repr, missing))}"
        case "additionalProperties":
            unknown = sorted(set(error.instance) - set(error.schema.get("properties", {})))
            return f"{subject} has unknown {', '.join(map(repr, unknown))}; known: {known or 'none'}"
        case "minProperties":
            return f"{subject} needs at least one of {known}"
        case "type":
            return f"{subject} must be {_type_words(error.validator_value)}, not {_short(error.instance)}"
        case "enum":
            return f"{subject} must be one of {', '.join(map(str, error.validator_value))}, not {_short(error.instance)}"
        case "pattern":
            return f"{subject} must match {error.validator_value}, not {_short(error.instance)}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "minLength" | "maxLength" | "minItems" | "maxItems" | "multipleOf":
            return f"{subject} breaks {error.validator} {error.validator_value}: {_short(error.instance)}"
    return f"{subject}: {error.message}"


def _type_words(types: str | list[str]) -> str:
    return types if isinstance(types, str) else " or ".join(types)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
