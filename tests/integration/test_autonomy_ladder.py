"""The ladder at work: real store, real sandbox, and the gateway over it."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.autonomy import Evidence, Finding, Move
from orchestrator.domain.errors import Conflict
from orchestrator.domain.resolution import AwaitingApproval, HandedOver, Resolved, Rung
from orchestrator.domain.tickets import State
from orchestrator.pipeline.ladder import keep_ladder
from orchestrator.storage.store import PostgresStore
from serving.gateway import ladder
from tests.integration.resolution_world import PLAYBOOK, House, clock, open_desk

ADA, FAY = "ada.quill@elm.example", "fay.moor@elm.example"
DONE_BY_HAND = "UPDATE ticket SET state_by = 'kim', state = 'resolved', state_reason = 'done by hand' WHERE id = %s"
LOCKED = "I forgot my password and now I am locked out."


@pytest.fixture
def house(store: PostgresStore, tmp_path: Path) -> Iterator[House]:
    with open_desk(store, tmp_path) as desk:
        desk.store.run(lambda tx: tx.ladder.begin(PLAYBOOK.first_rungs(), now=clock()))
        yield desk


def put(house: House, type: str, rung: Rung) -> None:
    """As if evidence, or a person, had moved it there."""
    at = house.store.run(lambda tx: tx.ladder.rungs()[type])
    move = Move(type=type, start=at, target=rung, allowed=True, why="a test")
    house.store.run(lambda tx: tx.ladder.move(move, evidence=None, by="kim", reason="a test", now=clock() - timedelta(days=30)))


def outbox(house: House, kind: str) -> list[dict[str, Any]]:
    due = house.store.run(lambda tx: tx.outbox_due(limit=100, now=clock() + timedelta(minutes=5)))
    return [dict(item.payload) for item in due if item.kind == kind]


# --- what each rung lets happen ---


def test_in_shadow_a_type_decides_does_nothing_and_says_nothing(house: House) -> None:
    put(house, "password_reset", Rung.SHADOW)
    ticket_id, outcome = house.handle("password_reset", LOCKED, by=ADA, portal=True)
    assert isinstance(outcome, HandedOver)
    assert house.changes() == []
    assert outbox(house, "reply") == []
    assert [m for m in house.ticket(ticket_id).messages if m.author == "desk"] == []
    record = house.store.run(lambda tx: tx.ticket_record(ticket_id))
    assert "identity.reset_password" in str(record)  # what it would have done is there to compare with what people do
    assert house.store.run(lambda tx: tx.ladder.evidence(now=clock()))["password_reset"].decided == 1


def test_as_a_suggestion_a_colleague_finds_the_prepared_step_and_nothing_is_done(house: House) -> None:
    put(house, "password_reset", Rung.SUGGEST)
    _, outcome = house.handle("password_reset", LOCKED, by=ADA, portal=True)
    assert isinstance(outcome, HandedOver) and outcome.reply
    assert "identity.reset_password" in outcome.packet.suggested_next_action
    assert house.changes() == []


def test_on_approve_it_waits_for_a_person(house: House) -> None:
    put(house, "password_reset", Rung.APPROVE)
    _, outcome = house.handle("password_reset", LOCKED, by=ADA, portal=True)
    assert isinstance(outcome, AwaitingApproval) and outcome.verdict.rule == "rung-approve"
    assert house.changes() == []


def test_on_notify_it_is_done_and_colleagues_are_told(house: House) -> None:
    put(house, "password_reset", Rung.NOTIFY)
    _, outcome = house.handle("password_reset", LOCKED, by=ADA, portal=True)
    assert isinstance(outcome, Resolved)
    assert "without a person" in outbox(house, "note")[0]["body"]


def test_on_full_it_is_done_and_nobody_need_look(house: House) -> None:
    _, outcome = house.handle("password_reset", LOCKED, by=ADA, portal=True)
    assert isinstance(outcome, Resolved)
    assert not [note for note in outbox(house, "note") if "without a person" in note["body"]]


def test_a_type_without_a_standing_and_without_a_file_acts_in_shadow(house: House) -> None:
    with house.store.transaction() as tx:
        tx._connection.execute("DELETE FROM autonomy")
    careful = replace(PLAYBOOK, ladder=PLAYBOOK.ladder.model_copy(update={"start": {}}))
    house.desk = replace(house.desk, playbook=careful)
    _, outcome = house.handle("password_reset", LOCKED, by=ADA, portal=True)
    assert isinstance(outcome, HandedOver) and house.changes() == []


# --- stopping one type ---


def test_a_stopped_type_goes_to_people_and_the_others_go_on(house: House) -> None:
    house.store.run(lambda tx: tx.ladder.set_type_switch("password_reset", stopped=True, reason="odd resets", by="kim"))
    _, stopped = house.handle("password_reset", LOCKED, by=ADA, portal=True)
    _, other = house.handle("vpn", "My VPN session hangs since this morning.", by=FAY, portal=True)
    assert isinstance(stopped, HandedOver) and "password_reset (odd resets)" in stopped.packet.why_stopped
    assert isinstance(other, Resolved)
    house.store.run(lambda tx: tx.ladder.set_type_switch("password_reset", stopped=False, reason="mended", by="kim"))
    assert isinstance(house.handle("password_reset", LOCKED, by=ADA, portal=True)[1], Resolved)


def test_on_a_chaos_day_people_take_the_type_and_how_they_do_is_measured(house: House) -> None:
    now = clock()
    day = house.store.run(
        lambda tx: tx.ladder.plan_chaos_day(
            type="vpn", starts_at=now - timedelta(minutes=1), ends_at=now + timedelta(hours=2), by="kim", reason="drill"
        )
    )
    ticket_id, outcome = house.handle("vpn", "My VPN session hangs since this morning.", by=FAY, portal=True)
    assert isinstance(outcome, HandedOver) and f"Chaos day {day.id}" in outcome.packet.why_stopped
    assert house.changes() == []
    with house.store.transaction() as tx:
        tx._connection.execute(
            "UPDATE ticket SET state_by = 'kim', state = 'resolved', state_reason = 'done by hand' WHERE id = %s", [ticket_id]
        )
    measured = house.store.run(lambda tx: tx.ladder.human_response("vpn", starts_at=day.starts_at, ends_at=day.ends_at))
    assert (measured.tickets, measured.resolved, measured.open) == (1, 1, 0) and measured.median_resolution_min is not None
    house.store.run(lambda tx: tx.ladder.cancel_chaos_day(day.id, because="enough", by="kim", now=clock()))
    assert isinstance(house.handle("vpn", "My VPN session hangs again.", by=FAY, portal=True)[1], Resolved)


def test_a_chaos_day_with_too_much_waiting_ends_by_itself(house: House) -> None:
    now = clock()
    house.store.run(
        lambda tx: tx.ladder.plan_chaos_day(
            type="vpn", starts_at=now - timedelta(minutes=1), ends_at=now + timedelta(hours=2), by="kim", reason="drill"
        )
    )
    house.handle("vpn", "My VPN session hangs since this morning.", by=FAY, portal=True, level=1)
    with house.store.transaction() as tx:
        tx._connection.execute("UPDATE ticket SET priority = 1, category = 'vpn'")
    changed = house.store.run(lambda tx: keep_ladder(tx, PLAYBOOK, clock))
    assert changed == ["C-1 ended early: 1 urgent ticket(s) of the type are open."]
    assert house.store.run(lambda tx: tx.ladder.stopped_types(now=clock())) == {}


# --- evidence and moves ---


def test_what_was_done_counts_as_evidence_and_a_reopening_turns_it(house: House) -> None:
    ticket_id, _ = house.handle("password_reset", LOCKED, by=ADA, portal=True)
    seen = house.store.run(lambda tx: tx.ladder.evidence(now=clock()))["password_reset"]
    assert (seen.acted, seen.verified, seen.reopened) == (1, 1, 0)
    house.store.run(lambda tx: tx.reopen(ticket_id, reason="still locked", by="kim"))
    seen = house.store.run(lambda tx: tx.ladder.evidence(now=clock()))["password_reset"]
    assert (seen.acted, seen.verified, seen.reopened) == (1, 0, 1)


def test_promotion_without_evidence_is_refused_with_what_is_missing(house: House) -> None:
    put(house, "password_reset", Rung.APPROVE)
    with pytest.raises(Conflict, match=r"does not carry notify.*0 tickets acted on, 50 needed"):
        house.store.run(
            lambda tx: ladder.moved(tx, PLAYBOOK, "password_reset", Rung.NOTIFY, reason="we trust it", by="kim", now=clock())
        )
    assert house.store.run(lambda tx: tx.ladder.rungs())["password_reset"] is Rung.APPROVE


def test_going_down_needs_no_evidence_and_is_in_the_log(house: House) -> None:
    house.store.run(
        lambda tx: ladder.moved(tx, PLAYBOOK, "refund", Rung.SUGGEST, reason="new refund policy", by="kim", now=clock())
    )
    assert house.store.run(lambda tx: tx.ladder.rungs())["refund"] is Rung.SUGGEST
    events, _ = house.store.run(lambda tx: tx.events(ticket_id=None, limit=500))
    moved = [event for event in events if event["kind"] == "autonomy_moved"]
    assert moved[-1]["actor"] == "kim" and moved[-1]["body"]["to"] == "suggest"


def test_one_harmful_finding_sends_the_type_down_by_itself(house: House) -> None:
    ticket_id, _ = house.handle("password_reset", LOCKED, by=ADA, portal=True)
    assert house.store.run(lambda tx: keep_ladder(tx, PLAYBOOK, clock)) == []
    house.store.run(lambda tx: tx.ladder.find(ticket_id, Finding.HARMFUL, reason="not their account", by="kim", now=clock()))
    changed = house.store.run(lambda tx: keep_ladder(tx, PLAYBOOK, clock))
    assert changed and "password_reset went down from full to notify" in changed[0]
    assert (
        house.store.run(lambda tx: keep_ladder(tx, PLAYBOOK, clock)) == []
    )  # judged anew from here on, not for the same ticket again


def test_a_move_that_was_judged_on_an_older_standing_is_refused(house: House) -> None:
    stale = Move(type="refund", start=Rung.APPROVE, target=Rung.NOTIFY, allowed=True, why="")
    with pytest.raises(Conflict, match="not on approve any more"):
        house.store.run(
            lambda tx: tx.ladder.move(stale, evidence=Evidence(type="refund", days=0), by="kim", reason="", now=clock())
        )


def test_only_what_the_desk_resolved_is_sampled(house: House) -> None:
    handed, _ = house.handle("Others", "Something odd.", by=ADA)
    with pytest.raises(Conflict, match="the sample is of tickets that the desk resolved"):
        house.store.run(lambda tx: tx.ladder.find(handed, Finding.RIGHT, reason="fine", by="kim", now=clock()))


def test_the_desk_knows_its_own_scorecard(house: House) -> None:
    for _ in range(3):
        house.handle("order_status", "Where is my order ORD-70012?", by=FAY, portal=True)
    card = house.store.run(lambda tx: ladder.scorecard(tx, PLAYBOOK))
    row = next(each for each in card["types"] if each["type"] == "order_status")
    assert row["tickets"] == 3 and row["verdict"] == "later" and "volume" in row["because"]
    assert row["marks"]["data_access"]["score"] == 2
    assert not card["large_enough"]
    assert house.ticket("T-1001").state is State.RESOLVED
