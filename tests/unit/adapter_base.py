"""Bases with random weights and a manifest, and rows for them, small enough to be fitted in a second."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.manifest import Kind, write
from tests.serving.tiny_model import _write_tokenizer
from training.adapter.rows import ChoiceRow

OPTIONS = tuple("ABCDEF")
WORDS = ("vpn", "invoice", "password", "printer", "license", "badge")
FILLER = ("since this morning", "again", "please help", "for the whole team", "after the update", "and nobody answers the phone")


def build_base(
    folder: Path, family: str = "qwen3", *, seed: int = 7, hidden: int = 64, dtype: torch.dtype = torch.bfloat16
) -> Path:
    """A `qwen3`- or `llama`-shaped base, verified like any other."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    folder.mkdir(parents=True)
    shape: dict[str, Any] = {
        "vocab_size": _write_tokenizer(folder, 600),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 1024,
        "initializer_range": 0.1,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    torch.manual_seed(seed)
    if family == "qwen3":
        model: Any = Qwen3ForCausalLM(Qwen3Config(tie_word_embeddings=True, **shape))
    else:
        model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=False, **shape))
    model.to(dtype).save_pretrained(folder, safe_serialization=True)
    write(folder, name=f"tiny-{family}", kind=Kind.BASE, license="Apache-2.0", made={"random": True})
    return folder


def listed_rows(count: int, seed: int) -> list[ChoiceRow]:
    """All options in one shared prefix."""
    choose = random.Random(seed)
    prefix = "\n".join(["Which is it?", *(f"{code} {word}" for code, word in zip(OPTIONS, WORDS, strict=True)), "Ticket:", ""])
    rows = []
    for _ in range(count):
        target = choose.randrange(len(WORDS))
        text = " ".join([WORDS[target], *choose.sample(FILLER, choose.randint(0, 3))])
        rows.append(ChoiceRow(prefix=prefix, suffix=f"{text}\nType:\n", options=OPTIONS, target=target))
    return rows


def candidate_rows(count: int, seed: int) -> list[ChoiceRow]:
    """Each row has options of its own, two to four, behind a short prefix."""
    choose = random.Random(seed)
    rows = []
    for row in listed_rows(count, seed):
        others = [number for number in range(len(WORDS)) if number != row.target]
        shown = sorted([row.target, *choose.sample(others, choose.randint(1, 3))])
        codes = OPTIONS[: len(shown)]
        lines = [f"{code} {WORDS[number]}" for code, number in zip(codes, shown, strict=True)]
        suffix = "\n".join([*lines, "Ticket:", row.suffix])
        rows.append(ChoiceRow(prefix="Compare.\n", suffix=suffix, options=codes, target=shown.index(row.target)))
    return rows


def one_by_one(base: Any, rows: Sequence[ChoiceRow]) -> list[list[float]]:
    """Log-probabilities of whole prompts alone, through the model's own forward with torch's own attention."""
    before = base.model.config._attn_implementation
    base.model.set_attn_implementation("sdpa")
    found = []
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([base.tokenizer(row.prefix + row.suffix)["input_ids"]])
            codes = [base.tokenizer.encode(code, add_special_tokens=False)[0] for code in row.options]
            found.append(torch.log_softmax(base.model(ids).logits[0, -1, codes].float(), -1).tolist())
    base.model.set_attn_implementation(before)
    return found
