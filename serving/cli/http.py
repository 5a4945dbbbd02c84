"""The command line's way to a running stack, and plain reads of this machine. Knows HTTP; knows no command."""

from typing import Any

import httpx

from orchestrator.connectors.local_stack import Client, home_folder
from orchestrator.domain.errors import ModelUnavailable

__all__ = ["Client", "home_folder", "read_json"]


def read_json(url: str, *, timeout_s: float = 60.0) -> Any:
    """What a plain GET answers, for addresses of this machine that need no key. Raises ModelUnavailable."""
    try:
        answer = httpx.get(url, timeout=timeout_s, trust_env=False)
        answer.raise_for_status()
        return answer.json()
    except httpx.HTTPError as error:
        raise ModelUnavailable(f"{url} does not answer ({type(error).__name__}).", hint="Is the stack running?") from error
