"""A conversation over the real sandbox: each message is read, nothing is asked for ever, the packet says what was said."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.domain.resolution import AwaitingRequester, HandedOver, Outcome, Resolved, Verification
from orchestrator.domain.tickets import Author, IncomingTicket, Message, Requester
from orchestrator.storage.resolution import note_of
from orchestrator.storage.store import PostgresStore
from tests.integration.resolution_world import House, clock, open_desk, triage_of

ADA = "ada.quill@elm.example"


@pytest.fixture
def house(store: PostgresStore, tmp_path: Path) -> Iterator[House]:
    with open_desk(store, tmp_path) as desk:
        yield desk


def handed(outcome: Outcome, rule: str) -> HandedOver:
    assert isinstance(outcome, HandedOver), outcome
    assert any(line.startswith(rule) for line in outcome.packet.policies), outcome.packet.policies
    return outcome


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("My lawyer will sue you.", "legal-threat"),
        ("I can't go on like this, I am desperate.", "person-at-risk"),
        ("This is the third time I write, I am really annoyed and disappointed.", "worse-and-again"),
    ],
)
def test_a_warning_in_an_answer_brings_a_person_even_with_the_right_code(house: House, answer: str, rule: str) -> None:
    ticket_id, asked = house.handle("password_reset", "I forgot my password.", by=ADA)
    assert isinstance(asked, AwaitingRequester)
    code = house.code(ADA)
    packet = handed(house.answer(ticket_id, f"{code[:3]} {code[3:]} {answer}"), rule).packet
    assert code not in str(packet) and f"{code[:3]} {code[3:]}" not in str(packet)
    assert house.changes() == []
    assert len(packet.asked) == 1 and asked.question[:30].split(",")[0] in packet.asked[0] and answer in packet.asked[0]
    assert len(packet.told) == 2


def test_a_worse_tone_is_one_step_more_urgent_with_its_reason(house: House) -> None:
    ticket_id, _ = house.handle("password_reset", "I forgot my password.", by=ADA)
    text = f"{house.code(ADA)} This is the third time I write, I am really annoyed and disappointed."
    packet = handed(house.answer(ticket_id, text), "worse-and-again").packet
    assert packet.urgency.startswith("P3") and "one step up: the tone went from neutral" in packet.urgency


def test_after_too_many_answered_questions_a_person_takes_over(house: House) -> None:
    ticket_id = house.say("password_reset", "I forgot my password.", by=ADA, portal=True)
    with house.store.transaction() as tx:
        for n in range(5):
            tx.add_message(ticket_id, Message(author=Author.DESK, body=f"Question {n}?", at=clock(), by=""))
            tx.add_message(ticket_id, Message(author=Author.REQUESTER, body=f"Answer {n}", at=clock(), by=""))
    packet = handed(house.run()[ticket_id], "too-many-exchanges").packet
    assert house.changes() == [] and len(packet.asked) == 5


def test_the_record_says_how_identity_was_proven_without_code_or_whole_address(house: House) -> None:
    ticket_id, _ = house.handle("password_reset", "I forgot my password.", by=ADA)
    code = house.code(ADA)
    assert isinstance(house.answer(ticket_id, code), Resolved)
    checked = house.store.run(lambda tx: tx.ticket_record(ticket_id))["notes"]["checked"]
    [line] = [line for line in checked if line.startswith("Identity: proven")]
    assert re.search(r"sent to a•••@elm\.example at \d\d:\d\d and answered at \d\d:\d\d UTC, 0 wrong", line)
    assert code not in line and ADA not in line


def test_the_system_that_a_ticket_came_from_gets_one_internal_note_and_the_requester_none_of_it(house: House) -> None:
    incoming = IncomingTicket(
        subject="", description="My lawyer will sue you.", requester=Requester(email=ADA), source="helpdesk", external_id="HD-1"
    )
    with house.store.transaction() as tx:
        ticket_id = tx.accept([incoming], now=clock())[0].ticket_id
        tx.save_triage({ticket_id: triage_of("password_reset", incoming.description)}, now=clock())
    outcome = handed(house.run()[ticket_id], "legal-threat")
    items = house.store.run(lambda tx: tx.outbox_due(limit=9, now=clock()))
    [note] = [item.payload["body"] for item in items if item.kind == "note"]
    [reply] = [item.payload["body"] for item in items if item.kind == "reply"]
    assert "Policy: legal-threat" in note and outcome.packet.suggested_next_action in note
    assert "legal" not in reply and outcome.packet.why_stopped not in reply


def test_every_kind_of_outcome_has_its_note() -> None:
    done = Resolved(
        reply="Done.",
        verification=Verification(confirmed=True, probe="x", expected="x", observed="status is active"),
        resolution_code="reset",
        internal_note="Password reset.",
    )
    assert (
        note_of(done, {"answered_from": "KB-1"})
        == "Resolved (reset). Password reset. Answered from KB-1. Confirmed: status is active."
    )
    assert note_of(AwaitingRequester(question="?", purpose="detail"), {}) == ""
