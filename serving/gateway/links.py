"""Signed links to one approval for one person: made, read, refused. Knows HMAC and instants; decides nothing and writes nothing.

A token is `nonce.expires.mac`; the mac is the first 16 bytes of HMAC-SHA256 over "approval-link", nonce, approval, digest, person, role
and expiry, one a line, in hex. What it stands for lies in the database under its nonce; the mac binds it to the frozen action, so that
a row that was changed opens nothing.
"""

import hashlib
import hmac
import re
import secrets
from datetime import UTC, datetime

TOKEN = re.compile(r"([A-Za-z0-9_-]{22})\.(\d{9,11})\.([0-9a-f]{32})")


def new_nonce() -> str:
    return secrets.token_urlsafe(16)


def token(secret: str, *, nonce: str, approval: str, digest: str, person: str, role: str, expires_at: datetime) -> str:
    expires = int(expires_at.timestamp())
    return f"{nonce}.{expires}.{_mac(secret, nonce, approval, digest, person, role, expires)}"


def nonce_of(text: str) -> str | None:
    """None for what is no token of ours."""
    match = TOKEN.fullmatch(text)
    return match[1] if match else None


def genuine(text: str, secret: str, *, approval: str, digest: str, person: str, role: str, now: datetime) -> bool:
    """Whether the token was made by us for exactly this, and its time is not over."""
    match = TOKEN.fullmatch(text)
    if match is None:
        return False
    nonce, expires, mac = match[1], int(match[2]), match[3]
    fresh = now < datetime.fromtimestamp(expires, UTC)
    return hmac.compare_digest(mac, _mac(secret, nonce, approval, digest, person, role, expires)) and fresh


def _mac(secret: str, nonce: str, approval: str, digest: str, person: str, role: str, expires: int) -> str:
    message = "\n".join(["approval-link", nonce, approval, digest, person, role, str(expires)])
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()[:32]
