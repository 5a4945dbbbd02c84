"""A text that its requester must not get never leaves the desk: not as a reply, not in the outbox, not in the audit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.domain.resolution import HandedOver, Resolved
from orchestrator.domain.triage import Link, LinkKind
from orchestrator.privacy.outgoing import Guard, shingles
from orchestrator.resolution.case import Case, Memory
from orchestrator.resolution.outgoing import release_linked
from orchestrator.storage.store import PostgresStore
from tests.integration.resolution_world import PLAYBOOK, House, clock, open_desk, triage_of

LEAKS = {
    "another person's address": ("Ask dora.vane@oak.example, she had it too.", "dora.vane"),
    "another person's order": ("It was the same with ORD-70013.", "ORD-70013"),
    "a secret": ("Your new password: Tulip-4711", "Tulip-4711"),
    "a planted marker": ("CLOISTER-CANARY-7f3a9c", "7f3a9c"),
    "a thought": ("<think>she wants money</think>", "wants money"),
    "a document for colleagues": (
        "never promise a refund before the second approver has looked at the history of the account",
        "second approver",
    ),
}


def leaky(house: House, runbook: str, leak: str) -> House:
    """The desk with one reviewed text that says what it must not: whoever wrote it, a colleague or a model."""
    wrong = replace_reply(runbook, leak)
    guard = Guard(internal=shingles([LEAKS["a document for colleagues"][0]]))
    house.desk = replace(house.desk, playbook=replace(PLAYBOOK, runbooks={**PLAYBOOK.runbooks, runbook: wrong}), guard=guard)
    return house


def replace_reply(runbook: str, leak: str):  # type: ignore[no-untyped-def]
    found = PLAYBOOK.runbooks[runbook]
    return found.model_copy(update={"reply": {language: f"{text}\n{leak}" for language, text in found.reply.items()}})


@pytest.mark.parametrize("what", LEAKS)
def test_a_reply_with_what_is_not_the_requesters_is_withheld_and_a_colleague_is_told_why(
    what: str, store: PostgresStore, tmp_path: Path
) -> None:
    leak, value = LEAKS[what]
    with open_desk(store, tmp_path) as house:
        leaky(house, "vpn_session_reset", leak)
        text = "My VPN session hangs since two hours, it says another session is in use."
        ticket_id, outcome = house.handle("vpn", text, by="fay.moor@elm.example", portal=True)
        assert isinstance(outcome, HandedOver), outcome
        assert "withheld" in outcome.packet.why_stopped and value not in outcome.packet.why_stopped
        assert outcome.reply == PLAYBOOK.macros.say("withheld", "en", ticket_id=ticket_id)
        told = [message.body for message in house.ticket(ticket_id).messages]
        posted = [json.dumps(dict(item.payload)) for item in house.store.run(lambda tx: tx.outbox_due(limit=50, now=clock()))]
        events = house.store.run(lambda tx: tx.events(ticket_id=ticket_id, limit=1000))[0]
        record = house.store.run(lambda tx: tx.ticket_record(ticket_id))
    assert told and posted and not any(value in text for text in (*told, *posted))
    (withheld,) = [event for event in events if event["kind"] == "withheld"]
    assert withheld["body"]["found"][0]["field"] == "reply"
    assert value not in json.dumps(events, default=str) and value not in json.dumps(record, default=str)


def test_the_day_of_the_requester_goes_on_where_nothing_is_withheld(store: PostgresStore, tmp_path: Path) -> None:
    with open_desk(store, tmp_path) as house:
        leaky(house, "vpn_session_reset", "Have a good day.")
        _, outcome = house.handle("vpn", "My VPN session hangs.", by="fay.moor@elm.example", portal=True)
    assert isinstance(outcome, Resolved) and "Have a good day." in outcome.reply


def test_a_requester_who_only_claims_to_be_somebody_hears_no_number_that_they_did_not_write(
    store: PostgresStore, tmp_path: Path
) -> None:
    with open_desk(store, tmp_path) as house:
        _, unnamed = house.handle("order_status", "Where is my order?", by="fay.moor@elm.example")
        _, named = house.handle("order_status", "Where is ORD-70012?", by="fay.moor@elm.example")
        _, vouched = house.handle("order_status", "Where is my order?", by="fay.moor@elm.example", portal=True)
    for outcome in (unnamed, named, vouched):
        assert isinstance(outcome, Resolved), outcome
    assert "ORD-70012" not in unnamed.reply and "P1-99" not in unnamed.reply
    assert "ORD-70012" in named.reply and "P1-99" not in named.reply
    assert "ORD-70012" in vouched.reply and "P1-99" in vouched.reply


def test_a_follower_hears_nothing_that_only_the_lead_may_hear(store: PostgresStore, tmp_path: Path) -> None:
    """The same macro for all: what it says wrongly is found for each reader on their own."""
    lead_reply = "Your order ORD-70012 is on its way."
    with open_desk(store, tmp_path) as house:
        lead_id, outcome = house.handle("vpn", "My VPN session hangs.", by="fay.moor@elm.example", portal=True)
        link = Link(kind=LinkKind.INCIDENT, ticket_id=lead_id, incident_id="I-1", similarity=0.9, score=0.9, evidence=())
        other = house.ticket(house.say("vpn", "VPN hangs here, too.", by="dora.vane@oak.example"))
        triage = triage_of("vpn", "VPN hangs here, too.", link=link)
        case = Case(
            ticket=house.ticket(lead_id), triage=triage, memory=Memory(), playbook=PLAYBOOK, started_at=clock(), secret=b"x" * 16
        )
    assert isinstance(outcome, Resolved)
    follower = replace(outcome, reply=lead_reply)
    released, withheld = release_linked({other.id: follower}, {other.id: (other, triage)}, case, {})
    assert isinstance(released[other.id], HandedOver) and withheld[other.id][0]["why"] == "other_record"
    assert "ORD-70012" not in released[other.id].reply
