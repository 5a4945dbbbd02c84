"""How fast calls go out, per system: the catalogue's rate as a token bucket, and a pause where a system said that it is busy.

Thread-safe. Waits a moment; what would wait longer is told so, and the work comes back later instead of failing.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.domain.actions import Action, Rate

PATIENCE_S = 2.0  # how long a call waits for its turn within a batch
BUSY_S = 1.0  # how long a system that is busy is left alone where it does not say itself


@dataclass
class _Bucket:
    tokens: float
    at: float


class Pace:
    """One per worker process."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._busy_until: dict[str, float] = {}

    def wait(self, action: Action) -> float:
        """Seconds that the call must still wait for, beyond the patience of a batch; 0 where it may go out now."""
        with self._lock:
            pause_s = self._pause(action.system, action.rate)
            if pause_s <= PATIENCE_S:
                self._take(action.system, action.rate)
        if pause_s > PATIENCE_S:
            return pause_s
        if pause_s > 0:
            self._sleep(pause_s)
        return 0.0

    def busy(self, system: str, retry_after_s: float | None) -> float:
        """The system answered 429: nothing goes there for so many seconds (given back)."""
        pause_s = retry_after_s if retry_after_s is not None else BUSY_S
        with self._lock:
            self._busy_until[system] = max(self._now() + pause_s, self._busy_until.get(system, 0.0))
        return pause_s

    def _pause(self, system: str, rate: Rate | None) -> float:
        now = self._now()
        busy_s = self._busy_until.get(system, 0.0) - now
        if rate is None:
            return max(busy_s, 0.0)
        per_s = rate.calls / rate.per_s
        bucket = self._buckets.setdefault(system, _Bucket(tokens=float(rate.calls), at=now))
        bucket.tokens = min(float(rate.calls), bucket.tokens + (now - bucket.at) * per_s)
        bucket.at = now
        return max(busy_s, (1.0 - bucket.tokens) / per_s, 0.0)

    def _take(self, system: str, rate: Rate | None) -> None:
        if rate is not None:
            self._buckets[system].tokens -= 1.0
