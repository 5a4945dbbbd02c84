"""Whether one more ticket may come in. Knows the queue's depth and its bound; knows no route."""

import time

from orchestrator.domain.errors import Busy
from serving.gateway.desk import Desk

FRESH_S = 0.5
RETRY_AFTER_S = 5


class Intake:
    """Asks the database for the depth at most every half second, and counts what came in since."""

    def __init__(self, desk: Desk, *, max_queue: int) -> None:
        self._desk = desk
        self._max_queue = max_queue
        self._depth = 0
        self._since = 0
        self._read_at = float("-inf")

    async def check(self) -> None:
        """Raises Busy when `max_queue` tickets wait already."""
        stale = time.monotonic() - self._read_at > FRESH_S
        if stale or self._depth + self._since >= self._max_queue:
            self._depth = await self._desk.run(lambda tx: tx.queue_depth())
            self._since, self._read_at = 0, time.monotonic()
        if self._depth >= self._max_queue:
            raise Busy(
                f"{self._depth} tickets wait already; {self._max_queue} is the limit.",
                retry_after_s=RETRY_AFTER_S,
                hint="Come again later.",
            )
        self._since += 1
