"""Training tokens per second on this machine against what its matrix products allow, measured in the same minute.

    python -m tests.benchmarks.bench_training [--steps 12] [--rounds 3] [--threads 2] [--rows 64] [--own 20] [--options 64]

The bundled base, a fresh LoRA, random tokens: listed mode (many short tickets behind one list of options) and candidates mode (each
request has its own candidates, nothing shared but an instruction). Rounds of training and of plain products take turns, so that
whatever else the machine does hits both. Both are clocked in seconds of the processor times threads, not of the wall: what other
processes take is not counted, waiting of our own threads for each other is.

Useful work of a step, T tokens without padding, P frozen parameters in the projections of all layers:
    4 P T            x W in the forward pass, dy W^T in the backward pass; the base's own gradients are never computed
    6 R T            with R parameters of the LoRA matrices: forward, gradient of the input, gradient of the matrices
    3 * 4 d H pairs  scores and mixtures of attention with H heads of width d, over the pairs that may see each other
The last layer counts as if all its tokens were computed; the recipe computes its ends alone.
Roofline: the median rate of bfloat16 products [tokens, 384] x [384, 1024] in the same round. Memory: the process's peak.
"""

import argparse
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from models.local import BASE, open_verified
from orchestrator.triage.prompts import CODES, Option, candidate, choice_prefix, choice_suffix, rerank_prefix, rerank_suffix
from tests.benchmarks.workload import cpu_name
from training.adapter.base import Base, add_lora, load_base
from training.adapter.config import AdapterConfig
from training.adapter.fit import fit_adapter
from training.adapter.packing import pack, split_packs
from training.adapter.rows import ChoiceRow, Reader, TokenRow

TARGET_MINUTES, TARGET_TICKETS = 10, 10_000


@dataclass(frozen=True, kw_only=True)
class Work:
    """Useful floating-point operations and tokens of one pass over some rows."""

    operations: float
    tokens: int
    padded: int


def machine() -> str:
    """The line that a number must never be told without."""
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {cpu_name()}, {os.cpu_count()} cores, load {load:.1f}, torch {torch.__version__}"
    )


def words(choose: random.Random, count: int) -> str:
    """About as many tokens as words: all of them are in the base's vocabulary."""
    return " ".join(
        choose.choice(("card", "payment", "account", "money", "transfer", "order", "lost", "new")) for _ in range(count)
    )


def listed(count: int, own: int, options: int, seed: int) -> list[ChoiceRow]:
    choose = random.Random(seed)
    prefix = choice_prefix("Answer.", [Option(code=code, name=words(random.Random(code), 4)) for code in CODES[:options]])
    return [
        ChoiceRow(
            prefix=prefix, suffix=choice_suffix(words(choose, own)), options=CODES[:options], target=choose.randrange(options)
        )
        for _ in range(count)
    ]


def candidates(count: int, own: int, options: int, seed: int) -> list[ChoiceRow]:
    choose = random.Random(seed)
    rows = []
    for _ in range(count):
        shown = [candidate(code, words(choose, 3), [words(choose, own) for _ in range(2)]) for code in CODES[:options]]
        suffix = rerank_suffix(shown, words(choose, own))
        rows.append(ChoiceRow(prefix=rerank_prefix(), suffix=suffix, options=CODES[:options], target=choose.randrange(options)))
    return rows


