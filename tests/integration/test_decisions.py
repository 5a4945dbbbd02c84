"""Decisions of governance in the log: every one recorded with its facts, judged again to the very same verdict; budgets counted."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gateway_server import key_of, running

from orchestrator.domain.errors import NotFound
from orchestrator.domain.resolution import AwaitingApproval, HandedOver, Resolved
from orchestrator.resolution.playbook import COMPANY
from orchestrator.resolution.policies import Policies
from orchestrator.resolution.replay import replay
from orchestrator.storage.store import PostgresStore
from serving.cli.policy import policy
from tests.integration.resolution_world import PLAYBOOK, House, clock, open_desk

ADA, BEN, FAY = "ada.quill@elm.example", "ben.reed@elm.example", "fay.moor@elm.example"


@pytest.fixture
def house(store: PostgresStore, tmp_path: Path) -> Iterator[House]:
    with open_desk(store, tmp_path) as desk:
        yield desk


def decisions(house: House, **query: Any) -> list[dict[str, Any]]:
    """All of them, page by page, as they leave the desk: JSON."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page, cursor = house.store.run(lambda tx: tx.decisions(cursor=cursor, limit=3, **query))  # noqa: B023
        found += page
        if cursor is None:
            return json.loads(json.dumps(found))


def a_day(house: House) -> None:
    """Tickets that are allowed, refused, handed over, asked about and waiting for somebody."""
    house.say("password_reset", "My account is locked, please reset my password.", by=ADA, portal=True)
    house.say("refund", "I was charged twice for invoice INV-20431, please refund.", by=FAY, portal=True)
    house.say("refund", "Order ORD-70013 never arrived, please refund me.", by=BEN, portal=True)
    house.say("access_request", "I need access to the group fin-reporting-read.", by=BEN, portal=True)
    house.say("invoice", "Please send me invoice INV-20432 again.", by=BEN, portal=True)
    house.say("service_outage", "The depot terminals in Graz are down.", by=ADA, portal=True)
    house.say("service_outage", "The dashboards are slow for all of us.", by=ADA)
    house.say("service_outage", "Till sync is down, all tills are stuck.", by=ADA)
    house.say("sign_in_failure", "SSO shows a certificate error, I cannot sign in.", by=ADA, portal=True)
    house.say("refund", "My lawyer will hear of this if you do not refund me.", by=BEN, portal=True)
    house.run()


def test_every_recorded_decision_comes_out_the_same_under_the_same_policies(house: House) -> None:
    a_day(house)
    found = decisions(house)
    said = {each["basis"]["decision"] for each in found}
    assert {"allow", "needs_approval", "hand_over"} <= said, said
    assert {"ticket", "identity.reset_password", "billing.refund", "monitoring.restart_service"} <= {
        each["basis"]["action"] or "ticket" for each in found
    }
    again = replay(found, PLAYBOOK.policies)
    assert [row for row in again.rows if not row.same] == [] and len(again.rows) == len(found)
    assert {each["basis"]["policies"] for each in found} == {PLAYBOOK.policies.digest}


def test_other_policies_show_what_would_have_changed(house: House) -> None:
    a_day(house)
    figures = PLAYBOOK.policies.settings.model_copy(update={"refund_limit": 10.0, "wide_confidence": 1.0})
    stricter = Policies(rules=PLAYBOOK.policies.rules, changes=PLAYBOOK.policies.changes, settings=figures)
    table = replay(decisions(house), stricter).table()
    assert [(row["was"], row["becomes"], row["amount"]) for row in table] == [("allow", "needs_approval", 49.0)], table
    nothing_standard = Policies(
        rules=PLAYBOOK.policies.rules,
        changes=tuple(row for row in PLAYBOOK.policies.changes if row.change != "standard"),
        settings=PLAYBOOK.policies.settings,
    )
    (row,) = replay(decisions(house), nothing_standard).table()
    assert (row["was"], row["becomes"], row["rules"]) == ("allow", "needs_approval", ["normal-change"])
    without = Policies(
        rules=tuple(rule for rule in PLAYBOOK.policies.rules if rule.id != "own-sign-in"),
        changes=PLAYBOOK.policies.changes,
        settings=PLAYBOOK.policies.settings,
    )
    (row,) = replay(decisions(house), without).table()
    assert (row["was"], row["becomes"], row["rules"]) == ("allow", "deny", ["default"])


def test_decisions_can_be_asked_for_by_ticket_and_by_time(house: House) -> None:
    a_day(house)
    every = decisions(house)
    one = every[0]["ticket_id"]
    assert decisions(house, ticket_id=one) == [each for each in every if each["ticket_id"] == one] != []
    assert decisions(house, since=clock() + timedelta(minutes=1)) == []


