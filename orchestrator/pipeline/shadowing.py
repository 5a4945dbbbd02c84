"""What the model behind the alias `shadow` would have said, beside the desk's work. Changes no ticket; gives way to live batches.

A batch is looked at in a thread of its own once the live one is written, in small pieces and while nothing else is under way. What
comes faster than that is dropped and counted: live tickets never wait for a shadow.
"""

import logging
import queue
import threading
from typing import Any

from orchestrator.pipeline.triage import Batch
from orchestrator.ports import Store

log = logging.getLogger("cloister.shadow")
WAITING_BATCHES = 4
PIECE = 16  # tickets asked about at once: a live batch that begins meanwhile waits no longer than for these
GIVES_WAY_S = 5.0  # at most, before each piece


class Shadowing:
    """`offer` is told every batch; `run` until told to stop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._batches: queue.Queue[Batch] = queue.Queue(WAITING_BATCHES)
        self._idle = threading.Event()
        self._idle.set()
        self._counts = {"predicted": 0, "dropped": 0, "failed": 0}

    def offer(self, batch: Batch) -> None:
        """Returns at once."""
        if batch.models.shadow is None:
            return
        try:
            self._batches.put_nowait(batch)
        except queue.Full:
            self._counts["dropped"] += len(batch.ids)

    def busy(self, under_way: bool) -> None:
        """Whether a live batch is under way."""
        (self._idle.clear if under_way else self._idle.set)()

    def run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            try:
                batch = self._batches.get(timeout=0.5)
            except queue.Empty:
                continue
            for start in range(0, len(batch.ids), PIECE):
                self._idle.wait(GIVES_WAY_S)
                self._predict(batch, slice(start, start + PIECE))

    def status(self) -> dict[str, Any]:
        return {**self._counts, "waiting_batches": self._batches.qsize()}

    def _predict(self, batch: Batch, piece: slice) -> None:
        shadow, ids = batch.models.shadow, batch.ids[piece]
        if shadow is None:
            return
        try:
            found = shadow.classifier.classify(batch.texts[piece], batch.vectors[piece])
            self._store.run(lambda tx: tx.save_shadow_predictions(shadow.name, dict(zip(ids, found, strict=True))))
        except Exception as error:  # nothing depends on a shadow
            self._counts["failed"] += len(ids)
            log.warning("the shadow %s failed on %d tickets: %s", shadow.name, len(ids), error)
        else:
            self._counts["predicted"] += len(ids)
