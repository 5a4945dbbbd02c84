"""Write an adapter with random weights for a base, in well under a second. For tests of serving, not for use on tickets.

    python -m training.nano.random_adapter models/store/cloister-nano OUT --name triage-b [--rank 8] [--seed 7] [--scale 0.5]

Knows the shapes of a Qwen3-like `config.json` and PEFT's names; needs numpy and safetensors only.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from models.manifest import Kind, Manifest, read, write


def projections(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """(out, in) of the seven projections of one layer."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    return {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def adapter_config(base: str, *, rank: int, alpha: float, modules: list[str]) -> dict[str, Any]:
    """PEFT's `adapter_config.json` of a plain LoRA on the projections."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": modules,
        "inference_mode": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def write_random_adapter(base: Path, out: Path, *, name: str, rank: int = 8, seed: int = 7, scale: float = 0.5) -> Manifest:
    """An adapter of `rank` whose change of each matrix is about `scale` times as large as a fresh matrix."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    generator = np.random.default_rng(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for module, (rows, columns) in projections(config).items():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{prefix}.lora_A.weight"] = (generator.standard_normal((rank, columns)) / columns**0.5).astype(np.float32)
            tensors[f"{prefix}.lora_B.weight"] = (scale * generator.standard_normal((rows, rank)) / rank**0.5).astype(np.float32)
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    base_name = read(base).full_name
    modules = sorted(module.rpartition(".")[2] for module in projections(config))
    settings = adapter_config(base_name, rank=rank, alpha=2 * rank, modules=modules)
    (out / "adapter_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return write(out, name=name, kind=Kind.ADAPTER, base=base_name, license="Apache-2.0", made={"random": True, "seed": seed})


def main() -> None:
    parser = argparse.ArgumentParser(description="Write an adapter with random weights, for tests.")
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name", default="triage-b")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--scale", type=float, default=0.5)
    options = parser.parse_args()
    manifest = write_random_adapter(
        options.base, options.out, name=options.name, rank=options.rank, seed=options.seed, scale=options.scale
    )
    print(manifest.full_name)


if __name__ == "__main__":
    main()
