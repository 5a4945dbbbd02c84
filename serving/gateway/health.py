"""What every part says of itself, asked side by side and kept for a second. Knows the parts; judges only whether they answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orchestrator.domain.aliases import LIVE
from serving.gateway.aliases import alias_report
from serving.gateway.desk import Desk
from serving.gateway.parts import Parts

FRESH_S = 1.0
PATIENCE_S = 5.0


class Health:
    def __init__(self, parts: Parts, desk: Desk) -> None:
        self._parts = parts
        self._desk = desk
        self._lock = asyncio.Lock()
        self._kept: dict[str, dict[str, Any]] = {}
        self._until = 0.0

    async def parts(self) -> dict[str, dict[str, Any]]:
        """By part: {ok, ...}. Never raises: a part that does not answer says why it is not ok."""
        async with self._lock:
            if time.monotonic() >= self._until:
                questions = {
                    "database": self._database,
                    "language_model": self._language,
                    "embedder": self._parts.embedder.status,
                    **self._parts.others,
                }
                answers = await asyncio.gather(_ask(self._aliases), *(_ask(question) for question in questions.values()))
                aliases, *rest = answers
                self._kept = dict(zip(questions, rest, strict=True)) | (
                    {"aliases": aliases} if aliases.pop("desired", True) else {}
                )
                self._until = time.monotonic() + FRESH_S
            return self._kept

    async def _database(self) -> Mapping[str, Any]:
        depth = await self._desk.run(lambda tx: tx.queue_depth())
        return {"ok": True, "queue_depth": depth, "calls_waiting": self._desk.waiting}

    async def _language(self) -> Mapping[str, Any]:
        """Not well either where the live adapter is missing or broken: nothing falls back to the base silently."""
        status = await self._parts.language.status()
        health = status.get("alias_health", {})
        live = health.get(LIVE, {}).get("healthy", True)
        only_candidates = live and any(not told["healthy"] for told in health.values())
        return {"ok": bool(status.get("ready", True)) and live and (only_candidates or not status.get("problems")), **status}

    async def _aliases(self) -> Mapping[str, Any]:
        return await self._desk.run(alias_report) or {"desired": False}


async def _ask(question: Callable[[], Awaitable[Mapping[str, Any]]]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return {"ok": True, **await question()}
    except TimeoutError:
        return {"ok": False, "detail": f"no answer within {PATIENCE_S:.0f} s"}
    except Exception as error:  # whatever a part raises, it is not well
        return {"ok": False, "detail": f"{type(error).__name__}: {error}"[:500]}
