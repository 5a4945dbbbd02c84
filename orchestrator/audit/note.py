"""Signed notes: text, an empty line, a line with an Ed25519 signature. Knows keys and text; knows nothing of checkpoints.

The format of C2SP's signed-note: the signature line is "— NAME BASE64(first 4 bytes of sha256(NAME "\\n" 0x01 KEY) || SIGNATURE)",
the signature covers the text with its last line break. A verifier key is written NAME+HEX(those 4 bytes)+BASE64(0x01 || KEY).
"""

import base64
import binascii
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestrator.domain.errors import BadInput, ConfigurationError

ALGORITHM = b"\x01"  # Ed25519
NAME = re.compile(r"[^\s+]{1,200}")
SIGNED = re.compile(r"(?P<text>(?:[^\n]+\n)+)\n— (?P<name>\S+) (?P<signature>[A-Za-z0-9+/=]+)\n")


@dataclass(frozen=True, kw_only=True)
class VerifierKey:
    name: str
    public: bytes  # 32 bytes

    @property
    def key_id(self) -> str:
        """`ed25519-` and the first 32 digits of the sha256 of the public key: what an auditor writes down."""
        return f"ed25519-{hashlib.sha256(self.public).hexdigest()[:32]}"

    @property
    def hint(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + ALGORITHM + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.hint.hex()}+{base64.b64encode(ALGORITHM + self.public).decode()}"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class Signer:
    key: VerifierKey
    private: Ed25519PrivateKey

    def sign(self, text: str) -> str:
        """The whole note."""
        signature = self.private.sign(text.encode())
        return f"{text}\n— {self.key.name} {base64.b64encode(self.key.hint + signature).decode()}\n"


def read_verifier_key(text: str) -> VerifierKey:
    """Raises BadInput where it is not a verifier key."""
    try:
        name, hint, encoded = text.strip().split("+", 2)
        decoded = base64.b64decode(encoded, validate=True)
        key = VerifierKey(name=name, public=decoded[1:])
        if decoded[:1] == ALGORITHM and len(key.public) == 32 and NAME.fullmatch(name) and key.hint.hex() == hint:
            return key
    except (ValueError, binascii.Error):
        pass
    raise BadInput(f"{text.strip()[:100]!r} is not a verifier key.", hint="Give the line in the file audit.vkey.")


def opened(note: str, key: VerifierKey) -> str | None:
    """The text of a note that this key signed; None where it did not."""
    found = SIGNED.fullmatch(note)
    if found is None or found["name"] != key.name:
        return None
    try:
        signature = base64.b64decode(found["signature"], validate=True)
    except binascii.Error:
        return None
    return found["text"] if signature[:4] == key.hint and key.verifies(signature[4:], found["text"].encode()) else None


def text_of(note: str) -> str | None:
    """The text alone, whoever signed it; None where it is no note."""
    found = SIGNED.fullmatch(note)
    return found["text"] if found else None


def signer(path: Path, name: str) -> Signer:
    """The key in `path` (PEM, mode 0600), made at first use; its verifier key is written beside it. Raises ConfigurationError."""
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"The log's name {name!r} has a space or a plus.", hint="Set audit.origin to one word.")
    if not path.exists():
        _make(path)
    private = _read(path)
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    made = Signer(key=VerifierKey(name=name, public=public), private=private)
    beside = path.with_suffix(".vkey")
    if not beside.exists():
        beside.write_text(f"{made.key}\n", encoding="utf-8")
    return made


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(pem)
        handle.flush()
        os.fsync(handle.fileno())
    try:
        os.link(temporary, path)  # two processes that start at once keep the first one's key
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} is not a private key in PEM ({error}).", hint="Restore it from your backup.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigurationError(f"{path} is not an Ed25519 key.", hint="Set audit.key to one.")
    if mode & 0o077:
        raise ConfigurationError(f"{path} may be read by others (mode {mode:o}).", hint=f"Run: chmod 600 {path}")
    return private
