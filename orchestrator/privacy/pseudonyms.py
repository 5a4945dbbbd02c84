"""What the models and the logs see of a ticket: personal data behind tokens such as `<EMAIL_1>`. Knows one ticket; stores nothing.

The tokens are numbered in the order of the ticket's own words, so they are the same whenever they are derived again, and they go back
to values only in a process that has the ticket itself: there is no table and no key that could be lost. Training replaces the same data
by the same rules (`redact_fields`), so that a model is asked about texts of the form that it learned from.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from orchestrator.domain.tickets import Author, Ticket
from orchestrator.privacy.names import People, names_in
from orchestrator.privacy.recognizers import PLACEHOLDER, find_personal_data
from orchestrator.privacy.redact import Placeholders


@dataclass(frozen=True, kw_only=True)
class Pseudonyms:
    """Text to tokens and back, for one ticket. `hide` of a new text gives new values new numbers and keeps those that were given."""

    people: People
    _given: Placeholders = field(default_factory=Placeholders)

    def hide(self, text: str) -> str:
        self._given.foreign.update(PLACEHOLDER.findall(text))
        return self._given.replace(text, find_personal_data(text, self.people))

    def reveal(self, text: str) -> str:
        """With the values that stand behind our tokens. A token that the requester wrote themselves stays what it is."""
        return PLACEHOLDER.sub(lambda found: self._given.originals.get(found.group(), found.group()), text)


def pseudonyms_of(ticket: Ticket, people: Iterable[str] = ()) -> Pseudonyms:
    """For this ticket; its requester is known by name and by address, `people` are further names (the directory's)."""
    known = [*names_in(ticket.requester.name), *names_in(ticket.requester.email), *people]
    foreign = {token for text in _texts(ticket) for token in PLACEHOLDER.findall(text)}
    return Pseudonyms(people=People(known), _given=Placeholders(foreign=foreign))


def hidden(ticket: Ticket, pseudonyms: Pseudonyms | None = None) -> Ticket:
    """The same ticket as a model may see it: subject, description and what the requester wrote later, in this order."""
    ours = pseudonyms or pseudonyms_of(ticket)
    repeated = bool(ticket.subject) and ticket.description.startswith(ticket.subject)
    subject, description = "" if repeated else ours.hide(ticket.subject), ours.hide(ticket.description)
    messages = tuple(replace(m, body=ours.hide(m.body)) if m.author is Author.REQUESTER else m for m in ticket.messages)
    return replace(ticket, subject=subject, description=description, messages=messages)


def _texts(ticket: Ticket) -> tuple[str, ...]:
    return (ticket.subject, ticket.description, *(message.body for message in ticket.messages))
