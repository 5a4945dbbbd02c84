"""Approvals over HTTP: words, links, edits, the command line; against a real PostgreSQL."""

import re
from datetime import datetime, timedelta

import httpx
import psycopg
import pytest
from click.testing import CliRunner
from desk_records import proposal
from gateway_desk import ask_approval, settle
from gateway_server import Gateway, problem

from orchestrator.domain.resolution import AwaitingApproval, Decision, Provenance, Verdict
from serving.cli.approvals import approvals
from serving.gateway import links

EXECUTES = {"decision": "approve", "reason": "checked"}


def ask_refund(gateway: Gateway, now: datetime, *, quorum: int = 1, amount: float = 180.0) -> str:
    ticket_id = gateway.submit("Refund please")
    asked = proposal(ticket_id, key=f"key-{ticket_id}")
    verdict = Verdict(
        decision=Decision.NEEDS_APPROVAL, rule="refund-over-limit", reason="above", approvers="approver", quorum=quorum
    )
    arguments = {"payment_id": "PAY-1", "amount": amount, "reason": "lost"}
    known = dict.fromkeys(arguments, Provenance(source="record", detail="billing.list_payments"))
    made = type(asked)(
        **{**vars(asked), "action": "billing.refund", "arguments": arguments, "provenance": known, "digest": f"d-{ticket_id}"}
    )
    settle(gateway.store, ticket_id, AwaitingApproval(proposal=made, verdict=verdict, reply="wait"), now=now, category="refund")
    return gateway.store.run(lambda tx: tx.approvals_of([ticket_id]))[ticket_id][0].id


def test_two_people_of_a_board_decide_and_one_cannot_twice(gateway: Gateway, now: datetime) -> None:
    asked = ask_refund(gateway, now, quorum=2)
    first = gateway.client("approver").post(f"/v1/approvals/{asked}", json=EXECUTES)
    assert (first.status_code, first.json()["status"], len(first.json()["votes"])) == (200, "waiting", 1)
    problem(gateway.client("approver").post(f"/v1/approvals/{asked}", json=EXECUTES), 409)
    assert gateway.client("lead").post(f"/v1/approvals/{asked}", json=EXECUTES).json()["status"] == "approved"
    assert gateway.client("auditor").get(f"/v1/approvals/{asked}").json()["decided_by"] == "approver, lead"


