"""One contract for every act, on the real store and the real sandbox: what is looked at, what is sent, what is undone, what is frozen."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.actions import Idempotency, Limits
from orchestrator.domain.resolution import AwaitingApproval, HandedOver, Observation, ObservationStatus, Resolved, StepRecord
from orchestrator.ports import SystemsOfRecord
from orchestrator.resolution.drive import Work, drive
from orchestrator.resolution.runbooks import Act as ActStep
from orchestrator.storage.store import PostgresStore
from tests.integration.resolution_world import House, clock, open_desk, world

ADA, BEN, FAY = "ada.quill@elm.example", "ben.reed@elm.example", "fay.moor@elm.example"
RESET = "/identity/users/usr-001/password-reset"
FORGOT = "I forgot my password and now I am locked out."


@pytest.fixture
def house(store: PostgresStore, tmp_path: Path) -> Iterator[House]:
    with open_desk(store, tmp_path) as desk:
        yield desk


def act_of(house: House, ticket_id: str) -> StepRecord:
    steps = house.store.run(lambda tx: tx.steps([ticket_id]))[ticket_id]
    return next(step for step in steps if step.writes)


def sent(house: House, path: str) -> list[dict[str, Any]]:
    return [call for call in house.sandbox.calls() if call["method"] != "GET" and call["path"] == path]


def with_action(house: House, name: str, **changes: Any) -> None:
    """The same desk with one catalogue entry changed."""
    playbook = house.desk.playbook
    actions = {**playbook.actions, name: replace(playbook.actions[name], **changes)}
    house.desk = replace(house.desk, playbook=replace(playbook, actions=actions))


def approve(house: House, ticket_id: str) -> None:
    def decide(tx: Any) -> None:
        waiting = tx.approvals_of([ticket_id])[ticket_id][-1]
        tx.decide(waiting.id, approve=True, reason="checked", by="lead", now=clock())

    house.store.run(decide)


class Meanwhile:
    """The real systems, where something happens the moment before a certain call."""

    def __init__(self, systems: SystemsOfRecord, action: str, happens: Callable[[], None]) -> None:
        self.systems, self.action, self.happens = systems, action, happens

    def call(self, action: str, arguments: Mapping[str, Any], *, idempotency_key: str | None = None) -> Observation:
        if action == self.action and self.happens is not None:
            happens, self.happens = self.happens, lambda: None
            happens()
        return self.systems.call(action, arguments, idempotency_key=idempotency_key)


# --- just before ------------------------------------------------------------------------------------------------------


def test_an_act_keeps_what_its_target_looked_like_before_and_after_and_what_its_probe_said(house: House) -> None:
    ticket_id, outcome = house.handle("password_reset", FORGOT, by=ADA, portal=True)
    assert isinstance(outcome, Resolved), outcome
    step = act_of(house, ticket_id)
    assert step.before is not None and step.before.body["status"] == "locked" and step.before.read == "identity.get_user"
    assert step.after is not None and step.after.body["status"] == "active" and step.before.state != step.after.state
    assert step.verification is not None and step.verification.confirmed
    events = house.store.run(lambda tx: tx.events(ticket_id=ticket_id, limit=100))[0]
    intended = next(e for e in events if e["kind"] == "intended" and e["body"]["proposal"]["writes"])
    assert intended["body"]["target"]["before"]["body"]["status"] == "locked"


def test_an_account_that_was_disabled_a_moment_ago_is_not_reset(house: House) -> None:
    changed = world()
    changed["users"][0]["status"] = "disabled"
    house.desk = replace(house.desk, systems=Meanwhile(house.systems, "identity.get_user", lambda: house.sandbox.seed(changed)))
    _, outcome = house.handle("password_reset", FORGOT, by=ADA, portal=True)
    assert isinstance(outcome, HandedOver) and "may not be done now" in outcome.packet.why_stopped, outcome
    assert house.changes() == []


def test_what_was_approved_is_not_done_when_its_target_has_changed_since(house: House) -> None:
    ticket_id, outcome = house.handle("access_request", "Please add me to the group travel-desk.", by=BEN, portal=True)
    assert isinstance(outcome, AwaitingApproval), outcome
    assert outcome.proposal.preview["before"]["body"]
    changed = world()
    changed["users"][1]["groups"] = ["staff", "leavers"]  # the very same arguments, on another state
    house.sandbox.seed(changed)
    approve(house, ticket_id)
    ended = house.run()[ticket_id]
    assert isinstance(ended, HandedOver) and "no longer fits" in ended.packet.why_stopped, ended
    assert house.changes() == []


# --- did it happen? -----------------------------------------------------------------------------------------------------


def test_an_act_whose_answer_was_lost_is_found_done_and_not_sent_again(house: House) -> None:
    house.sandbox.fail(RESET, "timeout_after", method="POST")
    ticket_id, outcome = house.handle("password_reset", FORGOT, by=ADA, portal=True)
    assert isinstance(outcome, Resolved), outcome
    assert len(sent(house, RESET)) == 1
    observation = act_of(house, ticket_id).observation
    assert observation is not None and observation.kind == "probed" and observation.evidence is not None
    assert observation.status is ObservationStatus.OK


def test_an_act_that_is_seen_not_to_have_happened_is_sent_again_with_the_same_key(house: House) -> None:
    house.sandbox.fail(RESET, "timeout_before", method="POST")
    _, outcome = house.handle("password_reset", FORGOT, by=ADA, portal=True)
    assert isinstance(outcome, Resolved), outcome
    calls = sent(house, RESET)
    assert [call["changed"] for call in calls] == [False, True] and len({call["idempotency_key"] for call in calls}) == 1


def test_what_may_be_done_once_only_is_never_sent_twice(house: House) -> None:
    with_action(house, "identity.reset_password", idempotency=Idempotency.NONE)
    house.sandbox.fail(RESET, "timeout_before", method="POST")
    _, outcome = house.handle("password_reset", FORGOT, by=ADA, portal=True)
    assert isinstance(outcome, HandedOver) and '"user_id":"usr-001"' in outcome.packet.why_stopped, outcome
    assert len(sent(house, RESET)) == 1


def test_an_end_that_nobody_can_see_is_looked_for_a_few_times_and_then_is_a_persons_with_the_exact_call(house: House) -> None:
    with_action(house, "identity.reset_password", idempotency=Idempotency.NONE, probe=None)
    house.sandbox.fail(RESET, "timeout_after", method="POST")
    ticket_id = house.say("password_reset", FORGOT, by=ADA, portal=True)
    tries = house.desk.playbook.policies.settings.unknown_tries
    for _ in range(tries - 1):
        assert house.run() == {}
        house.store.run(lambda tx: tx.wake([ticket_id]))
    outcome = house.run()[ticket_id]
    assert isinstance(outcome, HandedOver) and "unknown outcome" in outcome.packet.why_stopped, outcome
    assert "usr-001" in outcome.packet.why_stopped and len(sent(house, RESET)) == 1
    left = house.store.run(lambda tx: tx.unresolved())
    assert [(each["ticket_id"], each["action"]) for each in left] == [(ticket_id, "identity.reset_password")]
    assert house.store.run(lambda tx: tx.kpis())["unresolved_unknowns"] == 1


def test_an_act_that_was_answered_and_did_nothing_is_no_success(house: House) -> None:
    with_action(house, "identity.reset_password", probe=replace(house.desk.playbook.actions["identity.reset_password"].probe,
                expect=({"value": "$after.status", "is": "invited"},)))  # fmt: skip
    _, outcome = house.handle("password_reset", FORGOT, by=ADA, portal=True)
    assert isinstance(outcome, HandedOver) and "does not confirm" in outcome.packet.why_stopped, outcome
    assert "cannot be undone" in outcome.packet.why_stopped


# --- busy systems, limits, the breaker -----------------------------------------------------------------------------------


def test_a_system_that_is_busy_for_a_moment_is_waited_for_and_for_longer_is_left_alone(house: House) -> None:
    house.sandbox.fail(RESET, "busy", method="POST", delay_s=0.2)
    _, outcome = house.handle("password_reset", FORGOT, by=ADA, portal=True)
    assert isinstance(outcome, Resolved), outcome
    house.sandbox.fail("/identity", "busy", times=50, delay_s=30)
    house.say("mfa_reset", "New phone, my authenticator app is gone.", by=BEN, portal=True)
    driven, _ = house.drive_only()
    assert driven.waits == set(driven.retry) and driven.waits
    calls = len(house.sandbox.calls())
    house.say("mfa_reset", "I have a new phone.", by=FAY, portal=True)
    house.drive_only()
    assert len(house.sandbox.calls()) == calls  # nobody asks a system that said when to come back


def test_the_catalogues_limit_of_a_target_holds_across_tickets(house: House) -> None:
    with_action(house, "identity.reset_password", limits=Limits(per_target=1, target_window_minutes=60))
    _, first = house.handle("password_reset", FORGOT, by=ADA, portal=True)
    _, second = house.handle("password_reset", "My password is gone again.", by=ADA, portal=True)
    assert isinstance(first, Resolved) and isinstance(second, HandedOver), second
    assert "the limit is 1" in second.packet.why_stopped and len(sent(house, RESET)) == 1


def test_the_third_same_act_on_an_unchanged_target_is_frozen_until_a_lead_gives_it_free(house: House) -> None:
    ben = "/identity/users/usr-002/password-reset"  # active before, active after: nothing that counts changes
    ends = [house.handle("password_reset", f"I forgot my password. ({n})", by=BEN, portal=True)[1] for n in range(3)]
    assert [type(end) for end in ends] == [Resolved, Resolved, HandedOver], ends
    assert len(sent(house, ben)) == 2 and "frozen" in ends[2].packet.why_stopped
    frozen = house.store.run(lambda tx: tx.frozen())
    assert [(each.action, each.kind) for each in frozen] == [("identity.reset_password", "repeats")]
    kinds = [event["kind"] for event in house.store.run(lambda tx: tx.events(ticket_id=frozen[0].ticket_id, limit=100))[0]]
    assert "frozen" in kinds
    house.store.run(lambda tx: tx.unfreeze(frozen[0].action, frozen[0].target, reason="I called him", by="lead"))
    assert house.store.run(lambda tx: tx.frozen()) == []


def test_two_workers_that_refund_one_requester_at_once_cannot_both_pass_the_daily_cap(house: House) -> None:
    changed = world()
    changed["payments"] = [
        {"id": f"PAY-{n}{letter}", "account": "acc-elm", "currency": "EUR", "status": "captured", "refunded_amount": 0, "amount": 90.0,
         "at": changed["payments"][0]["at"], "duplicate_of": f"PAY-{n}1" if letter == "2" else None, "invoice": None}
        for n in (70, 71, 72) for letter in ("1", "2")
    ]  # fmt: skip
    house.sandbox.seed(changed)
    first = house.handle("refund", "Charged twice, please refund PAY-702.", by=FAY, portal=True)[1]
    assert isinstance(first, Resolved), first
    ids = [house.say("refund", f"Charged twice, please refund PAY-{n}2.", by=FAY, portal=True) for n in (71, 72)]
    claims = [house.store.run(lambda tx: tx.claim(worker="w", limit=1, lease_s=60))[0] for _ in ids]
    tickets, triages = house.store.run(lambda tx: (tx.tickets(ids), tx.triages(ids)))
    together = threading.Barrier(2)
    passed = threading.local()

    def reached(name: str) -> None:
        if name == "reobserved" and not getattr(passed, "once", False):
            passed.once = True
            together.wait(timeout=20)  # both were judged before either wrote anything

    house.desk = replace(house.desk, reached=reached)
    works = [Work(ticket=tickets[c.ticket_id], triage=triages[c.ticket_id], claim=c) for c in claims]
    with ThreadPoolExecutor(2) as workers:
        driven = list(workers.map(lambda work: drive([work], house.desk), works))
    ends = [end for each in driven for end in each.outcomes.values()]
    assert sorted(type(end).__name__ for end in ends) == ["AwaitingApproval", "Resolved"], ends
    assert len([change for change in house.changes() if change[1] == "/billing/refunds"]) == 2


# --- undone in reverse order --------------------------------------------------------------------------------------------


def with_a_second_act(house: House, session: str) -> None:
    """The runbook for access to a group, with one more act after it."""
    playbook = house.desk.playbook
    runbook = playbook.runbooks["access_grant"]
    more = ActStep.model_validate(
        {"act": "vpn.reset_session", "as": "closed", "owner": "$user.id", "with": {"session_id": session}, "preview": "Close"}
    )
    longer = runbook.model_copy(update={"steps": [*runbook.steps, more]})
    house.desk = replace(house.desk, playbook=replace(playbook, runbooks={**playbook.runbooks, "access_grant": longer}))


def grant(house: House) -> tuple[str, Any]:
    ticket_id, outcome = house.handle("access_request", "Please add me to the group travel-desk.", by=BEN, portal=True)
    while isinstance(outcome, AwaitingApproval):
        approve(house, ticket_id)
        outcome = house.run()[ticket_id]
    return ticket_id, outcome


def groups(house: House) -> list[str]:
    return next(user["groups"] for user in house.sandbox.state()["users"] if user["id"] == "usr-002")


def test_what_was_done_before_an_act_that_cannot_be_done_is_undone_and_verified(house: House) -> None:
    with_a_second_act(house, "vpn-nowhere")
    ticket_id, outcome = grant(house)
    assert isinstance(outcome, HandedOver), outcome
    assert "Give a user the rights of a group: undone at" in outcome.packet.why_stopped
    assert [change[0] for change in house.changes()] == ["POST", "DELETE"] and groups(house) == ["staff"]
    steps = house.store.run(lambda tx: tx.steps([ticket_id]))[ticket_id]
    given, undo = [step for step in steps if step.writes]
    assert undo.undoes == given.idempotency_key and undo.idempotency_key != given.idempotency_key
    assert undo.verdict is not None and undo.verdict.rule == "undo"
    assert undo.verification is not None and undo.verification.confirmed


def test_an_act_that_its_probe_denies_undoes_what_came_before_and_what_cannot_be_undone_is_said(house: House) -> None:
    with_a_second_act(house, "vpn-2")
    probe = house.desk.playbook.actions["vpn.reset_session"].probe
    with_action(house, "vpn.reset_session", probe=replace(probe, expect=({"value": "$after.state", "is": "connected"},)))
    _, outcome = grant(house)
    assert isinstance(outcome, HandedOver), outcome
    told = outcome.packet.why_stopped
    assert "Close a VPN session, so that the user can connect anew: cannot be undone." in told
    assert told.index("cannot be undone") < told.index("undone at") and groups(house) == ["staff"]


@pytest.mark.parametrize("point", ["reobserved", "intended", "answered", "verified", "observed"])
def test_a_worker_that_dies_while_it_undoes_leaves_an_undoing_that_is_finished_once(house: House, point: str) -> None:
    with_a_second_act(house, "vpn-nowhere")
    ticket_id, outcome = house.handle("access_request", "Please add me to the group travel-desk.", by=BEN, portal=True)
    assert isinstance(outcome, AwaitingApproval), outcome
    approve(house, ticket_id)
    passed: list[str] = []

    def reached(name: str) -> None:
        passed.append(name)
        if name == point and passed.count(name) == (3 if name == "reobserved" else 2):
            raise Died

    whole, house.desk = house.desk, replace(house.desk, reached=reached)
    with pytest.raises(Died):
        house.drive_only(lease_s=0.01)
    house.desk = whole
    ended = house.run()[ticket_id]
    assert isinstance(ended, HandedOver), ended
    assert [change[0] for change in house.changes()] == ["POST", "DELETE"] and groups(house) == ["staff"]


def test_where_an_undoing_was_begun_nothing_new_is_done_even_if_it_could_be_done_now(house: House) -> None:
    first = house.desk
    with_a_second_act(house, "vpn-nowhere")
    ticket_id, outcome = house.handle("access_request", "Please add me to the group travel-desk.", by=BEN, portal=True)
    assert isinstance(outcome, AwaitingApproval), outcome
    approve(house, ticket_id)
    seen: list[str] = []

    def reached(name: str) -> None:
        seen.append(name)
        if name == "intended" and seen.count(name) == 2:
            raise Died

    house.desk = replace(house.desk, reached=reached)
    with pytest.raises(Died):
        house.drive_only(lease_s=0.01)
    house.desk = first
    with_a_second_act(house, "vpn-2")  # meanwhile the second act could be done
    ended = house.run()[ticket_id]
    assert isinstance(ended, HandedOver) and "nothing new is done" in ended.packet.why_stopped, ended
    assert [change[0] for change in house.changes()] == ["POST", "DELETE"] and groups(house) == ["staff"]


class Died(RuntimeError):
    """The worker is gone."""
