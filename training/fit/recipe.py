"""A recipe: everything that can be chosen about a fit, read from a YAML file. Knows names and bounds; fits nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from orchestrator.domain.errors import BadInput, ConfigurationError
from training.adapter.config import AdapterConfig, read_config
from training.head.linear import LinearSettings
from training.head.tune_encoder import TuneSettings

RECIPES = Path(__file__).parents[1] / "recipes"
Section = TypeVar("Section")


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    validation: float = 0.15  # share of the tickets for calibration, thresholds and weights
    golden: float = 0.05  # share for comparing with the incumbent; nothing is fitted on it
    min_per_class: int = 8  # smaller types are folded into Others


@dataclass(frozen=True, kw_only=True)
class QuestionSettings:
    """What the adapter is taught and what the model is asked in service."""

    mode: str = "auto"  # options: all types in a shared prefix; candidates: the head's best; auto: options where the codes go round
    candidates: int = 6
    examples: int = 2  # labeled tickets beside each candidate
    hard_share: float = 0.35  # of the training tickets, those that the head is least sure of ...
    easy_share: float = 0.05  # ... and so many of the others, are what a pass in mode candidates is made of


@dataclass(frozen=True, kw_only=True)
class CascadeSettings:
    model_share: float = 0.2  # at most this share of the tickets is asked of the language model
    target_precision: float = 0.95  # of what is acted on without a person, with 95 % certainty
    neighbors_per_class: int = 60  # labeled tickets kept as evidence
    gain_z: float = 1.64  # the model is asked only where its gain on validation is so many standard errors above nothing


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    tune: bool = True
    refit: bool = True  # once more on training and validation tickets together, after calibration
    settings: TuneSettings = field(default_factory=TuneSettings)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    adapter: AdapterConfig
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    head: LinearSettings = field(default_factory=LinearSettings)
    questions: QuestionSettings = field(default_factory=QuestionSettings)
    cascade: CascadeSettings = field(default_factory=CascadeSettings)
    seed: int = 20261120

    def record(self) -> dict[str, Any]:
        """As JSON, for the manifest and for telling whether an interrupted fit had the same recipe."""
        return asdict(self) | {"adapter": self.adapter.record()}


def read_recipe(name: str, overrides: Mapping[str, Mapping[str, Any]] | None = None, *, seed: int | None = None) -> Recipe:
    """A recipe by the name of a bundled one (`cpu`, `gpu`) or by its file. Raises BadInput or ConfigurationError with every problem."""
    path = RECIPES / f"{name}.yaml" if "/" not in name and not name.endswith((".yaml", ".yml")) else Path(name)
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in RECIPES.glob("*.yaml")))
        raise BadInput(f"There is no recipe {name!r}.", hint=f"Bundled are {known}; or give the path of a YAML file.")
    try:
        record = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    if not isinstance(record, dict):
        raise ConfigurationError(f"{path} holds a {type(record).__name__}, not sections by name.")
    for section, values in (overrides or {}).items():
        record[section] = {**(record.get(section) or {}), **values}
    problems: list[str] = []
    kept = record.pop("seed", 20261120)
    seed = int(kept) if seed is None else seed
    encoder = dict(record.pop("encoder", None) or {})
    switches = {key: encoder.pop(key) for key in ("tune", "refit") if key in encoder}
    adapter = record.pop("adapter", None) or {}
    sections = {
        "dataset": DatasetSettings,
        "head": LinearSettings,
        "questions": QuestionSettings,
        "cascade": CascadeSettings,
    }
    problems += [f"there is no section {key!r}" for key in record if key not in sections]
    read: dict[str, Any] = {key: _section(kind, record.get(key) or {}, key, problems) for key, kind in sections.items()}
    tuned = _section(TuneSettings, encoder, "encoder", problems)
    if problems:
        raise ConfigurationError(f"{path} cannot be used: {'; '.join(problems)}.", hint="Compare it with a bundled recipe.")
    return Recipe(
        adapter=read_config({**adapter, "seed": seed}), encoder=EncoderSettings(**switches, settings=tuned), seed=seed, **read
    )


def _section(kind: type[Section], values: Mapping[str, Any], name: str, problems: list[str]) -> Section:
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    problems += [f"{name}: there is no setting {key!r}" for key in values if key not in known]
    try:
        return kind(**{key: value for key, value in values.items() if key in known})
    except (TypeError, ValueError, ConfigurationError) as error:
        problems.append(f"{name}: {error}")
        return kind()
