"""One way to all systems of record: each action goes to the connector that its binding names. Knows no protocol."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from orchestrator.domain.actions import Action
from orchestrator.domain.resolution import Observation
from orchestrator.ports import SystemsOfRecord


class Closable(SystemsOfRecord, Protocol):
    def close(self) -> None: ...


class DispatchedSystems:
    """`orchestrator.ports.SystemsOfRecord` over a connector for requests and one for tools."""

    def __init__(self, actions: Mapping[str, Action], *, requests: Closable, tools: Closable) -> None:
        self._tools_of = frozenset(name for name, action in actions.items() if action.tool is not None)
        self._requests = requests
        self._tools = tools

    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        """Of exactly this action; a name that nobody knows is refused by the connector for requests."""
        connector = self._tools if action in self._tools_of else self._requests
        return connector.call(action, arguments, idempotency_key=idempotency_key)

    def close(self) -> None:
        both: Sequence[Closable] = (self._requests, self._tools)
        for connector in both:
            connector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
