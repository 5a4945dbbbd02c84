"""A company's own systems of record, as `connectors.yaml` names them. Credentials come from the environment by name, never from the file.

http:
  crm: {url: https://crm.example.internal/api, read_token: CRM_READ_TOKEN, write_token: CRM_WRITE_TOKEN}
mcp:
  tracker: {url: https://tracker.example.internal/mcp, token: TRACKER_TOKEN}
  files: {command: [/opt/files/bin/server, --stdio], environment: [FILES_KEY]}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.connectors.servers import Server
from orchestrator.domain.errors import ConfigurationError


class _Http(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str
    read_token: str
    write_token: str


class _Mcp(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str | None = None
    token: str | None = None
    command: list[str] = []
    environment: list[str] = []


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    http: dict[str, _Http] = Field(default={})
    mcp: dict[str, _Mcp] = Field(default={})


@dataclass(frozen=True, kw_only=True)
class Connectors:
    """Where a company's systems are, and what opens them."""

    base_urls: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)
    servers: Mapping[str, Server] = field(default_factory=dict)


def read_connectors(path: Path, environment: Mapping[str, str]) -> Connectors:
    """The file, with credentials filled in; nothing where there is no file. Raises ConfigurationError with every problem."""
    if not path.exists():
        return Connectors()
    try:
        found = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{path} cannot be used: {error}") from error
    tokens = {(system, "read"): each.read_token for system, each in found.http.items()}
    tokens |= {(system, "write"): each.write_token for system, each in found.http.items()}
    wanted = [*tokens.values(), *(each.token for each in found.mcp.values() if each.token)]
    wanted += [name for each in found.mcp.values() for name in each.environment]
    if missing := sorted({name for name in wanted if not environment.get(name)}):
        raise ConfigurationError(
            f"{path} names credentials that are not in the environment: {', '.join(missing)}.", hint="Set them."
        )
    return Connectors(
        base_urls={system: each.url for system, each in found.http.items()},
        tokens={key: environment[name] for key, name in tokens.items()},
        servers={
            system: Server(
                url=each.url,
                token=environment[each.token] if each.token else None,
                command=tuple(each.command),
                environment={name: environment[name] for name in each.environment},
            )
            for system, each in found.mcp.items()
        },
    )
