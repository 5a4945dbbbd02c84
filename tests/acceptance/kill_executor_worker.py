"""A worker that dies by SIGKILL when its executor reaches a given step. Built when imported, so that a forked one starts at once.

Real store, real connector, real systems of record; stand-in models only. The executor knows nothing of it: it tells the name of each
step to `Desk.reached`, which does nothing in production and kills here; death while a request is under way is in the systems' wrapper.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.bootstrap import build_desk, open_systems
from orchestrator.domain.resolution import Observation
from orchestrator.pipeline.worker import Worker
from orchestrator.resolution.runbooks import Act
from orchestrator.standins import CountingLanguageModel, HashEmbedder, NamedClassifier
from orchestrator.storage.store import PostgresStore
from orchestrator.triage.taxonomy import load_taxonomy

SECRET = b"kill-test-executor-secret"
BATCH, LEASE_S = 4, 60.0
IDLE_EXIT_S = 0.4  # without work it ends by itself


@dataclass(frozen=True, kw_only=True)
class Fate:
    """Where this worker dies. `point`: a step of the executor, "sent" while a request is under way, "" for a natural end."""

    name: str
    dsn: str
    url: str
    secret: str
    point: str
    occurrence: int
    in_flight_s: float
    undoing: bool = False  # only while something is undone


class Later:
    """What is known only after the fork."""

    target: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.target, name)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Death:
    """Counts the steps, and ends this process at the one that was drawn."""

    def __init__(self, fate: Fate) -> None:
        self.fate = fate
        self.left = fate.occurrence
        self.undoing = False
        self._lock = threading.Lock()

    def reached(self, point: str) -> None:
        with self._lock:
            if point != self.fate.point or (self.fate.undoing and not self.undoing):
                return
            self.left -= 1
            if self.left <= 0:
                die()


class DyingSystems:
    """The real systems; with `sent` as the fate, the process dies while a request is on its way."""

    def __init__(self, systems: Any, death: Death) -> None:
        self.systems, self.death = systems, death

    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        if action == "identity.remove_from_group":
            self.death.undoing = True
        if idempotency_key and self.death.fate.point == "sent":
            threading.Timer(self.death.fate.in_flight_s, self.death.reached, ["sent"]).start()
        found: Observation = self.systems.call(action, arguments, idempotency_key=idempotency_key)
        return found


STORE, SYSTEMS = Later(), Later()


def _desk() -> Any:
    desk = build_desk(
        store=STORE,  # type: ignore[arg-type]
        systems=SYSTEMS,  # type: ignore[arg-type]
        embedder=HashEmbedder(),
        language_model=CountingLanguageModel(),
        classifier=NamedClassifier(names=tuple(category.name for category in load_taxonomy().categories)),
        secret=SECRET,
        threads=4,
    )
    return replace(desk, resolution=replace(desk.resolution, playbook=with_an_act_that_fails(desk.resolution.playbook)))


def with_an_act_that_fails(playbook: Any) -> Any:
    """Access to a group gets a second act, which cannot be done: what came before is undone."""
    runbook = playbook.runbooks["access_grant"]
    act = {
        "act": "vpn.reset_session",
        "as": "closed",
        "owner": "$user.id",
        "with": {"session_id": "vpn-nowhere"},
        "preview": "Close",
    }
    longer = runbook.model_copy(update={"steps": [*runbook.steps, Act.model_validate(act)]})
    return replace(playbook, runbooks={**playbook.runbooks, "access_grant": longer})


DESK = _desk()


def live(fate: Fate) -> None:
    """Work until death, or until nothing is left to do for a moment."""
    death = Death(fate)
    systems = open_systems(fate.url, fate.secret)
    SYSTEMS.target = DyingSystems(systems, death)
    with PostgresStore(fate.dsn, max_connections=4) as store:
        STORE.target = store
        desk = replace(DESK, resolution=replace(DESK.resolution, reached=death.reached))
        worker = Worker(desk, batch_size=BATCH, lease_s=LEASE_S, name=fate.name)
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < IDLE_EXIT_S:
            if worker.work_once():
                idle_since = time.monotonic()
            else:
                time.sleep(0.05)
    systems.close()
