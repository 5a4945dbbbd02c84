"""Vectors of the desk's present embedder for what another one embedded: the link window, then the knowledge. In small steps.

A ticket is linked to those that have a vector of the same model, so the window is filled newest first; a passage without one is found
by its words alone until its turn comes. Every step is committed by itself: a restart goes on where the last one stopped.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.ports import Clock, Embedder, Store
from orchestrator.privacy.pseudonyms import hidden

TICKETS_PER_STEP = 128
PASSAGES_PER_STEP = 64


@dataclass(frozen=True, kw_only=True)
class Reembedding:
    store: Store
    clock: Clock
    link_window: timedelta

    def step(self, embedder: Embedder) -> bool:
        """Embed a few; False when nothing is left. Raises ModelUnavailable."""
        return self._tickets(embedder) or self._passages(embedder)

    def left(self, embedder: Embedder) -> dict[str, int]:
        """{tickets, passages} that still have no vector of this model."""
        since = self._since()
        return self.store.run(lambda tx: tx.left_without(embedder.name, since=since))

    def _since(self) -> datetime:
        """Twice the window: tickets that wait in the queue are linked backwards from when they were written."""
        return self.clock() - 2 * self.link_window

    def _tickets(self, embedder: Embedder) -> bool:
        since = self._since()
        found = self.store.run(lambda tx: tx.tickets_without(embedder.name, since=since, limit=TICKETS_PER_STEP))
        if not found:
            return False
        tickets = self.store.run(lambda tx: tx.tickets([ticket_id for ticket_id, _ in found]))
        vectors = embedder.embed([hidden(tickets[ticket_id]).words_of_requester for ticket_id, _ in found])
        entries = [(ticket_id, vector, entities) for (ticket_id, entities), vector in zip(found, vectors, strict=True)]
        self.store.run(lambda tx: tx.add_embeddings(embedder.name, entries))
        return True

    def _passages(self, embedder: Embedder) -> bool:
        found = self.store.run(lambda tx: tx.passages_without(embedder.name, limit=PASSAGES_PER_STEP))
        if not found:
            return False
        vectors = embedder.embed([text for _, text in found])
        numbered = [(number, vector) for (number, _), vector in zip(found, vectors, strict=True)]
        self.store.run(lambda tx: tx.move_passages(embedder.name, numbered))
        return True
