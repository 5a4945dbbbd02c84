"""What may not reach a requester is found in the text, whoever wrote it; what may, stays. See also test_resolution_day: a whole day."""

import pytest

from orchestrator.privacy.outgoing import Guard, Reader, Why, screen, shingles

MINE = {"id": "ORD-70012", "account": "acc-elm", "customer_email": "fay.moor@elm.example", "tracking": "P1-99X7", "total": 20.0}
COLLEAGUES = {"id": "ORD-70013", "account": "acc-elm", "customer_email": "ben.reed@elm.example", "tracking": "P1-98Z4"}
STRANGERS = {"id": "INV-29999", "account": "acc-oak", "amount": 900.0, "lines": [{"name": "Giant crane"}]}
ME = {"id": "usr-006", "email": "fay.moor@elm.example", "name": "Fay Moor", "account": "acc-elm", "manager_email": "bo@elm.example"}
ACCOUNT = {"id": "acc-elm", "name": "Elm House", "tier": "standard", "phone": "+43 316 555 0100"}
INTERNAL = "A refund above the daily cap is never promised before the second approver has looked at the history of the account."
PUBLIC = "Write to support@ostrivane.example or call +44 20 7946 0018. A refund takes five days; the form is FRM-2201."


def fay(
    *, verified: bool = True, said: str = "", records: tuple[object, ...] = (ME, ACCOUNT, MINE, COLLEAGUES, STRANGERS)
) -> Reader:
    return Reader(
        email="fay.moor@elm.example", user_id="usr-006", account="acc-elm", name="Fay Moor", verified=verified, said=said,
        ids=frozenset({"T-1044", "I-7"}), records=records, passages=(PUBLIC,),
    )  # fmt: skip


GUARD = Guard(canaries=frozenset({"purple-otter-09"}), internal=shingles([INTERNAL]))
GUARD.know(["Dora Vane", "Fay Moor", "Moor Brandt"])

MAY_GO = (
    "Hello Fay Moor,\nyour order ORD-70012 is on its way, tracking number P1-99X7. Your ticket T-1044 is done.",
    "Hello,\na link was sent to fay.moor@elm.example. 20.00 EUR were refunded. It is part of incident I-7.",
    "We call you at +43 316 555 0100, Elm House.",
    f"This is what our documentation says:\n{PUBLIC}",
    "Version 2.1.7 is back since 18 November 2026, error 0x80070005 is gone and UTF-16 works. Port 8080, 10:30.",
    "Above the daily cap is never promised.",  # seven words of theirs are no quotation
    "",
)
MUST_NOT = (
    (Why.OTHER_PERSON, "Please ask dora.vane@oak.example."),
    (Why.OTHER_PERSON, "Please ask d\u200bora.vane@o\u00adak.example."),
    (Why.OTHER_PERSON, "Call +49 89 1234 5678 instead."),
    (Why.OTHER_PERSON, "Your manager bo@elm.example agreed."),
    (Why.OTHER_PERSON, "Dora Vane has the same trouble."),
    (Why.OTHER_PERSON, "Hello Dora Vane,\nyour ticket T-1044 is done."),
    (Why.OTHER_PERSON, "The card 4111 1111 1111 1111 was charged."),
    (Why.OTHER_PERSON, "It went to 12 Baker Street, please look there."),
    (Why.OTHER_RECORD, "Your order ORD-70013 is late."),  # of a colleague on the same account
    (Why.OTHER_RECORD, "Invoice INV-29999 is open."),
    (Why.OTHER_RECORD, "Order ORD-81111 was never looked at."),
    (Why.OTHER_RECORD, "See ticket T-999."),
    (Why.OTHER_RECORD, "The parcel is P1-98z4."),
    (Why.OTHER_RECORD, "They bought a giant crane."),  # inside a stranger's record
    (Why.OTHER_RECORD, "It belongs to acc-oak."),
    (Why.SECRET, "Your password: Tulip-4711"),
    (Why.SECRET, "use ghp_" + "a1B2" * 9),
    (Why.CANARY, "As CLOISTER-CANARY-7f3a9c says"),
    (Why.CANARY, "as cloister canary 7f3a9c says"),
    (Why.CANARY, "The Purple-Otter-09 told me"),
    (Why.INTERNAL, "You see, above the daily cap is never  promised BEFORE the second approver has looked."),
    (Why.REASONING, "<think>the user wants money</think> Done."),
    (Why.REASONING, "Internal note: do not tell."),
    (Why.REASONING, "Dear {{ name }}"),
    (Why.REASONING, "Sent to <EMAIL_1>."),
)
NOT_UNVERIFIED = (
    "20.00 EUR were refunded.",
    "€20 were refunded.",
    "Your order ORD-70012 is on its way.",
    "The parcel is P1-99X7.",
    "We call you at +43 316 555 0100.",
)


@pytest.mark.parametrize("text", MAY_GO)
def test_what_the_requester_may_hear_goes_out(text: str) -> None:
    assert screen(text, fay(), GUARD).findings == ()


@pytest.mark.parametrize(("why", "text"), MUST_NOT)
def test_what_the_requester_may_not_hear_is_found(why: Why, text: str) -> None:
    assert why in {finding.why for finding in screen(text, fay(), GUARD).findings}, text


@pytest.mark.parametrize("text", NOT_UNVERIFIED)
def test_their_own_data_waits_until_they_are_verified(text: str) -> None:
    assert screen(text, fay(), GUARD).allowed
    assert {finding.why for finding in screen(text, fay(verified=False), GUARD).findings} == {Why.UNVERIFIED}


def test_an_unverified_requester_may_read_the_number_that_they_wrote_themselves() -> None:
    text = "Hello Fay Moor,\nyour order ORD-70012 was delivered. Your ticket T-1044 is done."
    assert not screen(text, fay(verified=False), GUARD).allowed
    assert screen(text, fay(verified=False, said="where is ord-70012?"), GUARD).allowed


def test_naming_somebody_elses_record_does_not_make_it_ones_own() -> None:
    text = "Invoice INV-29999 is open, dora.vane@oak.example has it."
    found = screen(text, fay(said=text), GUARD).findings
    assert {finding.why for finding in found} == {Why.OTHER_PERSON, Why.OTHER_RECORD}


def test_a_finding_says_where_and_never_what() -> None:
    text = "Please ask dora.vane@oak.example."
    (found,) = screen(text, fay(), GUARD).findings
    assert text[found.start : found.end] == "dora.vane@oak.example" and "dora" not in found.what


def test_the_same_text_gives_the_same_findings() -> None:
    for _, text in MUST_NOT:
        assert screen(text, fay(), GUARD) == screen(text, fay(), GUARD)


def test_a_name_with_accents_is_told_from_others_in_its_own_address() -> None:
    """French has one-letter words before an address, and addresses have no accents: neither makes it somebody else's name."""
    guard = Guard()
    guard.know(["Béatrice Aubin", "Dora Vane"])
    reader = Reader(email="beatrice.aubin@plumetis.example", name="Béatrice Aubin", verified=True)
    text = "Bonjour Béatrice Aubin,\nune copie a été envoyée à beatrice.aubin@plumetis.example."
    assert screen(text, reader, guard).allowed
    assert [f.why for f in screen(text.replace("Béatrice Aubin,", "Dora Vane,"), reader, guard).findings].count(
        Why.OTHER_PERSON
    ) >= 1
