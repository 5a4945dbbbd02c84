"""The gateway as a Ray Serve deployment. Builds its parts on the replica; the app is the one that plain uvicorn runs."""

from pathlib import Path

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from orchestrator.bootstrap import open_store, utc_now
from orchestrator.privacy.logs import protect_logs
from orchestrator.resolution.playbook import COMPANY, load_playbook
from serving.embedding import MINILM_DIMENSIONS, MINILM_NAME
from serving.gateway.app import create_app
from serving.gateway.company import company_names
from serving.gateway.parts import Parts
from serving.gateway.serve_parts import ServeEmbedder, ServeLanguage, status_of
from serving.platform import switch_off_phone_home
from serving.settings import Settings


@serve.deployment(
    name="Gateway",
    logging_config={"enable_access_log": False, "log_level": "WARNING"},
    max_ongoing_requests=1024,  # waiters (512 at most) and everybody else; the store's threads bound the work itself
    max_queued_requests=1024,
    health_check_period_s=2,
    health_check_timeout_s=30,
    graceful_shutdown_wait_loop_s=0.5,
    graceful_shutdown_timeout_s=20,
)
@serve.ingress()
class Gateway:
    def __init__(
        self,
        settings: Settings,
        dsn: str,
        console_secret: str,
        language: DeploymentHandle,
        embedding: DeploymentHandle,
        orchestrator: DeploymentHandle,
    ) -> None:
        switch_off_phone_home()
        protect_logs()
        company = Path(settings.company.folder) if settings.company.folder else None
        categories, groups = company_names(company)
        self._parts = Parts(
            store=open_store(dsn, pool_size=settings.database.pool_size),
            language=ServeLanguage(language),
            embedder=ServeEmbedder(embedding, name=MINILM_NAME, dimensions=MINILM_DIMENSIONS),
            settings=settings,
            clock=utc_now,
            console_secret=console_secret,
            categories=categories,
            groups=groups,
            playbook=load_playbook(company or COMPANY),
            others={"orchestrator": status_of(orchestrator)},
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve once the constructor has run."""
        return create_app(self._parts)
