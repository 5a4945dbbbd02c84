"""Keeps a worker's models as the desired aliases say. Knows rows, reports and a loader; what a model is, the loader knows.

Looked at every two seconds. A model is loaded and verified beside the one in use, and takes its place between two batches, once every
replica of the language model says that it serves its adapter: no batch asks for what is not there yet. One that cannot be used leaves
the last good one in place, and the alias is unhealthy until it is mended or rolled back.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.aliases import CANARY, EMBEDDING, LIVE, SHADOW, TRIAGE, DesiredAlias
from orchestrator.domain.errors import CloisterError, ModelUnavailable
from orchestrator.pipeline.models import Served, TriageModels
from orchestrator.pipeline.reembed import Reembedding
from orchestrator.pipeline.shadowing import Shadowing
from orchestrator.ports import Embedder, Store

log = logging.getLogger("cloister.models")
EVERY_S = 2.0
FRESH_S = 20.0  # a replica that was not heard of for so long is not waited for
AGAIN_AFTER_S = 10.0  # what could not be loaded is not tried again before: verifying reads all of it
STEPS_S = 1.5  # of re-embedding between two looks


@dataclass(frozen=True, kw_only=True)
class DeskEmbedder:
    """The desk's embedder, and from which cosine on two of its texts are the same matter."""

    embedder: Embedder
    duplicate_cosine: float


@dataclass(frozen=True, kw_only=True)
class Loader:
    """How models come out of their folders; each raises CloisterError for what cannot be used."""

    triage: Callable[[DesiredAlias, Embedder], Served]
    embedding: Callable[[DesiredAlias | None], DeskEmbedder]  # None: the embedder that came with the installation
    bundled: DesiredAlias  # what is live where no alias says anything


@dataclass(kw_only=True)
class Slot:
    """One alias, and what stands behind it."""

    served: Served | None = None
    name: str = ""  # what answers
    key: tuple[str, str, str] | None = None  # name, path, the desk's embedder: what `served` was made of
    desired: str = ""
    problem: str = ""

    def empty(self) -> None:
        self.served, self.name, self.key = None, "", None

    def told(self) -> dict[str, Any]:
        healthy = not self.problem and self.name == self.desired
        return {"desired": self.desired, "healthy": healthy, "answers_with": self.name or None, "problem": self.problem}


