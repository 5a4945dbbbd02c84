"""The processes that are killed: worker, gateway, database, sandbox. Knows how each is started, killed, and found dead on its own.

Worker and gateway are forked from a server that has imported everything, so that a start costs no second of importing; each is a process
of its own with its own connections and is killed with SIGKILL.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from orchestrator.sandbox.process import SandboxProcess
from orchestrator.storage.embedded import Server

RESTART_S = 60.0
CONTEXT = multiprocessing.get_context("forkserver")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def preload() -> None:
    """Before the first start: what the forked processes find imported."""
    CONTEXT.set_forkserver_preload(["serving.standalone", "serving.gateway.standalone", "uvicorn"])


def _begin(run: Callable[[Namespace], None], arguments: Namespace, log: Path) -> None:
    """The first lines of a forked process: its words go to its log."""
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    run(arguments)


def run_worker(arguments: Namespace) -> None:
    from serving import standalone

    standalone.run_worker(arguments)


def run_gateway(arguments: Namespace) -> None:
    from serving import standalone

    standalone.run_gateway(arguments)


@dataclass
class Part:
    """One of our own processes, started again after each kill."""

    name: str
    run: Callable[[Namespace], None]
    arguments: Namespace
    log: Path
    process: BaseProcess | None = None
    deaths: list[str] = field(default_factory=list)  # of its own, which must not happen

    def start(self) -> None:
        self.process = CONTEXT.Process(target=_begin, args=(self.run, self.arguments, self.log), name=self.name, daemon=True)
        self.process.start()

    def look(self) -> None:
        """Notices that it ended by itself, and starts it again."""
        if self.process is not None and not self.process.is_alive():
            self.deaths.append(f"the {self.name} ended by itself with code {self.process.exitcode}")
            self.start()

    def kill(self) -> None:
        self.look()
        assert self.process is not None
        self.process.kill()
        self.process.join()
        self.start()

    def stop(self) -> None:
        if self.process is None or self.process.pid is None or not self.process.is_alive():
            return
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.join(timeout=15)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def said(self, chars: int = 1500) -> str:
        return self.log.read_text(errors="replace")[-chars:] if self.log.exists() else ""


@dataclass
class DatabasePart:
    """The postmaster, killed with all that hangs on it; the server starts it again as the supervisor of a stack does."""

    server: Server
    name: str = "database"

    def kill(self) -> None:
        if pid := self.server.pid:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + RESTART_S  # a killed postmaster lives on for a moment on a busy machine
        while not self.server.restart_if_dead() and time.monotonic() < deadline:
            time.sleep(0.05)


@dataclass
class SandboxPart:
    """The systems of record; what they answered they have kept."""

    sandbox: SandboxProcess
    name: str = "systems"

    def kill(self) -> None:
        self.sandbox.kill()
        self.sandbox.start()
