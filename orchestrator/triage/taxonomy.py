"""The ticket types of this desk, read from a reviewed file. Knows names, codes, groups and impacts; knows no ticket."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.triage import OTHERS
from orchestrator.triage.prompts import CODES, TRIAGE_INSTRUCTION, Option, choice_prefix

BUNDLED = Path(__file__).parents[1] / "company" / "taxonomy.yaml"


@dataclass(frozen=True, kw_only=True)
class Category:
    name: str
    code: str  # the single token that stands for the type when the language model scores it
    group: str
    impact: int  # 1 (everyone) .. 4 (one person), before evidence moves it
    means: str
    urgency: int = 4  # 1 (now) .. 4 (whenever): such a ticket never waits longer, whatever its wording


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    categories: tuple[Category, ...]  # in the file's order, without Others
    others: Category

    @property
    def all(self) -> tuple[Category, ...]:
        """Every type, Others last: the order of the options in the prompt and of every vector of probabilities."""
        return (*self.categories, self.others)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.all)

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(category.code for category in self.all)

    def category(self, name: str) -> Category:
        """The type of that name; Others for a name that this desk does not have."""
        return next((category for category in self.categories if category.name == name), self.others)

    def prefix(self) -> str:
        """What every triage prompt of this desk begins with."""
        options = [Option(code=category.code, name=category.name, means=category.means) for category in self.all]
        return choice_prefix(TRIAGE_INSTRUCTION, options)

    @property
    def sha256(self) -> str:
        """Of names, codes, meanings and instruction: a head or an adapter fitted to other words is noticed."""
        return hashlib.sha256(self.prefix().encode()).hexdigest()


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    code: str
    group: str = Field(min_length=1)
    impact: int = Field(ge=1, le=4)
    urgency: int = Field(4, ge=1, le=4)
    means: str = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    categories: list[_Row] = Field(min_length=1, max_length=63)
    others: _Row


def load_taxonomy(path: Path = BUNDLED) -> Taxonomy:
    """Read and check the file. Raises ConfigurationError with every problem found."""
    try:
        record: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows = _File.model_validate(record)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(
            f"taxonomy {path} cannot be used: {error}", hint="Compare it with the bundled taxonomy.yaml."
        ) from error
    taxonomy = Taxonomy(
        categories=tuple(Category(**row.model_dump()) for row in rows.categories), others=Category(**rows.others.model_dump())
    )
    problems = [
        *(f"{what} {value!r} stands twice" for what, value in _repeated({"name": taxonomy.names, "code": taxonomy.codes})),
        *(f"code {code!r} is not one of {''.join(CODES)}" for code in taxonomy.codes if code not in CODES),
    ]
    if taxonomy.others.name != OTHERS:
        problems.append(f"`others` is named {taxonomy.others.name!r}, not {OTHERS!r}")
    if problems:
        raise ConfigurationError(f"taxonomy {path} contradicts itself: {'; '.join(problems)}.")
    return taxonomy


def _repeated(columns: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(what, value) for what, values in columns.items() for value in sorted(set(values)) if values.count(value) > 1]
