"""An event's exact bytes: what is hashed, and its line in an export. Knows no database and no file.

    body_sha256 = sha256( salt || utf8(body) )
    hash        = sha256( hash before || utf8( seq "\\n" at "\\n" ticket "\\n" kind "\\n" actor "\\n" hex(body_sha256) ) )

A line of an export is one JSON object with its members in this order and the body's own bytes in it, so that a verifier needs no
JSON parser: {"seq":N,"at":"...","ticket":"...","kind":"...","actor":"...","salt":"HEX","body_sha256":"HEX","hash":"HEX","body":BODY}.
Where the text is erased, salt and body are null; where the body has a line break in it, "body_text":"..." holds it.
"""

import json
from hashlib import sha256
from typing import NamedTuple

GENESIS = bytes(32)
SALT_LENGTHS = (0, 16)  # none: written before salts were
ERASED, CHECKPOINTED = "erased", "checkpointed"


class EventRow(NamedTuple):
    seq: int
    at: str  # YYYY-MM-DDTHH:MM:SS.ffffffZ
    ticket: str  # "T-1001", empty where there is none
    kind: str
    actor: str
    salt: bytes | None
    body_sha256: bytes
    body: str | None  # JSON text; none: erased
    hash: bytes


def event_hash(before: bytes, event: EventRow) -> bytes:
    seq, at, ticket, kind, actor, _, digest, _, _ = event
    return sha256(before + f"{seq}\n{at}\n{ticket}\n{kind}\n{actor}\n{digest.hex()}".encode()).digest()


def body_digest(salt: bytes, body: str) -> bytes:
    return sha256(salt + body.encode()).digest()


def line(event: EventRow) -> str:
    """Without the line break at its end."""
    head = f'{{"seq":{event.seq},"at":"{event.at}","ticket":{_quoted(event.ticket)},"kind":"{event.kind}","actor":{_quoted(event.actor)},'
    salt = "null" if event.salt is None else f'"{event.salt.hex()}"'
    salted = f'{head}"salt":{salt},"body_sha256":"{event.body_sha256.hex()}","hash":"{event.hash.hex()}",'
    if event.body is not None and ("\n" in event.body or "\r" in event.body):
        return f'{salted}"body_text":{_quoted(event.body)}}}'
    return f'{salted}"body":{"null" if event.body is None else event.body}}}'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
