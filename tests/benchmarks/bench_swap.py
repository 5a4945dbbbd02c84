"""How fast adapters come and go in a serving engine, and what they weigh: our verified swap beside vLLM's own `add_lora`, in one run.

    python -m tests.benchmarks.bench_swap [--adapters 12] [--rounds 3]

Both sides use the same engine (`AsyncLLM`) in turns, with adapters of the same shape and other bytes; each is unloaded after its
turn, so its weights are read from its files every time. Ours verifies every byte against the manifest, adds, pins and probes; the
alias moves once the probe has answered. vLLM's adds, and answers the first request.
Target on a GPU: a cold swap within 20 ms at p99 (TARGETS: adapters per GPU).
"""

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from models.local import ADAPTER, open_verified
from models.manifest import Kind, write
from serving.adapters import DesiredAdapter
from serving.engine import Engine, EngineConfig
from serving.platform import switch_off_phone_home
from tests.benchmarks.workload import circumstances, engine_config, triage_requests

Timings = dict[str, list[float]]  # what -> milliseconds
MiB = 2**20


def made_adapters(root: Path, count: int) -> list[tuple[str, Path]]:
    """(full name, folder) of copies of the bundled adapter whose weights differ, all of the same plain name."""
    import torch
    from safetensors.torch import load_file, save_file

    source, manifest = open_verified(ADAPTER)
    weights = load_file(source / "adapter_model.safetensors")
    made = []
    for number in range(count):
        folder = root / str(number)
        folder.mkdir(parents=True)
        shutil.copyfile(source / "adapter_config.json", folder / "adapter_config.json")
        chance = torch.Generator().manual_seed(number)
        changed = {
            name: value + 0.3 * value.float().std() * torch.randn(value.shape, generator=chance) for name, value in weights.items()
        }
        save_file({name: value.to(weights[name].dtype) for name, value in changed.items()}, folder / "adapter_model.safetensors")
        fields = {"base": manifest.base, "license": manifest.license, "made": {"seed": number}}
        made.append((write(folder, name="swapped", kind=Kind.ADAPTER, **fields).full_name, folder))
    return made


@contextmanager
def timed(timings: Timings, what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timings.setdefault(what, []).append(1000 * (time.perf_counter() - began))


async def ours(engine: Engine, name: str, folder: Path, timings: Timings) -> None:
    """From a desired row to an answer through the alias; then away again."""
    (request,) = triage_requests(1, seed=1)
    with timed(timings, "ours: alias move -> first answer through it"):
        with timed(timings, "ours: reconcile (verify, add, pin, probe, move the alias)"):
            problems = await engine.reconcile([DesiredAdapter(alias="live", name=name, path=folder)])
        assert not problems, problems
        (answer,) = await engine.score([request], model="live")
    assert answer.model == name
    with timed(timings, "ours: withdraw the alias and unload"):
        await engine.reconcile([])


async def parts_of_ours(engine: Engine, name: str, folder: Path, timings: Timings) -> None:
    """The same in pieces."""
    with timed(timings, "  of it: verify every byte"):
        await asyncio.to_thread(engine._verify, name, folder)
    proposed = engine.adapters.propose(name, folder)
    assert proposed is not None
    with timed(timings, "  of it: add, pin and probe"):
        await engine._load(proposed)
    await engine._llm.remove_lora(proposed.number)


async def vllms(engine: Engine, name: str, folder: Path, number: int, timings: Timings) -> None:
    """`AsyncLLM.add_lora` as it comes, then the first answer, then `remove_lora`."""
    from vllm.lora.request import LoRARequest

    (request,) = triage_requests(1, seed=1)
    ids = engine._tokenizer.encode(request.prompt)
    lora = LoRARequest(f"{name}-peer", number, str(folder))
    with timed(timings, "vLLM: add_lora -> first answer"):
        with timed(timings, "vLLM: add_lora"):
            await engine._llm.add_lora(lora)
        await engine._score_one(ids, engine._ids_of(request.options), lora)
    with timed(timings, "vLLM: remove_lora"):
        await engine._llm.remove_lora(number)


def memory_mib() -> float:
    """Resident, of this process and the engine's."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(process.memory_info().rss for process in family) / MiB


async def held_at_once(engine: Engine, adapters: list[tuple[str, Path]]) -> tuple[float, float, float]:
    """Memory in MiB before, with all places taken, and after all were withdrawn."""
    before = memory_mib()
    rows = [DesiredAdapter(alias=f"a{n}", name=name, path=folder) for n, (name, folder) in enumerate(adapters)]
    assert not await engine.reconcile(rows)
    for row in rows:
        await engine.score(triage_requests(1, seed=2), model=row.alias)
    full = memory_mib()
    await engine.reconcile([])
    return before, full, memory_mib()


async def measure(
    config: EngineConfig, adapters: list[tuple[str, Path]], rounds: int
) -> tuple[Timings, tuple[float, float, float]]:
    engine = await Engine.start(config)
    timings: Timings = {}
    turns: list[Callable[[str, Path, int, Timings], Awaitable[None]]] = [
        lambda name, folder, number, into: ours(engine, name, folder, into),
        lambda name, folder, number, into: vllms(engine, name, folder, number, into),
        lambda name, folder, number, into: parts_of_ours(engine, name, folder, into),
    ]
    try:
        for round_ in range(-1, rounds):  # round -1 warms up
            for number, (name, folder) in enumerate(adapters):
                into = timings if round_ >= 0 else {}
                for turn in turns if number % 2 else list(reversed(turns)):
                    await turn(name, folder, 10_000 + 1000 * (round_ + 1) + number, into)
        return timings, await held_at_once(engine, adapters[: config.max_adapters])
    finally:
        engine.shutdown()


def report(config: EngineConfig, count: int, size_mib: float, timings: Timings, memory: tuple[float, float, float]) -> None:
    print(circumstances(config))
    samples = len(next(iter(timings.values())))
    print(
        f"workload  {count} adapters of one name and other bytes, {size_mib:.1f} MiB each, {samples} swaps a way, engine otherwise idle"
    )
    for what in sorted(timings, key=lambda what: (what.startswith("vLLM"), list(timings).index(what))):
        found = sorted(timings[what])
        p99 = found[min(len(found) - 1, round(0.99 * len(found)))]
        print(f"{what:60}{statistics.median(found):9.1f} ms median{p99:9.1f} ms p99")
    mine = statistics.median(timings["ours: alias move -> first answer through it"])
    peer = statistics.median(timings["vLLM: add_lora -> first answer"])
    print(f"verified swap against vLLM's own, to the first answer: {mine / peer:.2f} x the time")
    before, full, after = memory
    held = config.max_adapters
    print(
        f"memory    {before:.0f} MiB with none, {full:.0f} with {held} served ({(full - before) / held:+.1f} each), {after:.0f} after"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapters", type=int, default=12, help="different ones")
    parser.add_argument("--rounds", type=int, default=3, help="each adapter comes and goes so often")
    options = parser.parse_args()
    switch_off_phone_home()
    config = engine_config(max_adapters=4, adapter_linger_s=0.0)
    with tempfile.TemporaryDirectory(prefix="cloister-swap-") as folder:
        adapters = made_adapters(Path(folder), options.adapters)
        size = sum(path.stat().st_size for path in adapters[0][1].iterdir()) / MiB
        timings, memory = asyncio.run(measure(config, adapters, options.rounds))
    report(config, options.adapters, size, timings, memory)


if __name__ == "__main__":
    main()
