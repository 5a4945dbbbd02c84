"""Tickets over HTTP: in, out, waiting, messages, corrections. Against a real PostgreSQL, under a real server."""

import threading
import time
from datetime import datetime
from typing import Any

from gateway_desk import ask_requester, claim, hand_over, join, resolve
from gateway_server import Gateway, problem, ticket


def record(gateway: Gateway, ticket_id: str) -> dict[str, Any]:
    answer = gateway.client("service").get(f"/v1/tickets/{ticket_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_ticket_is_taken_in_and_answered_with_its_id(gateway: Gateway) -> None:
    answer = gateway.client("service").post("/v1/tickets", json=ticket("VPN hangs", context={"page": "/vpn"}))
    assert answer.status_code == 202
    assert answer.json() == {"id": "T-1001", "state": "active"}
    assert answer.headers["location"] == "/v1/tickets/T-1001"
    found = record(gateway, "T-1001")
    assert (found["subject"], found["description"], found["context"]) == ("VPN hangs", "VPN hangs. Please help.", {"page": "/vpn"})
    assert [event["kind"] for event in found["timeline"]] == ["opened"]
    not_yet = ("classification", "link", "priority", "assignment", "resolution", "reply", "handover")
    assert [found[name] for name in not_yet] == [None] * len(not_yet)


def test_the_same_source_and_external_id_again_is_the_same_ticket(gateway: Gateway) -> None:
    client = gateway.client("service")
    first = client.post("/v1/tickets", json=ticket("Printer", source="jira", external_id="JSM-7"))
    again = client.post("/v1/tickets", json=ticket("Printer, sent twice", source="jira", external_id="JSM-7"))
    other = client.post("/v1/tickets", json=ticket("Printer", source="zendesk", external_id="JSM-7"))
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 202)
    assert first.json()["id"] == again.json()["id"] != other.json()["id"]
    assert record(gateway, first.json()["id"])["subject"] == "Printer"


def test_only_a_portal_key_vouches_for_the_requester(gateway: Gateway) -> None:
    for name, assurance in (("portal", "authenticated"), ("service", "claimed"), ("admin", "claimed")):
        ticket_id = gateway.client(name).post("/v1/tickets", json=ticket()).json()["id"]
        assert record(gateway, ticket_id)["requester"]["assurance"] == assurance
    boasting = ticket(requester={"email": "eve@example.test", "assurance": "proven"})
    assert "assurance" in problem(gateway.client("portal").post("/v1/tickets", json=boasting), 422)["detail"]


def test_whoever_waits_gets_the_ticket_once_it_has_an_outcome(gateway: Gateway, now: datetime) -> None:
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(gateway.client("service").post("/v1/tickets?wait=20", json=ticket("Reset me")))
    )
    waiting.start()
    while not (found := gateway.client("service").get("/v1/tickets").json()["items"]):
        time.sleep(0.01)
    resolve(gateway.store, found[0]["id"], now=now)
    waiting.join(20)
    (answer,) = answers
    assert answer.status_code == 200
    assert (answer.json()["state"], answer.json()["reply"]) == ("resolved", "Your password was reset.")
    assert answer.json()["resolution"]["verification"]["confirmed"]


def test_whoever_waits_in_vain_is_told_that_the_ticket_is_taken_in(gateway: Gateway) -> None:
    answer = gateway.client("service").post("/v1/tickets?wait=0.2", json=ticket())
    assert (answer.status_code, answer.json()) == (202, {"id": "T-1001", "state": "active"})


