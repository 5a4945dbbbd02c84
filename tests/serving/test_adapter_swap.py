"""Adapters that change while requests run: no error, no wrong adapter, no answer from a stale prefix cache."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.errors import AdapterMissing
from orchestrator.ports import ScoreRequest, ScoreResult
from serving.adapters import DesiredAdapter
from serving.engine import Engine, GenerationParams
from tests.serving.conftest import TinyStore
from tests.serving.tiny_model import build_adapter

Run = Callable[[Any], Any]
OPTIONS = ("A", "B", "C", "D", "E")
RULES = "You are the triage model of a support desk. Choose one type. " * 8
REQUESTS = [ScoreRequest(prompt=f"{RULES} Ticket {n}: the VPN hangs. Type:", options=OPTIONS) for n in range(4)]
Named = tuple[str, Path]


@pytest.fixture(scope="module")
def replica(engine: Engine, run: Run) -> Iterator[Engine]:
    """The session's engine, left without adapters."""
    yield engine
    run(engine.reconcile([]))


@pytest.fixture
def lingering(replica: Engine) -> Iterator[Engine]:
    before = replica.config
    replica.config = replace(before, adapter_linger_s=30.0)
    yield replica
    replica.config = before


@pytest.fixture
def desk(tiny_store: TinyStore, tmp_path: Path) -> tuple[Named, Named]:
    """The same plain name, other bytes."""
    return tuple(build_adapter(tmp_path / f"{seed}", tiny_store.base, name="desk", seed=seed) for seed in (11, 12))  # type: ignore[return-value]


def live(adapter: Named, **more: Any) -> DesiredAdapter:
    return DesiredAdapter(alias="live", name=adapter[0], path=adapter[1], **more)


def apart(one: list[ScoreResult], other: list[ScoreResult]) -> float:
    return max(abs(x - y) for a, b in zip(one, other, strict=True) for x, y in zip(a.logprobs, b.logprobs, strict=True))


def test_the_same_name_with_other_bytes_never_answers_from_the_prefix_that_the_old_one_cached(
    replica: Engine, desk: tuple[Named, Named], run: Run
) -> None:
    old, new = desk
    assert old[0].partition("@")[0] == new[0].partition("@")[0] and old[0] != new[0]

    async def swap() -> tuple[list[ScoreResult], ...]:
        await replica.reconcile([live(old)])
        before = await replica.score(REQUESTS, model="live")
        cached = replica.counters.cached_tokens
        await replica.score(REQUESTS, model="live")
        assert replica.counters.cached_tokens > cached, "the shared prefix is cached when the swap comes"
        await replica.reconcile([live(new)])
        after = await replica.score(REQUESTS, model="live")
        await replica._llm.reset_prefix_cache()
        return before, after, await replica.score(REQUESTS, model=new[0])

    before, after, cold = run(swap())
    assert {result.model for result in after} == {new[0]}
    assert apart(after, cold) < 0.01, "right after the swap it answers as with an empty cache"
    assert apart(before, after) > 0.5


def test_a_swap_under_traffic_drops_no_request_and_no_answer_is_another_adapters(
    lingering: Engine, desk: tuple[Named, Named], run: Run
) -> None:
    async def swap() -> dict[str, int]:
        await lingering.reconcile([live(desk[0])])
        expected = {}
        for name, path in desk:
            await lingering.reconcile([live((name, path))])
            expected[name] = await lingering.score(REQUESTS, model=name)
        answered: dict[str, int] = {}
        stopping = asyncio.Event()

        async def ask(model: Callable[[], str]) -> None:
            while not stopping.is_set():
                found = await lingering.score(REQUESTS, model=model())
                (name,) = {result.model for result in found}
                assert apart(found, expected[name]) < 0.05
                answered[name] = answered.get(name, 0) + 1

        known = [desk[0][0]]  # a caller that asks by the full name learns of the swap a little later
        asking = [asyncio.create_task(ask(lambda: "live")) for _ in range(3)] + [asyncio.create_task(ask(lambda: known[0]))]
        for turn in range(6):
            target = desk[turn % 2]
            assert await lingering.reconcile([live(target)]) == []
            before = answered.get(target[0], 0)
            for _ in range(600):  # until it answered, however slow the machine is
                await asyncio.sleep(0.05)
                if answered.get(target[0], 0) > before:
                    break
            known[0] = target[0]
        stopping.set()
        await asyncio.gather(*asking)
        return answered

    answered = run(swap())
    assert set(answered) == {name for name, _ in desk} and min(answered.values()) >= 3


