"""Everything a worker works with, wired once. A record of parts; does nothing itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.pipeline.house import House
from orchestrator.pipeline.models import Models
from orchestrator.pipeline.shadowing import Shadowing
from orchestrator.pipeline.triage import Triager
from orchestrator.ports import Clock, Embedder, Store, SystemsOfRecord
from orchestrator.resolution import drive


@dataclass(frozen=True, kw_only=True)
class Desk:
    store: Store
    systems: SystemsOfRecord
    models: Models
    triager: Triager
    resolution: drive.Desk
    house: House
    pool: ThreadPoolExecutor  # for calls to systems of record
    clock: Clock
    shadowing: Shadowing | None = None
    knowledge: Path | None = None  # folder of the house's documents

    @property
    def embedder(self) -> Embedder:
        """This moment's; its name and its vectors belong together."""
        return self.models().embedder

    def resolution_now(self) -> drive.Desk:
        """What resolution works with, on this moment's models: the adapter is asked for by its own name, not by its alias."""
        models = self.models()
        return replace(self.resolution, embedder=models.embedder, model=models.live.name or self.resolution.model)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """A batch is under way: the shadow gives way to it."""
        if self.shadowing:
            self.shadowing.busy(True)
        try:
            yield
        finally:
            if self.shadowing:
                self.shadowing.busy(False)
