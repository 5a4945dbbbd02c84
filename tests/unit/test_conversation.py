"""The mood of a conversation, and the tone of everything that the desk may say."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.domain.tickets import Author, Message, Requester, Stage, State, Ticket
from orchestrator.domain.triage import Sentiment
from orchestrator.resolution.mood import Mood, contact_facts, read_mood
from orchestrator.resolution.playbook import COMPANY
from orchestrator.triage.signals import read_signals

START = datetime(2026, 11, 26, 9, tzinfo=UTC)
FORBIDDEN = {
    "en": r"guarantee|\bpromise\b|100 ?%|never happen again|always work|definitely|for sure|your (?:own )?fault|you should have|you failed",
    "de": r"garantier|versprechen|100 ?%|nie wieder|auf jeden Fall|mit Sicherheit|Ihr(?:e)? (?:Fehler|Schuld)|hätten Sie",
    "fr": r"garanti|promett|100 ?%|plus jamais|sans aucun doute|à coup sûr|votre faute|vous auriez dû",
}
"""What no text for a requester says: promises that nobody can keep, and blame."""


def ticket(first: str, *later: tuple[Author, str]) -> Ticket:
    messages = tuple(
        Message(author=author, body=body, at=START + timedelta(minutes=n), by="") for n, (author, body) in enumerate(later)
    )
    return Ticket(
        id="T-1",
        number=1,
        source="http",
        external_id=None,
        channel="email",
        context={},
        stage=Stage.ACCEPTED,
        received_at=START,
        updated_at=START,
        subject="",
        description=first,
        requester=Requester(email="a@elm.example"),
        created_at=START,
        state=State.ACTIVE,
        messages=messages,
    )


def mood(first: str, *later: tuple[Author, str]) -> Mood:
    found = ticket(first, *later)
    return read_mood(found, read_signals(found.text))


def texts() -> Iterator[tuple[str, str, str]]:
    """(where, language, text) of every macro, variant and runbook reply."""
    data = yaml.safe_load((COMPANY / "macros" / "replies.yaml").read_text())
    for name, text in data["macros"].items():
        yield from ((name, language, body) for language, body in text.items())
    for row in data.get("variants") or ():
        yield from ((row["macro"], language, body) for language, body in row.items() if language in FORBIDDEN)
    for path in sorted(Path(COMPANY / "runbooks").glob("*.yaml")):
        yield from _spoken(path.name, yaml.safe_load(path.read_text()))


def _spoken(where: str, node: Any) -> Iterator[tuple[str, str, str]]:
    if isinstance(node, dict):
        if isinstance(node.get("en"), str):
            yield from ((where, language, body) for language, body in node.items() if language in FORBIDDEN)
        else:
            for child in node.values():
                yield from _spoken(where, child)
    elif isinstance(node, list):
        for child in node:
            yield from _spoken(where, child)


def test_no_text_for_a_requester_promises_what_nobody_can_keep_or_blames() -> None:
    every = list(texts())
    assert len({where for where, _, _ in every}) > 25
    found = [(where, match.group()) for where, language, body in every if (match := re.search(FORBIDDEN[language], body, re.I))]
    assert found == []


@pytest.mark.parametrize(
    ("last", "shift"),
    [
        ("This is unacceptable, ridiculous!!! I am furious!", "worse"),
        ("Here it is: 4711", "same"),
        ("Awesome, thank you so much", "better"),
    ],
)
def test_the_shift_is_the_last_message_against_the_first(last: str, shift: str) -> None:
    found = mood("Please reset my password.", (Author.DESK, "Which one?"), (Author.REQUESTER, last))
    assert (found.first, found.shift, found.exchanges) == (Sentiment.NEUTRAL, shift, 1)


def test_a_warning_stays_said_whichever_message_says_it_and_whatever_follows() -> None:
    found = mood("My password is gone.", (Author.REQUESTER, "My lawyer will sue you."), (Author.REQUESTER, "Thanks for the code"))
    assert found.signals.legal_threat and not found.signals.distress


def test_only_a_worse_tone_over_repeated_contact_counts_as_worse_again() -> None:
    angry = (Author.REQUESTER, "I am really annoyed and disappointed.")
    once = mood("Please reset my password.", (Author.DESK, "Which?"), angry)
    assert not contact_facts(once, earlier=0)["worse_again"] and contact_facts(once, earlier=2)["worse_again"]
    twice = mood(
        "Please reset my password.", (Author.DESK, "Which?"), (Author.REQUESTER, "the first"), (Author.DESK, "And?"), angry
    )
    assert contact_facts(twice, earlier=0)["worse_again"]
