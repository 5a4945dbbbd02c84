"""Is a LoRA adapter one that the engine serves as it was trained, on this base? Knows PEFT's files; knows no engine and loads nothing.

What vLLM 0.32 takes is read from its `PEFTHelper` and `MaxLoRARanks`; rank-stabilized scaling (`use_rslora`) is among it.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.strict_json import Malformed
from models.tensors import Tensor, read_header

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what `max_lora_rank` may be
DTYPES = ("F32", "F16", "BF16")
INITS = (None, True, False, "gaussian", "eva", "orthogonal", "mica", "lora_ga")  # the others change the base's weights too
SERVABLE: Mapping[str, tuple[Any, ...]] = MappingProxyType(  # field of adapter_config.json -> values that are fine
    {
        "peft_type": ("LORA",),
        "task_type": (None, "CAUSAL_LM"),
        "modules_to_save": (None, []),
        "use_dora": (None, False),
        "bias": (None, "none"),
        "lora_bias": (None, False),
        "use_qalora": (None, False),
        "use_bdlora": (None, False, {}),
        "fan_in_fan_out": (None, False),
        "layer_replication": (None, []),
        "alora_invocation_tokens": (None, []),
        "trainable_token_indices": (None, [], {}),
        "target_parameters": (None, []),
        "rank_pattern": (None, {}),  # one rank and one scaling for the whole adapter
        "alpha_pattern": (None, {}),
        "auto_mapping": (None,),  # names a class to load
        "megatron_config": (None,),
        "revision": (None,),
        "init_lora_weights": INITS,
    }
)
SIDE = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<side>[AB])\.weight")
FOREIGN_TENSORS: tuple[tuple[str, str], ...] = (  # part of a name -> what it is
    ("lora_magnitude_vector", "a DoRA magnitude vector"),
    ("modules_to_save", "a whole module of the base"),
    ("lora_embedding_", "a LoRA of an embedding"),
    ("bias", "a bias"),
)
LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")

Shapes = Mapping[str, tuple[int, int]]
"""Module of the base -> (out, in)."""


def config_problems(config: Mapping[str, Any]) -> list[str]:
    """What of an adapter's configuration cannot be served."""
    problems = [
        f"{key}={config[key]!r} cannot be served" for key, fine in SERVABLE.items() if key in config and config[key] not in fine
    ]
    if "peft_type" not in config:
        problems.append("peft_type is missing; it must be LORA")
    if type(config.get("r")) is not int or config["r"] not in RANKS:
        problems.append(f"r={config.get('r')!r} cannot be served; the rank is one of {', '.join(map(str, RANKS))}")
    alpha = config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or alpha <= 0:
        problems.append(f"lora_alpha={alpha!r} is not a positive number")
    targets = config.get("target_modules")
    if not isinstance(targets, list) or not targets or not all(isinstance(target, str) and target for target in targets):
        problems.append(f"target_modules={targets!r} is not a list of names")
    return problems


def tensor_problems(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, base: Shapes | None) -> list[str]:
    """What of an adapter's tensors does not fit its configuration, each other or the base. `config` passed `config_problems`."""
    sides: dict[str, dict[str, Tensor]] = defaultdict(dict)
    problems = []
    for name, tensor in tensors.items():
        found = SIDE.fullmatch(name)
        if not found:
            what = next((words for part, words in FOREIGN_TENSORS if part in name), "no part of a LoRA adapter")
            problems.append(f"the tensor {name!r} is {what}")
        elif tensor.dtype not in DTYPES:
            problems.append(f"the tensor {name!r} is {tensor.dtype}; an adapter's are {', '.join(DTYPES)}")
        else:
            sides[found["module"]][found["side"]] = tensor
    for module, pair in sides.items():
        problems += _pair_problems(module, pair, config, base)
    problems += _coverage_problems(config, set(sides), base)
    return problems


def _pair_problems(module: str, pair: Mapping[str, Tensor], config: Mapping[str, Any], base: Shapes | None) -> Iterator[str]:
    missing = {"A", "B"} - pair.keys()
    if missing:
        yield f"{module} has no lora_{missing.pop()}"
        return
    rank, (down, up) = config["r"], (pair["A"].shape, pair["B"].shape)
    if len(down) != 2 or down[0] != rank:
        yield f"{module}: lora_A is {list(down)}, not [r={rank}, in]"
    if len(up) != 2 or up[1] != rank:
        yield f"{module}: lora_B is {list(up)}, not [out, r={rank}]"
    if module.rpartition(".")[2] not in config["target_modules"]:
        yield f"{module} is not among the target modules"
    if base is None:
        return
    if module not in base:
        yield f"{module} is an unknown module: the base has none of this name"
    elif (up[0], down[-1]) != base[module]:
        yield f"{module} is made for a matrix {up[0]} x {down[-1]}, the base's is {base[module][0]} x {base[module][1]}"


def _coverage_problems(config: Mapping[str, Any], there: set[str], base: Shapes | None) -> list[str]:
    """Target modules without tensors; with a base, layers that are left out without saying so."""
    targets = set(config["target_modules"])
    bare = sorted(targets - {module.rpartition(".")[2] for module in there})
    if bare:
        return [f"the target modules {', '.join(bare)} have no tensors"]
    if base is None or config.get("exclude_modules"):
        return []
    chosen = config.get("layers_to_transform")
    layers = None if chosen is None else {int(layer) for layer in (chosen if isinstance(chosen, list) else [chosen])}
    left_out = sorted(module for module in base if _is_meant(module, targets, layers) and module not in there)
    return [f"{len(left_out)} modules have no tensors, the first is {left_out[0]}"] if left_out else []


def _is_meant(module: str, targets: set[str], layers: set[int] | None) -> bool:
    found = LAYER.search(module)
    return module.rpartition(".")[2] in targets and found is not None and (layers is None or int(found[1]) in layers)


def base_shapes(folder: Path) -> Shapes:
    """(out, in) of the base's matrices from its weights' headers; where these are packed, from its `config.json`.

    Raises Malformed when neither tells.
    """
    tensors = {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in read_header(path).items()}
    if not any(name.endswith(".qweight") for name in tensors):
        return {
            name.removesuffix(".weight"): (tensor.shape[0], tensor.shape[1])
            for name, tensor in tensors.items()
            if name.endswith(".weight") and len(tensor.shape) == 2
        }
    try:
        return dict(_from_config(json.loads((folder / "config.json").read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Malformed(f"has packed weights and a config.json that does not tell their shapes ({error!r})") from error


def _from_config(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """The seven projections of a Llama- or Qwen-shaped decoder."""
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, config.get("num_key_value_heads", heads) * head
    for layer in range(config["num_hidden_layers"]):
        for module, shape in (
            ("self_attn.q_proj", (queries, hidden)),
            ("self_attn.k_proj", (keys, hidden)),
            ("self_attn.v_proj", (keys, hidden)),
            ("self_attn.o_proj", (hidden, queries)),
            ("mlp.gate_proj", (inner, hidden)),
            ("mlp.up_proj", (inner, hidden)),
            ("mlp.down_proj", (hidden, inner)),
        ):
            yield f"model.layers.{layer}.{module}", shape