def test_the_list_is_filtered_and_paged(gateway: Gateway, now: datetime) -> None:
    ids = [gateway.submit(f"matter {n}", requester={"email": f"p{n % 2}@example.test"}) for n in range(5)]
    hand_over(gateway.store, ids[0], now=now)
    client = gateway.client("analyst")
    first = client.get("/v1/tickets?limit=2").json()
    second = client.get("/v1/tickets", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    third = client.get("/v1/tickets", params={"limit": 2, "cursor": second["next_cursor"]}).json()
    assert [t["id"] for page in (first, second, third) for t in page["items"]] == ids[::-1]
    assert third["next_cursor"] is None
    assert [t["id"] for t in client.get("/v1/tickets?state=escalated").json()["items"]] == [ids[0]]
    assert [t["id"] for t in client.get("/v1/tickets?requester=P1@example.test").json()["items"]] == [ids[3], ids[1]]
    assert [t["id"] for t in client.get("/v1/tickets", params={"q": "matter 4"}).json()["items"]] == [ids[4]]
    problem(client.get("/v1/tickets?cursor=made-up"), 422)
    problem(client.get("/v1/tickets?colour=red"), 422)


def test_an_answer_of_the_requester_wakes_a_pending_ticket(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit()
    ask_requester(gateway.store, ticket_id, now=now)
    answer = gateway.client("service").post(f"/v1/tickets/{ticket_id}/messages", json={"body": "Invoice 2026-114"})
    assert (answer.status_code, answer.json()) == (202, {"id": ticket_id, "state": "active"})
    assert claim(gateway.store, ticket_id).ticket_id == ticket_id
    said = record(gateway, ticket_id)["messages"][-1]
    assert (said["author"], said["body"], said["by"]) == ("requester", "Invoice 2026-114", "service")


def test_a_message_on_a_resolved_ticket_is_kept_and_reopens_nothing(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit()
    resolve(gateway.store, ticket_id, now=now)
    client = gateway.client("service")
    assert client.post(f"/v1/tickets/{ticket_id}/messages", json={"body": "Thanks!"}).json()["state"] == "resolved"
    reopened = client.post(f"/v1/tickets/{ticket_id}/reopen", json={"reason": "It does not work after all."})
    assert (reopened.status_code, reopened.json()["state"]) == (200, "active")
    found = record(gateway, ticket_id)
    assert (found["state"], found["reopened_count"], found["messages"][-1]["author"]) == ("active", 1, "requester")
    problem(client.post(f"/v1/tickets/{ticket_id}/reopen", json={"reason": "once more"}), 409)


def test_who_vouches_for_nobody_does_not_speak_for_somebody_signed_in(gateway: Gateway, now: datetime) -> None:
    """What a portal vouched for, and what a code proved, is not inherited by whoever has a key that only claims."""

    def assurance(ticket_id: str) -> str:
        return record(gateway, ticket_id)["requester"]["assurance"]

    portal, service, lead = (gateway.client(name) for name in ("portal", "service", "lead"))
    body = {"subject": "Cancel it", "requester": {"email": "p@example.test"}}
    ticket_id = portal.post("/v1/tickets", json=body).json()["id"]
    ask_requester(gateway.store, ticket_id, now=now)
    assert portal.post(f"/v1/tickets/{ticket_id}/messages", json={"body": "yes"}).status_code == 202
    assert assurance(ticket_id) == "authenticated"
    assert service.post(f"/v1/tickets/{ticket_id}/messages", json={"body": "yes"}).status_code == 202
    assert assurance(ticket_id) == "claimed"
    gateway.store.run(lambda tx: tx.prove_identity(ticket_id))
    assert service.post(f"/v1/tickets/{ticket_id}/messages", json={"body": "the second one"}).status_code == 202
    assert assurance(ticket_id) == "proven"
    resolve(gateway.store, ticket_id, now=now)
    assert lead.post(f"/v1/tickets/{ticket_id}/reopen", json={"reason": "they called"}).status_code == 200
    assert assurance(ticket_id) == "proven"
    resolve(gateway.store, ticket_id, now=now)
    assert service.post(f"/v1/tickets/{ticket_id}/reopen", json={"reason": "once more"}).status_code == 200
    assert assurance(ticket_id) == "claimed"
    assert "identity_doubted" in [event["kind"] for event in record(gateway, ticket_id)["timeline"]]


def test_a_machine_never_speaks_for_the_desk(gateway: Gateway) -> None:
    ticket_id = gateway.submit()
    for author in ("desk", "note"):
        problem(gateway.client("service").post(f"/v1/tickets/{ticket_id}/messages", json={"body": "ok", "author": author}), 403)
    note = gateway.client("analyst").post(f"/v1/tickets/{ticket_id}/messages", json={"body": "called her", "author": "note"})
    assert note.status_code == 202
    assert [(m["author"], m["by"]) for m in record(gateway, ticket_id)["messages"]] == [("note", "analyst")]


def test_a_correction_takes_effect_and_is_kept_with_its_reason(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit()
    hand_over(gateway.store, ticket_id, now=now)
    body = {"category": "vpn", "group": "Network Engineering", "priority": 1, "reason": "the tunnel, not the password"}
    answer = gateway.client("analyst").post(f"/v1/tickets/{ticket_id}/override", json=body)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["category"], found["group"], found["priority"]["level"]) == ("vpn", "Network Engineering", 1)
    assert found["classification"]["overridden_from"] == "password_reset"
    (event,) = [e for e in found["timeline"] if e["kind"] == "override"]
    assert (event["actor"], event["body"]["reason"]) == ("analyst", "the tunnel, not the password")


IMPOSSIBLE: list[dict[str, Any]] = [
    {"category": "teleportation", "reason": "x"},
    {"group": "Nobody", "reason": "x"},
    {"priority": 5, "reason": "x"},
    {"priority": True, "reason": "x"},
    {"priority": "1", "reason": "x"},
    {"category": "vpn"},
    {"category": "vpn", "reason": "   "},
    {"reason": "nothing to change"},
]


def test_a_correction_that_this_desk_cannot_follow_is_refused(gateway: Gateway) -> None:
    ticket_id = gateway.submit()
    for body in IMPOSSIBLE:
        problem(gateway.client("lead").post(f"/v1/tickets/{ticket_id}/override", json=body), 422)
    assert [event["kind"] for event in record(gateway, ticket_id)["timeline"]] == ["opened"]


def test_feedback_is_kept_and_changes_nothing(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit()
    resolve(gateway.store, ticket_id, now=now)
    answer = gateway.client("service").post(f"/v1/tickets/{ticket_id}/feedback", json={"rating": "bad", "reason": "too slow"})
    assert (answer.status_code, answer.json()["state"]) == (201, "resolved")
    assert record(gateway, ticket_id)["timeline"][-1]["body"] == {"kind": "feedback", "rating": "bad", "reason": "too slow"}


def test_a_ticket_that_is_not_there_is_not_found_by_any_route(gateway: Gateway) -> None:
    client = gateway.client("analyst")
    for wrong in ("T-9999", "9999", "T-%00", "INC-1"):
        problem(client.get(f"/v1/tickets/{wrong}"), 404)
    reason = {"reason": "why"}
    for verb, body in (
        ("messages", {"body": "x"}),
        ("override", {"priority": 1, **reason}),
        ("reopen", reason),
        ("feedback", reason),
    ):
        problem(client.post(f"/v1/tickets/T-9999/{verb}", json=body), 404)


def test_incidents_show_their_tickets_and_let_some_go(gateway: Gateway, now: datetime) -> None:
    lead, stray = gateway.submit("Cannot sign in"), gateway.submit("Sign-in broken", requester={"email": "bo@example.test"})
    incident = join(gateway.store, stray, lead, now=now)
    client = gateway.client("lead")
    (shown,) = client.get("/v1/incidents").json()["items"]
    assert (shown["id"], shown["lead"], shown["members"]) == (incident, lead, 2)
    assert [t["id"] for t in client.get(f"/v1/tickets?incident={incident}").json()["items"]] == [stray, lead]
    left = client.post(f"/v1/incidents/{incident}/split", json={"ticket_ids": [stray], "reason": "another site"})
    assert left.status_code == 200
    gone = [t for t in left.json()["tickets"] if t["left_at"]]
    assert [(t["id"], t["left_reason"], t["left_by"]) for t in gone] == [(stray, "another site", "lead")]
    problem(client.post(f"/v1/incidents/{incident}/split", json={"ticket_ids": [stray], "reason": "again"}), 404)
    problem(client.get("/v1/incidents/INC-999"), 404)


def test_the_record_shows_the_triage_with_its_reasons(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit()
    resolve(gateway.store, ticket_id, now=now)
    found = record(gateway, ticket_id)
    assert found["classification"]["category"] == "password_reset"
    assert found["explanation"] == ["The nearest labeled ticket says so."]
    (step,) = found["resolution"]["steps"]
    assert (step["verdict"]["rule"], step["observation"]["status"]) == ("own-records", "ok")
    assert [event["kind"] for event in found["timeline"]] == [
        "opened",
        "triaged",
        "intended",
        "observed",
        "state",
        "verified",
        "outcome",
    ]


def test_a_waiting_caller_of_a_known_ticket_gets_it_at_once(gateway: Gateway, now: datetime) -> None:
    body = ticket("Known", source="jira", external_id="JSM-9")
    ticket_id = gateway.client("service").post("/v1/tickets", json=body).json()["id"]
    hand_over(gateway.store, ticket_id, now=now)
    answer = gateway.client("service").post("/v1/tickets?wait=30", json=body)
    assert (answer.status_code, answer.json()["id"], answer.json()["state"]) == (200, ticket_id, "escalated")
