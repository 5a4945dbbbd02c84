"""The whole product on this machine, once: the real stack, the bundled day through it, and what people do with it from outside."""

import json

import openai
import pytest

from serving.demo.grade import Report, grade
from serving.demo.replay import Replay
from tests.acceptance.conftest import Running

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def replayed(running: Running) -> Report:
    replay = Replay(day=running.day, url=running.url, sandbox_url=running.sandbox_url, keys=running.keys, progress=lambda *_: None)
    records = replay.run()
    assert not replay.refused
    return grade(records, running.day.truth, replay.sandbox("/_calls"), replay.sandbox("/_state").get("mail") or ())


def test_every_ticket_of_the_day_comes_to_an_outcome(running: Running, replayed: Report) -> None:
    assert replayed.tickets == len(running.day.tickets)
    assert "active" not in replayed.outcomes


def test_the_day_ends_without_a_wrong_action(replayed: Report) -> None:
    assert replayed.wrong_action_list == ()


def test_nothing_is_called_resolved_that_the_world_does_not_confirm(replayed: Report) -> None:
    unverified = [g for g in replayed.grades if g.outcome == "resolved" and "resolved, but" in "; ".join(g.problems)]
    assert unverified == []


def test_routine_tickets_are_resolved_with_no_human_touch(replayed: Report) -> None:
    assert replayed.resolved["of_eligible"] >= 0.90
    assert replayed.resolved["of_all"] >= 0.25


def test_look_alikes_stay_apart_and_incidents_come_together(replayed: Report) -> None:
    assert replayed.linking["false_merge"] <= 0.02
    assert replayed.linking["recall"] >= 0.80


def test_the_audit_log_is_whole_after_the_day(running: Running, replayed: Report) -> None:
    answer = running.get("/v1/audit/verify", role="auditor")
    assert answer.status_code == 200
    assert answer.json()["whole"] is True


def test_a_stock_openai_client_can_chat_complete_and_embed(running: Running) -> None:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.keys["admin"])
    names = [model.id for model in client.models.list().data]
    ask = {"model": names[0], "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 4}
    chat = client.chat.completions.create(**ask)
    assert chat.usage is not None and chat.usage.completion_tokens > 0
    pieces = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert pieces[-1].usage is not None and pieces[-1].usage.completion_tokens > 0
    assert client.completions.create(model=names[0], prompt="Hello", max_tokens=4).choices[0].text
    embedder = next(name for name in names if "MiniLM" in name)
    assert len(client.embeddings.create(model=embedder, input=["a", "b"]).data) == 2


def test_a_ticket_over_http_is_waited_for(running: Running) -> None:
    body = {"subject": "it's broken", "description": "it's broken", "requester": {"email": "nobody@elsewhere.example"}}
    answer = running.post("/v1/tickets", body, wait=60)
    assert answer.status_code == 200
    assert answer.json()["state"] in {"pending", "escalated"}


def test_scores_come_from_the_live_adapter_and_a_missing_one_is_an_error(running: Running) -> None:
    items = [{"prompt": "Ticket:\nprinter\nType:\n", "options": ["A", "B"]}]
    answer = running.post("/v1/score", {"model": "live", "items": items}, role="ml-engineer")
    assert answer.status_code == 200
    assert len(answer.json()["logprobs"][0]) == 2
    missing = running.post("/v1/score", {"model": "nobody@sha256-" + "0" * 64, "items": items}, role="ml-engineer")
    assert missing.status_code in {404, 503}


def test_status_and_doctor_say_that_all_is_well(running: Running) -> None:
    status = running.command("status", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["parts"]["language_model"]["aliases"]["live"].startswith("triage@sha256-")
    doctor = running.command("doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout
