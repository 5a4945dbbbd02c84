"""Run the whole stack on this machine and keep it running: embedded PostgreSQL, the sandbox, Ray with our deployments.

    python -m serving.stack.supervise --home FOLDER [--world FILE]

Owns the processes, restarts what dies (Ray Serve restarts its own replicas), stops the database last. Knows no ticket.
"""

import argparse
import hashlib
import json
import logging
import os
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.domain.aliases import LIVE
from orchestrator.domain.errors import ConfigurationError
from orchestrator.privacy.logs import protect_logs
from orchestrator.sandbox.process import SandboxProcess
from orchestrator.storage.embedded import Server
from serving.platform import switch_off_phone_home
from serving.settings import Settings, load_settings
from serving.stack import state

log = logging.getLogger("cloister.supervise")
WATCH_EVERY_S = 1.0
READY_TIMEOUT_S = 300.0
REFUSED_S = 20.0  # a live alias that is refused for so long at start does not heal by itself


class Stack:
    """The parts in the order they start; `stop` takes them down in reverse."""

    def __init__(self, settings: Settings, home: Path, world: Path | None) -> None:
        self.settings = settings
        self.home = home
        self.world = world
        self.url = f"http://{_reachable(settings.http.host)}:{settings.http.port}"
        self.database: Server | None = None
        self.sandbox: SandboxProcess | None = None
        self.dsn = settings.database.dsn or ""
        self.timings: dict[str, float] = {}
        self._began = time.monotonic()

    def start(self) -> None:
        self._phase("starting PostgreSQL")
        if not self.dsn:
            self.database = Server(self.home / "postgres").start()
            self.dsn = self.database.dsn
        self._phase("migrating the database")
        self._prepare_database()
        self._phase("starting the sandbox systems of record")
        systems = self._start_systems()
        self._phase("starting Ray")
        self._start_ray()
        self._phase("loading the models")
        self._serve(systems)
        self._wait_ready()
        self._phase("ready")

    def _prepare_database(self) -> None:
        from orchestrator.bootstrap import open_store

        store = open_store(self.dsn, pool_size=2)
        try:
            keys = state.keys(self.home)
            with store.transaction() as tx:
                for name, key in keys.items():
                    kind = "portal" if name == state.PORTAL else "api"
                    role = "service" if name == state.PORTAL else name
                    tx.add_key(name=name, role=role, kind=kind, sha256=hashlib.sha256(key.encode()).hexdigest())
        finally:
            store.close()

    def _start_systems(self) -> Mapping[str, str]:
        if self.settings.systems.url:
            return {"url": self.settings.systems.url, "secret": self.settings.systems.secret or ""}
        secret = state.secret(self.home, "sandbox")
        self.sandbox = SandboxProcess(self.home / "sandbox.db", secret=secret, world=self.world).start()
        return {"url": self.sandbox.url, "secret": secret}

    def _start_ray(self) -> None:
        from serving.app import start_ray

        start_ray(self.settings)

    def _serve(self, systems: Mapping[str, str]) -> None:
        from serving.app import deploy

        secrets = {name: state.secret(self.home, name) for name in ("console", "desk")}
        deploy(self.settings, dsn=self.dsn, systems=systems, secrets=secrets)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        said, refused_since = "", 0.0
        while time.monotonic() < deadline:
            try:
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                    f"{self.url}/health/ready", timeout=5
                ) as answer:
                    if answer.status == 200:
                        return
            except urllib.error.HTTPError as error:
                said = error.read(2000).decode(errors="replace")
                broken = _broken_aliases(said)
                refused_since = (refused_since or time.monotonic()) if broken else 0.0
                if broken and time.monotonic() - refused_since > REFUSED_S:
                    raise ConfigurationError(
                        f"What is live is refused by the replicas: {', '.join(broken)}.",
                        hint="`cloister models verify` says why. Roll it back (`cloister models rollback`) or import it again.",
                    ) from error
            except OSError as error:
                said = str(error)
            time.sleep(0.5)
        raise TimeoutError(f"not ready after {READY_TIMEOUT_S:.0f} s: {said}")

    def watch(self, stopping: threading.Event) -> None:
        """Restart the database and the sandbox when they die, until asked to stop."""
        while not stopping.wait(WATCH_EVERY_S):
            try:
                if self.database and self.database.restart_if_dead():
                    log.warning("PostgreSQL was dead and is up again")
                if self.sandbox and not self.sandbox.running:
                    self.sandbox.start()
                    log.warning("the sandbox was dead and is up again")
            except Exception:
                log.exception("restart failed; trying again")

    def stop(self) -> None:
        from serving.app import shut_down

        for part, end in (
            ("Ray", shut_down),
            ("sandbox", self.sandbox.stop if self.sandbox else None),
            ("PostgreSQL", self.database.stop if self.database else None),
        ):
            if end is None:
                continue
            try:
                end()
            except Exception:
                log.exception("stopping %s failed", part)

    def _phase(self, phase: str, error: str = "") -> None:
        self.timings[phase] = round(time.monotonic() - self._began, 1)
        log.info("%s (%.1f s)", phase, self.timings[phase])
        state.write_state(
            self.home,
            state.StackState(
                pid=os.getpid(),
                phase=phase,
                url=self.url,
                sandbox_url=self.sandbox.url if self.sandbox else "",
                dsn=self.dsn,
                error=error,
                timings_s=self.timings,
            ),
        )

    def fail(self, error: BaseException) -> None:
        self._phase("failed", error=f"{type(error).__name__}: {error}")


def _broken_aliases(said: str) -> list[str]:
    """Live aliases that a stack that is not ready says it cannot serve: nothing to wait for."""
    try:
        found = json.loads(said).get("unhealthy_aliases", [])
    except (ValueError, AttributeError):
        return []
    return [alias for alias in found if alias.endswith(f"/{LIVE}")]


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in {"0.0.0.0", "::", ""} else host


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Run Cloister's stack on this machine (used by `cloister up`).")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--world", type=Path)
    parser.add_argument("--overrides", default="{}", help="settings as JSON, over those of the file")
    arguments = parser.parse_args(argv)
    switch_off_phone_home()
    protect_logs()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    overrides: dict[str, Any] = json.loads(arguments.overrides)
    home = arguments.home.resolve()
    stack = Stack(load_settings(overrides, home=home), home, arguments.world)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    _start(stack, stopping)
    if not stopping.is_set():
        stack.watch(stopping)
    failed = state.read_state(home)
    stack.stop()
    if failed and failed.phase == "failed":
        return 1
    state.remove_state(home)
    return 0


def _start(stack: Stack, stopping: threading.Event) -> None:
    try:
        stack.start()
    except Exception as error:
        log.exception("the stack did not start")
        stack.fail(error)
        stopping.set()


if __name__ == "__main__":
    sys.exit(main())
