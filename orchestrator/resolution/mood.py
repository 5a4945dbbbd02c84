"""How a conversation goes: the requester's wording from the first message to the last, and how often the two sides have written.

Reads words by triage's tables; knows no policy and asks no model.
"""

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from orchestrator.domain.tickets import Author, Ticket
from orchestrator.domain.triage import Sentiment, Signals
from orchestrator.triage.signals import read_signals

WARMTH = {Sentiment.FURIOUS: -2, Sentiment.NEGATIVE: -1, Sentiment.NEUTRAL: 0, Sentiment.POSITIVE: 1}
WARNINGS = ("legal_threat", "distress", "losing_money", "repeat_contact")  # once said, it stays said


@dataclass(frozen=True, kw_only=True)
class Mood:
    """`shift` is "worse", "better" or "same": the last message against the first one."""

    signals: Signals  # the first text's, with what later messages warn of and the last one's sentiment
    first: Sentiment
    last: Sentiment
    shift: str
    exchanges: int  # questions of the desk that were answered


def read_mood(ticket: Ticket, signals: Signals) -> Mood:
    """The mood of a ticket. `signals`: what triage read from its first text, which is not read again."""
    later = [read_signals(message.body) for message in ticket.messages if message.author is Author.REQUESTER]
    first, last = signals.sentiment, later[-1].sentiment if later else signals.sentiment
    said: dict[str, Any] = {name: any(getattr(each, name) for each in (signals, *later)) for name in WARNINGS}
    cues = tuple(dict.fromkeys([*signals.cues, *(cue for each in later for cue in each.cues)]))
    return Mood(
        signals=replace(signals, sentiment=last, cues=cues, **said),
        first=first,
        last=last,
        shift=_shift(first, last),
        exchanges=_exchanges(ticket),
    )


def _shift(first: Sentiment, last: Sentiment) -> str:
    moved = WARMTH[last] - WARMTH[first]
    return "worse" if moved < 0 else "better" if moved > 0 else "same"


def _exchanges(ticket: Ticket) -> int:
    authors = [message.author for message in ticket.messages if message.author is not Author.NOTE]
    return sum(pair == (Author.DESK, Author.REQUESTER) for pair in pairwise(authors))


def contact_facts(mood: Mood, *, earlier: int) -> dict[str, object]:
    """What policies may say about the contact so far. `earlier`: other tickets of this requester of late."""
    repeated = mood.signals.repeat_contact or earlier >= 2
    return {
        "earlier": earlier,
        "furious_again": mood.last is Sentiment.FURIOUS and repeated,
        "sentiment_first": str(mood.first),
        "sentiment_last": str(mood.last),
        "sentiment_shift": mood.shift,
        "worse_again": mood.shift == "worse" and (repeated or mood.exchanges >= 2),
        "exchanges": mood.exchanges,
    }


def signal_facts(mood: Mood) -> dict[str, object]:
    return {**asdict(mood.signals), "sentiment": str(mood.signals.sentiment)}
