"""What a ticket is and which states it may take. Knows no database, no model and no HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class State(StrEnum):
    """What the desk sees. Distinct from `Stage`, which is ours."""

    ACTIVE = "active"
    PENDING = "pending"  # awaits the requester, an approval or a change window
    ESCALATED = "escalated"  # a person has it, or its incident does
    RESOLVED = "resolved"
    CLOSED = "closed"


TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.ACTIVE: frozenset({State.PENDING, State.ESCALATED, State.RESOLVED}),
        State.PENDING: frozenset({State.ACTIVE, State.ESCALATED, State.RESOLVED}),
        State.ESCALATED: frozenset({State.ACTIVE, State.PENDING, State.RESOLVED}),
        State.RESOLVED: frozenset({State.ACTIVE, State.CLOSED}),
        State.CLOSED: frozenset({State.ACTIVE}),
    }
)
"""The legal transitions. The database holds the same table and refuses the rest; a test compares the two."""


class Stage(StrEnum):
    """Our last completed step, for resuming after a crash."""

    ACCEPTED = "accepted"
    TRIAGED = "triaged"
    FINISHED = "finished"


class Assurance(StrEnum):
    """How far the requester's identity is vouched for. Comes from the API key's kind, never from the text."""

    CLAIMED = "claimed"
    AUTHENTICATED = "authenticated"  # a portal vouched for the session
    PROVEN = "proven"  # a one-time code sent to the address on record came back


@dataclass(frozen=True, kw_only=True)
class Requester:
    email: str
    name: str | None = None
    account: str | None = None
    assurance: Assurance = Assurance.CLAIMED


CHILD_SOURCE = "parent"
"""The source of the parts of parent requests. The desk alone writes it: a ticket that comes in with it is refused."""


@dataclass(frozen=True, kw_only=True)
class IncomingTicket:
    """A ticket as it arrives, already checked by the wire schema."""

    subject: str
    description: str
    requester: Requester
    source: str = "api"
    external_id: str | None = None  # with `source`, the key of idempotency
    channel: str = "api"
    created_at: datetime | None = None  # UTC; None: now
    context: Mapping[str, Any] = field(default_factory=dict)  # page, device, telemetry handed in by the caller


class Author(StrEnum):
    REQUESTER = "requester"
    DESK = "desk"  # a reply that the requester sees
    NOTE = "note"  # internal; never leaves the desk


@dataclass(frozen=True, kw_only=True)
class Message:
    author: Author
    body: str
    at: datetime
    by: str = ""  # who wrote it: an e-mail address, a key's name, or "cloister"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """One row of the ticket table, frozen at the moment it was read."""

    id: str  # "T-1042"
    number: int  # the same, for ordering and cursors
    source: str
    external_id: str | None
    subject: str
    description: str
    requester: Requester
    channel: str
    context: Mapping[str, Any]
    state: State
    stage: Stage
    created_at: datetime
    received_at: datetime
    updated_at: datetime
    reopened_count: int = 0
    messages: tuple[Message, ...] = ()
    autonomy_rung: str | None = None  # overrides the runbook's; "shadow" in a shadow run

    @property
    def text(self) -> str:
        """Subject and description as the models read them: the subject once where the description repeats it."""
        if not self.subject or self.description.startswith(self.subject):
            return self.description
        return f"{self.subject}\n{self.description}" if self.description else self.subject

    @property
    def words_of_requester(self) -> str:
        """Everything the requester wrote, oldest first: the only text that arguments may be taken from."""
        later = [m.body for m in self.messages if m.author is Author.REQUESTER]
        return "\n".join([self.text, *later])
