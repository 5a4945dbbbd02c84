"""Step 4: pre-train cloister-nano, a Qwen3-shaped decoder, in one readable loop.

    python -m training.nano.pretrain training/nano/configs/nano.yaml [--resume] [--minutes N]

Every step takes three kinds of rows and adds their losses:
text        packed articles, replies and tickets: the next token;
sentences   short requests: the next token, and a linear map of the last token's state must find the sentence encoder's
            vector of the same request (distillation: meaning comes much faster than from 6 million tokens of text);
choices     a list of options with many requests behind it: the log-probability of the right code among the codes listed.
            A row has random options of public sets (an intent with its name, an example or both; random codes; sometimes
            *none of these*) or, later in the run, the bundled desk's types with house-written tickets (never the held-out
            ones). The base learns what choosing is; an adapter then only has to sharpen what a desk's types mean.
candidates  each request has options of its own: the types whose labeled tickets the sentence encoder finds most alike, each with
            one or two of them. The base learns to compare, which carries over to types that it never saw.

A fixed fifth of the public requests (`held_out_text`) is in none of these rows, nor in the teacher's: on it a desk's figures
are honest.

Matrices are trained by Muon, everything else by AdamW; the learning rate warms up, stays, and falls to zero over the last
part of the time budget. Writes `checkpoint.pt` (to resume) and `base/` (bf16 safetensors) into the work folder. Results
depend on the number of steps that fit into the minutes; the model card says how many did.
"""

import argparse
import hashlib
import json
import random
import re
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from orchestrator.triage.prompts import CODES, Option, candidate, choice_prefix, choice_suffix, rerank_prefix, rerank_suffix
from orchestrator.triage.taxonomy import Taxonomy, load_taxonomy
from training.nano.corpus import read_jsonl
from training.nano.packing import Pack, pack
from training.triage.dataset import Row, otherwise
from training.triage.split import load_split

QUESTIONS = (
    "You sort support tickets. Read the ticket and answer with the code of the one type that fits it best.",
    "Choose the code of the line that fits the ticket best.",
    "Which of these is the ticket about? Answer with its code.",
)
DISTILL_WEIGHT, CHOICE_WEIGHT, SENTENCE_WEIGHT, GUIDE_WEIGHT, MATCHING_WEIGHT = 2.0, 1.0, 0.3, 1.0, 0.5
CONTRAST_TEMPERATURE = 0.05


def build_model(config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, words: np.ndarray | None) -> Qwen3ForCausalLM:
    """A fresh model; token embeddings start from the encoder's word vectors where it has any."""
    shape = {key: value for key, value in config["model"].items() if key != "rope_theta"}
    settings = Qwen3Config(
        vocab_size=config["tokenizer"]["vocab_size"],
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": config["model"]["rope_theta"]},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **shape,
    )
    model = Qwen3ForCausalLM(settings)
    if words is not None:
        table = model.model.embed_tokens.weight
        known = torch.from_numpy(np.linalg.norm(words, axis=1) > 0)
        vectors = torch.from_numpy(words)[known]
        with torch.no_grad():
            table[known] = 0.03 * vectors / vectors.std() + 0.006 * torch.randn_like(vectors)
    return model


# --- rows -----------------------------------------------------------------------------------------------------------


def text_stream(work: Path, desk: list[Row], tokenizer: PreTrainedTokenizerFast) -> np.ndarray:
    """Every article, chat and house-written ticket as one stream of token ids, each ended by <|end|>."""
    documents = [row["text"] for row in read_jsonl(work / "documents.jsonl")]
    documents += [row.text for row in desk if row.source == "house"] * 2
    documents += [f"<|user|>{row['instruction']}<|end|><|assistant|>{row['response']}" for row in read_jsonl(work / "chats.jsonl")]
    documents += Path(__file__).with_name("words.txt").read_text(encoding="utf-8").split("\n\n") * 3
    random.Random(0).shuffle(documents)
    ids: list[int] = []
    for start in range(0, len(documents), 500):
        for encoded in tokenizer(documents[start : start + 500], add_special_tokens=False)["input_ids"]:
            ids += [*encoded, tokenizer.eos_token_id]
    return np.array(ids, np.int32)


