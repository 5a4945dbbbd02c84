"""Starts and stops the sandbox as a process of its own: for tests, the demo, the local stack. Knows its command line and URL."""

import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orchestrator.sandbox import tokens

START_TIMEOUT_S = 30.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class SandboxFailed(RuntimeError):
    """The sandbox did not start. The message holds what it said."""


class SandboxProcess:
    """One sandbox. `start` it, talk to `url`, `stop` or `kill` it; started again with the same file, it continues where it was."""

    def __init__(
        self, db: Path, *, secret: str | None = None, port: int = 0, world: Path | None = None, detached: bool = False
    ) -> None:
        self.db = db
        self.secret = secret or secrets.token_hex(16)
        self.port = port
        self.url = ""
        self._world = world
        self._detached = detached  # outlives this process; otherwise it ends with it, even when this one is killed
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Returns when it listens; keeps its port over restarts."""
        if self.running:
            return self
        self.db.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                env={**os.environ, "CLOISTER_SANDBOX_SECRET": self.secret},
                stdin=subprocess.DEVNULL if self._detached else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for whoever started it
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.stop()
            said = self._log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SandboxFailed(f"The sandbox did not start: {said.strip() or 'it said nothing'} (log: {self._log_file})")
        self.url = json.loads(line)["url"]
        self.port = int(self.url.rpartition(":")[2])
        return self

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "orchestrator.sandbox", "--db", str(self.db), "--port", str(self.port)]
        if self._world is not None:
            command += ["--world", str(self._world)]
        return command if self._detached else [*command, "--stop-with-stdin"]

    @property
    def _log_file(self) -> Path:
        return self.db.with_name(self.db.name + ".log")

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """kill -9: nothing is said and nothing is flushed."""
        self._end(subprocess.Popen.kill)

    def _end(self, how: Any) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        how(process)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def token(self, system: str, direction: str) -> str:
        return tokens.token(self.secret, system, direction)

    def tokens(self) -> dict[tuple[str, str], str]:
        return tokens.tokens(self.secret)

    def base_urls(self) -> dict[str, str]:
        """The base URL of every system, as a connector is configured with it."""
        return dict.fromkeys(tokens.SYSTEMS, self.url)

    def seed(self, world: Mapping[str, Any]) -> dict[str, Any]:
        """Start anew from this world."""
        return request(self.url, "POST", "/_seed", world)

    def fail(self, path_prefix: str, kind: str, *, times: int = 1, method: str | None = None, delay_s: float | None = None) -> None:
        """Let the next `times` matching calls fail; see `orchestrator.sandbox.faults`."""
        fault = {"path_prefix": path_prefix, "kind": kind, "times": times, "method": method, "delay_s": delay_s}
        request(self.url, "POST", "/_faults", {key: value for key, value in fault.items() if value is not None})

    def calls(self, *, after: int = 0) -> list[dict[str, Any]]:
        return request(self.url, "GET", f"/_calls?after={after}")

    def state(self) -> dict[str, Any]:
        return request(self.url, "GET", "/_state")


def request(url: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    """One call of the sandbox's own routes (`/_...`); raises SandboxFailed with what it answered."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url + path, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with _DIRECT.open(asked, timeout=60) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise SandboxFailed(f"{method} {path} answered {error.code}: {error.read().decode('utf-8', 'replace')}") from error


def wait_until_healthy(url: str, *, timeout_s: float = START_TIMEOUT_S) -> None:
    """Returns when the sandbox at this URL answers; raises SandboxFailed when it has not in time."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            request(url, "GET", "/_health")
            return
        except OSError as error:
            if time.monotonic() > end:
                raise SandboxFailed(f"The sandbox at {url} does not answer: {error}.") from error
            time.sleep(0.05)
