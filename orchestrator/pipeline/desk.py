"""Everything a worker works with, wired once. A record of parts; does nothing itself."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator.pipeline.house import House
from orchestrator.pipeline.triage import Triager
from orchestrator.ports import Clock, Embedder, Store, SystemsOfRecord
from orchestrator.resolution import drive


@dataclass(frozen=True, kw_only=True)
class Desk:
    store: Store
    systems: SystemsOfRecord
    embedder: Embedder
    triager: Triager
    resolution: drive.Desk
    house: House
    pool: ThreadPoolExecutor  # for calls to systems of record
    clock: Clock
    knowledge: Path | None = None  # folder of the house's documents
