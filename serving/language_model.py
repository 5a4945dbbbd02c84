"""The language model as a Ray Serve deployment, and its port for worker threads. Knows batches and replicas; nothing of tickets.

Every replica holds its own engine. Which adapters it serves comes as plain rows {alias, name, path}: at start, through `reconcile`,
and from an optional `source` that each replica polls itself, because a call through a handle reaches one replica only.
"""

import asyncio
import gc
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from ray import serve
from ray.exceptions import RayTaskError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle, DeploymentResponse

from orchestrator.domain.errors import Busy, CloisterError, ModelUnavailable
from orchestrator.ports import ScoreRequest, ScoreResult
from orchestrator.privacy.logs import protect_logs
from serving.adapters import DesiredAdapter, Verify
from serving.engine import Completion, Engine, EngineConfig, GenerationParams, Piece
from serving.platform import switch_off_phone_home

logger = logging.getLogger("ray.serve")

T = TypeVar("T")
AdapterRow = Mapping[str, Any]  # {alias, name, path, previous_name?, previous_path?}
AdapterSource = Callable[[], Sequence[AdapterRow]]
Reporter = Callable[[str, Mapping[str, Any]], None]  # (replica, what it serves)
PROBE_EVERY_S = 30.0

PROMPTS_PER_CALL = 128


class LanguageModelReplica:
    """One engine and the loop that keeps its adapters as desired. Serve calls it in one event loop."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        config: EngineConfig,
        adapters: Sequence[AdapterRow] = (),
        source: AdapterSource | None = None,
        reconcile_every_s: float = 5.0,
        verify: Verify | None = None,
        report: Reporter | None = None,
    ) -> None:
        """`verify` checks each model before it is loaded; by default its manifest (see `serving.adapters.verify_manifest`).

        `report` is told what this replica really serves after every look at the desired adapters.
        """
        switch_off_phone_home()
        protect_logs()
        self._problems: list[str] = []
        self._report = report
        self._replica = f"{socket.gethostname()}:{os.getpid()}"
        self._probed_at = time.monotonic()
        self._reconciling = asyncio.Lock()
        self._engine = await Engine.start(config, verify=verify)
        await self.reconcile(adapters)
        if source:
            await self._follow_once(source)
        await self._tell()
        self._follower = asyncio.create_task(self._follow(source, reconcile_every_s)) if source else None
        gc.collect()
        gc.freeze()  # what start-up made is not looked at again: shorter pauses

    async def score(self, requests: Sequence[ScoreRequest], model: str) -> list[ScoreResult]:
        """One batch of closed choices. Raises AdapterMissing, ModelUnavailable, Busy, BadInput."""
        return await self._engine.score(requests, model=model)

    async def generate(self, prompts: Sequence[str], params: GenerationParams, model: str) -> list[Completion]:
        return await self._engine.generate(prompts, params, model=model)

    async def chat_stream(
        self, messages: Sequence[Mapping[str, str]], params: GenerationParams, model: str
    ) -> AsyncIterator[Piece]:
        async for piece in self._engine.chat(messages, params, model=model):
            yield piece

    async def complete_stream(self, prompt: str, params: GenerationParams, model: str) -> AsyncIterator[Piece]:
        async for piece in self._engine.complete(prompt, params, model=model):
            yield piece

    async def reconcile(self, rows: Sequence[AdapterRow]) -> list[str]:
        """Serve exactly these adapters; gives what went wrong, which `status` repeats until it is mended."""
        problems, desired = [], []
        for row in rows:
            try:
                desired.append(DesiredAdapter.parse(row))
            except CloisterError as error:
                problems.append(str(error))
        async with self._reconciling:
            problems += await self._engine.reconcile(desired)
        for problem in set(problems) - set(self._problems):
            logger.warning("adapter: %s", problem)
        self._problems = problems
        return problems

    async def status(self) -> dict[str, Any]:
        """What this replica really serves, its counters, and what is wrong with its adapters."""
        return self._engine.status() | {"replica": self._replica, "pid": os.getpid(), "problems": list(self._problems)}

    async def check_health(self) -> None:
        """Serve asks every few seconds and replaces the replica when this raises."""
        self._engine.check_health()

    async def _follow(self, source: AdapterSource, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            await self._follow_once(source)
            await self._probe_again()
            await self._tell()

    async def _follow_once(self, source: AdapterSource) -> None:
        try:
            await self.reconcile(await asyncio.to_thread(source))
        except Exception as error:  # the database may be away: keep what is served, say so, try again
            self._problems = [f"desired adapters could not be read or applied: {error}"]
            logger.warning("adapter: %s", self._problems[0])

    async def _probe_again(self) -> None:
        """What is shown as served has answered within the last half minute."""
        if time.monotonic() - self._probed_at < PROBE_EVERY_S:
            return
        self._probed_at = time.monotonic()
        try:
            async with self._reconciling:
                found = await self._engine.probe_again()
        except CloisterError as error:
            found = [f"adapters could not be probed: {error}"]
        self._problems += [problem for problem in found if problem not in self._problems]

    async def _tell(self) -> None:
        if self._report is None:
            return
        status = self._engine.status()
        told = {"aliases": status["alias_health"], "adapters": status["adapters"], "ready": status["ready"]}
        try:
            await asyncio.to_thread(self._report, self._replica, told)
        except Exception as error:  # the database may be away; the next time tells the same
            logger.warning("what is served could not be told: %s", error)

    def __del__(self) -> None:
        """Serve calls it once, after the requests under way have ended."""
        with suppress(AttributeError):  # the constructor failed half-way
            if self._follower:
                self._follower.cancel()
        with suppress(AttributeError):
            self._engine.shutdown()


LanguageModel = serve.deployment(
    name="LanguageModel",
    max_ongoing_requests=64,  # calls, each a batch; the engine bounds prompts itself
    max_queued_requests=64,  # per router; beyond that callers get Busy
    health_check_period_s=2,
    health_check_timeout_s=30,
    graceful_shutdown_wait_loop_s=0.5,
    graceful_shutdown_timeout_s=30,
)(LanguageModelReplica)


def translate(error: Exception) -> CloisterError:
    """What came back from a replica, as one of our errors; what is not ours means that the model is not available."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, CloisterError):
        return error.cause
    if isinstance(error, CloisterError):
        return error
    if isinstance(error, BackPressureError):
        return Busy("Too many calls wait for the model already.", retry_after_s=max(1, round(error.retry_after_s or 2)))
    return ModelUnavailable(
        f"The model's replica did not answer: {type(error).__name__}.", hint="Serve restarts it; try again in a minute."
    )


