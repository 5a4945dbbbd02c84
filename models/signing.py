"""Who vouches for a model: Ed25519 signatures in a DSSE envelope over an in-toto statement. Keys are files; nothing goes online.

The statement names every file of the folder with its sha256, and in its predicate what the model is and what it came from. DSSE:
the signature covers PAE(payloadType, payload), "DSSEv1 SP len(type) SP type SP len(body) SP body" (the specification's protocol.md,
version 1.0). A signature by a key that is not trusted here counts as none; one that is wrong is refused, trusted or not.
"""

import base64
import binascii
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from models import strict_json
from models.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest, ModelRefused, canonical, file_sha256, read, verify
from models.strict_json import Malformed

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:cloister:model:v1"
PRIVATE_FILE = "cloister-signing.pem"
PUBLIC_FILE = "cloister-signing.pub.pem"
MAX_ENVELOPE_BYTES = 4 * 2**20
MAX_SIGNATURES = 16

Trusted = Mapping[str, Ed25519PublicKey]
"""Key id -> public key that is trusted here."""


class Standing(StrEnum):
    SIGNED = "signed"  # by at least one trusted key
    UNTRUSTED = "signed by an unknown key"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    standing: Standing
    keys: tuple[str, ...] = ()  # trusted ones where there are, else those named

    def __str__(self) -> str:
        return {
            Standing.SIGNED: f"signed by {', '.join(self.keys)}",
            Standing.UNTRUSTED: f"signed by {', '.join(self.keys)}, which is not trusted here",
            Standing.UNSIGNED: "unsigned",
        }[self.standing]


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_id(key: Ed25519PublicKey) -> str:
    """`ed25519-` and the first 32 digits of the sha256 of the 32 public bytes."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return f"ed25519-{hashlib.sha256(raw).hexdigest()[:32]}"


def keygen(out: Path) -> tuple[Path, Path, str]:
    """Write a new key pair into `out`; (private file, public file, key id). Raises ModelRefused where one is there already."""
    out.mkdir(parents=True, exist_ok=True)
    private, public = out / PRIVATE_FILE, out / PUBLIC_FILE
    if private.exists() or public.exists():
        raise ModelRefused(f"{out} holds a key already. Choose another folder; a key is never overwritten.")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(pem)
    public.write_bytes(public_pem(key.public_key()))
    return private, public, key_id(key.public_key())


def public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_private(path: Path) -> Ed25519PrivateKey:
    """Raises ModelRefused when it is not an Ed25519 key, or one that others may read."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ModelRefused(f"{path} is not a private key in PEM ({error}). Make one with `cloister models keygen`.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ModelRefused(f"{path} is not an Ed25519 key. Make one with `cloister models keygen`.")
    if mode & 0o077:
        raise ModelRefused(f"{path} may be read by others (mode {mode:o}). Run: chmod 600 {path}")
    return key


