"""The adapter's files as the engine takes them, and the record of how they came about. Knows peft's names; knows no loop."""

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file

from orchestrator.domain.errors import ConfigurationError
from training.adapter.base import Base
from training.adapter.config import AdapterConfig
from training.adapter.scorer import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from training.nano.random_adapter import adapter_config

RECORD_FILE = "training.json"
LIBRARIES = ("torch", "transformers", "peft", "safetensors")


def write_adapter(folder: Path, model: PeftModel, base: Base, config: AdapterConfig, *, targets: list[str]) -> None:
    """`adapter_config.json` and `adapter_model.safetensors` in bfloat16. Raises ConfigurationError when a number is not finite."""
    tensors = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in get_peft_model_state_dict(model).items()
    }
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise ConfigurationError(f"Training diverged: {broken[0]} is not finite.", hint="Lower learning_rate.")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    record = adapter_config(base.name, rank=config.rank, alpha=config.alpha, modules=targets)
    (folder / ADAPTER_CONFIG).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def write_record(folder: Path, record: dict[str, Any]) -> None:
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def hardware(base: Base) -> dict[str, Any]:
    """Where it ran: device, cores, threads, dtype."""
    there: dict[str, Any] = {"device": str(base.device), "dtype": str(base.dtype).removeprefix("torch.")}
    if base.device.type == "cuda":
        there |= {"gpu": torch.cuda.get_device_name(base.device), "cuda": torch.version.cuda}
    return there | {"cpu": _cpu_name(), "threads": torch.get_num_threads()}


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
