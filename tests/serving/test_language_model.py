"""The deployments under a real Ray Serve: ports for threads, adapters that follow their rows, streams, restarts after kills."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from orchestrator.domain.errors import AdapterMissing, BadInput, ModelUnavailable
from orchestrator.ports import ScoreRequest
from tests.serving.conftest import TinyStore, refuse_tampered

OPTIONS = ("A", "B", "C")
REQUESTS = [ScoreRequest(prompt=f"Ticket {n}: the VPN hangs. Type:", options=OPTIONS) for n in range(40)]


@pytest.fixture(scope="module")
def handles(tiny_store: TinyStore) -> Iterator[dict[str, Any]]:
    """A Serve application with the tiny model (adapter a as `live`) and the embedder. Starts in about 40 s."""
    from serving.platform import switch_off_phone_home

    switch_off_phone_home()
    import ray
    from ray import serve

    from serving.embedding import EmbeddingModel, bundled
    from serving.engine import EngineConfig
    from serving.language_model import LanguageModel

    config = EngineConfig(name="tiny", path=tiny_store.base, max_model_len_tokens=512, kv_cache_bytes=256 << 20, max_adapters=2)
    live = {"alias": "live", "name": tiny_store.a[0], "path": str(tiny_store.a[1])}
    ray.init(num_cpus=4, include_dashboard=False, configure_logging=False, log_to_driver=False)
    serve.start(http_options={"location": "NoServer"}, logging_config={"log_level": "WARNING"})
    options: dict[str, Any] = {"ray_actor_options": {"num_cpus": 1}}
    model = LanguageModel.options(**options).bind(config, adapters=[live], verify=refuse_tampered)
    yield {
        "model": serve.run(model, name="model", route_prefix=None),
        "embedder": serve.run(EmbeddingModel.options(**options).bind(bundled()), name="embedder", route_prefix=None),
    }
    serve.shutdown()
    ray.shutdown()


def test_a_worker_thread_scores_through_the_port(handles: dict[str, Any], tiny_store: TinyStore) -> None:
    from serving.language_model import RemoteLanguageModel

    port = RemoteLanguageModel(handles["model"])
    results = port.score(REQUESTS * 4, model="live")
    assert len(results) == 160 and {result.model for result in results} == {tiny_store.a[0]}
    assert all(len(result.logprobs) == 3 and max(result.logprobs) <= 0 for result in results)
    assert port.score(REQUESTS[:1], model="tiny")[0].model == "tiny"
    assert port.score([], model="live") == []


def test_refusals_arrive_as_our_errors(handles: dict[str, Any]) -> None:
    from serving.engine import GenerationParams
    from serving.language_model import RemoteLanguageModel

    port = RemoteLanguageModel(handles["model"], timeout_s=30)
    with pytest.raises(AdapterMissing, match="not served"):
        port.score(REQUESTS[:1], model="shadow")
    with pytest.raises(BadInput, match="exactly one"):
        port.score([ScoreRequest(prompt="x", options=("A", "a long option"))], model="tiny")
    with pytest.raises(BadInput, match="temperature"):
        port.generate(["x"], GenerationParams(temperature=7), model="tiny")


def test_a_call_that_takes_too_long_is_given_up(handles: dict[str, Any]) -> None:
    from serving.language_model import RemoteLanguageModel

    with pytest.raises(ModelUnavailable):
        RemoteLanguageModel(handles["model"], timeout_s=0.001).score(REQUESTS * 10, model="live")


def test_adapters_follow_their_rows_and_the_status_tells_what_is_served(handles: dict[str, Any], tiny_store: TinyStore) -> None:
    (a, folder_a), (b, folder_b) = tiny_store.a, tiny_store.b
    rows = [{"alias": "live", "name": b, "path": str(folder_b)}, {"alias": "canary", "name": a, "path": str(folder_a)}]
    assert handles["model"].reconcile.remote(rows).result() == []
    status = handles["model"].status.remote().result()
    assert status["aliases"] == {"live": b, "canary": a} and status["problems"] == []
    assert handles["model"].score.remote(REQUESTS[:1], "live").result()[0].model == b

    broken = [*rows, {"alias": "shadow", "name": "x@sha256-0123456789ab", "path": "/nowhere"}, {"alias": "??"}]
    assert len(handles["model"].reconcile.remote(broken).result()) == 2
    assert len(handles["model"].status.remote().result()["problems"]) == 2
    assert handles["model"].reconcile.remote(rows).result() == []


def test_chat_streams_piece_by_piece(handles: dict[str, Any]) -> None:
    from serving.engine import GenerationParams

    stream = handles["model"].options(stream=True).chat_stream
    pieces = list(stream.remote([{"role": "user", "content": "Hello"}], GenerationParams(max_tokens=6), "tiny"))
    assert 1 <= pieces[-1].completion_tokens <= 6 and pieces[-1].finish_reason in ("stop", "length")


def test_a_worker_thread_embeds_through_the_port(handles: dict[str, Any]) -> None:
    from serving.embedding import RemoteEmbedder

    port = RemoteEmbedder(handles["embedder"])
    vectors = port.embed(["The VPN hangs."] * 3)
    assert vectors.shape == (3, port.dimensions)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert handles["embedder"].status.remote().result()["name"] == port.name


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_serve_replaces_a_replica_whose_engine_was_killed_and_no_orphan_stays(handles: dict[str, Any]) -> None:
    from serving.language_model import RemoteLanguageModel

    port = RemoteLanguageModel(handles["model"], timeout_s=30)
    killed = port.status()["engine"]["pid"]
    os.kill(killed, signal.SIGKILL)
    restored = _until(lambda: port.status()["engine"]["pid"] != killed and port.score(REQUESTS[:1], model="live"), timeout_s=240)
    assert restored
    assert not _alive(killed)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_engine_ends_with_its_replica(handles: dict[str, Any]) -> None:
    from serving.language_model import RemoteLanguageModel

    port = RemoteLanguageModel(handles["model"], timeout_s=30)
    engine = port.status()["engine"]["pid"]
    os.kill(port.status()["pid"], signal.SIGKILL)
    assert _until(lambda: not _alive(engine), timeout_s=30)
    assert _until(lambda: port.status()["engine"]["pid"] != engine, timeout_s=240)


def _until(condition: Callable[[], Any], *, timeout_s: float) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        try:
            if condition():
                return True
        except ModelUnavailable:
            pass
        time.sleep(0.5)
    return False


def _alive(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_an_event_loop_translates_failures_too(handles: dict[str, Any]) -> None:
    from serving.language_model import awaited

    async def ask() -> Any:
        return await awaited(handles["model"].score.remote(REQUESTS[:1], "shadow"))

    with pytest.raises(AdapterMissing):
        asyncio.run(ask())
