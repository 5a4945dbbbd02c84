"""Start, find and stop the supervisor of a local stack. Knows processes and the state folder; runs nothing itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from orchestrator.connectors.local_stack import SUPERVISOR
from orchestrator.domain.errors import ModelUnavailable
from orchestrator.storage.embedded import Server
from serving.platform import ONE_MACHINE, PHONE_HOME_OFF
from serving.stack import state

START_TIMEOUT_S = 420.0


def start(home: Path, *, overrides: Mapping[str, Any], world: Path | None, say: Callable[[str], None]) -> state.StackState:
    """Start the supervisor unless it runs, and wait until the stack is ready. Raises ModelUnavailable with the log's last words."""
    running = state.read_state(home)
    if running is None:
        state.remove_state(home)
        process = _spawn(home, overrides, world)
    else:
        process = psutil.Process(running.pid)
    deadline, phase = time.monotonic() + START_TIMEOUT_S, ""
    while time.monotonic() < deadline:
        current = state.read_state(home)
        if current and current.phase != phase:
            phase = current.phase
            say(phase)
        if current and current.phase == "ready":
            return current
        if (current and current.phase == "failed") or not _alive(process):
            raise ModelUnavailable(
                f"The stack did not start: {current.error if current else _last_words(home)}", hint=f"See {log_file(home)}."
            )
        time.sleep(0.2)
    raise ModelUnavailable(f"The stack was not ready after {START_TIMEOUT_S:.0f} s ({phase}).", hint=f"See {log_file(home)}.")


def _spawn(home: Path, overrides: Mapping[str, Any], world: Path | None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", SUPERVISOR, "--home", str(home), "--overrides", json.dumps(overrides)]
    if world is not None:
        command += ["--world", str(world)]
    log_file(home).parent.mkdir(parents=True, exist_ok=True)
    with log_file(home).open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **PHONE_HOME_OFF, **ONE_MACHINE},
            start_new_session=True,
        )


def stop(home: Path, *, timeout_s: float = 60.0) -> bool:
    """Stop the stack and wait until it is gone; False when none ran. Its children never outlive it."""
    running = state.read_state(home)
    if running is None:
        return _stop_database(home)
    supervisor = psutil.Process(running.pid)
    family = [supervisor, *supervisor.children(recursive=True)]
    os.kill(running.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs([supervisor], timeout=timeout_s)
    for process in [*alive, *[member for member in family[1:] if member.is_running()]]:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)
    _stop_database(home)
    state.remove_state(home)
    return True


def _stop_database(home: Path) -> bool:
    """The server is nobody's child: it outlives a supervisor that was killed."""
    if not (home / "postgres").is_dir() or (server := Server(home / "postgres")).pid is None:
        return False
    server.stop()
    return True


def erase(home: Path) -> None:
    """Stop what runs there and remove the folder with its database, wherever that lies."""
    stop(home)
    if (home / "postgres").is_dir():
        Server(home / "postgres").destroy()
    shutil.rmtree(home, ignore_errors=True)


def log_file(home: Path) -> Path:
    return home / "logs" / "stack.log"


def _alive(process: psutil.Process | subprocess.Popen[bytes]) -> bool:
    return process.poll() is None if isinstance(process, subprocess.Popen) else process.is_running()


def _last_words(home: Path, lines: int = 8) -> str:
    path = log_file(home)
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "it said nothing"