def test_what_waits_for_an_approval_is_recorded_once_and_the_step_carries_no_copy(house: House) -> None:
    ticket_id, outcome = house.handle("sign_in_failure", "SSO shows a certificate error, I cannot sign in.", by=ADA, portal=True)
    assert isinstance(outcome, AwaitingApproval)
    assert (outcome.verdict.rule, outcome.verdict.quorum, outcome.verdict.change) == ("normal-change", 2, "normal")
    assert outcome.verdict.basis is None
    about_act = [each for each in decisions(house, ticket_id=ticket_id) if each["basis"]["action"]]
    assert [each["basis"]["decision"] for each in about_act] == ["needs_approval"]
    done, resolved = house.handle("password_reset", "My account is locked, please reset my password.", by=ADA, portal=True)
    assert isinstance(resolved, Resolved), resolved
    steps = house.store.run(lambda tx: tx.steps([done]))[done]
    assert any(step.writes for step in steps) and all(step.verdict and step.verdict.basis is None for step in steps)


def test_refunds_of_the_day_count_for_requester_account_and_desk(house: House) -> None:
    _, first = house.handle("refund", "I was charged twice for invoice INV-20431, please refund.", by=FAY, portal=True)
    assert isinstance(first, Resolved), first
    now = clock()
    spent = house.store.run(
        lambda tx: tx.spending(day=now - timedelta(days=1), hour=now - timedelta(hours=1), since=now - timedelta(days=14))
    )
    (row,) = spent
    assert (row.action, row.requester, row.account, row.amount, row.acts_last_hour) == ("billing.refund", FAY, "acc-elm", 49.0, 1)
    tomorrow = house.store.run(
        lambda tx: tx.spending(day=now + timedelta(1), hour=now + timedelta(1), since=now - timedelta(days=14))
    )
    assert [(each.amount, each.acts_last_hour, each.acts_in_window) for each in tomorrow] == [(0.0, 0, 1)]


def test_the_fourth_refund_ticket_of_a_day_goes_to_a_person(house: House) -> None:
    for _ in range(3):
        house.say("refund", "Please refund, but what for I do not say.", by=FAY)
    house.run()
    ticket_id, outcome = house.handle("refund", "I was charged twice for invoice INV-20431, please refund.", by=FAY, portal=True)
    assert isinstance(outcome, HandedOver) and "number 4" in outcome.packet.why_stopped, outcome
    assert house.changes() == []
    (about_act,) = [each for each in decisions(house, ticket_id=ticket_id) if each["basis"]["action"]]
    assert about_act["basis"]["rule"] == "refund-tried-again-and-again"


def test_a_lower_account_cap_counts_what_others_of_the_account_were_given(house: House) -> None:
    rules = PLAYBOOK.policies
    capped = Policies(
        rules=rules.rules,
        changes=rules.changes,
        settings=rules.settings.model_copy(update={"refund_account_cap": 60.0, "refund_limit": 500.0}),
    )
    house.desk = replace(house.desk, playbook=replace(PLAYBOOK, policies=capped))
    _, first = house.handle("refund", "I was charged twice for invoice INV-20431, please refund.", by=FAY, portal=True)
    assert isinstance(first, Resolved), first
    _, second = house.handle("refund", "Order ORD-70013 never arrived, please refund me.", by=BEN, portal=True)
    assert isinstance(second, AwaitingApproval), second
    assert second.verdict.rule == "refund-account-cap" and "229.00" in second.verdict.reason, second.verdict


def test_the_command_replays_and_explains_what_the_running_stack_recorded(
    house: House, store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket_id, _ = house.handle("password_reset", "My account is locked, please reset my password.", by=ADA, portal=True)
    runner, saved = CliRunner(), tmp_path / "decisions.jsonl"
    with running(store) as gateway:
        monkeypatch.setenv("CLOISTER_URL", gateway.url)
        monkeypatch.setenv("CLOISTER_API_KEY", key_of("auditor"))
        same = runner.invoke(policy, ["replay", "--policies", str(COMPANY / "policies"), "--save", str(saved), "--json"])
        explained = runner.invoke(policy, ["explain", "--ticket", ticket_id, "--json"])
        nothing = runner.invoke(policy, ["explain", "--ticket", "T-9999"])
        later = runner.invoke(
            policy, ["replay", "--policies", str(COMPANY / "policies"), "--since", "2199-01-01T00:00:00Z", "--json"]
        )
        assert gateway.client("analyst").get("/v1/decisions").status_code == 403
    assert same.exit_code == 0, same.output
    found = json.loads(same.stdout)
    assert found["decisions"] == found["same"] == len(saved.read_text().splitlines()) == 2
    assert json.loads(later.stdout)["decisions"] == 0
    by_action = {each["action"]: each["rule"] for each in json.loads(explained.stdout)}
    assert by_action == {None: "none", "identity.reset_password": "own-sign-in"}
    assert isinstance(nothing.exception, NotFound)
