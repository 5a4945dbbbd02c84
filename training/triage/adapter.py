"""The LoRA adapter that scores the codes of the bundled taxonomy, trained on exactly the prompts that are served.

    python -m training.triage.adapter training/triage/configs.yaml

The loss looks at the listed codes alone. Requests share one copy of the prefix per step (`training/nano/packing.py`), each
ticket is written otherwise most of the time. Held-out tickets are never seen. Writes `adapter/` into the work folder.
"""

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from models.local import ADAPTER, BASE, open_verified
from models.manifest import Kind, write
from orchestrator.triage.prompts import choice_suffix
from orchestrator.triage.taxonomy import Taxonomy, load_taxonomy
from training.nano.packing import pack
from training.nano.random_adapter import adapter_config
from training.triage.dataset import Row, otherwise
from training.triage.split import load_split

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CLEAN_SHARE = 0.3


class Scorer:
    """A model that scores the codes of a taxonomy for many tickets at once. [n, classes] log-probabilities over the codes."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerFast, taxonomy: Taxonomy) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.names = taxonomy.names
        self.prefix: list[int] = tokenizer(taxonomy.prefix(), add_special_tokens=False)["input_ids"]
        self.codes = [tokenizer.get_vocab()[code] for code in taxonomy.codes]

    def logits(self, texts: Sequence[str]) -> torch.Tensor:
        """[n, classes] unnormalized, with gradients."""
        suffixes = self.tokenizer([choice_suffix(text) for text in texts], add_special_tokens=False)["input_ids"]
        packed = pack([(self.prefix, suffixes)], pad_id=self.tokenizer.pad_token_id)
        decoder = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        hidden = decoder.model(input_ids=packed.ids, position_ids=packed.positions, attention_mask=packed.mask).last_hidden_state
        return F.linear(hidden[0, packed.ends[:, 1]], decoder.lm_head.weight[self.codes])

    @torch.inference_mode()
    def score(self, texts: Sequence[str], *, batch: int = 48) -> np.ndarray:
        self.model.eval()
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = np.zeros((len(texts), len(self.codes)), np.float32)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            with torch.autocast("cpu", torch.bfloat16):
                logits = self.logits([texts[i] for i in chosen])
            out[chosen] = F.log_softmax(logits.float(), -1).numpy()
        return out


def load_base(store: Path) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast, str]:
    """(model in float32, tokenizer, full name), every file verified."""
    folder, manifest = open_verified(BASE, store=store)
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, PreTrainedTokenizerFast.from_pretrained(folder), manifest.full_name


def fit(config: dict[str, Any], rows: list[Row]) -> tuple[nn.Module, Scorer, str, dict[str, Any]]:
    """Train until the minutes are over. Gives (model, scorer, base's full name, what happened)."""
    settings = config["adapter"]
    torch.set_num_threads(config["threads"])
    torch.manual_seed(config["seed"])
    choose = random.Random(config["seed"])
    taxonomy = load_taxonomy(Path(config["taxonomy"]))
    base, tokenizer, base_name = load_base(Path(config["store"]))
    lora = LoraConfig(
        r=settings["rank"], lora_alpha=settings["alpha"], target_modules=PROJECTIONS, lora_dropout=settings["dropout"], bias="none"
    )
    model = get_peft_model(base, lora)
    scorer = Scorer(model, tokenizer, taxonomy)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings["learning_rate"], betas=(0.9, 0.98), weight_decay=0.01)
    started, step, passes, average = time.monotonic(), 0, 0, 0.0
    progress = 0.0
    while progress < 1:
        order = choose.sample(range(len(rows)), len(rows))
        for start in range(0, len(order) - settings["requests"] + 1, settings["requests"]):
            progress = (time.monotonic() - started) / 60 / settings["minutes"]
            if progress >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = settings["learning_rate"] * min(1.0, (step + 1) / 20, max(0.02, (1 - progress) / 0.7))
            chosen = [rows[i] for i in order[start : start + settings["requests"]]]
            texts = [row.text if choose.random() < CLEAN_SHARE else otherwise(row, choose) for row in chosen]
            targets = torch.tensor([taxonomy.names.index(row.category) for row in chosen])
            model.train()
            with torch.autocast("cpu", torch.bfloat16):
                logits = scorer.logits(texts)
            loss = F.cross_entropy(logits.float(), targets, label_smoothing=settings["label_smoothing"])
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            right = (logits.argmax(-1) == targets).float().mean().item()
            average = 0.95 * average + 0.05 * right if step > 1 else right
            if step % 20 == 0:
                minutes_left = settings["minutes"] - (time.monotonic() - started) / 60
                print(
                    f"step {step}  pass {passes}  loss {loss.item():.3f}  right {average:.3f}  {minutes_left:.1f} min left",
                    flush=True,
                )
        passes += 1
    made = {"steps": step, "passes": passes, "minutes": round((time.monotonic() - started) / 60, 1), "seed": config["seed"]}
    return model, scorer, base_name, made


def save(model: nn.Module, folder: Path, *, base_name: str, settings: dict[str, Any], made: dict[str, Any]) -> str:
    """PEFT's two files in bf16 and the manifest; gives the full name."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().to(torch.bfloat16).contiguous() for name, t in get_peft_model_state_dict(model).items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    record = adapter_config(base_name, rank=settings["rank"], alpha=settings["alpha"], modules=PROJECTIONS)
    (folder / "adapter_config.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return write(
        folder,
        name=ADAPTER,
        kind=Kind.ADAPTER,
        base=base_name,
        license="Apache-2.0",
        data=(
            "house-written tickets (Apache-2.0)",
            "banking77, clinc150, bitext: mapped requests (CC-BY-4.0, CC-BY-3.0, CDLA-Sharing-1.0)",
        ),
        made=made,
    ).full_name


def main(config_path: str) -> None:
    config = yaml.safe_load(Path(config_path).read_text(encoding="utf-8"))
    work, settings = Path(config["work"]), config["adapter"]
    rows, split = load_split(work)
    model, scorer, base_name, made = fit(config, [row for row, kept in zip(rows, split, strict=True) if not kept])
    save(model, work / "adapter", base_name=base_name, settings=settings, made=made)
    kept = [row for row, out in zip(rows, split, strict=True) if out]
    scores = scorer.score([row.text for row in kept])
    np.save(work / "model_logprobs.npy", scores)
    right = np.mean([scorer.names[i] == row.category for i, row in zip(scores.argmax(1), kept, strict=True)])
    made["held_out_accuracy"] = round(float(right), 4)
    print(save(model, work / "adapter", base_name=base_name, settings=settings, made=made), made)


if __name__ == "__main__":
    main(sys.argv[1])
