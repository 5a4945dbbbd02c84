"""The orchestrator as a Ray Serve deployment: the worker that claims micro-batches. Knows threads; decides nothing."""

import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from orchestrator.bootstrap import build_desk, follow_aliases, open_store, open_systems
from orchestrator.pipeline.worker import Worker
from orchestrator.privacy.logs import protect_logs
from serving.embedding import RemoteEmbedder
from serving.language_model import RemoteLanguageModel
from serving.platform import switch_off_phone_home
from serving.reranker import open_reranker
from serving.settings import Settings
from serving.stack.notary import notary_of


class OrchestratorReplica:
    """Runs one worker in threads of its own; the event loop answers health checks and status."""

    def __init__(
        self,
        settings: Settings,
        dsn: str,
        systems: Mapping[str, str],
        secret: str,
        language: DeploymentHandle,
        embedding: DeploymentHandle,
    ) -> None:
        switch_off_phone_home()
        protect_logs()
        self._store = open_store(dsn, pool_size=settings.database.pool_size)
        language_model, embedder = RemoteLanguageModel(language), RemoteEmbedder(embedding)
        self._following = follow_aliases(
            store=self._store,
            language_model=language_model,
            embedder=embedder,
            named=lambda name, dimensions: RemoteEmbedder(embedding, name=name, dimensions=dimensions),
            replica=f"{socket.gethostname()}:{os.getpid()}",
        )
        self._following.look()
        self._desk = build_desk(
            store=self._store,
            systems=open_systems(systems["url"], systems["secret"]),
            embedder=embedder,
            language_model=language_model,
            models=self._following,
            shadowing=self._following.shadowing,
            secret=bytes.fromhex(secret),
            company=Path(settings.company.folder) if settings.company.folder else None,
            threads=settings.worker.threads,
            reranker=open_reranker(settings.models.reranker),
        )
        self._worker = Worker(
            self._desk,
            batch_size=settings.worker.batch_size,
            lease_s=settings.worker.lease_s,
            notary=notary_of(settings, self._store),
        )
        self._stopping = threading.Event()
        self._thread = self._started("worker", self._worker.run)
        self._follower = self._started("aliases", self._following.run)
        if self._following.shadowing:
            self._started("shadow", self._following.shadowing.run)

    def _started(self, name: str, run: Callable[[threading.Event], None]) -> threading.Thread:
        thread = threading.Thread(target=run, args=(self._stopping,), name=name, daemon=True)
        thread.start()
        return thread

    async def status(self) -> dict[str, Any]:
        return {"ok": self._thread.is_alive() and self._worker.ready, **self._worker.status(), "models": self._following.status()}

    async def check_health(self) -> None:
        """Serve replaces the replica when this raises."""
        for thread in (self._thread, self._follower):
            if not thread.is_alive():
                raise RuntimeError(f"the thread {thread.name} ended")

    def __del__(self) -> None:
        """Finish the batch under way; its lease would bring it back anyway."""
        stopping = getattr(self, "_stopping", None)
        if stopping is not None:
            stopping.set()
            self._thread.join(timeout=20)


Orchestrator = serve.deployment(
    name="Orchestrator",
    max_ongoing_requests=16,
    health_check_period_s=2,
    health_check_timeout_s=30,
    graceful_shutdown_timeout_s=25,
)(OrchestratorReplica)
