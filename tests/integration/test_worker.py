"""The worker from claim to outcome, on the real store, connector and sandbox: graded by the end state of the world."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.domain.errors import Conflict
from orchestrator.pipeline.worker import is_dead, process_name
from orchestrator.storage.store import PostgresStore
from tests.integration.worker_office import Died, Office, open_office


@pytest.fixture
def office(store: PostgresStore, dsn: str, tmp_path: Path) -> Iterator[Office]:
    with open_office(store, dsn, tmp_path) as opened:
        yield opened


RESET = "POST /identity/users/usr-p1/password-reset"

# --- batches ------------------------------------------------------------------------------------------------------------


def test_a_batch_of_many_matters_costs_one_embedding_call_and_each_goes_its_own_way(office: Office) -> None:
    matters = ("password_reset", "mfa_reset", "vpn", "software_license", "hardware")
    ids = {matter: office.submit(matter, "p1") for matter in matters}
    order = office.submit("order_status", "c1")
    assert office.work() == 1
    assert office.embedder.calls[0] == 6
    assert {matter: office.state(ids[matter]) for matter in matters} == {
        **dict.fromkeys(matters, "resolved"),
        "hardware": "escalated",
    }
    assert office.state(order) == "resolved" and "ORD-1" in office.told(order)[0]
    assert office.effects() == {
        RESET: 1,
        "POST /identity/users/usr-p1/mfa-reset": 1,
        "POST /vpn/sessions/vpn-1/reset": 1,
        "POST /billing/licenses/lic-1/renew": 1,
    }
    assert office.store.run(lambda tx: tx.queue_depth()) == 0


def test_what_is_intended_stands_in_the_log_before_what_was_observed(office: Office) -> None:
    ticket = office.submit("password_reset", "p1")
    office.work()
    timeline = office.record(ticket)["timeline"]
    acts = [
        event["kind"] for event in timeline if "reset_password" in str(event["body"]) and event["kind"] in {"intended", "observed"}
    ]
    assert acts == ["intended", "observed"]
    kinds = [event["kind"] for event in timeline]
    assert (
        kinds.index("opened") < kinds.index("triaged") < kinds.index("intended") < kinds.index("verified") < kinds.index("outcome")
    )
    assert office.store.run(lambda tx: tx.verify_chain())["whole"]


def test_reports_of_one_outage_look_at_the_monitoring_once_per_round(office: Office) -> None:
    text = "The service svc-0 is down, svc-0 does not answer at all since this morning."
    for person in ("p0", "p1", "p2"):
        office.submit("service_outage", person, text=text)
    office.work()
    asked = [call for call in office.sandbox.calls() if call["path"] == "/monitoring/alerts"]
    assert len(asked) < 3  # the house asks once for the batch, the lead's runbook once more


# --- after a death ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_worker_that_dies_at_the_act_leaves_it_to_the_next_one_which_acts_once(office: Office, moment: str) -> None:
    ticket = office.submit("password_reset", "p1")
    office.systems.dies_at = lambda action, when: action == "identity.reset_password" and when == moment
    with pytest.raises(Died):
        office.work()
    assert office.kinds(ticket)["outcome"] == 0
    office.systems.dies_at = lambda action, when: False
    assert office.work() == 0  # the lease still runs
    office.let_leases_end()
    assert office.another().work_once() == 1
    assert office.state(ticket) == "resolved"
    assert office.effects() == {RESET: 1}
    assert len(office.told(ticket)) == 1


def test_a_worker_that_dies_after_the_act_and_before_the_outcome_does_not_act_again(office: Office) -> None:
    ticket = office.submit("password_reset", "p1")
    looks: list[str] = []

    def at_the_probe(action: str, when: str) -> bool:
        """The first look is just before the act, the second just after it."""
        looks.extend([action] if action == "identity.get_user" and when == "before" else [])
        return action == "identity.get_user" and len(looks) == 2

    office.systems.dies_at = at_the_probe
    with pytest.raises(Died):
        office.work()
    assert office.effects() == {RESET: 1}
    office.systems.dies_at = lambda action, when: False
    office.let_leases_end()
    office.another().work_once()
    assert office.state(ticket) == "resolved"
    sent = [call for call in office.sandbox.calls() if call["path"].endswith("/password-reset")]
    assert len(sent) == 1  # it is seen to have happened, so it is not even sent again


@pytest.mark.parametrize("kind", ["timeout_after", "error_500_after"])
def test_an_act_that_happened_without_an_answer_is_found_done_at_once(office: Office, kind: str) -> None:
    ticket = office.submit("password_reset", "p1")
    office.sandbox.fail("/identity/users/usr-p1/password-reset", kind, times=3, method="POST")
    office.work()
    assert office.state(ticket) == "resolved" and office.effects() == {RESET: 1}
    assert len([call for call in office.sandbox.calls() if call["path"].endswith("/password-reset")]) == 1


@pytest.mark.parametrize("kind", ["timeout_before", "error_500"])
def test_an_act_without_an_answer_happens_once_in_the_end(office: Office, kind: str) -> None:
    ticket = office.submit("password_reset", "p1")
    office.sandbox.fail("/identity/users/usr-p1/password-reset", kind, times=3, method="POST")
    office.work()
    assert office.state(ticket) == "active" and office.job(ticket)["failures"] == 1
    assert office.told(ticket) == []  # nothing is claimed that was not confirmed
    office.let_pauses_end()
    office.work()
    assert office.state(ticket) == "resolved"
    assert office.effects() == {RESET: 1}
    keys = {call["idempotency_key"] for call in office.sandbox.calls() if call["path"].endswith("/password-reset")}
    assert len(keys) == 1


def test_a_refused_act_is_handed_over_and_not_tried_again(office: Office) -> None:
    ticket = office.submit("account_activation", "p1")  # active already: there is nothing to activate
    office.work()
    assert office.state(ticket) == "escalated"
    assert office.effects() == {}
    assert "active" in office.record(ticket)["handover"]["why_stopped"]


# --- leases -------------------------------------------------------------------------------------------------------------


def test_a_worker_whose_lease_was_lost_writes_nothing(office: Office) -> None:
    ticket = office.submit("password_reset", "p1")

    def lose() -> None:
        """A second worker takes the ticket while the first one waits for the model."""
        office.embedder.meanwhile = lambda: None
        office.let_leases_end()
        with office.store.transaction() as tx:
            assert [claim.ticket_id for claim in tx.claim(worker="second", limit=1, lease_s=60)] == [ticket]

    office.embedder.meanwhile = lose
    office.worker.work_once()
    assert office.record(ticket)["classification"] is None
    assert office.kinds(ticket) == {"opened": 1}
    assert office.effects() == {}


def test_the_others_of_a_batch_go_on_when_one_lease_is_lost(office: Office) -> None:
    lost, kept = office.submit("password_reset", "p1"), office.submit("vpn", "p2")

    def lose() -> None:
        office.embedder.meanwhile = lambda: None
        office._sql(f"UPDATE job SET lease_until = clock_timestamp() - interval '1 s' WHERE ticket = {lost.removeprefix('T-')}")
        with office.store.transaction() as tx:
            assert [claim.ticket_id for claim in tx.claim(worker="second", limit=5, lease_s=60)] == [lost]

    office.embedder.meanwhile = lose
    office.worker.work_once()
    assert office.state(kept) == "resolved"
    assert office.kinds(lost) == {"opened": 1}
    office.let_leases_end()
    office.work()
    assert office.state(lost) == "resolved"
    assert office.effects() == {RESET: 1, "POST /vpn/sessions/vpn-2/reset": 1}


def test_what_a_dead_neighbor_held_is_taken_up_before_its_lease_ends(office: Office) -> None:
    ticket = office.submit("password_reset", "p1")
    with subprocess.Popen([sys.executable, "-c", ""]) as neighbor:
        pass
    name = f"{process_name(neighbor.pid)}:1"
    assert is_dead(name) and not is_dead(f"{process_name(os.getpid())}:1") and not is_dead("elsewhere/1:1:1")
    with office.store.transaction() as tx:
        tx.claim(worker=name, limit=1, lease_s=3600)
    with office.running():
        office.wait_until(lambda: office.state(ticket) == "resolved")


# --- what is away, and what is bad --------------------------------------------------------------------------------------


def test_absent_models_cost_a_ticket_no_attempt_however_long(office: Office) -> None:
    ticket = office.submit("password_reset", "p1")
    office.embedder.away = True
    for _ in range(8):
        assert office.worker.work_once() == 1
        assert office.state(ticket) == "active"
        office.let_pauses_end()
    assert office.job(ticket)["failures"] == 0 and office.job(ticket)["dead_at"] is None
    assert "away" in office.worker.status()["trouble"]
    office.embedder.away = False
    office.work()
    assert office.state(ticket) == "resolved"
    assert office.worker.status()["trouble"] == ""


def test_a_model_that_goes_away_in_the_middle_of_a_runbook_costs_no_attempt_either(office: Office) -> None:
    ticket = office.submit("hardware", "p1")
    office.work()
    office.answer(ticket, "It is the left one of the two monitors.")
    office.embedder.away = True  # triage stands; the search for articles needs the words of the answer embedded
    office.work()
    assert office.state(ticket) == "active" and office.job(ticket)["failures"] == 0
    office.embedder.away = False
    office.let_pauses_end()
    office.work()
    assert office.state(ticket) == "escalated"


def test_one_bad_ticket_goes_to_a_person_in_the_end_and_holds_nobody_up(office: Office) -> None:
    bad, good = office.submit("vpn", "p1", text="poison"), office.submit("password_reset", "p1")
    office.work()
    assert office.state(good) == "resolved"
    assert office.state(bad) == "active" and office.job(bad)["failures"] == 1
    for _ in range(5):
        office.let_pauses_end()
        office.work()
    assert office.state(bad) == "escalated"
    assert "breaks the embedder" in office.record(bad)["handover"]["why_stopped"]
    assert office.kinds(bad)["given_up"] == 1
    office.let_pauses_end()
    assert office.work() == 0
    assert office.effects() == {RESET: 1}


def test_a_system_of_record_that_stays_away_ends_with_a_person_too(office: Office) -> None:
    ticket = office.submit("password_reset", "p1")
    office.sandbox.fail("/identity/users", "error_500", times=1000)
    for _ in range(6):
        office.work()
        office.let_pauses_end()
    assert office.state(ticket) == "escalated"
    assert office.effects() == {}


# --- people in between --------------------------------------------------------------------------------------------------


def test_an_approved_refund_is_paid_once(office: Office) -> None:
    ticket = office.submit("refund", "c1")
    office.work()
    assert office.state(ticket) == "pending" and office.effects() == {}
    office.decide(ticket, approve=True)
    with pytest.raises(Conflict):
        office.decide(ticket, approve=True)
    office.work()
    assert office.state(ticket) == "resolved"
    assert office.effects() == {"POST /billing/refunds": 1}
    (approval,) = office.record(ticket)["approvals"]
    assert approval["status"] == "executed" and approval["decided_by"] == "lena"
    with office.store.transaction() as tx:
        tx.wake([ticket])  # somebody looks at it once more
    office.work()
    assert office.effects() == {"POST /billing/refunds": 1}


def test_an_approved_refund_is_paid_once_though_the_worker_died_over_it(office: Office) -> None:
    ticket = office.submit("refund", "c1")
    office.work()
    office.decide(ticket, approve=True)
    office.systems.dies_at = lambda action, when: action == "billing.refund" and when == "after"
    with pytest.raises(Died):
        office.work()
    office.systems.dies_at = lambda action, when: False
    office.let_leases_end()
    office.another().work_once()
    assert office.state(ticket) == "resolved"
    assert office.effects() == {"POST /billing/refunds": 1}


def test_a_rejected_refund_changes_nothing_and_goes_to_a_person(office: Office) -> None:
    ticket = office.submit("refund", "c1")
    office.work()
    office.decide(ticket, approve=False)
    office.work()
    assert office.state(ticket) == "escalated"
    assert office.effects() == {}


def test_the_requesters_code_brings_the_ticket_on(office: Office) -> None:
    ticket = office.submit("mfa_reset", "p1", portal=False)
    office.work()
    assert office.state(ticket) == "pending" and office.effects() == {}
    office.answer(ticket, f"Here is the code: {office.code('p1')}")
    office.work()
    assert office.state(ticket) == "resolved"
    assert office.effects() == {"POST /identity/users/usr-p1/mfa-reset": 1}
    assert office.record(ticket)["requester"]["assurance"] == "proven"


# --- incidents ----------------------------------------------------------------------------------------------------------


def test_reports_of_one_outage_are_resolved_with_the_first_of_them(office: Office) -> None:
    text = "The service svc-0 is down, svc-0 does not answer at all since this morning."
    lead, *others = [office.submit("service_outage", person, text=text) for person in ("p0", "p1", "p2")]
    office.work()
    assert office.state(lead) == "pending"  # a Tier 0 service: the board approves
    assert {office.record(other)["outcome"] for other in others} == {"linked"}
    office.decide(lead, approve=True)
    office.work()
    assert [office.state(ticket) for ticket in (lead, *others)] == ["resolved"] * 3
    assert office.effects() == {"POST /monitoring/services/svc-0/restart": 1}
    assert all(len(office.told(other)) == 2 for other in others)  # linked, resolved


# --- delivery and housekeeping ------------------------------------------------------------------------------------------


def test_replies_and_states_arrive_in_order_and_once(office: Office) -> None:
    office.submit("refund", "c1")
    office.work()
    office.decide("T-1001", approve=True)
    office.work()
    assert office.deliver() == 6
    calls = [call for call in office.sandbox.calls() if call["system"] == "helpdesk"]
    assert [call["path"].rsplit("/", 1)[1] for call in calls] == 2 * ["replies", "notes", "status"]
    assert [call["body"]["state"] for call in calls if "state" in call["body"]] == ["pending", "resolved"]
    assert office.deliver() == 0


def test_nothing_overtakes_what_could_not_be_told(office: Office) -> None:
    office.submit("password_reset", "p1")
    other = office.submit("vpn", "p2")
    office.work()
    office.sandbox.fail("/helpdesk/tickets/password_reset-p1/replies", "error_500", times=1, method="POST")
    assert office.deliver() == 3  # the other ticket's reply, note and state
    assert {call["path"].split("/")[3] for call in office.sandbox.calls() if call["changed"] and call["system"] == "helpdesk"} == {
        office.record(other)["external_id"]
    }
    assert office.deliver() == 0
    office.let_pauses_end()
    assert office.deliver() == 3
    first = [call for call in office.sandbox.calls() if call["changed"] and "password_reset-p1" in call["path"]]
    assert [call["path"].rsplit("/", 1)[1] for call in first] == ["replies", "notes", "status"]


@pytest.mark.parametrize("kind", ["timeout_after", "error_500_after", "timeout_before"])
def test_a_reply_that_met_a_silent_system_is_delivered_later_and_once(office: Office, kind: str) -> None:
    ticket = office.submit("password_reset", "p1")
    office.work()
    office.sandbox.fail("/helpdesk", kind, times=1, method="POST")
    office.deliver()
    assert office.store.run(lambda tx: tx.outbox_unsent()) >= 1
    office.let_pauses_end()
    while office.deliver():
        pass
    assert office.store.run(lambda tx: tx.outbox_unsent()) == 0
    replies = office.sandbox.state()["helpdesk"][0]["replies"]
    assert [reply["body"] for reply in replies] == office.told(ticket)


def test_a_running_worker_takes_what_comes_delivers_it_and_stops_when_asked(office: Office) -> None:
    with office.running():
        ticket = office.submit("password_reset", "p1")
        office.wait_until(lambda: office.state(ticket) == "resolved" and not office.store.run(lambda tx: tx.outbox_unsent()))
    assert office.worker.ready and office.worker.status()["handled"] == 1
