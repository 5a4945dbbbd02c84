"""Take tickets in: checked, normalized, stored once. Knows records and the store's port; knows no HTTP and no model."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.domain.errors import BadInput
from orchestrator.domain.tickets import CHILD_SOURCE, Author, IncomingTicket, Message, Requester
from orchestrator.ports import Accepted, Transaction

MAX_AHEAD = timedelta(minutes=5)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
REPLACEMENT = "\ufffd"


def accept(tx: Transaction, incoming: Sequence[IncomingTicket], *, now: datetime, notes: Sequence[str] = ()) -> list[Accepted]:
    """Store each ticket once per source and external id, with its job; the same again gives the ticket that is there.

    `notes` (what the door had to mend) and what is mended here become internal notes of the new tickets. Raises BadInput.
    """
    normal = [normalize(ticket, now=now) for ticket in incoming]
    accepted = tx.accept([ticket for ticket, _ in normal], now=now)
    for answer, (_, mended) in zip(accepted, normal, strict=True):
        for note in (*notes, *mended) if answer.created else ():
            tx.add_message(answer.ticket_id, Message(author=Author.NOTE, body=note, at=now, by="cloister"))
    return accepted


def normalize(ticket: IncomingTicket, *, now: datetime) -> tuple[IncomingTicket, tuple[str, ...]]:
    """The ticket as it is stored, and notes on what was changed beyond white space around names and addresses.

    Subject and description stay as they came but for characters that PostgreSQL cannot hold. Raises BadInput.
    """
    if not ticket.subject.strip() and not ticket.description.strip():
        raise BadInput("The ticket has neither a subject nor a description.", hint="Say in one of them what it is about.")
    if ticket.source.strip() == CHILD_SOURCE:
        raise BadInput(f"The source {CHILD_SOURCE!r} is the desk's own.", hint="Name the system that the ticket comes from.")
    created_at = _created_at(ticket.created_at, now)
    counter = [0]
    requester = Requester(
        email=_mend(ticket.requester.email.strip(), counter),
        name=_optional(ticket.requester.name, counter),
        account=_optional(ticket.requester.account, counter),
        assurance=ticket.requester.assurance,
    )
    normal = replace(
        ticket,
        subject=_mend(ticket.subject, counter),
        description=_mend(ticket.description, counter),
        requester=requester,
        source=_mend(ticket.source.strip(), counter) or "api",
        external_id=_optional(ticket.external_id, counter),
        channel=_mend(ticket.channel.strip(), counter) or "api",
        created_at=created_at,
        context=_mend_value(dict(ticket.context), counter),
    )
    return normal, (mended_note(counter[0]),) if counter[0] else ()


def mended_note(count: int) -> str:
    """What a person should know about characters that were replaced."""
    what = "1 character that cannot be stored (NUL or half of a surrogate pair) was" if count == 1 else None
    what = what or f"{count} characters that cannot be stored (NUL or halves of surrogate pairs) were"
    return f"{what} replaced by {REPLACEMENT} when this ticket came in."


def _created_at(value: datetime | None, now: datetime) -> datetime | None:
    if value is None:
        return None
    instant = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if instant > now + MAX_AHEAD:
        raise BadInput(
            f"created_at {instant.isoformat()} is more than 5 minutes ahead of {now.isoformat(timespec='seconds')}.",
            hint="Give UTC, or leave it out.",
        )
    if instant < EARLIEST:
        raise BadInput(f"created_at {instant.isoformat()} is before 1970.", hint="Give the time of the ticket, or leave it out.")
    return instant


def _optional(text: str | None, counter: list[int]) -> str | None:
    return None if text is None or not text.strip() else _mend(text.strip(), counter)


def _mend_value(value: Any, counter: list[int]) -> Any:
    if isinstance(value, str):
        return _mend(value, counter)
    if isinstance(value, dict):
        return {_mend(str(key), counter): _mend_value(item, counter) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mend_value(item, counter) for item in value]
    return value


def _mend(text: str, counter: list[int]) -> str:
    if "\x00" not in text and (text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)):
        return text
    mended = "".join(REPLACEMENT if char == "\x00" or "\ud800" <= char <= "\udfff" else char for char in text)
    counter[0] += sum(a != b for a, b in zip(text, mended, strict=True))
    return mended
