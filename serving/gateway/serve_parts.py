"""The models behind Ray Serve handles, on the gateway's own seam. Knows handles and their errors; knows no route and no ticket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from ray.serve.handle import DeploymentHandle

from orchestrator.domain.errors import ModelUnavailable, NotFound
from orchestrator.ports import ScoreRequest, ScoreResult
from serving.embedding import TEXTS_PER_CALL
from serving.engine import GenerationParams, Piece
from serving.language_model import PROMPTS_PER_CALL, translate

Answer = TypeVar("Answer")
ANSWER_S = 60.0  # for a batch, and for each further piece of text
STATUS_S = 5.0


async def _asked(send: Callable[[], Awaitable[Answer]], *, timeout_s: float = ANSWER_S) -> Answer:
    """What the replica answers; its errors, Serve's back-pressure and silence as ours."""
    try:
        async with asyncio.timeout(timeout_s):
            return await send()
    except TimeoutError as error:
        raise ModelUnavailable(f"The model gave no answer within {timeout_s:.0f} s.", hint="Try again in a minute.") from error
    except Exception as error:
        raise translate(error) from error


class ServeLanguage:
    """`serving.gateway.parts.Language` over the handle of `LanguageModel`."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._streams = handle.options(stream=True)

    async def score(self, items: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        results: list[ScoreResult] = []
        for start in range(0, len(items), PROMPTS_PER_CALL):
            batch = list(items[start : start + PROMPTS_PER_CALL])
            results += await _asked(lambda batch=batch: self._handle.score.remote(batch, model))  # type: ignore[misc]
        return results

    async def chat(self, messages: Sequence[Mapping[str, str]], params: GenerationParams, *, model: str) -> AsyncIterator[Piece]:
        async for piece in _pieces(self._streams.chat_stream.remote([dict(m) for m in messages], params, model)):
            yield piece

    async def complete(self, prompt: str, params: GenerationParams, *, model: str) -> AsyncIterator[Piece]:
        async for piece in _pieces(self._streams.complete_stream.remote(prompt, params, model)):
            yield piece

    async def status(self) -> Mapping[str, Any]:
        return await _asked(lambda: self._handle.status.remote(), timeout_s=STATUS_S)


async def _pieces(stream: Any) -> AsyncIterator[Piece]:
    """One by one; whoever stops listening ends the generation, too."""
    iterator, ended = aiter(stream), False
    try:
        while True:
            piece = await _asked(lambda: _next(iterator))
            if piece is None:
                ended = True
                return
            yield piece
    finally:
        if not ended:
            stream.cancel()


async def _next(iterator: AsyncIterator[Piece]) -> Piece | None:
    return await anext(iterator, None)


class ServeEmbedder:
    """`serving.gateway.parts.TextEmbedder` over the handle of `EmbeddingModel`."""

    def __init__(self, handle: DeploymentHandle, *, name: str, dimensions: int) -> None:
        self._handle = handle
        self._name = name
        self._dimensions = dimensions

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        return self._dimensions

    async def now(self, model: str | None = None) -> "ServeEmbedder":
        """One that stays what it is: by a full or plain name, or (None) the desk's at this moment. Raises NotFound."""
        status = await self.status()
        served, wanted = status["embedders"], model or status["name"]
        name = next((full for full in served if wanted in (full, full.partition("@")[0])), None)
        if name is None:
            raise NotFound(f"The embedder {model!r} is not served.", hint=f"Ask for {' or '.join(served)}.")
        return ServeEmbedder(self._handle, name=name, dimensions=served[name])

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        name = self._name
        parts = [
            await _asked(lambda part=list(texts[start : start + TEXTS_PER_CALL]): self._handle.embed.remote(part, name))  # type: ignore[misc]
            for start in range(0, len(texts), TEXTS_PER_CALL)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self._dimensions), dtype=np.float32)

    async def status(self) -> Mapping[str, Any]:
        return await _asked(lambda: self._handle.status.remote(), timeout_s=STATUS_S)


def status_of(handle: DeploymentHandle) -> Callable[[], Awaitable[Mapping[str, Any]]]:
    """The `status` of one replica of a deployment."""

    async def ask() -> Mapping[str, Any]:
        return await _asked(lambda: handle.status.remote(), timeout_s=STATUS_S)

    return ask
