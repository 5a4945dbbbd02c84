"""Stand-ins for the models on the gateway's own seam: small and predictable. For tests and crash tests, never for results."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.domain.errors import AdapterMissing, NotFound
from orchestrator.ports import ScoreRequest, ScoreResult
from orchestrator.standins import CountingLanguageModel, HashEmbedder
from serving.engine import GenerationParams, Piece

MAX_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class EchoLanguage:
    """Answers with the words it was asked, one piece per word; counts words as tokens."""

    name: str = "standin-echo"
    scorer: CountingLanguageModel = field(default_factory=CountingLanguageModel)

    async def score(self, items: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        self._check(model)
        return self.scorer.score(items, model=model)

    async def chat(self, messages: Sequence[Mapping[str, str]], params: GenerationParams, *, model: str) -> AsyncIterator[Piece]:
        async for piece in self.complete(messages[-1]["content"], params, model=model):
            yield piece

    async def complete(self, prompt: str, params: GenerationParams, *, model: str) -> AsyncIterator[Piece]:
        self._check(model)
        params.check(max_tokens=MAX_TOKENS)
        words = prompt.split()
        said = words[: params.max_tokens]
        reason = "stop" if len(said) == len(words) else "length"
        for place, word in enumerate(said, start=1):
            await asyncio.sleep(0)
            yield Piece(
                text=word if place == 1 else f" {word}",
                model=self.name,
                finish_reason=reason if place == len(said) else None,
                prompt_tokens=len(words),
                completion_tokens=place,
            )

    async def status(self) -> Mapping[str, Any]:
        return {"base": self.name, "adapters": [], "aliases": {}, "ready": True}

    def _check(self, model: str) -> None:
        if model != self.name:
            raise AdapterMissing(f"The model {model!r} is not served.", hint=f"Ask for {self.name}.")


@dataclass(frozen=True, kw_only=True)
class LocalEmbedder:
    """`HashEmbedder` for an event loop."""

    inner: HashEmbedder = field(default_factory=HashEmbedder)

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def dimensions(self) -> int:
        return self.inner.dimensions

    async def now(self, model: str | None = None) -> "LocalEmbedder":
        if model not in (None, self.name, self.name.partition("@")[0]):
            raise NotFound(f"The embedder {model!r} is not served.", hint=f"Ask for {self.name}.")
        return self

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        return self.inner.embed(texts)

    async def status(self) -> Mapping[str, Any]:
        return {"name": self.name, "dimensions": self.dimensions}