def read_public(path: Path) -> Ed25519PublicKey:
    """Raises ModelRefused when it is not an Ed25519 public key."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ModelRefused(f"{path} is not a public key in PEM ({error}). Give the *.pub.pem file.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ModelRefused(f"{path} is not an Ed25519 public key. Give the *.pub.pem file of `cloister models keygen`.")
    return key


def read_trusted(folder: Path) -> dict[str, Ed25519PublicKey]:
    """Every `*.pub.pem` of a folder by its key id; empty where there is no folder."""
    keys = [read_public(path) for path in sorted(folder.glob("*.pub.pem"))]
    return {key_id(key): key for key in keys}


def statement(manifest: Manifest, manifest_sha256: str) -> bytes:
    """The in-toto statement about a model: the same model always gives the same bytes."""
    files = {name: entry.sha256 for name, entry in manifest.files.items()} | {MANIFEST_FILE: manifest_sha256}
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(files.items())],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "name": manifest.name,
                "kind": str(manifest.kind),
                "manifest_digest": manifest.digest,
                "base": manifest.base,
                "dataset": manifest.dataset,
                "evaluation": manifest.evaluation,
                "lineage": {"parent": manifest.parent},
                "made": dict(manifest.made),
            },
        }
    )


def sign(folder: Path, key: Path) -> str:
    """Write or extend `signature.json` of a verified folder; gives the key id. A second key adds a second signature.

    Raises ModelRefused when the folder is not whole, the key cannot be used or an earlier signature is of something else.
    """
    private = read_private(key)
    manifest = verify(folder)
    payload = statement(manifest, file_sha256(folder / MANIFEST_FILE))
    name = key_id(private.public_key())
    judge(folder, manifest, {})
    path = folder / SIGNATURE_FILE
    others = [one for one in _envelope(path)[1] if one["keyid"] != name] if path.exists() else []
    signatures = [*others, {"keyid": name, "sig": base64.b64encode(private.sign(pae(PAYLOAD_TYPE, payload))).decode()}]
    envelope = {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(payload).decode(), "signatures": signatures}
    temporary = path.with_suffix(".json.new")
    temporary.write_text(json.dumps(envelope, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
    return name


def judge(folder: Path, manifest: Manifest, trusted: Trusted) -> Judgement:
    """What the signature beside a manifest is worth. Files are not looked at: `models.manifest.verify` ties them to the manifest.

    Raises ModelRefused when the envelope is malformed, speaks of another model, or a signature by a trusted key is wrong.
    """
    path = folder / SIGNATURE_FILE
    if path.is_symlink():
        raise ModelRefused(f"{folder} is refused: {SIGNATURE_FILE} is a symbolic link.")
    if not path.exists():
        return Judgement(standing=Standing.UNSIGNED)
    try:
        payload, signatures = _envelope(path)
        if payload != statement(manifest, file_sha256(folder / MANIFEST_FILE)):
            raise Malformed(f"is the signature of something else than {manifest.full_name}")
        good = [one["keyid"] for one in signatures if _is_by_trusted(one, payload, trusted)]
    except Malformed as error:
        raise ModelRefused(f"{folder} is refused: {SIGNATURE_FILE} {error}. Get the model again from who signed it.") from error
    if good:
        return Judgement(standing=Standing.SIGNED, keys=tuple(good))
    return Judgement(standing=Standing.UNTRUSTED, keys=tuple(one["keyid"] for one in signatures))


def judge_folder(folder: Path, trusted: Trusted) -> Judgement:
    """`judge` with the folder's own manifest."""
    return judge(folder, read(folder), trusted)


def _is_by_trusted(signature: Mapping[str, str], payload: bytes, trusted: Trusted) -> bool:
    """False where the key is not known. The key id only chooses the key; what counts is that the signature fits it."""
    key = trusted.get(signature["keyid"])
    if key is None:
        return False
    try:
        key.verify(_from_base64(signature["sig"]), pae(PAYLOAD_TYPE, payload))
    except InvalidSignature:
        raise Malformed(f"is bad: its signature does not fit the key {signature['keyid']}") from None
    return True


def _envelope(path: Path) -> tuple[bytes, list[dict[str, str]]]:
    """Payload and signatures of a DSSE file, by form alone. Raises Malformed."""
    if path.stat().st_size > MAX_ENVELOPE_BYTES:
        raise Malformed(f"has more than {MAX_ENVELOPE_BYTES} bytes")
    record = strict_json.loads(path.read_bytes())
    if not isinstance(record, dict) or record.keys() != {"payloadType", "payload", "signatures"}:
        raise Malformed("is not a DSSE envelope (payloadType, payload, signatures)")
    if record["payloadType"] != PAYLOAD_TYPE:
        raise Malformed(f"has the payload type {record['payloadType']!r}, not {PAYLOAD_TYPE}")
    signatures = record["signatures"]
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise Malformed(f"has no list of 1 to {MAX_SIGNATURES} signatures")
    if not all(_is_signature(one) for one in signatures):
        raise Malformed("has a signature that is not keyid and sig of an Ed25519 key")
    if len({one["keyid"] for one in signatures}) != len(signatures):
        raise Malformed("names a key twice")
    return _from_base64(record["payload"]), signatures


def _is_signature(one: Any) -> bool:
    if not isinstance(one, dict) or one.keys() != {"keyid", "sig"} or not all(isinstance(value, str) for value in one.values()):
        return False
    return one["keyid"].startswith("ed25519-") and len(one["keyid"]) == 40 and len(_from_base64(one["sig"])) == 64


def _from_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Malformed("holds what is not base64") from None