def test_the_same_request_twice_is_one_word(gateway: Gateway, now: datetime) -> None:
    asked = ask_refund(gateway, now, quorum=2)
    client = gateway.client("approver")
    answers = [client.post(f"/v1/approvals/{asked}", json=EXECUTES, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200] and answers[1].headers["Idempotent-Replayed"] == "true"
    assert len(client.get(f"/v1/approvals/{asked}").json()["votes"]) == 1


def test_an_edit_waits_for_somebody_else(gateway: Gateway, now: datetime) -> None:
    asked, client = ask_refund(gateway, now), gateway.client("approver")
    problem(client.post(f"/v1/approvals/{asked}/edit", json={"arguments": {"amount": 500}, "reason": "more"}), 422)
    problem(client.post(f"/v1/approvals/{asked}/edit", json={"arguments": {"payment_id": 5}, "reason": "other"}), 422)
    made = client.post(f"/v1/approvals/{asked}/edit", json={"arguments": {"amount": 120}, "reason": "no shipping"})
    assert made.status_code == 201 and made.json()["proposal"]["arguments"]["amount"] == 120
    new = made.json()["id"]
    assert "stands in its place" in problem(gateway.client("lead").post(f"/v1/approvals/{asked}", json=EXECUTES), 409)["detail"]
    problem(client.post(f"/v1/approvals/{new}", json=EXECUTES), 403)
    assert gateway.client("lead").post(f"/v1/approvals/{new}", json=EXECUTES).json()["status"] == "approved"


# --- links ---


def browser(gateway: Gateway) -> httpx.Client:
    """Somebody without key or session."""
    return httpx.Client(base_url=gateway.client().base_url)


def link(gateway: Gateway, asked: str, *, to: str = "kim@house.example", **more: object) -> str:
    answer = gateway.client("lead").post(f"/v1/approvals/{asked}/links", json={"to": to, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["path"])


def test_a_link_shows_one_frozen_action_and_decides_it_once(gateway: Gateway, now: datetime) -> None:
    asked = ask_refund(gateway, now)
    path = link(gateway, asked)
    with browser(gateway) as client:
        for _ in range(3):  # mail scanners look, too
            page = client.get(path)
            assert page.status_code == 200 and "billing.refund" in page.text and "kim@house.example" in page.text
        assert gateway.client("lead").get(f"/v1/approvals/{asked}").json()["status"] == "waiting"
        assert client.post(path, data={"decision": "approve", "reason": ""}).status_code == 422
        assert client.post(path, data={"decision": "approve", "reason": "checked"}).status_code == 200
        assert client.post(path, data={"decision": "reject", "reason": "no"}).status_code == 409
    decided = gateway.client("lead").get(f"/v1/approvals/{asked}").json()
    assert (decided["status"], decided["decided_by"]) == ("approved", "kim@house.example")


def test_a_link_that_was_changed_is_over_or_is_for_something_else_opens_nothing(gateway: Gateway, now: datetime, dsn: str) -> None:
    asked, other = ask_refund(gateway, now), ask_refund(gateway, now)
    path = link(gateway, asked)
    head, nonce, expires, mac = (*path.rpartition("/")[0:1], *path.rpartition("/")[2].split("."))
    with browser(gateway) as client:
        assert client.get(f"{head}/nonsense").status_code == 404
        assert client.get(f"{head}/{nonce}.{int(expires) + 600}.{mac}").status_code == 410  # a longer life
        assert client.get(f"{head}/{nonce}.{expires}.{'0' * 32}").status_code == 410
        with psycopg.connect(dsn) as connection:  # somebody who can write the database, and has no key
            connection.execute("UPDATE approval_link SET approval = (SELECT number FROM approval WHERE id = %s)", [other])
        assert client.get(path).status_code == 410
        assert client.post(path, data={"decision": "approve", "reason": "x"}).status_code == 410


def test_a_link_is_made_for_somebody_who_may_decide(gateway: Gateway, now: datetime) -> None:
    asked = ask_refund(gateway, now)
    requester = gateway.store.run(lambda tx: tx.ticket(tx.approval(asked).ticket_id)).requester.email
    problem(gateway.client("lead").post(f"/v1/approvals/{asked}/links", json={"to": requester}), 403)
    problem(gateway.client("approver").post(f"/v1/approvals/{asked}/links", json={"to": "kim@x"}), 403)
    gateway.client("approver").post(f"/v1/approvals/{asked}", json=EXECUTES)
    problem(gateway.client("lead").post(f"/v1/approvals/{asked}/links", json={"to": "kim@x"}), 409)


def test_a_token_is_good_for_exactly_what_it_was_made_for() -> None:
    until = datetime.now().astimezone() + timedelta(hours=1)
    bound = {"approval": "A-1", "digest": "d", "person": "kim", "role": "lead"}
    text = links.token("secret", nonce=links.new_nonce(), expires_at=until, **bound)
    assert links.genuine(text, "secret", now=until - timedelta(minutes=1), **bound)
    assert not links.genuine(text, "secret", now=until, **bound)
    assert not links.genuine(text, "other", now=until - timedelta(minutes=1), **bound)
    for name in bound:
        assert not links.genuine(text, "secret", now=until - timedelta(minutes=1), **{**bound, name: "x"})


# --- the command line ---


def test_the_command_lists_shows_decides_edits_and_links(gateway: Gateway, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ask_refund(gateway, now)
    monkeypatch.setenv("CLOISTER_URL", str(gateway.client().base_url))
    monkeypatch.setenv("CLOISTER_API_KEY", gateway.client("lead").headers["Authorization"].removeprefix("Bearer "))
    run = CliRunner().invoke
    assert asked in run(approvals, ["list"]).output
    assert "billing.refund" in run(approvals, ["show", asked]).output
    path = run(approvals, ["link", asked, "--to", "kim@x"]).output
    assert re.search(r"/console/approvals/link/\S+", path)
    edited = run(approvals, ["edit", asked, "--amount", "100", "--reason", "less"]).output
    new = edited.split()[0]
    assert f"{new} stands in the place of {asked}" in edited
    own = run(approvals, ["approve", new, "--reason", "fine"])
    assert own.exception is not None and "somebody else" in str(own.exception)
    another = ask_approval(gateway.store, gateway.submit("More"), now=now)
    assert "rejected (0 of 1 yes)" in run(approvals, ["reject", another, "--reason", "no"]).output
