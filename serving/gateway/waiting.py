"""Waiting for the outcome of a ticket: one poll for all who wait. Knows ids and states; knows no route."""

import asyncio
import logging
from contextlib import suppress

from orchestrator.domain.errors import CloisterError
from orchestrator.storage import console
from serving.gateway.desk import Desk

log = logging.getLogger("cloister.gateway")
MAX_WAITERS = 512
POLL_EVERY_S = 0.1


class Outcomes:
    """`await outcomes.wait(id, seconds)`. At most `MAX_WAITERS` at once; one more is told at once that it is not done."""

    def __init__(self, desk: Desk, *, max_waiters: int = MAX_WAITERS) -> None:
        self._desk = desk
        self._max_waiters = max_waiters
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._poller: asyncio.Task[None] | None = None

    @property
    def waiters(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def wait(self, ticket_id: str, timeout_s: float) -> bool:
        """True as soon as the ticket is no longer active: there is an outcome. False when the time is up."""
        if self.waiters >= self._max_waiters:
            return False
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(ticket_id, set()).add(future)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            async with asyncio.timeout(timeout_s):
                await future
            return True
        except TimeoutError:
            return False
        finally:
            self._forget(ticket_id, future)

    def _forget(self, ticket_id: str, future: asyncio.Future[None]) -> None:
        futures = self._waiting.get(ticket_id, set())
        futures.discard(future)
        if not futures:
            self._waiting.pop(ticket_id, None)

    async def _poll(self) -> None:
        while self._waiting:
            ids = list(self._waiting)
            try:
                settled = await self._desk.run(lambda tx, ids=ids: console.settled(tx, ids))  # type: ignore[misc]
            except CloisterError as error:  # the database is away: whoever waits, waits on
                log.warning("waiting for outcomes: %s", error)
                settled = []
            for ticket_id in settled:
                for future in self._waiting.get(ticket_id, ()):
                    if not future.done():
                        future.set_result(None)
            await asyncio.sleep(POLL_EVERY_S)

    async def close(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            with suppress(asyncio.CancelledError):
                await self._poller