def useful(base: Base, rank: int, rows: list[TokenRow], *, batch_tokens: int) -> Work:
    """The formula of this file's docstring."""
    model, config = base.model, base.model.config
    frozen = sum(m.weight.numel() for n, m in model.named_modules() if n.endswith("_proj") and hasattr(m, "weight"))
    lora = sum(rank * sum(m.weight.shape) for n, m in model.named_modules() if n.endswith("_proj") and hasattr(m, "weight"))
    heads, width, layers = config.num_attention_heads, config.head_dim, config.num_hidden_layers
    tokens, padded, pairs = 0, 0, 0
    for chosen in split_packs(rows, batch_tokens=batch_tokens):
        packed = pack([rows[index] for index in chosen], pad_id=0)
        prefix = packed.layout.prefix
        tokens, padded = tokens + packed.own_tokens, padded + packed.layout.tokens
        pairs += prefix * (prefix + 1) // 2
        pairs += sum(len(rows[i].suffix) * prefix + len(rows[i].suffix) * (len(rows[i].suffix) + 1) // 2 for i in chosen)
    return Work(
        operations=4.0 * frozen * tokens + 6.0 * lora * tokens + 12.0 * width * heads * layers * pairs, tokens=tokens, padded=padded
    )


def matmul_rate(threads: int, seconds: float = 1.0) -> float:
    """Floating-point operations per second of the products that the model is made of."""
    left, right = torch.randn(2048, 384).bfloat16(), torch.randn(1024, 384).bfloat16()
    rates = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        start = time.process_time()
        for _ in range(20):
            left @ right.T
        rates.append(threads * 20 * 2 * 2048 * 384 * 1024 / (time.process_time() - start))
    return statistics.median(rates)


def rate_of(config: AdapterConfig, base: Path, make: Callable[[int], list[ChoiceRow]]) -> tuple[float, float]:
    """Tokens per second (processor, wall) of a whole fit: tokenizing, packing, steps, clipping, optimizer; not loading the base."""
    with tempfile.TemporaryDirectory() as folder:
        result = fit_adapter(config, base=base, rows=make, out=Path(folder) / "out", work=Path(folder) / "work", quiet=True)
    tokens, threads = result.record["tokens"], config.threads or 1
    return threads * tokens / result.record["processor_seconds"], tokens / result.record["seconds"]


def measure(name: str, make: Callable[[int], list[ChoiceRow]], rows_per_step: int, options: argparse.Namespace, base: Path) -> None:
    config = AdapterConfig(steps=options.steps, batch_rows=rows_per_step, threads=options.threads, devices="cpu")
    loaded = load_base(base, config)
    reader = Reader(loaded.tokenizer, max_tokens=loaded.max_tokens)
    rows = reader.read(make(0))
    work = useful(loaded, config.rank, rows, batch_tokens=config.batch_tokens)
    add_lora(loaded, config)
    rate_of(config, base, make)  # warms up
    shares, rates, walls, products = [], [], [], []
    for _ in range(options.rounds):
        before = matmul_rate(options.threads)
        processor, wall = rate_of(config, base, make)
        rates.append(processor)
        walls.append(wall)
        products.append((before + matmul_rate(options.threads)) / 2)
        shares.append(rates[-1] * work.operations / work.tokens / products[-1])
    per_ticket = work.tokens / len(rows)
    minutes = TARGET_TICKETS * per_ticket / statistics.median(rates) / 60
    rounds = f"{min(shares):.1%}..{max(shares):.1%}"
    print(
        f"{name:11}{statistics.median(rates):9.0f} tokens/s ({statistics.median(walls):.0f} by the wall)"
        f"   {statistics.median(shares):5.1%} of the roofline"
        f" (rounds {rounds})   products {statistics.median(products) / 1e9:.0f} GFLOP/s"
        f"   {work.operations / work.tokens / 1e6:.1f} MFLOP/token   padding {1 - work.tokens / work.padded:.1%}"
    )
    print(
        f"{'':11}{per_ticket:.1f} tokens per ticket with its share of the prefix; one pass over {TARGET_TICKETS} tickets:"
        f" {minutes:.2f} min, so {TARGET_MINUTES / minutes:.1f} passes in {TARGET_MINUTES} min when nothing else runs",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=64, help="per step")
    parser.add_argument("--own", type=int, default=20, help="words of a ticket")
    parser.add_argument("--options", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder, manifest = open_verified(BASE)
    print(
        f"{machine()}, {options.threads} threads, base {manifest.full_name[:32]}, rank 16, {options.rows} tickets per step",
        flush=True,
    )
    count = options.rows * options.steps
    measure("listed", lambda epoch: listed(count, options.own, options.options, epoch), options.rows, options, folder)
    few = max(1, options.rows // 4)
    measure("candidates", lambda epoch: candidates(count // 4, options.own, options.candidates, epoch), few, options, folder)
    print(f"peak memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
