"""The gateway as a deployment under a real Ray Serve, its models stand-ins behind real handles."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from gateway_server import ADA, add_keys, key_of

from orchestrator.domain.errors import Busy
from orchestrator.ports import ScoreRequest, ScoreResult
from orchestrator.standins import HashEmbedder
from orchestrator.storage.store import PostgresStore
from serving.engine import GenerationParams, Piece
from serving.gateway.standins import EchoLanguage
from serving.settings import Http, Settings

MODEL = "standin-echo"


class SlowEcho:
    """The methods of `LanguageModel`; counts the streams that were left before their end."""

    def __init__(self) -> None:
        self._echo = EchoLanguage()
        self._left_early = 0

    async def score(self, requests: Sequence[ScoreRequest], model: str) -> list[ScoreResult]:
        return await self._echo.score(requests, model=model)

    async def chat_stream(self, messages: Any, params: GenerationParams, model: str) -> AsyncIterator[Piece]:
        if messages[0]["content"] == "busy":
            raise Busy("Too many wait already.", retry_after_s=7)
        ended = False
        try:
            async for piece in self._echo.chat(messages, params, model=model):
                await asyncio.sleep(0.02)
                yield piece
            ended = True
        finally:
            self._left_early += not ended

    async def status(self) -> Mapping[str, Any]:
        return {**await self._echo.status(), "left_early": self._left_early}


class Embedding:
    async def embed(self, texts: Sequence[str], model: str | None = None) -> np.ndarray:
        return HashEmbedder().embed(texts)

    async def status(self) -> Mapping[str, Any]:
        return {"name": "standin-hash", "dimensions": 384, "embedders": {"standin-hash": 384}}


class Worker:
    async def status(self) -> Mapping[str, Any]:
        return {"ok": True, "handled": 0}


@pytest.fixture
def url(store: PostgresStore, dsn: str) -> Iterator[str]:
    """A Serve application with the gateway in front of stand-ins. Starts in about 15 s."""
    from serving.platform import switch_off_phone_home

    switch_off_phone_home()
    import ray
    from ray import serve

    from serving.gateway.deployment import Gateway

    add_keys(store)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # replicas cannot import a test module
    ray.init(num_cpus=4, include_dashboard=False, configure_logging=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"log_level": "WARNING"})
    small: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0.1}}
    language, embedding, worker = (
        serve.deployment(name=name, **small)(kind).bind()
        for name, kind in (("LanguageModel", SlowEcho), ("EmbeddingModel", Embedding), ("Orchestrator", Worker))
    )
    settings = Settings(http=Http(port=port))
    serve.run(
        Gateway.options(**small).bind(settings, dsn, "console-secret", language, embedding, worker),
        name="cloister",
        route_prefix="/",
    )
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def client(url: str, role: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key_of(role)}"}, timeout=30, trust_env=False)


def test_the_gateway_serves_tickets_and_models_through_handles(url: str) -> None:
    with client(url, "service") as service, client(url, "admin") as admin, client(url, "ml-engineer") as engineer:
        ready = service.get("/health/ready").json()
        assert ready["parts"] == {"database": True, "language_model": True, "embedder": True, "orchestrator": True}

        taken = service.post("/v1/tickets?wait=0.1", json={"subject": "VPN", "requester": ADA})
        assert (taken.status_code, taken.json()["state"]) == (202, "active")
        assert service.post("/v1/tickets", content=b"x" * 1_100_000).status_code == 413
        assert service.post("/v1/tickets", content=(b"y" * 60_000 for _ in range(20))).status_code == 413

        items = [{"prompt": "x", "options": ["A", "B"]}] * 130  # more than one call takes
        assert len(engineer.post("/v1/score", json={"model": MODEL, "items": items}).json()["logprobs"]) == 130
        assert engineer.post("/v1/score", json={"model": "other", "items": items}).status_code == 404

        asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "word " * 200}], "max_tokens": 200}
        busy = service.post("/v1/chat/completions", json={**asked, "messages": [{"role": "user", "content": "busy"}]})
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
        with service.stream("POST", "/v1/chat/completions", json={**asked, "stream": True}) as stream:
            lines = [line for line, _ in zip(stream.iter_lines(), range(4), strict=False)]
        assert lines[0].startswith("data: ")
        assert left_early(admin) == 1

        vectors = service.post("/v1/embeddings", json={"model": "standin-hash", "input": ["a", "b"]}).json()["data"]
        assert np.allclose([row["embedding"] for row in vectors], HashEmbedder().embed(["a", "b"]), atol=1e-6)


def left_early(admin: httpx.Client) -> int:
    """Whoever stops listening ends the generation, too; it takes the proxy a moment to notice."""
    for _ in range(50):
        count = int(admin.get("/v1/status").json()["language_model"]["left_early"])
        if count:
            return count
        time.sleep(0.2)
    return 0
