"""The ladder, the sample and chaos days over HTTP and on the command line, against a real PostgreSQL."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from gateway_desk import hand_over, resolve
from gateway_server import Gateway, problem

from orchestrator.resolution.playbook import load_playbook
from serving.cli.autonomy import autonomy

PLAYBOOK = load_playbook()


@pytest.fixture
def cli(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    gateway.store.run(lambda tx: tx.ladder.begin(PLAYBOOK.first_rungs(), now=gateway_now()))
    monkeypatch.setenv("CLOISTER_URL", str(gateway.client().base_url))
    monkeypatch.setenv("CLOISTER_API_KEY", gateway.client("lead").headers["Authorization"].removeprefix("Bearer "))
    return CliRunner()


def gateway_now() -> datetime:
    return datetime.now().astimezone()


def test_the_ladder_shows_every_type_with_what_the_next_rung_demands(gateway: Gateway) -> None:
    rows = gateway.client("lead").get("/v1/autonomy").json()["items"]
    assert {row["type"] for row in rows} == set(PLAYBOOK.first_rungs())
    network = next(row for row in rows if row["type"] == "network")
    assert (network["rung"], network["trust"]) == ("suggest", 20)
    assert not network["next"]["allowed"]


def test_a_lead_moves_a_type_down_and_cannot_move_it_up_on_trust(gateway: Gateway) -> None:
    lead = gateway.client("lead")
    down = lead.post("/v1/autonomy/refund", json={"rung": "approve", "reason": "new policy"})
    assert (down.status_code, down.json()["from"], down.json()["to"]) == (200, "full", "approve")
    up = problem(lead.post("/v1/autonomy/refund", json={"rung": "notify", "reason": "we trust it"}), 409)
    assert "0 tickets acted on, 50 needed" in up["detail"]
    assert lead.get("/v1/autonomy/refund").json()["moves"][0]["target"] == "approve"
    problem(lead.post("/v1/autonomy/refunds", json={"rung": "approve", "reason": "x"}), 404)
    problem(lead.post("/v1/autonomy/refund", json={"rung": "approve", "reason": "x"}), 409)
    problem(lead.post("/v1/autonomy/refund", json={"rung": "top", "reason": "x"}), 422)
    problem(gateway.client("analyst").post("/v1/autonomy/refund", json={"rung": "shadow", "reason": "x"}), 403)


def test_one_type_is_stopped_and_goes_on(gateway: Gateway) -> None:
    lead = gateway.client("lead")
    assert lead.post("/v1/kill-switch", json={"stopped": True, "reason": "odd", "type": "refund"}).json()["type"] == "refund"
    stopped = {row["type"]: row["stopped"] for row in lead.get("/v1/autonomy").json()["items"] if row["stopped"]}
    assert list(stopped) == ["refund"] and stopped["refund"]["reason"] == "odd"
    assert lead.post("/v1/kill-switch", json={"stopped": False, "reason": "fine", "type": "refund"}).status_code == 200
    assert not any(row["stopped"] for row in lead.get("/v1/autonomy").json()["items"])
    problem(lead.post("/v1/kill-switch", json={"stopped": True, "reason": "odd", "type": "refnud"}), 404)


def test_a_sampled_ticket_is_judged_once_and_leaves_the_list(gateway: Gateway, now: datetime) -> None:
    ids = []
    for n in range(12):
        ids.append(gateway.submit(f"Locked out {n}"))
        resolve(gateway.store, ids[-1], now=now)
    analyst = gateway.client("analyst")
    waiting = [row["id"] for row in analyst.get("/v1/qa").json()["items"]]
    assert 0 < len(waiting) < 12 and set(waiting) <= set(ids)  # half of the first ones
    assert analyst.post(f"/v1/qa/{waiting[0]}", json={"finding": "right", "reason": "as it should be"}).status_code == 200
    assert waiting[0] not in [row["id"] for row in analyst.get("/v1/qa").json()["items"]]
    assert waiting[0] in [row["id"] for row in analyst.get("/v1/qa?open=false").json()["items"]]
    handed = gateway.submit("Odd thing")
    hand_over(gateway.store, handed, now=now)
    problem(analyst.post(f"/v1/qa/{handed}", json={"finding": "right", "reason": "x"}), 409)
    problem(analyst.post("/v1/qa/T-999999", json={"finding": "right", "reason": "x"}), 409)
    problem(analyst.post(f"/v1/qa/{waiting[0]}", json={"finding": "good", "reason": "x"}), 422)


def test_a_chaos_day_is_planned_reported_and_cancelled(gateway: Gateway, now: datetime) -> None:
    lead = gateway.client("lead")
    hours = {"starts_at": (now + timedelta(hours=1)).isoformat(), "ends_at": (now + timedelta(hours=4)).isoformat()}
    made = lead.post("/v1/chaos-days", json={"type": "order_status", **hours, "reason": "drill"})
    assert made.status_code == 201
    day = made.json()["id"]
    assert lead.get(f"/v1/chaos-days/{day}").json()["response"]["tickets"] == 0
    problem(lead.post("/v1/chaos-days", json={"type": "order_status", **hours, "reason": "drill"}), 409)
    problem(lead.post("/v1/chaos-days", json={"type": "service_outage", **hours, "reason": "drill"}), 409)
    assert lead.post(f"/v1/chaos-days/{day}/cancel", json={"reason": "outage"}).json()["cancelled_because"] == "outage"
    problem(lead.post(f"/v1/chaos-days/{day}/cancel", json={"reason": "outage"}), 409)
    problem(lead.get("/v1/chaos-days/C-99"), 404)


# --- the command line ---


def test_the_command_shows_moves_and_refuses(cli: CliRunner) -> None:
    assert "refund" in cli.invoke(autonomy, ["show"]).output
    assert "full → suggest" in cli.invoke(autonomy, ["move", "refund", "suggest", "--reason", "new policy"]).output
    refused = cli.invoke(autonomy, ["move", "refund", "approve", "--reason", "again"])
    assert refused.exception is not None and "does not carry approve" in str(refused.exception)
    shown = json.loads(cli.invoke(autonomy, ["show", "refund", "--json"]).output)
    assert (shown["rung"], shown["moves"][0]["by"]) == ("suggest", "lead")
    assert cli.invoke(autonomy, ["stop", "vpn", "--reason", "odd"]).output == "vpn: stopped\n"
    assert cli.invoke(autonomy, ["resume", "vpn", "--reason", "fine"]).output == "vpn: goes on\n"
    planned = json.loads(
        cli.invoke(autonomy, ["chaos", "plan", "order_status", "--hours", "2", "--reason", "drill", "--json"]).output
    )
    assert planned["id"] in cli.invoke(autonomy, ["chaos", "report"]).output
    assert "tickets: 0" in cli.invoke(autonomy, ["chaos", "report", planned["id"]]).output
    assert cli.invoke(autonomy, ["chaos", "cancel", planned["id"], "--reason", "x"]).output == f"{planned['id']}: cancelled\n"
    assert "no time" in str(cli.invoke(autonomy, ["chaos", "plan", "vpn", "--starts", "soon", "--reason", "x"]).exception)
    assert "automate" in cli.invoke(autonomy, ["scorecard"]).output
    assert "0 of the sample" in cli.invoke(autonomy, ["sample"]).output


def test_an_export_gets_its_scorecard_without_a_stack(tmp_path: Path) -> None:
    rows, decisions = [], []
    for n in range(240):
        kind = "order_status" if n % 4 else "security_incident"
        text = f"Where is my order {70000 + n}?" if n % 4 else f"A phishing mail number {n} came"
        came = f"2026-{1 + n // 80:02}-15T10:00:00Z"
        rows.append({"id": str(n), "subject": text, "description": text, "category": kind, "created_at": came})
        decisions.append({"id": str(n), "would_resolve": kind == "order_status"})
    file, decided = tmp_path / "export.jsonl", tmp_path / "decisions.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    decided.write_text("\n".join(map(json.dumps, decisions)))
    run = CliRunner().invoke(autonomy, ["scorecard", "--tickets", str(file), "--decisions", str(decided), "--json"])
    found = {row["type"]: row for row in json.loads(run.output)["types"]}
    assert (found["order_status"]["verdict"], found["security_incident"]["verdict"]) == ("now", "never"), found
    blind = json.loads(CliRunner().invoke(autonomy, ["scorecard", "--tickets", str(file), "--json"]).output)
    assert (
        next(row for row in blind["types"] if row["type"] == "order_status")["verdict"] == "later"
    )  # nothing says it could be acted on
    decided.write_text("nonsense")
    wrong = CliRunner().invoke(autonomy, ["scorecard", "--tickets", str(file), "--decisions", str(decided)])
    assert "decisions.jsonl:1 is no decision" in str(wrong.exception)
