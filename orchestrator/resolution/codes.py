"""One-time codes that prove who is speaking. Knows arithmetic only; neither sends nor stores anything.

A code is derived from the desk's secret, the ticket and its round, so that a resumed run sends the same code again and nothing
has to remember it. What is stored is a salted digest, which cannot be turned back without the secret of the derivation.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from orchestrator.domain.tickets import Message

DIGITS = 6
MASK = "•" * DIGITS
_CODE = re.compile(rf"(?<!\d)(?:\d[ \u00a0-]?){{{DIGITS - 1}}}\d(?!\d)")


def code_for(secret: bytes, ticket_id: str, epoch: int, email: str) -> str:
    """Six digits; the same for the same round of the same ticket."""
    mac = hmac.new(secret, f"one-time-code\0{ticket_id}\0{epoch}\0{email.casefold()}".encode(), hashlib.sha256).digest()
    return f"{int.from_bytes(mac[:8], 'big') % 10**DIGITS:0{DIGITS}d}"


def digest_of(secret: bytes, ticket_id: str, epoch: int, code: str) -> str:
    """sha256 keyed with the secret (the pepper) and salted with the ticket and its round."""
    return hmac.new(secret, f"digest\0{ticket_id}\0{epoch}\0{code}".encode(), hashlib.sha256).hexdigest()


def masked(value: Any, code: str) -> Any:
    """The same JSON structure without the code."""
    if isinstance(value, dict):
        return {key: masked(each, code) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [masked(each, code) for each in value]
    return value.replace(code, MASK) if isinstance(value, str) else value


def without(text: str, code: str) -> str:
    """What a requester wrote, without the code, however its digits are spaced."""
    return _CODE.sub(lambda found: MASK if re.sub(r"\D", "", found.group()) == code else found.group(), text)


class Answer(StrEnum):
    NONE = "none"  # nothing was answered yet
    WITHOUT_CODE = "without_code"  # answered, but no code in it
    RIGHT = "right"
    WRONG = "wrong"
    LATE = "late"


@dataclass(frozen=True, kw_only=True)
class Checked:
    answer: Answer
    wrong_tries: int = 0
    at: datetime | None = None  # when the right code was written


def check(
    messages: Sequence[Message], *, secret: bytes, ticket_id: str, epoch: int, code_sha256: str, expires_at: datetime, tries: int
) -> Checked:
    """Judge the requester's messages since the code was sent, oldest first; after `tries` wrong ones no right one counts."""
    wrong = 0
    for message in messages:
        candidates = [re.sub(r"\D", "", found) for found in _CODE.findall(message.body)]
        if not candidates:
            continue
        if any(hmac.compare_digest(digest_of(secret, ticket_id, epoch, each), code_sha256) for each in candidates[:1]):
            return Checked(answer=Answer.RIGHT if message.at <= expires_at else Answer.LATE, wrong_tries=wrong, at=message.at)
        wrong += 1
        if wrong >= tries:
            return Checked(answer=Answer.WRONG, wrong_tries=wrong)
    if wrong:
        return Checked(answer=Answer.WRONG, wrong_tries=wrong)
    return Checked(answer=Answer.WITHOUT_CODE if messages else Answer.NONE)
