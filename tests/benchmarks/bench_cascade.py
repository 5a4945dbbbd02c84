"""The cascade against scoring every ticket with the language model: how fast, and how often right, on tickets not trained on.

    python -m tests.benchmarks.bench_cascade [--rounds 7] [--batch 32] [--day DIR] [--day-only]

Speed: the bundled day through the real embedder, head, engine and adapter in this process, in micro-batches as the worker makes them; the
two ways take turns. Before each timed turn the engine forgets every ticket it has seen and learns the shared prefix again, so that no
ticket comes out of the prefix cache. Target: >= 5 x, embeddings at hand (the desk needs them for linking either way); beside it with the
embedding counted. Accuracy: the day, and the golden house texts, on which nothing of the bundled model was fitted. Target: cascade >= the
better of both.
"""

import argparse
import asyncio
import dataclasses
import json
import math
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from models.local import ADAPTER, STORE
from orchestrator.domain.errors import ModelUnavailable
from orchestrator.ports import Embedder, ScoreRequest, ScoreResult
from orchestrator.triage.classify import Cascade, load_cascade
from orchestrator.triage.prompts import choice_suffix
from orchestrator.triage.taxonomy import load_taxonomy
from serving.demo.company import BUNDLED_DAY
from serving.demo.day import read_day
from serving.embedding import SentenceEmbedder, bundled
from serving.engine import Engine
from serving.platform import switch_off_phone_home
from tests.benchmarks.workload import adapter, circumstances, engine_config

