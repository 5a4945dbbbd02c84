"""What an alias of a task stands for. A record and two names; loads nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

TRIAGE = "triage"  # adapters with their heads
EMBEDDING = "embedding"  # the desk's own sentence encoder
LIVE, CANARY, SHADOW = "live", "canary", "shadow"


@dataclass(frozen=True, kw_only=True)
class DesiredAlias:
    """One row of the desired state, as the database holds it."""

    task: str
    alias: str
    name: str  # full name: name@sha256-...
    path: str  # the model's folder; empty: where the replica keeps its own
    percent: float | None = None  # of a canary: 0..100 of the tickets
    needs: Mapping[str, str] = field(default_factory=dict)  # embedders that its head needs: full name -> folder
    previous_name: str = ""  # what it stood for before
    previous_path: str = ""
    set_at: datetime | None = None
    by: str = "cloister"
    reason: str = ""
