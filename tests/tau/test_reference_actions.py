"""tau2's reference actions pass our governance, go over our connector, and leave the reference's world."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from orchestrator.domain.resolution import Decision
from tests.tau import data
from tests.tau.replay import Conversation, Desk, Replayed, exceptions, main, reference_actions, replay
from tests.tau.said import Scenario
from tests.tau.world.records import Records
from tests.tau.world.server import TOOLS

TASKS = {"retail": 114, "airline": 50}
ACTS = {"retail": 180, "airline": 50}
REFUSED_BY_BOTH = {"retail": {"64", "105"}, "airline": set()}


@pytest.fixture(scope="module")
def replayed(desk: Desk) -> list[Replayed]:
    return [replay(desk, task) for task in data.tasks(desk.domain)]


def test_every_task_passes_but_the_listed_ones_and_those_do_not(desk: Desk, replayed: list[Replayed]) -> None:
    failed = {each.task: each.problems for each in replayed if not each.passed}
    assert len(replayed) == TASKS[desk.domain]
    assert set(failed) == set(exceptions(desk.domain)), failed
    assert all(len(reason) > 40 for reason in exceptions(desk.domain).values())


def test_every_act_is_allowed_or_refused_by_the_references_own_tool(desk: Desk, replayed: list[Replayed]) -> None:
    acts = [(each.task, act) for each in replayed for act in each.acts]
    refused = {task for task, act in acts if not act.allowed}
    assert len(acts) == ACTS[desk.domain]
    assert refused == REFUSED_BY_BOTH[desk.domain] | set(exceptions(desk.domain))
    assert {task for task, act in acts if act.impossible} == REFUSED_BY_BOTH[desk.domain]


def test_what_was_done_is_what_was_allowed_each_exactly_once(desk: Desk) -> None:
    task = next(each for each in data.tasks(desk.domain) if len(reference_actions(each)) > 4 and _writes(desk, each) > 1)
    done = replay(desk, task)
    assert done.passed
    assert len(desk.world.written) == sum(act.allowed for act in done.acts) == _writes(desk, task)


def _writes(desk: Desk, task: dict[str, Any]) -> int:
    return sum(desk.playbook.actions[f"{desk.domain}.{each['name']}"].writes for each in reference_actions(task))


def test_a_task_without_reference_acts_leaves_the_world_untouched(desk: Desk, replayed: list[Replayed]) -> None:
    quiet = [each for each in replayed if not each.acts]
    assert quiet
    assert all(each.state_equal for each in quiet)
    for each in quiet[:3]:
        replay(desk, next(task for task in data.tasks(desk.domain) if task["id"] == each.task))
        assert desk.world.written == []
        assert not any(desk.world.records.state().values())


def test_the_same_key_again_is_answered_from_memory_and_changes_nothing(desk: Desk) -> None:
    if desk.domain != "retail":
        pytest.skip("one domain shows it")
    desk.world.reset()
    arguments = {"order_id": "#W8665881", "reason": "no longer needed"}
    first = desk.systems.call("retail.cancel_pending_order", arguments, idempotency_key="k-1")
    state = desk.world.records.state()
    again = desk.systems.call("retail.cancel_pending_order", arguments, idempotency_key="k-1")
    assert first.body == again.body
    assert desk.world.records.state() == state
    assert len(desk.world.written) == 1
    other = desk.systems.call("retail.cancel_pending_order", arguments, idempotency_key="k-2")
    assert other.http_status == 422


def test_the_world_lets_nobody_write_with_the_token_for_reading(desk: Desk) -> None:
    desk.world.reset()
    url = f"{desk.world.url}/transfers"
    reader = {"Authorization": f"Bearer {desk.world.tokens[desk.domain, 'read']}", "Idempotency-Key": "k"}
    assert httpx.post(url, json={"summary": "x"}, headers=reader).status_code == 403
    assert httpx.post(url, json={"summary": "x"}, headers={"Idempotency-Key": "k"}).status_code == 401
    writer = {"Authorization": f"Bearer {desk.world.tokens[desk.domain, 'write']}"}
    assert httpx.post(url, json={"summary": "x"}, headers=writer).status_code == 400


def test_an_argument_that_nobody_named_and_no_record_holds_is_refused(desk: Desk) -> None:
    if desk.domain != "retail":
        pytest.skip("one domain shows it")
    desk.world.reset()
    task = next(each for each in data.tasks("retail") if each["id"] == "0")
    conversation = Conversation(desk, Scenario.of(task), ticket_id="made-up")
    wanted = reference_actions(task)[-1]["arguments"]
    verdict = conversation.judge("retail.exchange_delivered_order_items", {**wanted, "new_item_ids": ["7706410293", "1111111111"]})
    assert (verdict.decision, verdict.rule) == (Decision.DENY, "provenance")
    assert conversation.judge("retail.exchange_delivered_order_items", wanted).decision is Decision.ALLOW


def test_the_command_says_what_passed_and_ends_with_zero(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--domain", "retail", "--task", "105", "--json"]) == 0
    assert '"acts_refused_by_both":1' in capsys.readouterr().out
    assert main(["--domain", "airline", "--task", "39"]) == 0
    assert "cancellation-not-covered" in capsys.readouterr().out


CANCEL = ("retail.cancel_pending_order", {"order_id": "#W5056519", "reason": "ordered by mistake"})  # of task 113


def _canceller(desk: Desk) -> Conversation:
    if desk.domain != "retail":
        pytest.skip("one domain shows it")
    desk.world.reset()
    return Conversation(desk, Scenario.of(next(each for each in data.tasks("retail") if each["id"] == "113")), ticket_id="T-113")


def test_an_order_cancelled_by_somebody_between_the_verdict_and_the_act_is_not_cancelled_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation, reads, read = _canceller(desk), [], TOOLS["retail"]["get_order_details"]

    def meanwhile(records: Records, arguments: Mapping[str, Any]) -> Any:
        reads.append(arguments["order_id"])
        if len(reads) == 2:  # the runbook has looked; now the desk looks again, just before it acts
            records.edit("orders", arguments["order_id"])["status"] = "cancelled"
        return read(records, arguments)

    monkeypatch.setitem(TOOLS["retail"], "get_order_details", meanwhile)
    judged = conversation.act(*CANCEL)
    assert judged.allowed
    assert "just before it did not hold" in str(judged.problem)
    assert desk.world.written == []


def test_an_act_that_was_answered_but_changed_nothing_is_no_success(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = _canceller(desk)
    monkeypatch.setitem(TOOLS["retail"], "cancel_pending_order", TOOLS["retail"]["get_order_details"])
    judged = conversation.act(*CANCEL)
    assert judged.allowed
    assert str(judged.problem).endswith("the probe did not confirm it")
