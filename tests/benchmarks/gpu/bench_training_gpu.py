"""Speed and memory of LoRA and QLoRA on an 8B-shaped Qwen3 with random weights, on one CUDA GPU.

    python -m tests.benchmarks.gpu.bench_training_gpu [--layers 36] [--steps 8] [--tokens 16384] [--modes bf16 bf16-saving 4bit 4bit-saving]

The shape is Qwen3-8B's (36 layers, 4096 wide, 32/8 heads of 128, 12288 inside, 151,936 tokens); weights are random, made on the
GPU, so the speed is the real one and the loss means nothing. Each step is a pack of tickets of `--own` tokens behind one prefix of
`--prefix` tokens, through the same forward pass, loss, optimizer and LoRA products as `training/adapter/fit.py`. Prints per mode
tokens/s (padding not counted, the prefix once), tokens/s as if every ticket carried its prefix, the share of the measured bfloat16
product rate, peak memory, and minutes for 10,000 tickets. A mode that does not fit into the GPU says so.
"""

import argparse
import gc
import statistics
import time
from typing import Any

import torch

from training.adapter import attention
from training.adapter.base import Base, add_lora
from training.adapter.config import AdapterConfig, Quantization
from training.adapter.fit import _optimizer
from training.adapter.forward import loss_sum, option_logits
from training.adapter.last import shorten
from training.adapter.packing import Pack, pack
from training.adapter.rows import TokenRow

TARGET_TOKENS, TARGET_MINUTES, TICKETS = 14_000, 15, 10_000
MODES = {
    "bf16": (Quantization.NONE, False),
    "bf16-saving": (Quantization.NONE, True),  # gradient checkpointing
    "4bit": (Quantization.FOUR_BIT, False),
    "4bit-saving": (Quantization.FOUR_BIT, True),
}


def build(layers: int, quantization: Quantization) -> Base:
    """The base on the GPU, random weights, quantized in place of each projection where asked for."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    attention.register()
    config = Qwen3Config(
        vocab_size=151_936, hidden_size=4096, intermediate_size=12_288, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=32_768, tie_word_embeddings=False, use_cache=False,
    )  # fmt: skip
    config._attn_implementation = attention.NAME
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda"):
            model = Qwen3ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    model.requires_grad_(False)
    shorten(model)
    if quantization is Quantization.FOUR_BIT:
        quantize(model)
    return Base(
        model=model,
        tokenizer=None,
        name="random-8b",
        device=torch.device("cuda"),
        dtype=torch.bfloat16,
        packed=True,
        ends_only=True,
    )


def quantize(model: Any) -> None:
    """Each projection as NF4 with double quantization, as transformers' loader makes them."""
    import bitsandbytes as bnb

    for layer in model.model.layers:
        for parent in (layer.self_attn, layer.mlp):
            for name, module in list(parent.named_children()):
                if isinstance(module, torch.nn.Linear):
                    small = bnb.nn.Linear4bit(
                        module.in_features,
                        module.out_features,
                        bias=False,
                        compute_dtype=torch.bfloat16,
                        compress_statistics=True,
                        quant_type="nf4",
                    )
                    weight = module.weight.data.to("cpu")
                    small.weight = bnb.nn.Params4bit(weight, requires_grad=False, compress_statistics=True, quant_type="nf4")
                    setattr(parent, name, small.to("cuda"))
        torch.cuda.empty_cache()


def make_pack(options: argparse.Namespace) -> Pack:
    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 150_000, (count,), generator=generator).tolist())

    prefix, choices = ids(options.prefix), tuple(range(64))
    count = (options.tokens - options.prefix) // options.own
    rows = [TokenRow(prefix=prefix, suffix=ids(options.own), options=choices, target=n % 64, weight=1.0) for n in range(count)]
    return pack(rows, pad_id=0)


def matmul_rate() -> float:
    """bfloat16 operations per second of [8192, 4096] x [4096, 12288]."""
    left = torch.randn(8192, 4096, device="cuda", dtype=torch.bfloat16)
    right = torch.randn(12_288, 4096, device="cuda", dtype=torch.bfloat16)
    for _ in range(5):
        left @ right.T
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(50):
        left @ right.T
    torch.cuda.synchronize()
    return 50 * 2 * 8192 * 4096 * 12_288 / (time.perf_counter() - began)


def run(mode: str, options: argparse.Namespace) -> None:
    quantization, saving = MODES[mode]
    base = build(options.layers, quantization)
    config = AdapterConfig(
        rank=options.rank, alpha=32, steps=1, quantization=quantization, gradient_checkpointing=saving, deterministic=False
    )
    # bitsandbytes keeps two weights per byte, so shapes are taken from the layers, not from their weights
    sizes = [m.in_features * m.out_features for n, m in base.model.named_modules() if n.endswith("_proj")]
    add_lora(base, config)
    matrices = [matrix for matrix in base.model.parameters() if matrix.requires_grad]
    optimizer = _optimizer(matrices, config, base.device)
    packed = make_pack(options).to(base.device)
    base.model.train()
    torch.cuda.reset_peak_memory_stats()
    times = []
    for _ in range(options.steps + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        loss = loss_sum(option_logits(base, range(64), packed, way="exact"), packed, label_smoothing=0.05)
        (loss / packed.layout.count).backward()
        torch.nn.utils.clip_grad_norm_(matrices, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    report(mode, options, packed, statistics.median(times[2:]), sum(sizes), float(loss.detach()))


def report(mode: str, options: argparse.Namespace, packed: Pack, seconds: float, frozen: int, loss: float) -> None:
    layout, rate = packed.layout, matmul_rate()
    tokens, unshared = packed.own_tokens, layout.count * (layout.prefix + options.own)
    used = 4 * frozen * tokens / seconds / rate  # the useful products of the base alone, see bench_training
    minutes = TICKETS / layout.count * seconds / 60
    print(
        f"{mode:12}{tokens / seconds:9.0f} tokens/s ({unshared / seconds:9.0f} if every ticket carried its prefix)"
        f"   {used:5.1%} of {rate / 1e12:.0f} TFLOP/s   peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
        f"   {TICKETS} tickets in {minutes:.1f} min   loss {loss / layout.count:.2f}"
    )
    met = tokens / seconds >= TARGET_TOKENS and minutes <= TARGET_MINUTES
    print(f"{'':12}target {TARGET_TOKENS} tokens/s and {TARGET_MINUTES} min: {'met' if met else 'MISSED'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16_384, help="of a pack")
    parser.add_argument("--prefix", type=int, default=900)
    parser.add_argument("--own", type=int, default=300, help="tokens of a ticket")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--modes", nargs="+", choices=tuple(MODES), default=tuple(MODES))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("This benchmark needs a CUDA GPU.")
    torch.backends.cuda.matmul.allow_tf32 = True
    name = torch.cuda.get_device_name()
    print(
        f"{name}, torch {torch.__version__}, {options.layers} layers, prefix {options.prefix}, own {options.own}, rank {options.rank}"
    )
    for mode in options.modes:
        try:
            run(mode, options)
        except torch.cuda.OutOfMemoryError:
            print(f"{mode:12}does not fit into {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB", flush=True)
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
