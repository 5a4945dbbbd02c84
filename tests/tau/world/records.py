"""The records of a world: shipped ones underneath, changed ones on top. Knows no tool; forgetting the changes is a reset."""

import copy
from collections.abc import Mapping
from typing import Any


class Refused(Exception):
    """The system of record says no, in the words that a caller reads."""


class Records:
    """By kind and id. Reading gives shared records; only what `edit` gives may be changed."""

    def __init__(self, shipped: Mapping[str, Mapping[str, Any]]) -> None:
        self._shipped = shipped
        self.changed: dict[str, dict[str, Any]] = {kind: {} for kind in shipped}

    def reset(self) -> None:
        self.changed = {kind: {} for kind in self._shipped}

    def find(self, kind: str, key: Any) -> Any:
        """The record, or None."""
        if not isinstance(key, str):
            return None
        return self.changed[kind].get(key) or self._shipped[kind].get(key)

    def get(self, kind: str, key: Any) -> Any:
        """The record; Refused where there is none."""
        found = self.find(kind, key)
        if found is None:
            raise Refused(f"Error: {kind.removesuffix('s')} not found")
        return found

    def edit(self, kind: str, key: str) -> Any:
        """The record to be changed in place."""
        if key not in self.changed[kind]:
            self.changed[kind][key] = copy.deepcopy(self.get(kind, key))
        return self.changed[kind][key]

    def add(self, kind: str, key: str, record: Any) -> None:
        self.changed[kind][key] = record

    def all(self, kind: str) -> dict[str, Any]:
        return {**self._shipped[kind], **self.changed[kind]}

    def state(self) -> dict[str, dict[str, Any]]:
        """What differs from the shipped records: two worlds with equal states are equal."""
        return {
            kind: {key: row for key, row in sorted(rows.items()) if row != self._shipped[kind].get(key)}
            for kind, rows in sorted(self.changed.items())
        }
