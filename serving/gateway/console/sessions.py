"""One-time passwords and sessions of the console. Knows tokens and their digests; the tables lie in orchestrator.storage.console.

Passwords and session tokens are 160 random bits or more; the database holds only their HMAC under the console's secret.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.ports import Clock
from orchestrator.storage import console
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway.desk import Desk
from serving.gateway.keys import Principal

COOKIE = "cloister_session"
PASSWORD_LIFETIME = timedelta(minutes=10)
SESSION_LIFETIME = timedelta(hours=8)
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that looks like something else


@dataclass(frozen=True, kw_only=True)
class Session:
    token: str
    principal: Principal
    csrf: str
    expires_at: datetime


class Sessions:
    def __init__(self, desk: Desk, *, secret: str, clock: Clock) -> None:
        self._desk = desk
        self._secret = secret.encode()
        self._clock = clock

    def make_login(self, tx: PostgresTransaction, *, name: str, role: str, by: str) -> tuple[str, datetime]:
        """A password that works once, for ten minutes."""
        groups = ["".join(secrets.choice(ALPHABET) for _ in range(5)) for _ in range(7)]
        password, expires_at = "-".join(groups), self._clock() + PASSWORD_LIFETIME
        console.add_login(tx, digest=self._digest("password", password), name=name, role=role, expires_at=expires_at, by=by)
        return password, expires_at

    async def open(self, password: str) -> Session | None:
        """A session for a password that was not used and has not expired; None otherwise."""
        token, now = secrets.token_urlsafe(32), self._clock()
        digests = self._digest("password", password.strip().lower()), self._digest("session", token)
        found = await self._desk.run(
            lambda tx: console.use_login(tx, digest=digests[0], session=digests[1], now=now, lifetime=SESSION_LIFETIME)
        )
        return self._session(token, found) if found else None

    async def find(self, token: str) -> Session | None:
        digest, now = self._digest("session", token), self._clock()
        found = await self._desk.run(lambda tx: console.session(tx, digest=digest, now=now))
        return self._session(token, found) if found else None

    async def end(self, session: Session) -> None:
        digest = self._digest("session", session.token)
        await self._desk.run(lambda tx: console.end_session(tx, digest=digest))

    def _session(self, token: str, found: console.SessionRow) -> Session:
        principal = Principal(name=found.name, role=found.role, kind="console")
        return Session(token=token, principal=principal, csrf=self._digest("csrf", token), expires_at=found.expires_at)

    def _digest(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}\n{text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def same(a: str, b: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(a.encode("utf-8", "replace"), b.encode("utf-8", "replace"))
