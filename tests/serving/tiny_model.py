"""Builds a random Qwen3-shaped model and random LoRA adapters in a folder. Knows nothing of training; its answers mean nothing."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

PROJECTIONS = {
    "self_attn.q_proj": ("hidden", "query"),
    "self_attn.k_proj": ("hidden", "key_value"),
    "self_attn.v_proj": ("hidden", "key_value"),
    "self_attn.o_proj": ("query", "hidden"),
    "mlp.gate_proj": ("hidden", "intermediate"),
    "mlp.up_proj": ("hidden", "intermediate"),
    "mlp.down_proj": ("intermediate", "hidden"),
}
SENTENCES = [
    "The VPN session hangs after the second factor.",
    "I cannot sign in although my password is right.",
    "Please send a copy of invoice INV-2044 to our accountant.",
    "You are the triage model of a support desk. Choose one type.",
    "Our site in Hamburg has no network since the firmware update of the firewall.",
]


def build_model(folder: Path, *, layers: int = 2, hidden: int = 64, vocabulary: int = 600, seed: int = 7) -> Path:
    """Write config, tokenizer and random weights (safetensors) that vLLM loads as Qwen3ForCausalLM."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    tokens = _write_tokenizer(folder, vocabulary)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=tokens,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        initializer_range=0.2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return folder


def build_adapter(store: Path, model: Path, *, name: str, seed: int, rank: int = 8, strength: float = 0.3) -> tuple[str, Path]:
    """Write a random adapter on all seven projections; gives its content-addressed name and its folder."""
    folder = store / name
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((model / "config.json").read_text())
    width = {
        "hidden": config["hidden_size"],
        "query": config["num_attention_heads"] * config["head_dim"],
        "key_value": config["num_key_value_heads"] * config["head_dim"],
        "intermediate": config["intermediate_size"],
    }
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for projection, (inward, outward) in PROJECTIONS.items():
            key = f"base_model.model.model.layers.{layer}.{projection}"
            weights[f"{key}.lora_A.weight"] = torch.randn(rank, width[inward], generator=generator) * width[inward] ** -0.5
            weights[f"{key}.lora_B.weight"] = torch.randn(width[outward], rank, generator=generator) * strength
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    _write_adapter_config(folder, rank=rank)
    return f"{name}@sha256-{folder_digest(folder)}", folder


def _write_adapter_config(folder: Path, *, rank: int) -> None:
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tiny",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(name.split(".")[1] for name in PROJECTIONS),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True))


def folder_digest(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        whole.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _write_tokenizer(folder: Path, vocabulary: int) -> int:
    """Byte-level BPE: every byte is a token, so every letter is a single-token code."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 20, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "pad_token": "<|end|>",
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()
