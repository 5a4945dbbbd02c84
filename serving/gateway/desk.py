"""The store, for an event loop: a bounded number of threads and a bounded number of calls that wait for one. Knows no table."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from orchestrator.domain.errors import Busy
from orchestrator.storage.store import PostgresStore
from orchestrator.storage.transaction import PostgresTransaction

Result = TypeVar("Result")
WAITING_PER_THREAD = 32


class Desk:
    """`await desk.run(work)`: `work` in a transaction of its own, on a thread, tried again as `Store.run` does."""

    def __init__(self, store: PostgresStore, *, threads: int) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="store")
        self._limit = threads * WAITING_PER_THREAD
        self.waiting = 0  # calls under way or waiting for a thread

    async def run(self, work: Callable[[PostgresTransaction], Result]) -> Result:
        """Raises Busy when too many calls wait already, and what the store raises."""
        if self.waiting >= self._limit:
            raise Busy(f"{self.waiting} calls wait for the database already.", retry_after_s=2, hint="Come again shortly.")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._store.run, work)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