def text_rows(stream: np.ndarray, *, batch: int, length: int, seed: int) -> Iterator[torch.Tensor]:
    """[batch, length + 1] for ever; every pass cuts the stream at another place and shuffles the rows."""
    generator = np.random.default_rng(seed)
    while True:
        offset = int(generator.integers(length))
        count = (len(stream) - offset - 1) // length
        order = generator.permutation(count)
        for start in range(0, count - batch + 1, batch):
            starts = offset + order[start : start + batch] * length
            yield torch.from_numpy(np.stack([stream[s : s + length + 1] for s in starts]).astype(np.int64))


def sentence_rows(
    work: Path, tokenizer: PreTrainedTokenizerFast, *, batch: int, length: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(ids [batch, <= length], lengths [batch], teacher's vectors [batch, 384]) for ever."""
    texts = [row["text"] for row in read_jsonl(work / "sentences.jsonl")]
    used = [index for index, text in enumerate(texts) if not held_out_text(text)]
    ids = tokenizer([texts[index] for index in used], add_special_tokens=False)["input_ids"]
    line_break = tokenizer.encode("\n", add_special_tokens=False)
    ids = [row[: length - 1] + line_break for row in ids]
    vectors = np.load(work / "sentences.npy")[used]
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(len(ids))
        pools = [sorted(order[at : at + 16 * batch], key=lambda i: len(ids[i])) for at in range(0, len(ids), 16 * batch)]
        batches = [
            p[at : at + batch] for p in pools for at in range(0, len(p) - batch + 1, batch)
        ]  # of like length: little padding
        for chosen in (batches[i] for i in generator.permutation(len(batches))):
            rows = [torch.tensor(ids[i]) for i in chosen]
            lengths = torch.tensor([len(row) for row in rows])
            padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
            yield padded, lengths, torch.from_numpy(vectors[chosen].astype(np.float32))


def readable(label: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[_?]+", " ", label)).strip().lower()


def desk_choice(
    rows: list[Row], taxonomy: Taxonomy, tokenizer: PreTrainedTokenizerFast, choose: random.Random, *, requests: int
) -> tuple[tuple[list[int], list[list[int]]], list[int]]:
    """((prefix ids, ids of each request), position of each right code) of one row of house-written tickets."""
    chosen = choose.sample(rows, requests)
    texts = [row.text if choose.random() < 0.5 else otherwise(row, choose) for row in chosen]
    suffixes = [tokenizer.encode(choice_suffix(text), add_special_tokens=False) for text in texts]
    prefix = tokenizer.encode(taxonomy.prefix(), add_special_tokens=False)
    return (prefix, suffixes), [taxonomy.names.index(row.category) for row in chosen]


def held_out_text(text: str) -> bool:
    """A fifth of all texts, the same in every run: what pre-training leaves out, so that adapters can be judged on it."""
    return int(hashlib.sha256(text.strip().casefold().encode()).hexdigest(), 16) % 5 == 0


class Labeled:
    """Labeled short texts of one source, with the teacher's vectors, to find the types that are most alike."""

    def __init__(self, texts: list[str], labels: list[str], vectors: np.ndarray) -> None:
        self.texts, self.vectors = texts, vectors.astype(np.float32)
        self.names = sorted(set(labels))
        self.label = np.array([self.names.index(label) for label in labels])

    def candidates(self, index: int, count: int) -> list[tuple[int, list[int]]]:
        """(label, its two most similar texts) of the `count` labels that are most like text `index`, itself and copies left out."""
        similar = self.vectors @ self.vectors[index]
        similar[similar > 0.98] = -1.0
        found: dict[int, list[int]] = {}
        for other in np.argsort(-similar)[:400].tolist():
            members = found.get(self.label[other])
            if members is None:
                if len(found) < count:
                    found[int(self.label[other])] = [other]
            elif len(members) < 2:
                members.append(other)
        return list(found.items())


def labeled_sources(work: Path, desk: list[Row], desk_vectors: np.ndarray) -> list[Labeled]:
    """banking77, clinc150, bitext and the desk's own tickets; texts of the held-out fifth left out."""
    vector_of = dict(
        zip((row["text"] for row in read_jsonl(work / "sentences.jsonl")), np.load(work / "sentences.npy"), strict=True)
    )
    by_source: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in read_jsonl(work / "utterances.jsonl"):
        if row["source"] != "nlupp" and row["text"] in vector_of and len(row["text"]) < 200 and not held_out_text(row["text"]):
            by_source[row["source"]].append((row["text"], readable(row["label"])))
    sources = [
        Labeled([t for t, _ in found], [label for _, label in found], np.stack([vector_of[t] for t, _ in found]))
        for found in by_source.values()
    ]
    return [*sources, Labeled([row.text for row in desk], [readable(row.category) for row in desk], desk_vectors)]


Choices = tuple[Pack, torch.Tensor, list[list[int]]]
"""A pack, the position of the right code among its row's codes [requests], token ids of each row's codes."""

Guide = tuple[torch.Tensor, torch.Tensor]
"""Positions [m, 2] (row, column) where a line of examples or the ticket ends, and the teacher's vector [m, 384] of what it says."""

MATCHING_LAYER = -2  # of the decoder: here two heads are shown which option's line a request has to look at


def candidate_rows(
    sources: list[Labeled], tokenizer: PreTrainedTokenizerFast, *, packs: int, requests: int, seed: int
) -> Iterator[tuple[Choices, Guide]]:
    """Requests that each bring their own candidates with examples, a row each, for ever."""
    choose = random.Random(seed)
    line_break = tokenizer.encode("\n", add_special_tokens=False)[0]
    prefix = tokenizer.encode(rerank_prefix(), add_special_tokens=False)
    code_ids = [tokenizer.get_vocab()[code] for code in CODES]
    while True:
        rows: list[tuple[list[int], list[list[int]]]] = []
        targets, codes_of_rows, guide_at, guide_to = [], [], [], []
        count = choose.randint(3, 7)  # the same for all, so that rows are of like length
        for _ in range(packs):
            source = choose.choice(sources)
            others, style, done = choose.random() < 0.4, choose.random(), len(rows) + requests
            while len(rows) < done:
                index = choose.randrange(len(source.texts))
                found = source.candidates(index, count)
                label = int(source.label[index])
                right = next((i for i, (name, _) in enumerate(found) if name == label), None)
                gone = others and choose.random() < 0.12 and right is not None
                if len(found) < count or (right is None and not others):
                    continue
                if gone and right is not None:
                    found[right] = source.candidates(index, count + 1)[-1] if len(source.names) > count else found[right]
                    gone = found[right][0] != label
                shown = sorted(found, key=lambda each: source.names[each[0]])
                options, meant = [], []
                for code, (name, members) in zip(CODES, shown, strict=False):
                    members = members[: 1 if choose.random() < 0.3 else 2]
                    texts = [source.texts[i] for i in members]
                    options.append(candidate(code, source.names[name] if style < 0.85 else "", texts))
                    meant.append(source.vectors[members].mean(0))
                if others:
                    options.append(Option(code=CODES[count], name="Others", means="anything else"))
                inside = [i for i, (name, _) in enumerate(shown) if name == label]
                targets.append(inside[0] if inside else count)
                text = source.texts[index]
                ids = tokenizer.encode(rerank_suffix(options, text, chars=300), add_special_tokens=False)
                breaks = [len(prefix) + at for at, token in enumerate(ids) if token == line_break]
                guide_at += [(len(rows), at) for at in (*breaks[:count], breaks[-1])]
                guide_to += [*meant, source.vectors[index]]
                rows.append((prefix, [ids]))
                codes_of_rows.append(code_ids[: count + others])
        guide = torch.tensor(guide_at), F.normalize(torch.from_numpy(np.stack(guide_to)), dim=-1)
        yield (pack(rows, pad_id=tokenizer.pad_token_id), torch.tensor(targets), codes_of_rows), guide


def choice_rows(
    work: Path, desk: list[Row], taxonomy: Taxonomy, tokenizer: PreTrainedTokenizerFast, *, phase: dict[str, Any], seed: int
) -> Iterator[Choices]:
    """Rows of random lists of options with many requests behind each, and of the desk's own types, for ever."""
    by_label: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in read_jsonl(work / "utterances.jsonl"):
        if row["source"] != "nlupp" and len(row["text"]) < 200 and not held_out_text(row["text"]):
            by_label[row["source"]][row["label"]].append(row["text"])
    code_ids: dict[str, int] = {code: tokenizer.get_vocab()[code] for code in CODES}
    choose = random.Random(seed)
    everything = {label: texts for labels in by_label.values() for label, texts in labels.items()}
    sources = [*by_label.values(), everything]

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    while True:
        rows, targets, codes_of_rows = [], [], []
        for _ in range(phase["choice_packs"]):
            labels_of = choose.choice(sources)
            labels = choose.sample(sorted(labels_of), min(len(labels_of), choose.randint(3, 20)))
            codes = list(CODES[: len(labels) + 1]) if choose.random() < 0.6 else choose.sample(CODES, len(labels) + 1)
            style, options = choose.random(), []
            for code, label in zip(codes, labels, strict=False):
                examples = "; ".join(choose.sample(labels_of[label], min(len(labels_of[label]), choose.randint(1, 2))))
                shown = style < 0.25
                options.append(Option(code=code, name=readable(label) if style < 0.85 else "", means="" if shown else examples))
            with_others = choose.random() < 0.5
            if with_others:
                options.append(Option(code=codes[len(labels)], name="Others", means="anything else"))
            prefix = encode(choice_prefix(choose.choice(QUESTIONS), options))
            suffixes = []
            for _ in range(phase["requests"]):
                position = choose.randrange(len(labels))
                text = choose.choice(labels_of[labels[position]])
                if with_others and choose.random() < 0.12:
                    other = choose.choice(sorted(everything))
                    if other not in labels:
                        position, text = len(labels), choose.choice(everything[other])
                suffixes.append(encode(choice_suffix(text)))
                targets.append(position)
            rows.append((prefix, suffixes))
            codes_of_rows.append([code_ids[option.code] for option in options])
        for _ in range(phase["desk_packs"]):
            desk_row, positions = desk_choice(desk, taxonomy, tokenizer, choose, requests=phase["requests"])
            rows.append(desk_row)
            targets += positions
            codes_of_rows.append([code_ids[code] for code in taxonomy.codes])
        yield pack(rows, pad_id=tokenizer.pad_token_id), torch.tensor(targets), codes_of_rows


# --- losses ---------------------------------------------------------------------------------------------------------


def next_token_loss(model: Qwen3ForCausalLM, rows: torch.Tensor) -> torch.Tensor:
    hidden = model.model(input_ids=rows[:, :-1]).last_hidden_state
    return F.cross_entropy(model.lm_head(hidden).flatten(0, 1), rows[:, 1:].flatten())


def sentence_losses(
    model: Qwen3ForCausalLM, to_teacher: nn.Linear, ids: torch.Tensor, lengths: torch.Tensor, vectors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(next token, distance to the teacher). The teacher is met one layer before the last: the last one may use it."""
    out = model.model(input_ids=ids, output_hidden_states=True)
    real = torch.arange(ids.shape[1] - 1)[None] < (lengths - 1)[:, None]
    language = F.cross_entropy(model.lm_head(out.last_hidden_state[:, :-1][real]), ids[:, 1:][real])
    state = out.hidden_states[-2][torch.arange(len(ids)), lengths - 1]
    student = F.normalize(to_teacher(F.rms_norm(state, state.shape[-1:])).float(), dim=-1)
    similar = student @ vectors.T
    contrast = F.cross_entropy(similar / CONTRAST_TEMPERATURE, torch.arange(len(ids)))
    return language, (1 - similar.diagonal()).mean() + 0.15 * contrast


def line_ends(packed: Pack, codes: list[list[int]], line_break: int) -> list[torch.Tensor]:
    """Per row the columns where its options' lines end: the line breaks behind that of the instruction."""
    breaks = [torch.nonzero(row == line_break).flatten() for row in packed.ids]
    return [found[1 : len(row_codes) + 1] for found, row_codes in zip(breaks, codes, strict=True)]


def matching_loss(model: Qwen3ForCausalLM, state: torch.Tensor, choices: Choices, line_break: int) -> torch.Tensor:
    """Cross-entropy of two attention heads' weights against the end of the right option's line, for every request.

    One bit per request is little to learn looking from; this says where to look. `state` [rows, length, hidden] goes into the layer.
    """
    packed, targets, codes = choices
    layer, settings = model.model.layers[MATCHING_LAYER], model.config
    attention, width = layer.self_attn, settings.head_dim
    x = layer.input_layernorm(state)
    rows, length = packed.ids.shape
    queries = attention.q_norm(
        attention.q_proj(x[packed.ends[:, 0], packed.ends[:, 1]]).view(-1, settings.num_attention_heads, width)
    )
    keys = attention.k_norm(attention.k_proj(x).view(rows, length, settings.num_key_value_heads, width))
    cos, sin = model.model.rotary_emb(x, packed.positions)

    def turned(part: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = width // 2
        return part * cos[..., None, :] + torch.cat((-part[..., half:], part[..., :half]), -1) * sin[..., None, :]

    at = (packed.ends[:, 0], packed.ends[:, 1])
    queries, keys = turned(queries, cos[at], sin[at]), turned(keys, cos, sin)
    heads = torch.stack((queries[:, 0], queries[:, -1]), 1)  # one of each group
    scores = torch.einsum("rhd,rlhd->rhl", heads, keys[packed.ends[:, 0]]) / width**0.5
    visible = packed.mask[:, 0][at]
    ends = line_ends(packed, codes, line_break)
    right = torch.stack([ends[row][target] for row, target in zip(packed.ends[:, 0].tolist(), targets.tolist(), strict=True)])
    return F.cross_entropy(scores.float().masked_fill(~visible[:, None], -1e9).flatten(0, 1), right.repeat_interleave(2))


def choice_loss(
    model: Qwen3ForCausalLM, choices: Choices, *, line_break: int, guided: tuple[nn.Linear, Guide] | None = None
) -> tuple[torch.Tensor, float, torch.Tensor, torch.Tensor]:
    """(cross-entropy over the listed codes, share right, distance to the teacher at the ends of lines, `matching_loss`).

    The guide (distance 0 without one) is met two layers before the last: a layer to compare, a layer to answer.
    """
    packed, targets, codes = choices
    out = model.model(input_ids=packed.ids, position_ids=packed.positions, attention_mask=packed.mask, output_hidden_states=True)
    hidden, ends, losses, right = out.last_hidden_state, packed.ends, [], 0.0
    for row, row_codes in enumerate(codes):
        at = ends[ends[:, 0] == row]
        scores = F.linear(hidden[row, at[:, 1]], model.lm_head.weight[row_codes]).float()
        row_targets = targets[ends[:, 0] == row]
        losses.append(F.cross_entropy(scores, row_targets))
        right += (scores.argmax(-1) == row_targets).float().mean().item() / len(codes)
    distance = torch.zeros(())
    if guided is not None:
        to_teacher, (at, vectors) = guided
        state = out.hidden_states[-3][at[:, 0], at[:, 1]]
        distance = 1 - (F.normalize(to_teacher(F.rms_norm(state, state.shape[-1:])).float(), dim=-1) * vectors).sum(-1).mean()
    matching = matching_loss(model, out.hidden_states[MATCHING_LAYER - 1], choices, line_break)
    return torch.stack(losses).mean(), right, distance, matching


# --- the run --------------------------------------------------------------------------------------------------------


def rate(progress: float, *, warmup: float, decay: float) -> float:
    """Share of the learning rate at `progress` 0..1: up, level, linear to zero."""
    return min(1.0, progress / warmup, max(0.0, (1 - progress) / decay)) if progress < 1 else 0.0


def optimizers(model: nn.Module, to_teacher: nn.Module, settings: dict[str, Any]) -> list[torch.optim.Optimizer]:
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    outer = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n] + list(to_teacher.parameters())
    muon = torch.optim.Muon(
        inner, lr=settings["learning_rate"], weight_decay=settings["weight_decay"], momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(outer, lr=settings["learning_rate_embeddings"], betas=(0.9, 0.98), weight_decay=0.0)
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [muon, adamw]


def export(model: Qwen3ForCausalLM, tokenizer_folder: Path, folder: Path, record: dict[str, Any]) -> None:
    """The model as bf16 safetensors with its tokenizer, as vLLM and transformers load it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().to(torch.bfloat16) for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    settings = model.config
    settings.dtype = "bfloat16"
    model.save_pretrained(folder, state_dict=weights, safe_serialization=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tokenizer_folder / name).read_bytes())
    (folder.parent / f"{folder.name}.training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def train(config: dict[str, Any], *, resume: bool, minutes: float) -> None:
    settings, work = config["pretrain"], Path(config["work"])
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(config["seed"])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    model = build_model(config, tokenizer, np.load(work / "words.npy"))
    to_teacher = nn.Linear(config["model"]["hidden_size"], 384, bias=False)
    opts = optimizers(model, to_teacher, settings)
    step, before_s = 0, 0.0
    if resume:
        state = torch.load(work / "checkpoint.pt", weights_only=True)
        model.load_state_dict(state["model"])
        to_teacher.load_state_dict(state["to_teacher"])
        for optimizer, saved in zip(opts, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, before_s = state["step"], state["elapsed_s"]
    desk_rows, kept = load_split(Path(config["triage_work"]))
    desk = [row for row, out in zip(desk_rows, kept, strict=True) if not out]
    desk_vectors = np.load(Path(config["triage_work"]) / "vectors.npy")[~kept]
    labeled = labeled_sources(work, desk, desk_vectors)
    taxonomy = load_taxonomy()
    stream = text_stream(work, desk, tokenizer)
    seed = config["seed"] + step  # a resumed run goes on with other rows
    rows_of_phase = [
        (
            text_rows(stream, batch=phase["text"], length=settings["text_length"], seed=seed),
            sentence_rows(work, tokenizer, batch=phase["sentences"], length=settings["sentence_length"], seed=seed),
            choice_rows(work, desk, taxonomy, tokenizer, phase=phase, seed=seed),
            candidate_rows(labeled, tokenizer, packs=phase["candidate_packs"], requests=phase["candidate_requests"], seed=seed),
        )
        for phase in settings["phases"]
    ]
    count = sum(p.numel() for p in model.parameters())
    line_break = tokenizer.encode("\n", add_special_tokens=False)[0]
    print(f"{count / 1e6:.2f} M parameters, {len(stream) / 1e6:.2f} M tokens of text, from step {step}", flush=True)

    stop = False

    def ask_to_stop(*_: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    started, saved_at, seen = time.monotonic() - before_s, time.monotonic(), 0
    average: dict[str, float] = {}
    first_step = step

    def save(done: bool) -> None:
        elapsed_s = time.monotonic() - started
        torch.save(
            {
                "model": model.state_dict(),
                "to_teacher": to_teacher.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in opts],
                "step": step,
                "elapsed_s": elapsed_s,
            },
            work / "checkpoint.pt",
        )
        record = {"steps": step, "minutes": round(elapsed_s / 60, 1), "finished": done, "seed": config["seed"], "parameters": count}
        export(model, work / "tokenizer", work / "base", record | {name: round(value, 3) for name, value in average.items()})

    while not stop:
        elapsed_s = time.monotonic() - started
        progress = max(elapsed_s / 60 / minutes, step / settings["max_steps"])
        if progress >= 1:
            break
        share = rate(progress, warmup=settings["warmup_share"], decay=settings["decay_share"])
        for optimizer in opts:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share
        number = next(i for i, phase in enumerate(settings["phases"]) if progress < phase["until"])
        texts, sentences, choices, compared = rows_of_phase[number]
        rows, (ids, lengths, vectors) = next(texts), next(sentences)
        with torch.autocast("cpu", torch.bfloat16):
            text = next_token_loss(model, rows)
        text.backward()
        with torch.autocast("cpu", torch.bfloat16):
            sentence, distill = sentence_losses(model, to_teacher, ids, lengths, vectors)
        (SENTENCE_WEIGHT * sentence + DISTILL_WEIGHT * distill).backward()
        chosen: dict[str, float] = {}
        candidates, guide = next(compared)
        for kind, rows_of_kind, guided in (("choice", next(choices), None), ("candidate", candidates, (to_teacher, guide))):
            with torch.autocast("cpu", torch.bfloat16):
                loss, right, distance, matching = choice_loss(model, rows_of_kind, line_break=line_break, guided=guided)
            (CHOICE_WEIGHT * loss + GUIDE_WEIGHT * distance + MATCHING_WEIGHT * matching).backward()
            chosen |= {kind: loss.item(), f"{kind}_right": right, f"{kind}_match": matching.item()}
            seen += rows_of_kind[0].ids.numel()
        chosen["guide"] = distance.item()
        nn.utils.clip_grad_norm_(list(model.parameters()) + list(to_teacher.parameters()), 1.0)
        for optimizer in opts:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        seen += rows.numel() + int(lengths.sum())
        latest = {
            "text": text.item(),
            "sentence": sentence.item(),
            "teacher": distill.item(),
            **chosen,
        }
        average = {name: 0.95 * average.get(name, value) + 0.05 * value for name, value in latest.items()}
        if step % 10 == 0:
            took = time.monotonic() - started - before_s
            losses = " ".join(f"{name} {value:.3f}" for name, value in average.items())
            print(
                f"step {step}  {losses}  lr {share:.2f}  {seen / took:.0f} tokens/s  {(step - first_step) / took:.2f} steps/s"
                f"  {minutes - (time.monotonic() - started) / 60:.1f} min left",
                flush=True,
            )
        if time.monotonic() - saved_at > 60 * settings["save_every_minutes"]:
            save(False)
            saved_at = time.monotonic()
    save(not stop)
    print(f"{'stopped' if stop else 'finished'} at step {step}: {work / 'base'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-train cloister-nano.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--minutes", type=float, help="time budget in all, instead of the configured one")
    options = parser.parse_args()
    config = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    train(config, resume=options.resume, minutes=options.minutes or config["pretrain"]["minutes"])


if __name__ == "__main__":
    main()
