"""What a local stack leaves in its state folder: where it is, who may talk to it. Knows files only."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.connectors.local_stack import supervises

ROLES = ("analyst", "lead", "approver", "ml-engineer", "auditor", "admin", "service")
PORTAL = "portal"  # a key of role service whose kind vouches for the requester


@dataclass(frozen=True, kw_only=True)
class StackState:
    """`stack.json`: written by the supervisor as it comes up, removed as it goes."""

    pid: int
    phase: str  # what is being started; "ready" at last
    url: str = ""
    sandbox_url: str = ""
    dsn: str = field(default="", repr=False)
    error: str = ""
    timings_s: Mapping[str, float] = field(default_factory=dict)


def folder(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home


def write_state(home: Path, state: StackState) -> None:
    _write_private(folder(home) / "stack.json", json.dumps(asdict(state)))


def read_state(home: Path) -> StackState | None:
    """None when no stack was started here, or its supervisor is gone."""
    try:
        state = StackState(**json.loads((home / "stack.json").read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None
    return state if supervises(state.pid) else None


def remove_state(home: Path) -> None:
    (home / "stack.json").unlink(missing_ok=True)


def keys(home: Path) -> dict[str, str]:
    """One key per role and one for the portal, made at first use, readable by the owner alone."""
    path = folder(home) / "keys.json"
    if not path.exists():
        made = {role: f"cl_{role.replace('-', '')}_{secrets.token_urlsafe(24)}" for role in (*ROLES, PORTAL)}
        _write_private(path, json.dumps(made, indent=1))
    return json.loads(path.read_text())


def secret(home: Path, name: str) -> str:
    """A secret of this stack by name, made at first use, readable by the owner alone."""
    path = folder(home) / f"{name}.secret"
    if not path.exists():
        _write_private(path, secrets.token_hex(32))
    return path.read_text().strip()


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def as_json(state: StackState) -> dict[str, Any]:
    """For `--json`: everything but the database's address, which holds a password."""
    return {key: value for key, value in asdict(state).items() if key != "dsn"}
