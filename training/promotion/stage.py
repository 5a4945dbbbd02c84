"""A candidate where it can be asked: behind the `shadow` alias of the running stack, or in an engine of its own. Knows HTTP and aliases.

Nothing that is staged has any effect on tickets; when the gate is done, `shadow` means again what it meant before.
"""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.announce import announce
from models.registry import Registry
from orchestrator.connectors.local_stack import Client
from orchestrator.domain.errors import CloisterError, ModelUnavailable
from orchestrator.ports import ScoreRequest
from training.evaluation.served import ServedModel

LOADED_WITHIN_S = 150.0
POLL_S = 1.0
SERVER = "serving.score_server"  # the module that serves one adapter by itself, as its command line names it


@dataclass(frozen=True, kw_only=True)
class Served:
    """An engine that serves the candidate by its full name."""

    model: ServedModel
    base: str  # name by which the base is asked
    where: str  # in words


@contextmanager
def served(
    registry: Registry, full_name: str, *, base: Path, adapter: Path, by: str, say: Callable[[str], None]
) -> Iterator[Served]:
    """The running stack's engine; one of its own where no stack runs. Raises ModelUnavailable when the candidate cannot be served."""
    try:
        client = Client(role="ml-engineer")
    except ModelUnavailable:
        with _own_engine(full_name, base=base, adapter=adapter, say=say) as found:
            yield found
        return
    with _behind_shadow(registry, full_name, by):
        model = ServedModel(url=client.url, key=client.key)
        base_name = _wait_for(model, full_name, client, LOADED_WITHIN_S)
        yield Served(model=model, base=base_name, where=f"the stack at {client.url}")


@contextmanager
def _behind_shadow(registry: Registry, full_name: str, by: str) -> Iterator[None]:
    """Replicas load what any alias means; shadow has no effect on tickets."""
    aliases = registry.aliases("triage")
    if any(move.name == full_name for move in aliases.values()):
        yield
        return
    before = aliases.get("shadow")
    registry.move("triage", "shadow", full_name, by=by, reason="promotion gate: served against trained")
    announce(registry.root)
    try:
        yield
    finally:
        if registry.aliases("triage")["shadow"].name == full_name:
            registry.move("triage", "shadow", before.name if before else None, by=by, reason="promotion gate done")
            announce(registry.root)


def _wait_for(model: ServedModel, full_name: str, client: Client, patience_s: float) -> str:
    """Until the replica answers by that name; gives the base's name."""
    end = time.monotonic() + patience_s
    asked = [ScoreRequest(prompt="Type:\n", options=("A", "B"))]
    while True:
        try:
            model.score(asked, model=full_name)
            listed = client.get("/v1/models")["data"]
            return str(next(row["id"] for row in listed if row["kind"] == "base"))
        except ModelUnavailable as error:
            if time.monotonic() > end:
                raise ModelUnavailable(
                    f"{full_name} was not served within {patience_s:.0f} s: {error}", hint="See `cloister status`."
                ) from error
            time.sleep(POLL_S)


@contextmanager
def _own_engine(full_name: str, *, base: Path, adapter: Path, say: Callable[[str], None]) -> Iterator[Served]:
    say("No stack is running: starting an engine of its own on the loopback")
    key = secrets.token_urlsafe(24)
    command = [sys.executable, "-m", SERVER, "--base", str(base), "--adapter", f"{full_name}={adapter}"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "CLOISTER_SCORE_KEY": key}
    )
    try:
        model, base_name = _ready(process, key)
        yield Served(model=model, base=base_name, where="an engine of its own")
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def _ready(process: "subprocess.Popen[str]", key: str) -> tuple[ServedModel, str]:
    """Waits for the engine's one line."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise ModelUnavailable(
            f"The engine did not start (exit code {process.wait()}).",
            hint="Run `cloister doctor`, or promote with a running stack.",
        )
    ready = json.loads(line)
    return ServedModel(url=ready["url"], key=key), str(ready["base"])


def wait_until_live(full_name: str, alias: str, patience_s: float = LOADED_WITHIN_S) -> str | None:
    """What the running stack says of the alias once it means this model; None where no stack runs. Raises ModelUnavailable."""
    try:
        client = Client(role="ml-engineer")
    except CloisterError:
        return None
    end = time.monotonic() + patience_s
    while True:
        rows = {row["id"]: row for row in client.get("/v1/models")["data"]}
        if rows.get(alias, {}).get("root") == full_name:
            return f"{alias} answers with it at {client.url}"
        if time.monotonic() > end:
            raise ModelUnavailable(
                f"{alias} at {client.url} does not answer with {full_name} after {patience_s:.0f} s.",
                hint="See `cloister status`; `cloister models rollback` takes the move back.",
            )
        time.sleep(POLL_S)
