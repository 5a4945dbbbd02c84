"""What replicas shall serve, read from PostgreSQL, and what they say that they serve, written there. Knows rows; loads nothing."""

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.bootstrap import open_store
from orchestrator.domain.aliases import EMBEDDING, LIVE, TRIAGE
from serving.embedding import DesiredEmbedders
from serving.language_model import Reporter


class Desired:
    """One connection per replica, opened on first use; each replica polls for itself."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._store: Any = None
        self._lock: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Serve pickles what a replica was made with, also while it is in use: the connection stays where it is."""
        return {"_dsn": self._dsn, "_store": None, "_lock": None}

    def adapters(self) -> Sequence[Mapping[str, Any]]:
        """Rows for `LanguageModel`: {alias, name, path, previous_name, previous_path} of the task triage."""
        rows = self._open().run(lambda tx: tx.desired_aliases(TRIAGE))
        fields = ("alias", "name", "path", "previous_name", "previous_path")
        return [{field: getattr(row, field) for field in fields} for row in rows]

    def embedders(self) -> DesiredEmbedders:
        """The desk's own, and what the heads in use need."""
        rows = self._open().run(lambda tx: tx.desired_aliases())
        live = next(((row.name, row.path) for row in rows if (row.task, row.alias) == (EMBEDDING, LIVE)), None)
        return DesiredEmbedders(live=live, needed={name: path for row in rows for name, path in row.needs.items()})

    def reporter(self, part: str) -> Reporter:
        return partial(self._report, part)

    def _report(self, part: str, replica: str, body: Mapping[str, Any]) -> None:
        self._open().run(lambda tx: tx.report_models(part, replica, body))

    def _open(self) -> Any:
        if self._lock is None:
            self._lock = threading.Lock()
        with self._lock:
            if self._store is None:
                self._store = open_store(self._dsn, pool_size=1)
        return self._store