@dataclass(kw_only=True)
class Following:
    """Call it for this moment's models. `run` until told to stop; several threads may call while one follows."""

    store: Store
    loader: Loader
    replica: str
    reembedding: Reembedding
    shadowing: Shadowing | None = None
    _models: TriageModels | None = None
    _desk: DeskEmbedder | None = None
    _embedder: Slot = field(default_factory=Slot)
    _slots: dict[str, Slot] = field(default_factory=lambda: {alias: Slot() for alias in (LIVE, CANARY, SHADOW)})
    _failed: dict[tuple[str, ...], tuple[float, str]] = field(default_factory=dict)
    _left: Mapping[str, Any] = field(default_factory=dict)
    _trouble: str = ""

    def __call__(self) -> TriageModels:
        if self._models is None:
            why = self._slots[LIVE].problem or self._embedder.problem or self._trouble or "it was not looked for yet"
            raise ModelUnavailable(f"No model for triage could be loaded: {why}", hint="Promote a whole one, or roll back.")
        return self._models

    def run(self, stopping: threading.Event) -> None:
        while not stopping.wait(EVERY_S):
            self.look()
            self.catch_up()

    def look(self) -> None:
        """Once: read the rows, load what changed, swap, report. Never raises."""
        try:
            rows, reports = self.store.run(lambda tx: (tx.desired_aliases(), tx.model_reports(fresh_s=FRESH_S)))
            self._follow({(row.task, row.alias): row for row in rows}, reports)
            self._trouble = ""
            self.store.run(lambda tx: tx.report_models("orchestrator", self.replica, self.status()))
        except CloisterError as error:
            self._trouble = f"desired aliases could not be followed: {error}"
            log.warning("%s", self._trouble)
        except Exception as error:
            self._trouble = f"desired aliases could not be followed: {type(error).__name__}: {error}"
            log.exception("following failed")

    def catch_up(self, *, seconds: float = STEPS_S) -> None:
        """Re-embed a little. Never raises."""
        if self._models is None:
            return
        embedder, until = self._models.embedder, time.monotonic() + seconds
        try:
            while self.reembedding.step(embedder) and time.monotonic() < until:
                pass
            self._left = {"model": embedder.name, **self.reembedding.left(embedder)}
        except CloisterError as error:
            self._left = {**self._left, "problem": str(error)}

    def status(self) -> dict[str, Any]:
        """By alias what is desired and what really decides; how much waits for a vector of the present embedder."""
        slots = {f"{TRIAGE}/{alias}": slot for alias, slot in self._slots.items()} | {f"{EMBEDDING}/{LIVE}": self._embedder}
        aliases = {alias: slot.told() for alias, slot in slots.items() if slot.desired}
        shadow = {"shadow": self.shadowing.status()} if self.shadowing else {}
        return {"aliases": aliases, "reembedding": dict(self._left), **shadow, "trouble": self._trouble}

    # --- following ---

    def _follow(self, rows: Mapping[tuple[str, str], DesiredAlias], reports: list[dict[str, Any]]) -> None:
        self._follow_embedder(rows.get((EMBEDDING, LIVE)), reports)
        if self._desk is None:
            return
        wanted = {alias: rows.get((TRIAGE, alias)) for alias in self._slots}
        wanted[LIVE] = wanted[LIVE] or self.loader.bundled
        for alias, row in wanted.items():
            self._follow_alias(self._slots[alias], row, self._desk, reports)
        self._swap(self._desk, canary=wanted[CANARY])

    def _swap(self, desk: DeskEmbedder, *, canary: DesiredAlias | None) -> None:
        """A classifier takes the desk's vectors for those of the embedder that it was loaded beside: what was loaded beside another
        one stays out, and a live one that did keeps everything as it was."""
        live, candidate, shadow = (self._beside(alias, desk) for alias in (LIVE, CANARY, SHADOW))
        if live is not None:
            self._models = TriageModels(
                live=live,
                embedder=desk.embedder,
                canary=candidate,
                canary_percent=(canary.percent or 0.0) if canary else 0.0,
                shadow=shadow,
                duplicate_cosine=desk.duplicate_cosine,
            )

    def _beside(self, alias: str, desk: DeskEmbedder) -> Served | None:
        slot = self._slots[alias]
        return slot.served if slot.key and slot.key[2] == desk.embedder.name else None

    def _follow_embedder(self, row: DesiredAlias | None, reports: list[dict[str, Any]]) -> None:
        slot, key = self._embedder, (row.name, row.path, "") if row else ("", "", "")
        if self._desk is not None and slot.key == key:
            return
        try:
            found = self.loader.embedding(row)
            slot.desired = found.embedder.name
            self._wait_for(found.embedder.name, "embedder", "embedders", reports)
        except CloisterError as error:
            slot.desired, slot.problem = row.name if row else slot.desired, str(error)
            return
        self._desk, slot.key, slot.name, slot.problem = found, key, found.embedder.name, ""

    def _follow_alias(self, slot: Slot, row: DesiredAlias | None, desk: DeskEmbedder, reports: list[dict[str, Any]]) -> None:
        if row is None:
            slot.empty()
            slot.desired = slot.problem = ""
            return
        slot.desired = row.name
        slot.problem = self._take(slot, row, desk, reports)
        if slot.problem and row.alias != LIVE and slot.name != row.name:
            slot.empty()  # a candidate that is gone is not stood in for by the one before
        if slot.problem and row.alias == LIVE and slot.served is None and row.previous_name:
            before = DesiredAlias(task=row.task, alias=LIVE, name=row.previous_name, path=row.previous_path)
            self._take(slot, before, desk, [])

    def _take(self, slot: Slot, row: DesiredAlias, desk: DeskEmbedder, reports: list[dict[str, Any]]) -> str:
        """Why the slot does not hold this model; empty when it does."""
        key = (row.name, row.path, desk.embedder.name)
        if slot.key == key:
            return self._unserved(row, reports)
        failed_at, problem = self._failed.get((row.alias, *key), (0.0, ""))
        if problem and time.monotonic() - failed_at < AGAIN_AFTER_S:
            return problem
        try:
            if slot.served is not None or row.alias != LIVE:
                self._wait_for(row.name, "language_model", "adapters", reports)
                for embedder in row.needs:
                    self._wait_for(embedder, "embedder", "embedders", reports)
            served = self.loader.triage(row, desk.embedder)
        except ModelUnavailable as error:  # not there yet: asked again at the next look
            return str(error)
        except Exception as error:  # whatever a broken folder makes a loader raise
            self._failed[row.alias, *key] = time.monotonic(), f"{row.name} cannot be used: {error}"
            log.warning("%s", self._failed[row.alias, *key][1])
            return self._failed[row.alias, *key][1]
        slot.served, slot.name, slot.key = served, row.name, key
        self._failed.pop((row.alias, *key), None)
        log.info("%s/%s is %s", row.task, row.alias, row.name)
        return ""

    def _unserved(self, row: DesiredAlias, reports: list[dict[str, Any]]) -> str:
        try:
            self._wait_for(row.name, "language_model", "adapters", reports)
        except ModelUnavailable as error:
            return str(error)
        return ""

    def _wait_for(self, name: str, part: str, served: str, reports: list[dict[str, Any]]) -> None:
        """Every replica that was heard of lately serves it, or ModelUnavailable says which does not."""
        lacking = [report["replica"] for report in reports if report["part"] == part and name not in report["body"].get(served, ())]
        if lacking:
            raise ModelUnavailable(f"{part.replace('_', ' ')} {', '.join(lacking)} does not serve {name} (yet).")
