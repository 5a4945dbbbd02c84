"""Answers from knowledge on a whole desk: only what was retrieved, never a live fact, and what fails is remembered."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from resolution_world import House, open_desk

from orchestrator.domain.resolution import AwaitingRequester, HandedOver, Resolved
from orchestrator.knowledge.documents import parse_document
from orchestrator.knowledge.gaps import cluster
from orchestrator.knowledge.load import load_documents
from orchestrator.privacy.quoting import quoted
from orchestrator.storage.store import PostgresStore

BY = "fay.moor@elm.example"
SECRET_TEXT = "Refunds above one hundred euros wait until two approvers of the billing team have compared the bank file by hand."
SUMMARY = "Larger refunds are checked by people before they are paid."


def write(name: str, title: str, text: str, **fields: object) -> str:
    front = "".join(f"{key}: {value}\n" for key, value in {"id": name, "title": title, **fields}.items())
    return f"---\n{front}---\n## {title}\n{text}\n"


@pytest.fixture
def desk(store: PostgresStore, tmp_path: Path) -> Iterator[House]:
    with open_desk(store, tmp_path) as opened:
        yield opened


def put(desk: House, *texts: str) -> None:
    load_documents(desk.store, desk.desk.embedder, [parse_document(text, source="test.md") for text in texts])


EXPORT = write(
    "export", "Exporting the stock list", "How to export the stock list as CSV: open Inventory and press Export.",
    effective_on="2026-03-02", reviewed_on="2026-09-14", version=7,
)  # fmt: skip


def test_an_answer_holds_the_passage_and_the_note_its_source(desk: House) -> None:
    put(desk, EXPORT)
    _, outcome = desk.handle("how_to", "How to export the stock list as CSV?", by=BY)
    assert isinstance(outcome, Resolved) and "open Inventory and press Export" in outcome.reply
    for part in ("export", "Exporting the stock list", "version 7", "2026-03-02", "2026-09-14"):
        assert part in outcome.internal_note


def test_nothing_near_is_handed_over_and_remembered_as_a_gap(desk: House) -> None:
    put(desk, EXPORT)
    for text in (
        "How can I brew coffee in the machine?",
        "How can I brew coffee in the machine downstairs?",
        "How do zebras sleep?",
    ):
        _, outcome = desk.handle("how_to", text, by=BY)
        assert isinstance(outcome, HandedOver)
    desk.handle("how_to", "How to export the stock list as CSV?", by=BY)
    name = desk.desk.embedder.name
    found = desk.store.run(lambda tx: tx.gaps(name, since=datetime.now(UTC) - timedelta(hours=1), limit=100))
    assert len(found) == 3, "the answered question is no gap"
    vectors = desk.desk.embedder.embed([gap.question for gap in found])
    groups = cluster([replace(gap, vector=vector) for gap, vector in zip(found, vectors, strict=True)])
    assert [group.count for group in groups] == [2, 1] and "coffee" in groups[0].examples[0]


def test_an_answer_that_did_not_help_is_a_gap_of_its_article(desk: House) -> None:
    put(desk, EXPORT)
    ticket_id, _ = desk.handle("how_to", "How to export the stock list as CSV?", by=BY)
    with desk.store.transaction() as tx:
        tx.record_feedback(ticket_id, "rating", {"rating": "bad", "reason": "the button is not there"}, by="lead")
    name = desk.desk.embedder.name
    (gap,) = desk.store.run(lambda tx: tx.gaps(name, since=datetime.now(UTC) - timedelta(hours=1), limit=9))
    assert (gap.why, gap.nearest_id, gap.ticket_id) == ("not_helpful", "export", ticket_id)


@pytest.mark.parametrize(
    "text",
    [
        "Where is my order, please?",
        "When does my subscription renew?",
        "Has my refund been paid out?",
        "Wo bleibt meine Bestellung?",
        "Où en est ma commande ?",
        "What is the status of ORD-70012?",
    ],
)
def test_a_live_fact_is_never_answered_from_an_article(desk: House, text: str) -> None:
    """Even where an article repeats the very words of the question."""
    put(desk, write("live", "Orders", f"{text} It is on its way and the subscription is paid."))
    _, outcome = desk.handle("how_to", text, by=BY)
    assert isinstance(outcome, HandedOver) and "stands now" in outcome.packet.why_stopped


def test_a_general_question_about_the_same_things_is_answered(desk: House) -> None:
    put(
        desk,
        write("cancel", "Cancel a subscription", "How to cancel a subscription: open Account and choose Cancel a subscription."),
    )
    _, outcome = desk.handle("how_to", "How to cancel a subscription in Account?", by=BY)
    assert isinstance(outcome, Resolved)


def test_a_sensitive_policy_is_told_by_its_summary_and_never_quoted(desk: House) -> None:
    put(desk, write("secret", "How are refunds above one hundred euros approved", SECRET_TEXT, sensitive="true",
                    authority="policy", summary=SUMMARY))  # fmt: skip
    question = (
        "How are refunds above one hundred euros approved? wait until approvers of the billing team compared the bank file by hand"
    )
    _, outcome = desk.handle("how_to", question, by=BY)
    assert isinstance(outcome, Resolved) and SUMMARY in outcome.reply
    assert quoted(outcome.reply, desk.store.run(lambda tx: tx.sensitive_texts())) is None
    assert quoted(f"Well: {SECRET_TEXT.upper()}", desk.store.run(lambda tx: tx.sensitive_texts())) is not None


def test_nearly_near_asks_once_which_article_is_meant(desk: House) -> None:
    put(desk, write("label", "Label printers", "Connect a label printer with the blue cable and print a test page today."))
    question = "How do I connect a label printer to my phone with the app please"
    ticket_id, outcome = desk.handle("how_to", question, by=BY)
    assert isinstance(outcome, AwaitingRequester) and "Label printers" in outcome.question
    again = desk.answer(ticket_id, "To connect a label printer to my phone")
    assert isinstance(again, HandedOver), "asked once, then a person"


def test_the_glossary_finds_what_is_said_in_other_words(desk: House) -> None:
    put(desk, write("twofactor", "two-factor sign-in", "two-factor sign-in: press Enroll."), EXPORT)
    found = {}
    for rewrite in (str, lambda text: f"{text}\ntwo-factor sign-in" if "2FA" in text else text):
        desk.desk = replace(desk.desk, rewrite=rewrite)
        _, found[rewrite] = desk.handle("how_to", "Enroll 2FA how?", by=BY)
    plain, rewritten = found.values()
    assert not isinstance(plain, Resolved) and isinstance(rewritten, Resolved)
