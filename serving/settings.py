"""One settings object from file and environment, validated whole. Knows names and bounds; builds nothing.

`load_settings()` reads `$CLOISTER_CONFIG` (or `cloister.yaml` in the state folder) and then the environment
(`CLOISTER_DATABASE__DSN`, two underscores between section and field); the environment wins. All problems are told at once.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.domain.errors import ConfigurationError


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Database(Section):
    dsn: str | None = Field(None, description="PostgreSQL with pgvector; none: the embedded server")
    pool_size: int = Field(12, ge=2, le=100)


class Http(Section):
    host: str = Field("127.0.0.1", description="address that the gateway listens on")
    port: int = Field(8420, ge=1, le=65535)
    max_body_bytes: int = Field(1024 * 1024, ge=1024)
    max_wait_s: float = Field(120.0, ge=0, le=600, description="upper bound of ?wait=")
    max_queue: int = Field(5000, ge=1, description="tickets waiting; above it 429")


class Models(Section):
    profile: Literal["cpu", "gpu"] = "cpu"
    base: str | None = Field(None, description="folder of the base model; none: the bundled small one")
    adapters: dict[str, str] = Field(default_factory=dict, description="alias -> folder, where the registry has no move")
    head: str | None = Field(None, description="folder of the triage model whose head and thresholds decide; none: the bundled one")
    reranker: str | None = Field(None, description="folder of a cross-encoder that orders what knowledge found; none: off")
    kv_cache_gib: float = Field(0.5, gt=0)
    max_model_len_tokens: int = Field(2048, ge=256)
    max_loras: int = Field(6, ge=2, le=64)
    max_queued: int = Field(512, ge=1, description="score and chat requests waiting per replica; above it 429")


class Worker(Section):
    batch_size: int = Field(128, ge=1, le=512, description="tickets claimed at once, at most")
    lease_s: float = Field(30.0, ge=2)
    threads: int = Field(8, ge=1, le=64, description="calls to systems of record under way at once")
    replicas: int = Field(1, ge=1, le=32)


class Systems(Section):
    url: str | None = Field(None, description="base address of the systems of record; none: the local sandbox")
    secret: str | None = Field(None, description="secret that the sandbox's tokens are derived from")


class Company(Section):
    folder: str | None = Field(None, description="taxonomy, runbooks, actions, policies, knowledge; none: the bundled company")


class Audit(Section):
    checkpoints: tuple[str, ...] = Field(
        (), description="folders for signed checkpoints, copies in all; none: audit/checkpoints in the state folder"
    )
    key: str | None = Field(
        None, description="Ed25519 key in PEM, mode 0600, made at first use; none: audit/audit.pem in the state folder"
    )
    origin: str = Field("cloister", pattern=r"^[^\s+]{1,200}$", description="the log's name, one word, in every checkpoint")
    every_events: int = Field(1000, ge=1, description="a checkpoint at the latest after so many events ...")
    every_s: float = Field(10.0, ge=0.5, description="... or so many seconds")
    erase_after_days: int | None = Field(
        None, ge=1, description="closed tickets untouched for so long lose their text; none: never"
    )


class Settings(BaseSettings):
    """Everything that `serving/app.py` binds."""

    model_config = SettingsConfigDict(env_prefix="CLOISTER_", env_nested_delimiter="__", extra="forbid", frozen=True)

    home: Path = Path(".cloister")
    database: Database = Database()
    http: Http = Http()
    models: Models = Models()
    worker: Worker = Worker()
    systems: Systems = Systems()
    company: Company = Company()
    audit: Audit = Audit()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


OUR_OWN = frozenset(
    {"CLOISTER_CONFIG", "CLOISTER_HOME", "CLOISTER_URL", "CLOISTER_API_KEY", "CLOISTER_SANDBOX_SECRET", "CLOISTER_SIGNING_KEY"}
)


def load_settings(overrides: Mapping[str, Any] | None = None, *, home: Path | None = None) -> Settings:
    """Settings from file, overrides and environment; raises ConfigurationError that lists every problem."""
    home = home or Path(os.environ.get("CLOISTER_HOME", ".cloister"))
    path = Path(os.environ.get("CLOISTER_CONFIG", home / "cloister.yaml"))
    problems = [
        f"{name}: no such setting; sections are {', '.join(Settings.model_fields)}"
        for name in os.environ
        if name.startswith("CLOISTER_") and name not in OUR_OWN and name.split("_")[1].lower() not in Settings.model_fields
    ]
    values: dict[str, Any] = {"home": home}
    if path.exists():
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise ConfigurationError(f"{path} is not YAML: {error}") from error
        if not isinstance(loaded, dict):
            raise ConfigurationError(f"{path} holds a {type(loaded).__name__}, not settings by name.")
        values |= loaded
    for section, fields in (overrides or {}).items():
        values[section] = {**values.get(section, {}), **fields} if isinstance(fields, Mapping) else fields
    try:
        settings = Settings(**values)
    except ValidationError as error:
        problems += [f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors()]
        settings = None
    if problems or settings is None:
        raise ConfigurationError(
            f"{len(problems)} problem(s) in the settings ({path} and CLOISTER_* variables):\n  " + "\n  ".join(problems)
        )
    return settings
