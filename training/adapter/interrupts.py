"""A fit is told to stop between two steps. Knows signals only."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from orchestrator.domain.errors import CloisterError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(CloisterError):
    """The fit was stopped and everything is kept: the same call again goes on where it stopped."""


class Asked:
    """Whether somebody asked to stop. A second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self.to_stop = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.to_stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.to_stop = True


@contextmanager
def listening() -> Iterator[Asked]:
    """Signals set a mark instead of ending the process; in a thread, where that is impossible, nothing changes."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, asked) for number in SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
