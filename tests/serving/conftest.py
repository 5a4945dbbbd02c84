"""Fixtures of the serving tests: a tiny random model with adapters, and one engine that all tests of a session share."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orchestrator.domain.errors import BadInput

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TinyStore:
    """A base and two adapters that answer differently."""

    base: Path
    a: tuple[str, Path]  # content-addressed name, folder
    b: tuple[str, Path]


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> TinyStore:
    from tests.serving.tiny_model import build_adapter, build_model

    root = tmp_path_factory.mktemp("models")
    base = build_model(root / "base")
    return TinyStore(base=base, a=build_adapter(root, base, name="a", seed=1), b=build_adapter(root, base, name="b", seed=2))


def refuse_tampered(name: str, folder: Path) -> None:
    """A verifier for the tests' own store: an adapter's name holds the digest of its folder."""
    from tests.serving.tiny_model import folder_digest

    if "@sha256-" in name and not name.endswith(folder_digest(folder)):
        raise BadInput(f"The bytes in {folder} are not those of {name}.", hint="Import it again.")


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def run(loop: asyncio.AbstractEventLoop) -> Callable[[Coroutine[Any, Any, T]], T]:
    """Run a coroutine in the session's event loop, to which the engine belongs."""
    return loop.run_until_complete


@pytest.fixture(scope="session")
def engine_factory(tiny_store: TinyStore, loop: asyncio.AbstractEventLoop) -> Iterator[Callable[..., Any]]:
    """Starts an engine over the tiny model (20-30 s); the adapters are not loaded yet."""
    from serving.engine import Engine, EngineConfig

    started: list[Engine] = []

    def start(**changes: Any) -> Engine:
        settings = {
            "name": "tiny",
            "path": tiny_store.base,
            "max_model_len_tokens": 512,
            "kv_cache_bytes": 256 << 20,
            "max_adapters": 3,
            "adapter_linger_s": 0.0,  # what nobody wants goes at once; the tests of a swap under traffic let it linger
            "broken_again_after_s": 0.0,
        }
        engine = loop.run_until_complete(Engine.start(EngineConfig(**{**settings, **changes}), verify=refuse_tampered))
        started.append(engine)
        return engine

    async def stop(engine: Engine) -> None:
        """In the loop that its sockets belong to: one that is not closed there holds up the process for ever."""
        engine.shutdown()
        await asyncio.sleep(0)

    yield start
    for engine in started:
        loop.run_until_complete(stop(engine))


@pytest.fixture(scope="session")
def engine(engine_factory: Callable[..., Any]) -> Any:
    return engine_factory()