def test_a_stream_under_way_ends_on_the_adapter_that_it_began_with(replica: Engine, desk: tuple[Named, Named], run: Run) -> None:
    async def swap() -> tuple[set[str], str]:
        await replica.reconcile([live(desk[0])])
        stream = replica.complete("Tell me", GenerationParams(max_tokens=80, temperature=1.0), model="live")
        models = {(await anext(stream)).model}
        swapping = asyncio.create_task(replica.reconcile([live(desk[1])]))
        models |= {piece.model async for piece in stream}
        await swapping
        return models, (await replica.score(REQUESTS[:1], model="live"))[0].model

    assert run(swap()) == ({desk[0][0]}, desk[1][0])


def test_what_each_alias_really_answers_with_was_asked(replica: Engine, desk: tuple[Named, Named], run: Run) -> None:
    canary = DesiredAdapter(alias="canary", name=desk[1][0], path=desk[1][1])
    assert run(replica.reconcile([live(desk[0]), canary])) == []
    health = replica.alias_health()
    assert [health[alias]["answers_with"] for alias in ("live", "canary")] == [desk[0][0], desk[1][0]]
    assert health["live"]["probe"] != health["canary"]["probe"], "two adapters, two answers"
    assert run(replica.probe_again()) == []
    assert replica.alias_health()["live"]["probe"] == health["live"]["probe"]


def test_an_adapter_that_answers_otherwise_than_when_it_was_loaded_loses_its_alias(
    replica: Engine, desk: tuple[Named, Named], run: Run
) -> None:
    run(replica.reconcile([live(desk[0])]))
    first = replica._probes[desk[0][0]]
    replica._probes[desk[0][0]] = replace(first, logprobs=tuple(value - 1 for value in first.logprobs))
    (problem,) = run(replica.probe_again())
    assert "answers otherwise" in problem
    with pytest.raises(AdapterMissing, match="unhealthy"):
        run(replica.score(REQUESTS[:1], model="live"))
    assert not replica.alias_health()["live"]["healthy"]
    replica._probes[desk[0][0]] = first
    assert run(replica.probe_again()) == []
    assert run(replica.score(REQUESTS[:1], model="live"))[0].model == desk[0][0]


def test_a_tampered_adapter_makes_its_alias_unhealthy_and_mending_it_heals_it(
    replica: Engine, desk: tuple[Named, Named], tmp_path: Path, run: Run
) -> None:
    run(replica.reconcile([live(desk[0])]))
    kept = tmp_path / "kept"
    shutil.copytree(desk[1][1], kept)
    weights = desk[1][1] / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    canary = DesiredAdapter(alias="canary", name=desk[1][0], path=desk[1][1])
    (problem,) = run(replica.reconcile([live(desk[0]), canary]))
    assert "are not those of" in problem
    with pytest.raises(AdapterMissing, match="'canary' is unhealthy"):
        run(replica.score(REQUESTS[:1], model="canary"))
    assert run(replica.score(REQUESTS[:1], model="live"))[0].model == desk[0][0]
    shutil.copy(kept / weights.name, weights)
    assert run(replica.reconcile([live(desk[0]), canary])) == []
    assert run(replica.score(REQUESTS[:1], model="canary"))[0].model == desk[1][0]


def test_what_nobody_wants_any_more_makes_room_for_what_is_wanted(
    lingering: Engine, desk: tuple[Named, Named], tiny_store: TinyStore, tmp_path: Path, run: Run
) -> None:
    further = [build_adapter(tmp_path / f"{seed}", tiny_store.base, name="desk", seed=seed) for seed in (13, 14)]
    for adapter in (*desk, *further):
        assert run(lingering.reconcile([live(adapter)])) == []
        assert run(lingering.score(REQUESTS[:1], model="live"))[0].model == adapter[0]
    assert len(lingering.adapters.served) == 3
    assert further[0][0] in lingering.adapters.served, "the longest unwanted went first"
