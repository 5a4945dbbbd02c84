"""Build and bind the four deployments from one settings object; start and stop Ray for them. The one place of serving that wires."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import ray
from ray import serve
from ray.serve.config import HTTPOptions

from models.local import ADAPTER, BASE, STORE
from models.manifest import read
from orchestrator.domain.errors import ConfigurationError
from orchestrator.privacy.logs import protect_logs
from serving.desired import Desired
from serving.embedding import EmbeddingModel, bundled
from serving.engine import EngineConfig
from serving.gateway.deployment import Gateway
from serving.language_model import LanguageModel
from serving.orchestrator import Orchestrator
from serving.platform import ONE_MACHINE, PHONE_HOME_OFF, capability, switch_off_phone_home
from serving.settings import Settings
from serving.stack.project import project_at_start

APPLICATION = "cloister"
POLL_S = 2.0  # how often replicas look at the desired aliases
LOGICAL_CPUS = 8  # what Ray counts with; our replicas share the real cores and ask for fractions


def bundled_models() -> list[Path]:
    """Folders of the models that came with this installation."""
    return [STORE / name for name in (BASE, ADAPTER)]


def base_folder(settings: Settings) -> Path:
    return Path(settings.models.base) if settings.models.base else STORE / BASE


def engine_config(settings: Settings) -> EngineConfig:
    folder = base_folder(settings)
    gpu = settings.models.profile == "gpu"
    return EngineConfig(
        name=read(folder).name if (folder / "manifest.json").exists() else folder.name,
        path=folder,
        max_model_len_tokens=settings.models.max_model_len_tokens,
        kv_cache_bytes=None if gpu else int(settings.models.kv_cache_gib * 2**30),
        max_adapters=settings.models.max_loras,
        max_in_flight=settings.models.max_queued,
    )


def start_ray(settings: Settings) -> None:
    """Ray on this machine alone: no dashboard, no usage report, addresses of the loopback."""
    switch_off_phone_home()
    protect_logs()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_SERVE_ENABLE_TASK_EVENTS", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    ray.init(
        address="local",
        num_cpus=LOGICAL_CPUS,
        num_gpus=None if capability().device == "cuda" else 0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
        object_store_memory=256 * 2**20,
        runtime_env={
            "env_vars": {**PHONE_HOME_OFF, **ONE_MACHINE},
            "worker_process_setup_hook": "serving.platform.keep_to_loopback",
        },
        _node_ip_address="127.0.0.1",
    )
    serve.start(
        proxy_location="HeadOnly",
        http_options=HTTPOptions(host=settings.http.host, port=settings.http.port, request_timeout_s=settings.http.max_wait_s + 60),
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )


def build(settings: Settings, *, dsn: str, systems: Mapping[str, str], secrets: Mapping[str, str]) -> serve.Application:
    """The application graph: Gateway -> Orchestrator -> {LanguageModel, EmbeddingModel}."""
    desired = Desired(dsn)
    gpu = {"num_gpus": 1} if settings.models.profile == "gpu" else {}
    language = LanguageModel.options(ray_actor_options={"num_cpus": 1, **gpu}).bind(
        engine_config(settings), (), desired.adapters, POLL_S, None, desired.reporter("language_model")
    )
    embedding = EmbeddingModel.options(ray_actor_options={"num_cpus": 1}).bind(
        bundled(), None, desired.embedders, POLL_S, desired.reporter("embedder")
    )
    orchestrator = Orchestrator.options(num_replicas=settings.worker.replicas, ray_actor_options={"num_cpus": 0.5}).bind(
        settings, dsn, dict(systems), secrets["desk"], language, embedding
    )
    gateway: serve.Deployment = Gateway  # type: ignore[assignment]  # what the decorators make of the class
    return gateway.options(ray_actor_options={"num_cpus": 0.5}).bind(
        settings, dsn, secrets["console"], language, embedding, orchestrator
    )


def deploy(settings: Settings, *, dsn: str, systems: Mapping[str, str], secrets: Mapping[str, str]) -> None:
    """Deploy and return; readiness is the gateway's word. Raises ConfigurationError for what cannot be served as configured."""
    problems = engine_config(settings).problems()
    if problems:
        raise ConfigurationError(" ".join(problems))
    project_at_start(dsn, settings)
    application = build(settings, dsn=dsn, systems=systems, secrets=secrets)
    serve.run(application, name=APPLICATION, route_prefix="/", blocking=False)


def shut_down() -> None:
    """Drain the replicas, then stop Ray."""
    if ray.is_initialized():
        serve.shutdown()
        ray.shutdown()
