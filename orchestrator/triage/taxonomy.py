"""The ticket types of this desk, read from a reviewed file. Knows names, codes, groups and impacts; knows no ticket."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.triage import OTHERS
from orchestrator.triage.prompts import CODES, TRIAGE_INSTRUCTION, Option, choice_prefix

MAX_TYPES = 500
BUNDLED = Path(__file__).parents[1] / "company" / "taxonomy.yaml"


@dataclass(frozen=True, kw_only=True)
class Category:
    name: str
    code: str  # the single token that stands for the type when the language model scores it; empty where there are too many
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

    @property
    def coded(self) -> bool:
        """Every type has a code: the model can be shown all of them."""
        return all(self.codes)

    def prefix(self) -> str:
        """What every triage prompt of this desk begins with. Raises ConfigurationError where a type has no code."""
        if not self.coded:
            raise ConfigurationError(
                f"{self.codes.count('')} of {len(self.all)} types have no code, so the model cannot be shown all of them.",
                hint="Let it compare the head's best candidates (mode candidates in cascade.json), or give every type a code.",
            )
        return self._listed()

    def _listed(self) -> str:
        options = [Option(code=category.code, name=category.name, means=category.means) for category in self.all]
        return choice_prefix(TRIAGE_INSTRUCTION, options)

    @cached_property
    def sha256(self) -> str:
        """Of names, codes, meanings and instruction: a head or an adapter fitted to other words is noticed."""
        return hashlib.sha256(self._listed().encode()).hexdigest()


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$", max_length=120)
    code: str = ""
    group: str = Field(min_length=1)
    impact: int = Field(ge=1, le=4)
    urgency: int = Field(4, ge=1, le=4)
    means: str = Field(min_length=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    categories: list[_Row] = Field(min_length=1, max_length=MAX_TYPES)
    others: _Row


def load_taxonomy(path: Path = BUNDLED) -> Taxonomy:
    """Read and check the file, YAML or JSON. Raises ConfigurationError with every problem found."""
    try:
        text = path.read_text(encoding="utf-8")
        record: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        rows = _File.model_validate(record)
    except (OSError, ValueError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(
            f"taxonomy {path} cannot be used: {error}", hint="Compare it with the bundled taxonomy.yaml."
        ) from error
    taxonomy = Taxonomy(
        categories=tuple(Category(**row.model_dump()) for row in rows.categories), others=Category(**rows.others.model_dump())
    )
    problems = [
        *(f"{what} {value!r} stands twice" for what, value in _repeated({"name": taxonomy.names, "code": taxonomy.codes})),
        *(f"code {code!r} is not one of {''.join(CODES)}" for code in taxonomy.codes if code and code not in CODES),
    ]
    if taxonomy.others.name != OTHERS:
        problems.append(f"`others` is named {taxonomy.others.name!r}, not {OTHERS!r}")
    if problems:
        raise ConfigurationError(f"taxonomy {path} contradicts itself: {'; '.join(problems)}.")
    return taxonomy


def _repeated(columns: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(what, value) for what, values in columns.items() for value in sorted({*values} - {""}) if values.count(value) > 1]


def plain_taxonomy(
    names: Sequence[str], *, groups: Mapping[str, str] | None = None, means: Mapping[str, str] | None = None
) -> Taxonomy:
    """A taxonomy of bare names: what can be made of the labels of an export. Others is added; codes as far as they go round.

    `groups` and `means` by name; without them a type is handled by the service desk and means what its name says.
    """
    kinds = [name for name in names if name != OTHERS]
    coded = len(kinds) < len(CODES)

    def category(name: str, number: int) -> Category:
        meaning = "anything else, or too vague to tell" if name == OTHERS else name.replace("_", " ")
        return Category(
            name=name,
            code=CODES[number] if coded else "",
            group=(groups or {}).get(name) or "Service Desk",
            impact=4,
            means=(means or {}).get(name) or meaning,
        )

    categories = tuple(category(name, number) for number, name in enumerate(kinds))
    return Taxonomy(categories=categories, others=category(OTHERS, len(kinds)))


def taxonomy_record(taxonomy: Taxonomy) -> dict[str, Any]:
    """What `taxonomy.json` says; `load_taxonomy` reads it back."""
    return {"categories": [asdict(category) for category in taxonomy.categories], "others": asdict(taxonomy.others)}
