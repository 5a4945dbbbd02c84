"""Where an MCP server is. Knows no protocol, so that naming one costs nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.connectors.http import is_base_url
from orchestrator.domain.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where an MCP server is: a URL (streamable HTTP) with its token, or a command (stdio)."""

    url: str | None = None
    token: str | None = field(default=None, repr=False)
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if (self.url is None) == (not self.command):
            raise ConfigurationError("An MCP server has a URL or a command, one of them.")
        if self.url is not None and not is_base_url(self.url):
            raise ConfigurationError(f"{self.url!r} is no URL of an MCP server, such as https://host/mcp.")
