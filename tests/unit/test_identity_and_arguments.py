"""Who is meant and what is named: recognizers over the requester's own words, and one-time codes."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.tickets import Author, Message
from orchestrator.resolution import arguments, codes
from orchestrator.resolution.codes import Answer

OWN = ("ada@elm.example", "usr-001", "acc-elm")
SECRET = b"a secret of tests only"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "words",
    [
        "please reset the password of my colleague bob@elm.example",
        "Please reset my boss's password",
        "reset MFA for usr-002",
        "My colleague forgot her password",
        "I need you to unlock the account of our intern",
        "I write on behalf of Ms Vane, her account is locked",
        "Bitte das Passwort meiner Kollegin zurücksetzen",
        "Bitte das Kennwort für meinen Chef zurücksetzen",
        "Meine Kollegin hat ihr Passwort vergessen",
        "Merci de réinitialiser le mot de passe de mon collègue",
        "Ma collègue a oublié son mot de passe",
        "grant access to the new starter, she'll need the sales folder",
    ],
)
def test_whoever_speaks_for_somebody_else_is_noticed(words: str) -> None:
    assert arguments.somebody_else(words, own=OWN)


@pytest.mark.parametrize(
    "words",
    [
        "I forgot my password and my manager is waiting for the report",
        "My VPN hangs and I have a call with my client at noon",
        "Where is my order? It is a present for my wife",
        "I need invoice 31040 again, the wife's accountant lost it",
        "My boss said I should ask you to reset my password",
        "A colleague told me that you can unlock my account, mail me at ada@elm.example",
        "Ich habe mein Passwort vergessen, mein Chef wartet auf den Bericht",
        "J'ai oublié mon mot de passe et mon chef attend le rapport",
        "Please send me a copy of the invoice for my accountant",
    ],
)
def test_naming_other_people_in_passing_stops_nobody(words: str) -> None:
    assert arguments.somebody_else(words, own=OWN) is None


@pytest.mark.parametrize(
    ("words", "kind", "digits"),
    [
        ("order 70012", "order", ["70012"]),
        ("Bestellung Nr. 70012", "order", ["70012"]),
        ("ord-70012 and ORD-70013", "order", ["70012", "70013"]),
        ("la commande n° 70012", "order", ["70012"]),
        ("Rechnung 20431", "invoice", ["20431"]),
        ("PAY-88121", "payment", ["88121"]),
        ("sub-311", "subscription", ["311"]),
        ("in order to 2026", "order", []),
    ],
)
def test_numbers_are_recognized_with_what_they_number(words: str, kind: str, digits: list[str]) -> None:
    found = arguments.numbers(kind, words)
    assert [each.value for each in found] == digits
    assert all(each.words in words for each in found)


@pytest.mark.parametrize(
    ("words", "amount", "currency"),
    [
        ("49,90 €", 49.9, "EUR"),
        ("EUR 1.234,50", 1234.5, "EUR"),
        ("$1,234.50", 1234.5, "USD"),
        ("100 euros", 100.0, "EUR"),
        ("£20", 20.0, "GBP"),
    ],
)
def test_amounts_are_read_as_people_write_them(words: str, amount: float, currency: str) -> None:
    assert arguments.amounts(f"I paid {words} twice.")[0].value == {"amount": amount, "currency": currency}


def test_a_group_is_an_identifier_never_a_word_of_the_language() -> None:
    assert [each.value for each in arguments.groups("access to the group fin-reporting-read please")] == ["fin-reporting-read"]
    assert [each.value for each in arguments.groups("Ordner vertrieb-ost, bitte")] == ["vertrieb-ost"]
    assert arguments.groups("access to the group of people in sales") == ()


@given(st.text(max_size=300))
def test_no_text_breaks_a_recognizer_and_every_value_stands_in_the_words(words: str) -> None:
    for recognize in arguments.RECOGNIZERS.values():
        assert all(found.words in words for found in recognize(words))
    arguments.somebody_else(words, own=OWN)


@pytest.mark.parametrize(
    ("answer", "agreed"),
    [
        ("Yes", True),
        ("ja, bitte", True),
        ("Oui", True),
        ("No", False),
        ("Nein!", False),
        ("Yes, but later", None),
        ("Maybe", None),
        ("", None),
    ],
)
def test_only_a_plain_yes_is_a_yes(answer: str, agreed: bool | None) -> None:
    assert arguments.agrees(answer) is agreed


def message(body: str, *, minutes: int = 1) -> Message:
    return Message(author=Author.REQUESTER, body=body, at=NOW + timedelta(minutes=minutes))


def check(*messages: Message, tries: int = 1) -> codes.Checked:
    code = codes.code_for(SECRET, "T-1", 0, "ada@elm.example")
    digest = codes.digest_of(SECRET, "T-1", 0, code)
    return codes.check(
        messages, secret=SECRET, ticket_id="T-1", epoch=0, code_sha256=digest, expires_at=NOW + timedelta(minutes=30), tries=tries
    )


def test_the_code_is_the_same_in_a_resumed_run_and_another_for_each_round_and_ticket() -> None:
    code = codes.code_for(SECRET, "T-1", 0, "ada@elm.example")
    assert code == codes.code_for(SECRET, "T-1", 0, "Ada@Elm.Example") and len(code) == 6 and code.isdigit()
    others = {codes.code_for(SECRET, ticket, epoch, "ada@elm.example") for ticket, epoch in (("T-1", 1), ("T-2", 0), ("T-11", 0))}
    assert code not in others


def test_the_right_code_counts_once_in_time_and_before_a_wrong_one() -> None:
    code = codes.code_for(SECRET, "T-1", 0, "ada@elm.example")
    spaced = f"{code[:3]} {code[3:]}"
    assert check(message(f"my code is {spaced}, thanks")).answer is Answer.RIGHT
    assert check(message(code, minutes=31)).answer is Answer.LATE
    assert check(message("000000"), message(code)).answer is Answer.WRONG
    assert check(message("000000"), message(code), tries=2).answer is Answer.RIGHT
    assert check(message("it is me")).answer is Answer.WITHOUT_CODE
    assert check().answer is Answer.NONE


def test_many_numbers_in_one_answer_are_one_try() -> None:
    """Otherwise one message could hold all million codes."""
    code = codes.code_for(SECRET, "T-1", 0, "ada@elm.example")
    assert check(message(f"000000 111111 222222 {code}")).answer is Answer.WRONG


def test_a_masked_record_holds_no_code() -> None:
    assert "123456" not in str(codes.masked({"a": ["x 123456 y"], "b": {"c": "123456"}, "n": 1}, "123456"))
