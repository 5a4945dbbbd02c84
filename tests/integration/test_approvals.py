"""Approvals by people: quorum, separation of duties, expiry, edits, exactly once; against the real store and the real sandbox."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.domain.errors import BadInput, CloisterError, Conflict, Forbidden
from orchestrator.domain.resolution import Approval, ApprovalStatus, AwaitingApproval, Decision, HandedOver, Resolved, Verdict
from orchestrator.resolution.edit import edit
from orchestrator.storage.store import PostgresStore
from tests.integration.people import decide as quorum
from tests.integration.resolution_world import PLAYBOOK, House, clock, open_desk

ADA, BEN = "ada.quill@elm.example", "ben.reed@elm.example"
LOST = "My order 70013 never arrived, please refund 180.00 EUR."
CERTIFICATE = "SSO shows a certificate error, I cannot sign in."


@pytest.fixture
def house(store: PostgresStore, tmp_path: Path) -> Iterator[House]:
    with open_desk(store, tmp_path) as desk:
        yield desk


def refund(house: House) -> tuple[str, Approval]:
    """A refund above the limit that waits for one person."""
    ticket_id, outcome = house.handle("refund", LOST, by=BEN, portal=True)
    assert isinstance(outcome, AwaitingApproval), outcome
    return ticket_id, newest(house, ticket_id)


def change(house: House) -> tuple[str, Approval]:
    """A normal change that waits for the board: two people."""
    ticket_id, outcome = house.handle("sign_in_failure", CERTIFICATE, by=ADA, portal=True)
    assert isinstance(outcome, AwaitingApproval), outcome
    return ticket_id, newest(house, ticket_id)


def newest(house: House, ticket_id: str) -> Approval:
    return house.store.run(lambda tx: tx.approvals_of([ticket_id]))[ticket_id][-1]


def say(house: House, asked: Approval, *, by: str, approve: bool = True, role: str = "approver") -> Approval:
    return house.store.run(lambda tx: tx.decide(asked.id, approve=approve, reason="looked", by=by, now=clock(), role=role))


# --- how many, and who ---


def test_a_board_is_two_different_people_and_nothing_happens_before_the_second(house: House) -> None:
    ticket_id, asked = change(house)
    assert asked.quorum == 2 and asked.change == "normal"
    first = say(house, asked, by="kim@elm.example")
    assert first.status is ApprovalStatus.WAITING and house.run() == {} and house.changes() == []
    for disguise in ("kim@elm.example", " KIM@elm.example", "kim@elm.example "):
        with pytest.raises(Conflict, match="has spoken"):
            say(house, asked, by=disguise, role="lead")
    decided = say(house, asked, by="lee@elm.example")
    assert decided.status is ApprovalStatus.APPROVED and decided.decided_by == "kim@elm.example, lee@elm.example"
    assert isinstance(house.run()[ticket_id], Resolved)
    assert [path for _, path, _ in house.changes()] == ["/monitoring/certificates/cert-sso/rotate"]


def test_one_no_ends_it_whatever_the_others_said(house: House) -> None:
    ticket_id, asked = change(house)
    say(house, asked, by="kim@elm.example")
    assert say(house, asked, by="lee@elm.example", approve=False).status is ApprovalStatus.REJECTED
    outcome = house.run()[ticket_id]
    assert isinstance(outcome, HandedOver) and "rejected by lee@elm.example" in outcome.packet.why_stopped
    assert house.changes() == []


@pytest.mark.parametrize("disguise", [BEN, BEN.upper(), f"  {BEN} ", "acc-elm"])
def test_nobody_decides_their_own_matter_in_any_disguise(house: House, disguise: str) -> None:
    _, asked = refund(house)
    with pytest.raises(Forbidden, match="own request"):
        say(house, asked, by=disguise)


def test_words_cannot_be_changed_or_taken_back(house: House, superuser_dsn: str) -> None:
    _, asked = change(house)
    say(house, asked, by="kim@elm.example")
    for statement in ("UPDATE approval_vote SET approve = false", "DELETE FROM approval_vote", "TRUNCATE approval_vote"):
        with psycopg.connect(superuser_dsn) as connection, pytest.raises(psycopg.Error, match="is refused"):
            connection.execute(statement.encode())


def test_erasing_a_ticket_takes_the_words_and_leaves_who_decided(house: House) -> None:
    ticket_id, asked = refund(house)
    say(house, asked, by="kim@elm.example")
    house.run()
    house.store.run(lambda tx: tx.erase(ticket_id, reason="asked for", by="admin"))
    left = newest(house, ticket_id)
    assert left.proposal.action == "erased" and left.proposal.digest == asked.proposal.digest
    assert [(vote.by, vote.approve, vote.reason) for vote in left.votes] == [("kim@elm.example", True, "")]
    assert house.store.run(lambda tx: tx.approvals())[0][0].id == asked.id


# --- time ---


def test_what_nobody_decided_in_the_time_of_its_rule_is_a_no(house: House) -> None:
    ticket_id, asked = change(house)
    assert asked.expires_at - asked.requested_at == timedelta(minutes=4320)
    late = asked.expires_at + timedelta(seconds=1)
    with pytest.raises(Conflict, match="expired"):
        house.store.run(lambda tx: tx.decide(asked.id, approve=True, reason="late", by="kim@elm.example", now=late))
    assert house.store.run(lambda tx: tx.expire_approvals(now=late)) == 1
    outcome = house.run()[ticket_id]
    assert isinstance(outcome, HandedOver) and "expired" in outcome.packet.why_stopped and house.changes() == []


def test_an_approval_that_ran_out_before_it_was_carried_out_is_not_carried_out(house: House, dsn: str) -> None:
    ticket_id, asked = refund(house)
    say(house, asked, by="kim@elm.example")
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE approval SET valid_until = now() - interval '1 minute'")
    outcome = house.run()[ticket_id]
    assert not isinstance(outcome, Resolved) and house.changes() == []


def test_a_yes_of_too_few_does_not_carry_what_now_needs_more(house: House, dsn: str) -> None:
    ticket_id, asked = change(house)
    quorum_of_one = "UPDATE approval SET quorum = 1"  # as if the policy had asked for one when it was asked for
    with psycopg.connect(dsn) as connection:
        connection.execute(quorum_of_one.encode())
    say(house, asked, by="kim@elm.example")
    assert not isinstance(house.run()[ticket_id], Resolved) and house.changes() == []


# --- exactly once ---


def test_the_executed_call_is_the_approved_one(house: House) -> None:
    ticket_id, asked = refund(house)
    say(house, asked, by="kim@elm.example")
    assert isinstance(house.run()[ticket_id], Resolved)
    (done,) = house.changes()
    assert (
        done[2]["amount"] == asked.proposal.arguments["amount"] and done[2]["payment_id"] == asked.proposal.arguments["payment_id"]
    )
    assert newest(house, ticket_id).status is ApprovalStatus.EXECUTED
    with pytest.raises(Conflict, match="decided before"):
        say(house, asked, by="lee@elm.example")
    assert house.run() == {} and len(house.changes()) == 1


def together(*works: Callable[[], Any]) -> list[Any]:
    """All at the same moment; what each gave, or the error that it raised."""
    gate, given = threading.Barrier(len(works)), [None] * len(works)

    def go(place: int, work: Callable[[], Any]) -> None:
        gate.wait()
        try:
            given[place] = work()
        except CloisterError as error:
            given[place] = error

    threads = [threading.Thread(target=go, args=(place, work)) for place, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return given


def test_yes_against_no_at_the_same_moment_ends_as_one_of_them(house: House) -> None:
    for _ in range(2):  # a third refund within a day is a person's matter
        _, asked = refund(house)
        given = together(
            lambda asked=asked: say(house, asked, by="kim@elm.example"),  # type: ignore[misc]
            lambda asked=asked: say(house, asked, by="lee@elm.example", approve=False),  # type: ignore[misc]
        )
        assert sum(isinstance(each, Conflict) for each in given) == 1, given


def test_the_second_and_third_yes_at_the_same_moment_decide_once(house: House) -> None:
    _, asked = change(house)
    given = together(*(lambda name=name: say(house, asked, by=name) for name in ("kim@x", "lee@x", "mo@x")))  # type: ignore[misc]
    assert sum(isinstance(each, Conflict) for each in given) == 1, given
    assert len(newest(house, asked.ticket_id).votes) == 2


def test_the_same_person_twice_at_the_same_moment_counts_once(house: House) -> None:
    _, asked = change(house)
    given = together(*(lambda: say(house, asked, by="kim@x") for _ in range(3)))
    assert sum(isinstance(each, Conflict) for each in given) == 2, given
    assert newest(house, asked.ticket_id).status is ApprovalStatus.WAITING


# --- emergencies are looked at again ---


def test_an_emergency_is_reviewed_by_somebody_who_did_not_decide_it(house: House, dsn: str) -> None:
    ticket_id, asked = change(house)
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE approval SET wants_review = true")
    house.store.run(lambda tx: quorum(tx, asked.id, approve=True, reason="now", by="kim@x", now=clock()))
    with pytest.raises(Conflict, match="nothing to be reviewed"):
        house.store.run(lambda tx: tx.review_approval(asked.id, finding="too early", by="mo@x", now=clock()))
    house.run()
    assert [a.id for a in house.store.run(lambda tx: tx.approvals(to_review=True))[0]] == [asked.id]
    with pytest.raises(Forbidden, match="somebody else"):
        house.store.run(lambda tx: tx.review_approval(asked.id, finding="fine", by="kim@x", now=clock()))
    house.store.run(lambda tx: tx.review_approval(asked.id, finding="was right", by="mo@x", now=clock()))
    assert house.store.run(lambda tx: tx.approvals(to_review=True))[0] == []
    assert newest(house, ticket_id).reviewed_by == "mo@x"


# --- edits ---


def edited(house: House, asked: Approval, amount: Any, *, by: str = "kim@elm.example") -> Approval:
    proposal = edit(asked, PLAYBOOK.actions[asked.proposal.action], {"amount": amount}, by=by, epoch=0)
    verdict = Verdict(decision=Decision.NEEDS_APPROVAL, rule=asked.rule, reason=asked.reason, approvers=asked.approvers)
    return house.store.run(lambda tx: tx.supersede(asked, proposal, verdict, reason="goodwill only", by=by, now=clock()))


def test_an_edit_is_another_proposal_that_somebody_else_decides_and_governance_judges_again(house: House) -> None:
    ticket_id, asked = refund(house)
    new = edited(house, asked, 120.0)
    assert newest(house, ticket_id).id == new.id and new.proposal.digest != asked.proposal.digest
    with pytest.raises(Conflict, match=f"{new.id} stands in its place"):
        say(house, asked, by="lee@elm.example")
    with pytest.raises(Forbidden, match="proposed"):
        say(house, new, by="KIM@elm.example")
    house.store.run(lambda tx: tx.wake([ticket_id]))
    house.run()
    assert house.changes() == []  # woken meanwhile: it still waits
    say(house, new, by="lee@elm.example")
    outcome = house.run()[ticket_id]
    assert isinstance(outcome, Resolved) and "120.00" in outcome.reply, outcome
    assert [body["amount"] for _, _, body in house.changes()] == [120.0]
    assert newest(house, ticket_id).status is ApprovalStatus.EXECUTED


def test_a_rejected_edit_does_nothing(house: House) -> None:
    ticket_id, asked = refund(house)
    new = edited(house, asked, 120.0)
    say(house, new, by="lee@elm.example", approve=False)
    outcome = house.run()[ticket_id]
    assert isinstance(outcome, HandedOver) and new.id in outcome.packet.why_stopped and house.changes() == []


def test_an_edit_only_lowers_money(house: House) -> None:
    _, asked = refund(house)
    for amount in (180.0, 181, 0, -5, True, "120"):
        with pytest.raises(BadInput):
            edited(house, asked, amount)
    with pytest.raises(BadInput, match="payment_id cannot be edited"):
        edit(asked, PLAYBOOK.actions["billing.refund"], {"payment_id": "PAY-99002"}, by="kim@x", epoch=0)
    with pytest.raises(Forbidden):
        edited(house, asked, 120.0, by=BEN)
