"""What a model sees of a ticket and what a log line says hold tokens in place of personal data; the desk itself reads what came."""

import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from orchestrator.domain.tickets import Author, Message, Requester, Stage, State, Ticket
from orchestrator.intake.read_tickets import TicketRow
from orchestrator.privacy.logs import protect_logs, without_personal_data
from orchestrator.privacy.pseudonyms import hidden, pseudonyms_of
from orchestrator.privacy.redact import redact_fields
from training.data.build import known_people

NOW = datetime(2026, 11, 26, tzinfo=UTC)
VALUES = (
    "zlata.veres@acme.example",
    "Zlata Veres",
    "DE89 3704 0044 0532 0130 00",
    "hunter2!",
    "+43 316 555 0100",
    "4111 1111 1111 1111",
)


def ticket(subject: str, description: str, *later: str, email: str = "zlata.veres@acme.example") -> Ticket:
    return Ticket(
        id="T-1", number=1, source="api", external_id=None, subject=subject, description=description, requester=Requester(email=email),
        channel="api", context={}, state=State.ACTIVE, stage=Stage.ACCEPTED, created_at=NOW, received_at=NOW, updated_at=NOW,
        messages=tuple(Message(author=Author.REQUESTER, body=body, at=NOW) for body in later),
    )  # fmt: skip


WROTE = ticket(
    "Zlata Veres cannot sign in",
    "Write to zlata.veres@acme.example or +43 316 555 0100. Password: hunter2! Card 4111 1111 1111 1111, version 2.1.7, ORD-70012.",
    "Refund to DE89 3704 0044 0532 0130 00, please. Zlata",
)


def test_a_model_sees_tokens_and_what_triage_needs() -> None:
    shown = hidden(WROTE).words_of_requester
    assert not any(value.casefold() in shown.casefold() for value in (*VALUES, "zlata"))
    assert "version 2.1.7" in shown and "ORD-70012" in shown and "<EMAIL_1>" in shown and "<IBAN_1>" in shown


def test_tokens_are_the_same_when_derived_again_and_after_more_was_said() -> None:
    more = replace(WROTE, messages=(*WROTE.messages, Message(author=Author.REQUESTER, body="or bo@x.org, not zlata", at=NOW)))
    assert hidden(WROTE) == hidden(WROTE)
    assert hidden(more).words_of_requester.startswith(hidden(WROTE).words_of_requester)
    assert "<EMAIL_2>" in hidden(more).words_of_requester


def test_tokens_go_back_to_values_where_the_ticket_is_at_hand_and_nowhere_else() -> None:
    ours = pseudonyms_of(WROTE)
    shown = hidden(WROTE, ours).text
    assert ours.reveal(shown) == WROTE.text
    assert pseudonyms_of(ticket("", "another one")).reveal(shown) == shown


def test_a_token_that_the_requester_wrote_is_never_revealed_as_somebodys_value() -> None:
    ours = pseudonyms_of(ticket("", "<EMAIL_1> and bo@x.org"))
    shown = ours.hide("<EMAIL_1> and bo@x.org")
    assert shown == "<EMAIL_1> and <EMAIL_2>" and ours.reveal(shown) == "<EMAIL_1> and bo@x.org"


def test_a_subject_that_the_description_repeats_is_seen_once_and_hidden_whole() -> None:
    cut = ticket("Mail from bo@x", "Mail from bo@x.org is late")
    assert hidden(cut).text == "Mail from <EMAIL_1> is late"


def test_triage_and_training_replace_the_same(subject: str = WROTE.subject, description: str = WROTE.description) -> None:
    row = TicketRow(id="1", subject=subject, description=description, requester="zlata.veres@acme.example")
    trained, _ = redact_fields((subject, description), known_people([row], ()))
    shown = hidden(WROTE)
    assert (shown.subject, shown.description) == trained


def test_no_log_line_of_any_library_holds_personal_data(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    try:
        protect_logs()
        protect_logs()
        log = logging.getLogger("some.library")
        log.warning("cannot write to %s, %s", "zlata.veres@acme.example", {"iban": "DE89370400440532013000"})
        try:
            raise ValueError("Key (email)=(zlata.veres@acme.example) already exists, password=hunter2!")
        except ValueError:
            log.exception("ticket %s failed after %d ms", "T-1042", 17)
        text = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    finally:
        logging.setLogRecordFactory(before)
    assert not any(value in text for value in (*VALUES, "DE89370400440532013000"))
    assert "<EMAIL>" in text and "ticket T-1042 failed after 17 ms" in text and "ValueError" in text


def test_an_operator_reads_what_they_need() -> None:
    for line in (
        "worker h1/4026531836:71 died; what it held is taken up again",
        "GET http://127.0.0.1:8123/v1/tickets 503 in 12.5 ms",
        "adapter cloister-nano@sha256-3f2504e04f89 is served; 2 replicas; 2026-11-26T19:59:52Z",
        "ORD-70012: refused (409): already refunded",
    ):
        assert without_personal_data(line) == line
