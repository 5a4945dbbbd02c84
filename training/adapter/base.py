"""The frozen base with fresh low-rank matrices beside it. Knows transformers, peft and bitsandbytes; knows nothing of rows.

Everything that a base or its files could have against being trained or served is said here, before any work.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from models.manifest import Kind, verify
from orchestrator.domain.errors import ConfigurationError
from training.adapter import attention
from training.adapter.config import PROJECTIONS, AdapterConfig, Dtype, Quantization
from training.adapter.last import shorten
from training.adapter.lora import quicken

RESCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # heads that do more than a matrix product


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base as loaded. `model` is frozen; `packed`: whether it takes our attention (else a mask over the whole pack)."""

    model: Any
    tokenizer: Any
    name: str  # full name
    device: torch.device
    dtype: torch.dtype
    packed: bool
    ends_only: bool = False  # whether the last layer answers for the last token of each request alone

    @property
    def max_tokens(self) -> int:
        config = self.model.config
        limits = [config.max_position_embeddings, getattr(config, "sliding_window", None)]
        return min(int(limit) for limit in limits if limit)

    @property
    def pad_id(self) -> int:
        return self.tokenizer.pad_token_id or 0


def choose_device(devices: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or a number of GPUs, as a device of this process."""
    if devices == "cpu" or (devices == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigurationError(
            f"devices is {devices!r}, but torch sees no CUDA GPU.", hint="Set devices: cpu, or install a GPU build."
        )
    return torch.device("cuda", torch.cuda.current_device())


def choose_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively; elsewhere it would be slower than float32."""
    if dtype is not Dtype.AUTO:
        return getattr(torch, str(dtype))
    native = device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def load_base(folder: Path, config: AdapterConfig, *, device: torch.device | None = None) -> Base:
    """Verify and load. Raises ModelRefused for a folder without a manifest or with other bytes, ConfigurationError for the rest."""
    manifest = verify(folder)
    if manifest.kind is not Kind.BASE:
        raise ConfigurationError(f"{manifest.name} is a model of kind {manifest.kind}, not a base.", hint="Name a base's folder.")
    device = device or choose_device(config.devices)
    dtype = choose_dtype(config.dtype, device)
    attention.register()
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = _load(folder, dtype=dtype, device=device, four_bit=config.quantization is Quantization.FOUR_BIT)
    model.requires_grad_(False)
    model.config.use_cache = False
    _refuse_other_heads(model)
    packed = model.config._attn_implementation == attention.NAME
    ends_only = packed and shorten(model)
    return Base(
        model=model, tokenizer=tokenizer, name=manifest.full_name, device=device, dtype=dtype, packed=packed, ends_only=ends_only
    )


def _load(folder: Path, *, dtype: torch.dtype, device: torch.device, four_bit: bool) -> Any:
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "use_safetensors": True}
    if four_bit:
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
        options["device_map"] = {"": device}
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", **options)
    if getattr(type(model), "_supports_attention_backend", False):
        with suppress(ValueError):
            model.set_attn_implementation(attention.NAME)
    return model if four_bit else model.to(device)  # type: ignore[arg-type]


def _refuse_other_heads(model: Any) -> None:
    scaled = [key for key in RESCALED if getattr(model.config, key, None) not in (None, 1, 1.0)]
    head = model.get_output_embeddings()
    if scaled or not isinstance(head, nn.Linear) or head.bias is not None:
        raise ConfigurationError(
            f"{type(model).__name__} computes its scores with more than one matrix product ({', '.join(scaled) or 'its own head'}).",
            hint="Use a base with a plain output layer (Llama, Qwen, Mistral and their kin).",
        )


def choose_targets(model: Any, wanted: Sequence[str] | None) -> list[str]:
    """Names of the projections to adapt: those of the seven that the base has, or exactly the wanted ones."""
    there = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if missing := sorted(set(wanted or ()) - there):
        raise ConfigurationError(f"{type(model).__name__} has no {', '.join(missing)}.", hint="Leave targets out.")
    found = [name for name in PROJECTIONS if name in (wanted or there)]
    found = [name for name in found if name in there]
    if not found:
        raise ConfigurationError(f"{type(model).__name__} has none of {', '.join(PROJECTIONS)}.", hint="Use another base.")
    return found


def add_lora(base: Base, config: AdapterConfig) -> PeftModel:
    """Fresh float32 matrices by seed; their product starts at zero."""
    torch.manual_seed(config.seed)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it by the rank, whole or not
        target_modules=choose_targets(base.model, config.targets),
        lora_dropout=config.dropout,
        bias="none",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base.model, lora)
    quicken(model)
    if config.gradient_checkpointing:
        base.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model
