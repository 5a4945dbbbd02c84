"""Failures on demand, for tests: which calls fail next, and how. They belong to the process; a restart forgets them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.sandbox.calls import Problem

KINDS = {
    "error_500": "answers 500, changes nothing",
    "error_500_after": "takes effect, then answers 500",
    "timeout_before": "changes nothing and never answers: the connection closes after delay_s (at once by default)",
    "timeout_after": "takes effect and never answers",
    "busy": "answers 429 with Retry-After delay_s (1 by default), changes nothing",
    "slow": "answers as always, delay_s (1 by default) later",
}
_FIELDS = {"path_prefix", "method", "kind", "times", "delay_s"}


@dataclass(kw_only=True)
class Fault:
    path_prefix: str
    method: str | None
    kind: str
    left: int
    delay_s: float

    @property
    def after(self) -> bool:
        """Does the call take effect first?"""
        return self.kind in ("error_500_after", "timeout_after", "slow")


class Faults:
    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, body: Mapping[str, Any]) -> list[Fault]:
        """One more fault; a wrong one raises Problem (422)."""
        if unknown := sorted(set(body) - _FIELDS):
            raise Problem(422, f"A fault has {', '.join(sorted(_FIELDS))}; unknown: {', '.join(unknown)}.")
        kind, prefix, times = body.get("kind"), body.get("path_prefix"), body.get("times", 1)
        if kind not in KINDS:
            raise Problem(422, f"The kind of a fault is one of {', '.join(KINDS)}; got {kind!r}.")
        if not isinstance(prefix, str) or not prefix.startswith("/") or prefix.startswith("/_"):
            raise Problem(422, f"path_prefix starts with the '/' of a system's path; got {prefix!r}.")
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise Problem(422, f"times is a whole number above zero; got {times!r}.")
        delay_s = body.get("delay_s", 1.0 if kind in ("slow", "busy") else 0.0)
        if isinstance(delay_s, bool) or not isinstance(delay_s, int | float) or not 0 <= delay_s <= 600:
            raise Problem(422, f"delay_s is a number of seconds, at most 600; got {delay_s!r}.")
        method = body.get("method")
        if method is not None and not isinstance(method, str):
            raise Problem(422, f"method is GET, POST or DELETE; got {method!r}.")
        self._waiting.append(
            Fault(path_prefix=prefix, method=method.upper() if method else None, kind=kind, left=times, delay_s=delay_s)
        )
        return self._waiting

    def clear(self) -> None:
        self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that meets this call, if any; it is used up by one."""
        for fault in self._waiting:
            if path.startswith(fault.path_prefix) and fault.method in (None, method):
                fault.left -= 1
                if fault.left == 0:
                    self._waiting.remove(fault)
                return fault
        return None
