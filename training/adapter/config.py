"""What can be chosen about fitting an adapter, and what cannot be served whatever one chooses. Knows no torch and no tickets."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from orchestrator.domain.errors import ConfigurationError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the engine's own table; any other rank is refused when it starts
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
NOT_SERVED: Mapping[str, str] = MappingProxyType(
    {
        "use_dora": "the engine adds low-rank products and has no magnitudes to scale by (DoRA)",
        "bias": "the engine keeps the base's biases",
        "modules_to_save": "the engine swaps low-rank products, not whole modules",
        "use_rslora": "scaling is alpha / rank here: write the alpha that you mean",
        "layers_to_transform": "all layers are served alike",
        "rank_pattern": "one rank serves all modules",
        "alpha_pattern": "one alpha serves all modules",
    }
)
FINE: tuple[Any, ...] = (None, False, "none", [], {}, ())  # values under which the keys above change nothing


class Quantization(StrEnum):
    NONE = "none"
    FOUR_BIT = "4bit"  # QLoRA: NF4 with double quantization; the adapter is served on the 16-bit base


class Dtype(StrEnum):
    AUTO = "auto"  # bfloat16 where the hardware multiplies it natively, else float32
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """How an adapter is fitted. Training ends at the first of `epochs`, `minutes` and `steps` that is given and reached.

    With `minutes` the number of steps depends on the machine's speed; without it, the same seed on the same machine gives
    the same bytes. A step looks at `batch_rows` rows, in passes of at most `batch_tokens` tokens, padding included.
    """

    rank: int = 16
    alpha: float = 32.0
    learning_rate: float = 1e-3
    epochs: float | None = None
    minutes: float | None = None
    steps: int | None = None
    batch_rows: int = 48
    batch_tokens: int = 4096
    label_smoothing: float = 0.05
    dropout: float = 0.0
    weight_decay: float = 0.01
    warmup_steps: int = 20
    decay_share: float = 0.7  # of the budget, at its end, over which the learning rate falls to zero
    clip: float = 1.0  # largest norm of a step's gradient
    seed: int = 20261120
    quantization: Quantization = Quantization.NONE
    dtype: Dtype = Dtype.AUTO
    gradient_checkpointing: bool = False
    deterministic: bool = True  # on CUDA this costs some speed; a CPU is deterministic anyway
    devices: str = "auto"  # auto, cpu, cuda, or the number of GPUs
    threads: int | None = None  # of the CPU; None leaves torch's choice
    targets: tuple[str, ...] | None = None  # None: all seven projections that the base has
    save_every: int = 100  # steps between checkpoints

    def __post_init__(self) -> None:
        if problems := self._problems():
            raise ConfigurationError(f"This adapter cannot be fitted: {'; '.join(problems)}.", hint="Change the recipe.")

    def _problems(self) -> list[str]:
        checks = (
            (self.rank in RANKS, f"rank {self.rank} cannot be served, must be one of {', '.join(map(str, RANKS))}"),
            (self.alpha > 0, f"alpha {self.alpha} must be above 0"),
            (self.learning_rate > 0, f"learning_rate {self.learning_rate} must be above 0"),
            (
                any(budget is not None for budget in (self.epochs, self.minutes, self.steps)),
                "none of epochs, minutes and steps says when to stop",
            ),
            *(
                (budget is None or budget > 0, f"{name} {budget} must be above 0")
                for name, budget in (("epochs", self.epochs), ("minutes", self.minutes), ("steps", self.steps))
            ),
            *(
                (getattr(self, name) >= 1, f"{name} {getattr(self, name)} must be at least 1")
                for name in ("batch_rows", "batch_tokens", "save_every")
            ),
            *(
                (0 <= getattr(self, name) < 1, f"{name} {getattr(self, name)} must be in 0..1")
                for name in ("label_smoothing", "dropout")
            ),
            (0 < self.decay_share <= 1, f"decay_share {self.decay_share} must be above 0 and at most 1"),
            (
                self.devices in ("auto", "cpu", "cuda") or (self.devices.isdigit() and int(self.devices) > 0),
                f"devices {self.devices!r} must be auto, cpu, cuda or a number of GPUs",
            ),
            *(
                (name in PROJECTIONS, f"target {name!r} cannot be served: the engine adapts {', '.join(PROJECTIONS)}")
                for name in self.targets or ()
            ),
            (self.targets is None or len(self.targets) > 0, "targets is empty"),
        )
        return [problem for fine, problem in checks if not fine]

    def record(self) -> dict[str, Any]:
        """As JSON: what training.json and a checkpoint keep."""
        return asdict(self) | {"quantization": str(self.quantization), "dtype": str(self.dtype)}


def read_config(record: Mapping[str, Any]) -> AdapterConfig:
    """The `adapter` section of a recipe. Raises ConfigurationError with every unknown key and everything that cannot be served."""
    known = {entry.name for entry in fields(AdapterConfig)}
    problems = [f"{key} cannot be served: {why}" for key, why in NOT_SERVED.items() if record.get(key) not in FINE]
    problems += [f"there is no setting {key!r}" for key in record if key not in known and key not in NOT_SERVED]
    values = {key: value for key, value in record.items() if key in known}
    for key, kind in (("quantization", Quantization), ("dtype", Dtype)):
        if key in values and str(values[key]) not in set(kind):
            problems.append(f"{key} {values[key]!r} must be one of {', '.join(kind)}")
        elif key in values:
            values[key] = kind(str(values[key]))
    problems += [f"{key} {values[key]!r} must be a {name}" for key, name in _wrongly_typed(values)]
    if problems:
        raise ConfigurationError(f"This adapter cannot be fitted: {'; '.join(problems)}.", hint="Change the recipe.")
    if "devices" in values:
        values["devices"] = str(values["devices"])
    if values.get("targets") is not None:
        values["targets"] = tuple(values["targets"])
    return AdapterConfig(**values)


def _wrongly_typed(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(key, what it must be) of numbers and switches that a recipe gives as something else."""
    whole = {"rank", "batch_rows", "batch_tokens", "warmup_steps", "seed", "save_every", "steps", "threads"}
    number = {"alpha", "learning_rate", "epochs", "minutes", "label_smoothing", "dropout", "weight_decay", "decay_share", "clip"}
    switch = {"gradient_checkpointing", "deterministic"}
    optional = {entry.name for entry in fields(AdapterConfig) if entry.default is None or entry.default is MISSING}
    wrong = []
    for key, value in values.items():
        if value is None and key in optional:
            continue
        real = isinstance(value, int | float) and not isinstance(value, bool)
        if key in whole and not (real and isinstance(value, int)):
            wrong.append((key, "whole number"))
        elif key in number and not real:
            wrong.append((key, "number"))
        elif key in switch and not isinstance(value, bool):
            wrong.append((key, "true or false"))
        elif key == "targets" and not (isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)):
            wrong.append((key, "list of projections"))
    return wrong
