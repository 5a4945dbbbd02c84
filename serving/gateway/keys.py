"""Who is calling: API keys by their sha256, looked up in the store and kept for a moment. Knows keys; knows no route."""

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from orchestrator.domain.tickets import Assurance
from serving.gateway.desk import Desk

FRESH_S = 10.0  # a withdrawn key works so much longer at most
MAX_KEPT = 4096
PORTAL = "portal"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A caller. `kind` says how: `portal` vouches for requesters, `api` does not, `console` is a person with a session."""

    name: str
    role: str
    kind: str

    @property
    def assurance(self) -> Assurance:
        """What this caller's word about a requester is worth. Never taken from a body."""
        return Assurance.AUTHENTICATED if self.kind == PORTAL else Assurance.CLAIMED


class KeyRing:
    """Looks keys up; wrong ones are remembered, too, so that guessing does not reach the database."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kept: OrderedDict[str, tuple[float, Principal | None]] = OrderedDict()

    async def principal(self, key: str) -> Principal | None:
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        until, known = self._kept.get(digest, (0.0, None))
        if until > time.monotonic():
            return known
        found = await self._desk.run(lambda tx: tx.key_by_sha256(digest))
        principal = Principal(name=found["name"], role=found["role"], kind=found["kind"]) if found else None
        self._kept[digest] = (time.monotonic() + FRESH_S, principal)
        self._kept.move_to_end(digest)
        while len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return principal
