"""Answers given once per Idempotency-Key. Knows keys, bodies and stored answers; knows no route.

Same key and same body: the stored answer, marked `Idempotent-Replayed: true`. Same key, other body: 409. A key counts per
caller and path. Only answers of success are kept; a request that was refused may be corrected and sent again with the same key.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway.desk import Desk
from serving.gateway.door import visit_of
from serving.gateway.problems import Refusal

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 255


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    replayed: bool = False

    def response(self) -> JSONResponse:
        headers = {**self.headers, **({"Idempotent-Replayed": "true"} if self.replayed else {})}
        return JSONResponse(self.body, status_code=self.status, headers=headers)


@dataclass(frozen=True, kw_only=True)
class _Key:
    key: str
    route: str
    body_sha256: str

    def recall(self, tx: PostgresTransaction) -> Answer | None:
        """The stored answer. Raises Conflict for another body. A second request waits here for the first."""
        known = tx.idempotent(self.key, route=self.route, body_sha256=self.body_sha256)
        return Answer(status=known["status"], body=known["body"], replayed=True) if known else None

    def keep(self, tx: PostgresTransaction, answer: Answer) -> None:
        tx.remember(self.key, route=self.route, body_sha256=self.body_sha256, status=answer.status, body=answer.body)


def _key_of(request: Request) -> _Key | None:
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isprintable():
        raise Refusal(422, f"The header {HEADER} must have 1 to {MAX_KEY_CHARS} printable characters; it has {len(key)}.")
    visit = visit_of(request)
    value = None if visit.body is None else visit.body.value
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    caller = visit.caller
    route = f"{request.method} {request.url.path} {caller.kind} {caller.name}"
    return _Key(key=key, route=route, body_sha256=hashlib.sha256(canonical.encode()).hexdigest())


async def once(request: Request, desk: Desk, work: Callable[[PostgresTransaction], Answer]) -> Answer:
    """`work` and the remembering of its answer in one transaction: both happen or neither."""
    key = _key_of(request)
    if key is None:
        return await desk.run(work)

    def remembered(tx: PostgresTransaction) -> Answer:
        if known := key.recall(tx):
            return known
        answer = work(tx)
        key.keep(tx, answer)
        return answer

    return await desk.run(remembered)


async def computed(request: Request, desk: Desk, produce: Callable[[], Awaitable[Answer]]) -> Answer:
    """For what changes nothing (a model's answer): produced outside any transaction, then kept."""
    key = _key_of(request)
    if key is None:
        return await produce()
    if known := await desk.run(key.recall):
        return known
    answer = await produce()

    def keep(tx: PostgresTransaction) -> Answer:
        if known := key.recall(tx):
            return known
        key.keep(tx, answer)
        return answer

    return await desk.run(keep)
