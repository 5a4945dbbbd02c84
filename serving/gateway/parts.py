"""What the gateway is built from: store, models, settings, clock, and the company's names. Knows protocols; builds nothing.

The two model protocols are for an event loop. `serve_parts.py` speaks them over Ray Serve handles, `standins.py` in tests.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from orchestrator.ports import Clock, ScoreRequest, ScoreResult
from orchestrator.resolution.playbook import Playbook
from orchestrator.storage.store import PostgresStore
from serving.engine import GenerationParams, Piece
from serving.settings import Settings

StatusOf = Callable[[], Awaitable[Mapping[str, Any]]]


class TextEmbedder(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    async def now(self, model: str | None = None) -> "TextEmbedder":
        """One whose name and vectors belong together: by a full or plain name, or (None) the desk's at this moment. Raises NotFound."""
        ...

    async def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[len(texts), dimensions] float32, rows of unit length. Raises ModelUnavailable, Busy."""
        ...

    async def status(self) -> Mapping[str, Any]: ...


class Language(Protocol):
    async def score(self, items: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        """Raises ModelUnavailable, AdapterMissing, Busy, BadInput."""
        ...

    def chat(self, messages: Sequence[Mapping[str, str]], params: GenerationParams, *, model: str) -> AsyncIterator[Piece]:
        """Text as it is generated; the last piece has the finish reason and the token counts. Raises as `score` does."""
        ...

    def complete(self, prompt: str, params: GenerationParams, *, model: str) -> AsyncIterator[Piece]: ...

    async def status(self) -> Mapping[str, Any]:
        """{base, adapters, aliases, ready, ...}. Raises ModelUnavailable."""
        ...


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that `create_app` needs. No part is reached before the first request."""

    store: PostgresStore
    language: Language
    embedder: TextEmbedder
    settings: Settings
    clock: Clock
    console_secret: str  # keys the digests of console passwords and sessions
    categories: tuple[str, ...]  # of the taxonomy, `Others` included
    groups: tuple[str, ...]  # assignment groups
    playbook: Playbook  # the reviewed files that the desk acts by
    others: Mapping[str, StatusOf] = field(default_factory=dict)  # further parts by name, asked for GET /v1/status
