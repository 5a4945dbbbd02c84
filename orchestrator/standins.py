"""Small, predictable stand-ins for models and systems of record, on the seams of the real ones. For throughput and crash tests only.

The embedder hashes words, so that like texts are near; the language model prefers the option that the prompt names most often; the
systems answer from a world in memory, with the sandbox's own routes, so that what was done can be probed.
"""

import hashlib
import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.domain.actions import Action
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.resolution import Observation, ObservationStatus
from orchestrator.domain.triage import OTHERS, Classification
from orchestrator.ports import Clock, ScoreRequest, ScoreResult
from orchestrator.sandbox import world as worlds
from orchestrator.sandbox.calls import Call, Problem, Route
from orchestrator.sandbox.systems import ROUTES


@dataclass(frozen=True, kw_only=True)
class HashEmbedder:
    """Words hashed into `dimensions` buckets, unit length. Deterministic across processes."""

    dimensions: int = 384
    name: str = "standin-hash"

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> np.ndarray:
        rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()) or [""]:
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                row[int.from_bytes(digest[:4]) % self.dimensions] += 1.0 if digest[4] & 1 else -1.0
            norm = float(np.linalg.norm(row))
            row /= norm or 1.0
            row[0] += norm == 0.0
        return rows


@dataclass(frozen=True, kw_only=True)
class CountingLanguageModel:
    """Log-probabilities from how often each option's code stands alone in the prompt's last 400 characters."""

    name: str = "standin-counting"

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        return [ScoreResult(logprobs=_logprobs(request), model=self.name) for request in requests]


def _logprobs(request: ScoreRequest) -> tuple[float, ...]:
    tail = request.prompt[-400:].split()
    counts = [1.0 + tail.count(option) for option in request.options]
    total = math.log(sum(counts))
    return tuple(math.log(count) - total for count in counts)


@dataclass(frozen=True, kw_only=True)
class NamedClassifier:
    """The category whose name stands in the text, e.g. `password_reset: ...`; Others where none does."""

    names: tuple[str, ...]

    def classify(self, texts: Sequence[str], vectors: np.ndarray) -> list[Classification]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Classification:
        found = next((name for name in self.names if name in text), None)
        return Classification(
            category=found or OTHERS,
            confidence=1.0 if found else 0.0,
            abstained=found is None,
            alternatives=((found, 1.0),) if found else (),
            stage="head",
        )


# --- systems of record ------------------------------------------------------------------------------------------------


class InstantSystems:
    """`orchestrator.ports.SystemsOfRecord` over a world in memory: the sandbox's routes without HTTP, files, tokens and schemas.

    Every instance has a world of its own. Thread-safe: one call at a time.
    """

    def __init__(self, actions: Mapping[str, Action], world: Mapping[str, Any], *, clock: Clock) -> None:
        self._routes = {name: _route_of(action) for name, action in actions.items()}
        self._actions = dict(actions)
        self._records = _MemoryRecords(worlds.records(world))
        self._answers: dict[tuple[str, str], Any] = {}
        self._clock = clock
        self._lock = threading.Lock()

    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        found = self._actions[action]
        request = {
            "system": found.system,
            "method": found.method,
            "path": found.path.format_map(arguments),
            "query": {parameter: str(arguments[name]) for parameter, name in found.query.items() if name in arguments},
            "json": {field: arguments[name] for field, name in found.body.items() if name in arguments} if found.writes else None,
            "idempotency_key": idempotency_key,
        }
        with self._lock:
            status, code, body = self._answer(found, arguments, request, idempotency_key)
        return Observation(status=status, http_status=code, body=body, at=self._clock(), request=request)

    def _answer(
        self, action: Action, arguments: Mapping[str, Any], request: Mapping[str, Any], key: str | None
    ) -> tuple[ObservationStatus, int, Any]:
        if action.writes and key and (action.system, key) in self._answers:
            return ObservationStatus.OK, 200, self._answers[action.system, key]
        route, parameters = self._routes[action.name]
        call = Call(
            records=self._records,  # type: ignore[arg-type]
            path={parameter: str(arguments[name]) for parameter, name in parameters.items()},
            query=request["query"],
            body=request["json"] or {},
            now=self._clock(),
        )
        try:
            answer = route.handler(call)
        except Problem as problem:
            return ObservationStatus.REFUSED, problem.status, problem.body
        if action.writes and key:
            self._answers[action.system, key] = answer.body
        return ObservationStatus.OK, answer.status, answer.body


def _route_of(action: Action) -> tuple[Route, dict[str, str]]:
    """The sandbox's route that an action's path names, and which argument each of the route's placeholders takes."""
    parts = action.path.strip("/").split("/")
    for route in sorted(ROUTES, key=lambda route: route.path.count("{")):
        pattern = route.path.strip("/").split("/")
        if route.method == action.method and len(pattern) == len(parts) and all(map(_fits, pattern, parts)):
            return route, {name[1:-1]: part[1:-1] for name, part in zip(pattern, parts, strict=True) if name[0] == "{"}
    raise ConfigurationError(f"The sandbox has no route for {action.name}: {action.method} {action.path}.")


def _fits(pattern: str, part: str) -> bool:
    return pattern == part or (pattern[0] == "{" and part[0] == "{")


class _MemoryRecords:
    """The sandbox's `Records` on dictionaries. Lists are found by an index of every field that was asked for once."""

    def __init__(self, found: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
        self._kinds = {kind: dict(rows) for kind, rows in found.items()}
        self._by: dict[tuple[str, str], dict[str, dict[str, None]]] = {}  # (kind, field) -> value -> keys, oldest first
        self._addresses = worlds.addresses(found)
        self._numbers: dict[str, int] = {}
        self.changed = False

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        row = self._kinds.get(kind, {}).get(key)
        return None if row is None else dict(row)

    def find(self, kind: str, **equal: Any) -> list[dict[str, Any]]:
        wanted = {name: str(value).lower() for name, value in equal.items() if value is not None}
        rows = self._kinds.get(kind, {})
        keys = self._index(kind, next(iter(wanted))).get(next(iter(wanted.values())), {}) if wanted else rows
        return [dict(rows[key]) for key in keys if all(str(rows[key].get(n)).lower() == value for n, value in wanted.items())]

    def put(self, kind: str, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        rows = self._kinds.setdefault(kind, {})
        before, rows[key] = rows.get(key), dict(record)
        self.changed = True
        for (of, field), index in self._by.items():
            if of == kind and (before is None or before.get(field) != record.get(field)):
                if before is not None:
                    index.get(str(before.get(field)).lower(), {}).pop(key, None)
                index.setdefault(str(record.get(field)).lower(), {})[key] = None
        return dict(record)

    def drop(self, kind: str, key: str) -> None:
        gone = self._kinds.get(kind, {}).pop(key, None)
        for (of, field), index in self._by.items():
            if of == kind and gone is not None:
                index.get(str(gone.get(field)).lower(), {}).pop(key, None)

    def next_id(self, kind: str, prefix: str) -> str:
        self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return f"{prefix}-{self._numbers[kind]:06d}"

    def is_address(self, email: str) -> bool:
        return email.lower() in self._addresses

    def _index(self, kind: str, field: str) -> dict[str, dict[str, None]]:
        if (kind, field) not in self._by:
            index: dict[str, dict[str, None]] = {}
            for key, row in self._kinds.get(kind, {}).items():
                index.setdefault(str(row.get(field)).lower(), {})[key] = None
            self._by[kind, field] = index
        return self._by[kind, field]
