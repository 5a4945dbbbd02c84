"""Who may call which system. Knows one secret and derives a bearer token per system and direction; knows no request."""

import hashlib
import hmac

READ = "read"
WRITE = "write"
SYSTEMS = (
    "identity", "vpn", "billing", "orders", "monitoring", "catalog", "helpdesk", "mail", "hardware", "access", "procurement",
    "engineering", "crm", "hr",
)  # fmt: skip


def token(secret: str, system: str, direction: str) -> str:
    """The bearer token of one system and direction ("read" or "write"): HMAC-SHA256 in hex."""
    if system not in SYSTEMS:
        raise ValueError(f"The sandbox has no system {system!r}; it has {', '.join(SYSTEMS)}.")
    if direction not in (READ, WRITE):
        raise ValueError(f"A token is for 'read' or 'write', not for {direction!r}.")
    return hmac.new(secret.encode(), f"{system}:{direction}".encode(), hashlib.sha256).hexdigest()


def tokens(secret: str) -> dict[tuple[str, str], str]:
    """Every token, by (system, direction); what a connector is configured with."""
    return {(system, direction): token(secret, system, direction) for system in SYSTEMS for direction in (READ, WRITE)}


class Doorkeeper:
    """Judges one Authorization header: 200 (may pass), 401 (nobody we know) or 403 (known, but not for this)."""

    def __init__(self, secret: str) -> None:
        self._tokens = {key: value.encode() for key, value in tokens(secret).items()}

    def judge(self, system: str, method: str, authorization: str | None) -> int:
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            return 401
        presented = given.strip().encode()
        fits = [key for key, expected in self._tokens.items() if hmac.compare_digest(expected, presented)]
        if not fits:
            return 401
        its_system, direction = fits[0]
        return 200 if its_system == system and (direction == WRITE or method == "GET") else 403