async def awaited(response: Awaitable[T]) -> T:
    """The same as `call` for code in an event loop, without waiting for a busy model: Busy is the caller's to answer."""
    try:
        return await response
    except Exception as error:
        raise translate(error) from error


async def streamed(pieces: AsyncIterator[T]) -> AsyncIterator[T]:
    """The pieces of a streaming call, with our errors."""
    try:
        async for piece in pieces:
            yield piece
    except Exception as error:
        raise translate(error) from error


def call(send: Callable[..., Any], *arguments: Any, timeout_s: float) -> Any:
    """Send from a worker thread and wait. While the model is busy, waits and sends again: the worker slows down, nothing piles up.

    Raises our errors only: ModelUnavailable also when the time is up.
    """
    until = time.monotonic() + timeout_s
    while True:
        response: DeploymentResponse = send(*arguments)
        try:
            return response.result(timeout_s=max(0.0, until - time.monotonic()))
        except Exception as error:
            response.cancel()
            ours = translate(error)
            if not isinstance(ours, Busy) or time.monotonic() + ours.retry_after_s > until:
                raise _unavailable(ours) from error
            time.sleep(ours.retry_after_s)


def _unavailable(error: CloisterError) -> CloisterError:
    return ModelUnavailable(f"The model stayed busy: {error}") if isinstance(error, Busy) else error


class RemoteLanguageModel:
    """`orchestrator.ports.LanguageModel` over a Serve handle, for threads outside an event loop."""

    def __init__(self, handle: DeploymentHandle, *, timeout_s: float = 60.0) -> None:
        self._handle = handle
        self._timeout_s = timeout_s

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        """See the port; also raises BadInput for options that are not single tokens."""
        results: list[ScoreResult] = []
        for start in range(0, len(requests), PROMPTS_PER_CALL):
            batch = list(requests[start : start + PROMPTS_PER_CALL])
            results += call(self._handle.score.remote, batch, model, timeout_s=self._timeout_s)
        return results

    def generate(self, prompts: Sequence[str], params: GenerationParams, *, model: str) -> list[Completion]:
        return call(self._handle.generate.remote, list(prompts), params, model, timeout_s=self._timeout_s)

    def status(self) -> dict[str, Any]:
        """Of one replica."""
        return call(self._handle.status.remote, timeout_s=self._timeout_s)
