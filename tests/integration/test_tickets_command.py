"""`cloister tickets submit` and `show` against a gateway under a real server and database."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from gateway_server import Gateway, key_of, running

from orchestrator.domain.errors import BadInput, ModelUnavailable, NotFound
from orchestrator.storage.store import PostgresStore
from serving.cli.main import exit_code
from serving.cli.tickets import render, tickets

ADA = "ada@northwind.example"


@pytest.fixture
def gateway(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    with running(store) as started:
        monkeypatch.setenv("CLOISTER_URL", started.url)
        monkeypatch.setenv("CLOISTER_API_KEY", key_of("admin"))
        yield started


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [{"id": f"INC-{n}", "subject": f"Printer {n} jams", "requester": ADA, "site": "Graz"} for n in range(1, 4)]
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(tickets, [str(argument) for argument in arguments])


def submitted(*arguments: Any) -> dict[str, Any]:
    return json.loads(run("submit", *arguments, "--json").stdout)


def test_a_file_is_submitted_and_its_tickets_are_there(gateway: Gateway, file: Path) -> None:
    result = submitted(file)
    assert (result["accepted"], result["refused"]) == (3, {})
    ticket = gateway.client("analyst").get(f"/v1/tickets/{result['tickets'][0]['id']}").json()
    assert (ticket["source"], ticket["external_id"], ticket["requester"]["email"]) == ("export.jsonl", "INC-1", ADA)
    assert ticket["context"] == {"site": "Graz"}


def test_the_same_file_again_adds_nothing(gateway: Gateway, file: Path) -> None:
    assert submitted(file)["tickets"] == submitted(file)["tickets"]
    assert len(gateway.client("analyst").get("/v1/tickets").json()["items"]) == 3


def test_another_file_of_the_same_name_without_ids_is_not_taken_for_the_first(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(f"subject,requester\nPrinter jams,{ADA}\n")
    first = submitted(path)["tickets"][0]["id"]
    assert submitted(path)["tickets"][0]["id"] == first
    path.write_text(f"subject,requester\nLaptop stolen,{ADA}\n")
    assert submitted(path)["tickets"][0]["id"] != first


def test_what_the_desk_refuses_is_named_with_its_line_and_the_others_go_on(gateway: Gateway, tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(
        "id,subject,requester,created_at\n"
        f"1,fine,{ADA},\n2,nobody wrote this,,\n3,no address,somebody,\n4,,{ADA},\n"
        f"5,ahead,{ADA},2199-01-01T00:00:00Z\n6,fine too,{ADA},\n"
    )
    ran = run("submit", path, "--json")
    result = json.loads(ran.stdout)
    assert ran.exit_code == 1 and result["accepted"] == 2
    assert {theirs: why.split(":")[0] for theirs, why in result["refused"].items()} == {
        "2": "line 3",
        "3": "line 4",
        "4": "line 5",
        "5": "line 6",
    }
    assert "--map requester=COLUMN" in result["refused"]["2"]


def test_a_file_with_a_bad_line_is_refused_whole(gateway: Gateway, file: Path) -> None:
    file.write_text(file.read_text() + "{\n")
    ran = run("submit", file)
    assert isinstance(ran.exception, BadInput) and ":4: not JSON" in str(ran.exception) and exit_code(ran.exception) == 3
    assert gateway.client("analyst").get("/v1/tickets").json()["items"] == []


def test_the_table_names_how_many_were_accepted(gateway: Gateway, file: Path) -> None:
    ran = run("submit", file)
    assert ran.exit_code == 0 and "3 tickets accepted, 0 refused" in ran.output


def test_to_wait_for_tickets_that_nobody_works_on_ends_with_a_sentence(gateway: Gateway, file: Path) -> None:
    ran = run("submit", file, "--wait", "--timeout", "1")
    assert isinstance(ran.exception, ModelUnavailable) and "3 tickets are still active" in str(ran.exception)
    assert exit_code(ran.exception) == 4


def test_a_gateway_that_is_not_there_says_what_is_left_to_do(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CLOISTER_API_KEY", "any")
    ran = run("submit", file)
    assert isinstance(ran.exception, ModelUnavailable) and "3 are left" in str(ran.exception)


def test_a_ticket_is_shown_as_text_and_as_json(gateway: Gateway) -> None:
    ticket_id = gateway.submit("Printer [bold]jams[/bold]")
    shown = run("show", ticket_id)
    assert shown.exit_code == 0 and "Printer [bold]jams[/bold]" in shown.output and "Not triaged yet" in shown.output
    assert json.loads(run("show", ticket_id, "--json").stdout)["id"] == ticket_id


def test_a_ticket_that_does_not_exist_is_exit_code_1(gateway: Gateway) -> None:
    ran = run("show", "T-999999")
    assert isinstance(ran.exception, NotFound) and exit_code(ran.exception) == 1


def test_everything_that_a_record_holds_is_shown() -> None:
    step = {"seq": 1, "action": "identity.reset_password", "arguments": {"user_id": "usr-1"}, "writes": True}
    step["verdict"] = {"decision": "allow", "rule": "own-record", "reason": "their own"}
    step["observation"] = {"status": "ok", "http_status": 200, "body": {"state": "sent"}}
    record = {
        "id": "T-1",
        "subject": "Password",
        "state": "escalated",
        "pending_on": "approval",
        "requester": {"email": ADA, "assurance": "proven"},
        "classification": {
            "category": "password_reset",
            "confidence": 0.97,
            "abstained": False,
            "stage": "head",
            "alternatives": [["password_reset", 0.97], ["mfa_reset", 0.02]],
        },
        "explanation": ["Category password_reset with 97% confidence."],
        "link": {
            "ticket_id": "T-0",
            "incident_id": "INC-1",
            "kind": "incident",
            "score": 0.9,
            "evidence": [{"kind": "words", "detail": "rare words shared", "weight": 1.1}],
        },
        "priority": {"level": 3, "sla_due_at": "2026-11-19T09:00:00Z", "reasons": ["impact 4 x urgency 2 gives P3"]},
        "assignment": {"group": "Service Desk", "assignee": "bo@desk.example", "reasons": ["speaks en"]},
        "resolution": {
            "runbook": "password_reset@1",
            "outcome": "resolved",
            "steps": [step],
            "verification": {"probe": "identity.get_user", "confirmed": True, "observed": "reset sent"},
        },
        "messages": [{"author": "desk", "at": "2026-11-18T09:00:00Z", "body": "A link is on its way."}],
        "handover": {
            "summary": "Reset twice.",
            "why_stopped": "limit reached",
            "checked": ["user is active"],
            "suggested_next_action": "call them",
        },
        "timeline": [{"at": "2026-11-18T09:00:00Z", "kind": "opened", "actor": "service"}],
    }
    text = "\n".join(render(record))
    for expected in (
        "waits for approval",
        "password_reset, 97%",
        "mfa_reset 2%",
        "Linked to T-0 of INC-1 as incident (score 0.90)",
        "+1.10  rare words shared",
        "P3, due 2026-11-19",
        "To Service Desk, bo@desk.example",
        'identity.reset_password {"user_id": "usr-1"}',
        "verdict: allow by own-record; their own",
        "observed: ok 200",
        "verified with identity.get_user: confirmed; reset sent",
        "A link is on its way.",
        "Stopped because: limit reached",
        "checked: user is active",
        "Next: call them",
        "opened  by service",
    ):
        assert expected in text, text
