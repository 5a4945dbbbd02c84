"""How much of the shared prefixes comes from the prefix cache, under traffic that mixes two prompts, the base and an adapter.

    python -m tests.benchmarks.bench_prefix_cache [--rounds 12]

The shared part of a prompt is what it has in common with every prompt of its kind, counted in tokens. Tickets begin with a number
of their own, so no token behind the shared part can come from the cache. Target: >= 95 % after warm-up.
"""

import argparse
import asyncio
import itertools
from collections.abc import Sequence

from orchestrator.ports import ScoreRequest
from serving.engine import Engine, GenerationParams
from tests.benchmarks.workload import adapter, circumstances, engine_config, ticket, triage_requests, urgency_requests

TARGET = 0.95
PER_KIND = 8  # requests of each kind and model in one round


def shared_tokens(engine: Engine, requests: Sequence[ScoreRequest]) -> int:
    """Length of the longest beginning that all these prompts have in common, in tokens."""
    encoded = [engine._tokenizer.encode(request.prompt) for request in requests]
    alike = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*encoded, strict=False))
    return sum(1 for _ in alike)


async def round_(engine: Engine, models: Sequence[str], number: int) -> None:
    """All kinds and models at once, with some generated text between them, as on a working day."""
    kinds = [make(PER_KIND, seed=number, first=number * PER_KIND) for make in (triage_requests, urgency_requests)]
    scores = [engine.score(kind, model=model) for kind in kinds for model in models]
    await asyncio.gather(*scores)


async def chatter(engine: Engine, number: int) -> None:
    """Generated text that shares nothing and presses on the cache."""
    import random

    prompts = [ticket(random.Random(number * 100 + n), 900_000 + number * 100 + n) for n in range(2)]
    await engine.generate(prompts, GenerationParams(max_tokens=8, temperature=0.8, top_p=0.9), model=engine.config.name)


async def measure(rounds: int) -> None:
    engine = await Engine.start(engine_config())
    try:
        name, folder = adapter()
        await engine.add_adapter(name, folder)
        models = (engine.config.name, name)
        shared = [shared_tokens(engine, make(64, seed=1)) for make in (triage_requests, urgency_requests)]
        await round_(engine, models, 0)
        cached = total = 0
        for number in range(1, rounds + 1):
            before = engine.counters.cached_tokens
            await round_(engine, models, number)
            cached += engine.counters.cached_tokens - before
            total += PER_KIND * len(models) * sum(shared)
            await chatter(engine, number)
        status = engine.status()
    finally:
        engine.shutdown()
    print(circumstances(engine.config))
    print(
        f"workload  {rounds} rounds of {PER_KIND} tickets x 2 prompts (shared parts {shared[0]} and {shared[1]} tokens)"
        " x base and adapter, sampled text in between"
    )
    print(f"cached    {cached} of {total} shared-prefix tokens: {cached / total:.1%}")
    print(f"of all    {status['cached_share']:.1%} of {status['prompt_tokens']} prompt tokens")
    print(f"target >= {TARGET:.0%}: {'met' if cached / total >= TARGET else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    asyncio.run(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