TARGET = 5.0
ROOT = Path(__file__).resolve().parents[2]
TRIAGE_CONFIG = ROOT / "training" / "triage" / "configs.yaml"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tickets:
    """Texts with what is right for each; several types may be."""

    title: str
    texts: tuple[str, ...]
    right: tuple[frozenset[str], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdicts:
    """What one way of deciding said, ticket by ticket."""

    name: str
    right: np.ndarray  # [n] bool: the best type is the ticket's
    acted: np.ndarray  # [n] bool: not abstained; all False where the way has no confidence of its own


class EngineHere:
    """`orchestrator.ports.LanguageModel` around one engine in this process; its event loop runs in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.config = engine_config()
        self.adapter, folder = adapter()
        self._engine: Engine = self._wait(Engine.start(self.config))
        self._wait(self._engine.add_adapter(self.adapter, folder))

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        return self._wait(self._engine.score(requests, model=model))

    def forget(self, prefix: str, options: tuple[str, ...]) -> None:
        """Empty the prefix cache, then put the shared prefix back into it."""
        if not self._wait(self._engine._llm.reset_prefix_cache()):
            raise ModelUnavailable("The engine kept its prefix cache: a request was still running.")
        self.score([ScoreRequest(prompt=prefix + choice_suffix("Hello."), options=options)], model=self.adapter)

    def cached_tokens(self) -> int:
        return self._engine.counters.cached_tokens

    def shutdown(self) -> None:
        async def end() -> None:
            self._engine.shutdown()

        self._wait(end())


# --- tickets ------------------------------------------------------------------------------------------------------------


def day_tickets(folder: Path) -> Tickets:
    day = read_day(folder)
    known = [ticket for ticket in day.tickets if day.truth.get(ticket["id"], {}).get("category")]
    categories = [day.truth[ticket["id"]]["category"] for ticket in known]
    return Tickets(
        title=f"the day “{day.title.partition(',')[0]}”",
        texts=tuple(_text(ticket["subject"], ticket["description"]) for ticket in known),
        right=tuple(frozenset([each] if isinstance(each, str) else each) for each in categories),
    )


def _text(subject: str, description: str) -> str:
    """As `Ticket.text` puts them together."""
    if not subject or description.startswith(subject):
        return description
    return f"{subject}\n{description}" if description else subject


def house_tickets() -> Tickets | str:
    """The golden house tickets, on which nothing of the bundled model was fitted; or why there are none."""
    import yaml

    from training.head.encoder import Encoder
    from training.records import Part
    from training.triage.dataset import gather, groups, held_out
    from training.triage.desk import desk_dataset

    config = yaml.safe_load(TRIAGE_CONFIG.read_text(encoding="utf-8"))
    data = (ROOT / config["data"]).resolve()
    if not data.is_dir():
        return f"no data folder at {data}: without the public sets the split cannot be made again"
    rows = gather(ROOT / config["texts"], data, seed=config["seed"])
    vectors = Encoder().encode([row.text for row in rows])
    kept = held_out(rows, groups(rows, vectors), seed=config["seed"])
    dataset = desk_dataset(rows, kept, vectors, rewrites=config["rewrites"], classes=load_taxonomy().names, seed=config["seed"])
    told = json.loads((STORE / ADAPTER / "dataset.json").read_text(encoding="utf-8"))["digest"]
    if dataset.digest != told:
        return "the split made again is not the one that the bundled model was fitted with"
    golden = [dataset.tickets[index] for index in dataset.indices(Part.GOLDEN)]
    return Tickets(
        title="house-written, golden",
        texts=tuple(ticket.text for ticket in golden),
        right=tuple(frozenset([ticket.category]) for ticket in golden),
    )


# --- accuracy -----------------------------------------------------------------------------------------------------------


def ask_model(model: EngineHere, cascade: Cascade, texts: Sequence[str]) -> np.ndarray:
    """[n, types] log-probabilities of every ticket from the language model."""
    prefix, codes = cascade.taxonomy.prefix(), cascade.taxonomy.codes
    requests = [ScoreRequest(prompt=prefix + choice_suffix(text), options=codes) for text in texts]
    return np.array([result.logprobs for result in model.score(requests, model=model.adapter)])


def judged(name: str, cascade: Cascade, tickets: Tickets, vectors: np.ndarray) -> tuple[Verdicts, np.ndarray]:
    """(verdicts, [n] which tickets the language model was asked about)."""
    said = cascade.classify(tickets.texts, vectors)
    right = np.array([one.category in true for one, true in zip(said, tickets.right, strict=True)])
    acted = np.array([not one.abstained for one in said])
    return Verdicts(name=name, right=right, acted=acted), np.array([one.stage == "model" for one in said])


def accuracy(model: EngineHere, cascade: Cascade, tickets: Tickets, vectors: np.ndarray) -> None:
    logprobs = ask_model(model, cascade, tickets.texts)
    best = [cascade.taxonomy.names[i] for i in logprobs.argmax(axis=1)]
    alone, _ = judged("head alone", dataclasses.replace(cascade, language_model=None), tickets, vectors)
    nothing = np.zeros(len(best), bool)
    scored = Verdicts(
        name="model alone", right=np.array([b in true for b, true in zip(best, tickets.right, strict=True)]), acted=nothing
    )
    both, asked = judged("cascade", cascade, tickets, vectors)
    print(f"accuracy  {tickets.title}: {len(best)} tickets; {asked.mean():.1%} of them went to the model")
    for verdicts in (alone, scored, both):
        print(f"  {verdicts.name:12} {share(verdicts.right)}" + acted_on(verdicts))
    print(
        f"  on the {int(asked.sum())} that went to the model: head {share(alone.right[asked])}, cascade {share(both.right[asked])}"
    )
    better = max((alone, scored), key=lambda verdicts: verdicts.right.sum())
    print(f"  cascade less {better.name}: {difference(both.right, better.right)}")
    met = both.right.sum() >= better.right.sum()
    print(f"target no worse than the better of the two: {'met' if met else 'MISSED'}")


def share(right: np.ndarray) -> str:
    """A share with its 95 % interval (Wilson)."""
    n, z = len(right), 1.96
    if not n:
        return "none"
    p = float(right.mean())
    middle, width = (p + z * z / (2 * n)) / (1 + z * z / n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{p:.1%} ({middle - width:.1%}..{middle + width:.1%})"


def acted_on(verdicts: Verdicts) -> str:
    if not verdicts.acted.any():
        return ""
    return f"; acts on {verdicts.acted.mean():.1%}, of those right {share(verdicts.right[verdicts.acted])}"


def difference(one: np.ndarray, other: np.ndarray) -> str:
    """Of two shares over the same tickets, with its 95 % interval (normal approximation for pairs)."""
    won, lost, n = int((one & ~other).sum()), int((~one & other).sum()), len(one)
    middle, width = (won - lost) / n, 1.96 * math.sqrt(max(won + lost - (won - lost) ** 2 / n, 0)) / n
    return f"{middle:+.1%} ({middle - width:+.1%}..{middle + width:+.1%}); {won} put right, {lost} put wrong"


# --- speed --------------------------------------------------------------------------------------------------------------


def seconds(work: Callable[[Sequence[int]], object], order: Sequence[int], batch: int) -> tuple[float, float]:
    """(wall seconds, processor seconds of this process and the engine's) for all tickets in micro-batches."""
    began, processor = time.perf_counter(), processor_s()
    for start in range(0, len(order), batch):
        work(order[start : start + batch])
    return time.perf_counter() - began, processor_s() - processor


def processor_s() -> float:
    own = psutil.Process()
    each = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(times.user + times.system for times in each)


def speed(model: EngineHere, cascade: Cascade, embedder: Embedder, tickets: Tickets, *, rounds: int, batch: int) -> None:
    texts, vectors = tickets.texts, embedder.embed(tickets.texts)
    alone = dataclasses.replace(cascade, language_model=None)
    ways: dict[str, Callable[[Sequence[int]], object]] = {
        "everything scored": lambda part: ask_model(model, cascade, [texts[i] for i in part]),
        "cascade": lambda part: cascade.classify([texts[i] for i in part], vectors[list(part)]),
        "head alone": lambda part: alone.classify([texts[i] for i in part], vectors[list(part)]),
        "embedding": lambda part: embedder.embed([texts[i] for i in part]),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    fresh = 0
    for number in range(-1, rounds):  # round -1 warms up
        order = random.Random(number).sample(range(len(texts)), len(texts))
        for name in list(ways) if number % 2 else list(reversed(ways)):
            model.forget(cascade.taxonomy.prefix(), cascade.taxonomy.codes)
            before = model.cached_tokens()
            wall, processor = seconds(ways[name], order, batch)
            if name == "everything scored":
                fresh = (model.cached_tokens() - before) // len(texts)
            if number >= 0:
                took[name].append(wall)
                spent[name].append(processor)
    print(f"speed     {tickets.title}: {len(texts)} tickets in micro-batches of {batch}, {rounds} rounds, taking turns")
    print(f"          {fresh} tokens per scored ticket came from the prefix cache: the shared prefix, no ticket's own")
    scored, mixed, embedded = took["everything scored"], took["cascade"], took["embedding"]
    plus = [a + b for a, b in zip(mixed, embedded, strict=True)]
    scored_plus = [a + b for a, b in zip(scored, embedded, strict=True)]
    for name, found in (*took.items(), ("cascade with embedding", plus), ("everything scored, with embedding", scored_plus)):
        rates = [len(texts) / s for s in found]
        print(f"  {name:34}{statistics.median(rates):8.1f} tickets/s   (rounds {min(rates):.1f}..{max(rates):.1f})")
    told = ", ".join(f"{name} {statistics.median(found) / len(texts) * 1000:.2f}" for name, found in spent.items())
    print(f"processor milliseconds per ticket, all processes: {told}")
    excluded = ratio(scored, mixed)
    print(f"ratio     embedding excluded (linking needs it either way): {excluded}")
    print(f"          embedding counted for both: {ratio(scored_plus, plus)}")
    print(f"          embedding counted for the cascade only: {ratio(scored, plus)}")
    print(f"target >= {TARGET:.1f} x, embedding excluded: {'met' if _quotient(scored, mixed) >= TARGET else 'MISSED'}")
    print(
        f"target >= {TARGET:.1f} x, embedding counted for the cascade only: {'met' if _quotient(scored, plus) >= TARGET else 'MISSED'}"
    )


def _quotient(one: Sequence[float], other: Sequence[float]) -> float:
    """Median over the rounds of the quotient within each round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def ratio(one: Sequence[float], other: Sequence[float]) -> str:
    each = [a / b for a, b in zip(one, other, strict=True)]
    return f"{_quotient(one, other):.2f} x (rounds {min(each):.2f}..{max(each):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32, help="tickets per micro-batch; the worker's default is 32")
    parser.add_argument("--day", type=Path, default=BUNDLED_DAY, help="another day with tickets.jsonl, truth.jsonl and world.json")
    parser.add_argument("--day-only", action="store_true", help="leave the held-out house texts (minutes of fitting) out")
    options = parser.parse_args()
    switch_off_phone_home()
    embedder = SentenceEmbedder(bundled())
    model = EngineHere()
    try:
        cascade = load_cascade(model, model=model.adapter)
        day = day_tickets(options.day)
        print(circumstances(model.config))
        print(
            f"          adapter {model.adapter[:26]}..., head for {cascade.head.embedders[0]}, sure from {cascade.thresholds.sure}"
        )
        speed(model, cascade, embedder, day, rounds=options.rounds, batch=options.batch)
        accuracy(model, cascade, day, embedder.embed(day.texts))
        if not options.day_only:
            house = house_tickets()
            if isinstance(house, str):
                print(f"skipped   golden house texts: {house}.")
            else:
                accuracy(model, cascade, house, embedder.embed(house.texts))
    finally:
        model.shutdown()


if __name__ == "__main__":
    main()
