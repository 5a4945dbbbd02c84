"""Approvals, knowledge, the log, the kill switch, health, figures: over HTTP, against a real PostgreSQL."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gateway_desk import ask_approval, claim, resolve
from gateway_server import Gateway, key_of, problem, running

from orchestrator.domain.errors import ModelUnavailable
from orchestrator.domain.resolution import Frozen
from orchestrator.storage.store import PostgresStore
from serving.gateway.standins import EchoLanguage

DOCUMENT = {
    "id": "vpn-set-up",
    "title": "Set up the VPN",
    "text": "# Windows\nInstall the tunnel client from the software centre.\n\n# Phones\nPhones use the app Tunnelia.",
    "source": "Network Engineering handbook",
    "audience": "requester",
    "version": "7",
    "effective_on": "2026-01-01",
}


# --- approvals ---


def test_an_approved_action_wakes_its_ticket_and_is_decided_once(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit("Refund 900")
    approval = ask_approval(gateway.store, ticket_id, now=now)
    client = gateway.client("approver")
    (waiting,) = client.get("/v1/approvals?status=waiting").json()["items"]
    assert (waiting["id"], waiting["ticket_id"], waiting["proposal"]["arguments"]) == (approval, ticket_id, {"account": "ada"})
    decided = client.post(f"/v1/approvals/{approval}", json={"decision": "approve", "reason": "checked with finance"})
    assert (decided.status_code, decided.json()["status"], decided.json()["decided_by"]) == (200, "approved", "approver")
    assert claim(gateway.store, ticket_id).ticket_id == ticket_id
    problem(client.post(f"/v1/approvals/{approval}", json={"decision": "reject", "reason": "too late"}), 409)
    assert client.get("/v1/approvals?status=waiting").json()["items"] == []


def test_a_decision_needs_a_reason_and_one_of_two_words(gateway: Gateway, now: datetime) -> None:
    approval = ask_approval(gateway.store, gateway.submit(), now=now)
    client = gateway.client("lead")
    for body in ({"decision": "approve"}, {"decision": "maybe", "reason": "x"}, {"decision": "approve", "reason": " "}, {}):
        problem(client.post(f"/v1/approvals/{approval}", json=body), 422)
    problem(client.post("/v1/approvals/A-999", json={"decision": "approve", "reason": "x"}), 404)
    assert client.get("/v1/approvals?status=waiting").json()["items"][0]["id"] == approval


def test_nobody_approves_their_own_request(gateway: Gateway, now: datetime) -> None:
    approval = ask_approval(gateway.store, gateway.submit(requester={"email": "Boss@example.test"}), now=now)
    with gateway.store.transaction() as tx:
        tx.add_key(name="boss@example.test", role="lead", kind="api", sha256=hashlib.sha256(key_of("boss").encode()).hexdigest())
    body = {"decision": "approve", "reason": "I need it"}
    assert "own request" in problem(gateway.client("boss").post(f"/v1/approvals/{approval}", json=body), 403)["detail"]
    assert gateway.client("approver").post(f"/v1/approvals/{approval}", json=body).status_code == 200


def test_an_expired_approval_is_not_decided(store: PostgresStore, now: datetime) -> None:
    with running(store, clock=lambda: datetime.now(UTC) + timedelta(days=30)) as gateway:
        approval = ask_approval(store, gateway.submit(), now=now)
        body = {"decision": "approve", "reason": "late"}
        assert "expired" in problem(gateway.client("lead").post(f"/v1/approvals/{approval}", json=body), 409)["detail"]


# --- knowledge ---


def test_a_document_can_be_found_as_soon_as_it_is_in(gateway: Gateway) -> None:
    put = gateway.client("lead").post("/v1/knowledge", json=DOCUMENT)
    assert (put.status_code, put.json()["id"], put.json()["passages"]) == (201, "vpn-set-up", 2)
    found = (
        gateway.client("service").get("/v1/knowledge/search", params={"q": "tunnel client for windows", "limit": 1}).json()["items"]
    )
    assert [(p["heading"], p["source"], p["version"], p["effective_on"]) for p in found] == [
        ("Windows", "Network Engineering handbook", "7", "2026-01-01")
    ]


def test_what_is_internal_is_not_found_for_requesters(gateway: Gateway) -> None:
    gateway.client("lead").post("/v1/knowledge", json={**DOCUMENT, "audience": "internal"})
    client = gateway.client("analyst")
    assert client.get("/v1/knowledge/search?q=tunnel").json()["items"] == []
    assert len(client.get("/v1/knowledge/search?q=tunnel&audience=internal").json()["items"]) == 2


def test_a_document_put_again_replaces_the_earlier_one(gateway: Gateway) -> None:
    client = gateway.client("lead")
    client.post("/v1/knowledge", json=DOCUMENT)
    client.post("/v1/knowledge", json={**DOCUMENT, "text": "# Everywhere\nThe tunnel is gone.", "version": "8"})
    found = client.get("/v1/knowledge/search?q=tunnel&limit=10").json()["items"]
    assert [(p["heading"], p["version"]) for p in found] == [("Everywhere", "8")]


def test_a_document_that_says_nothing_or_has_no_such_day_is_refused(gateway: Gateway) -> None:
    client = gateway.client("lead")
    for change in ({"text": "  "}, {"effective_on": "2026-02-30"}, {"id": "../etc"}, {"audience": "all"}, {"extra": 1}):
        problem(client.post("/v1/knowledge", json={**DOCUMENT, **change}), 422)
    problem(client.get("/v1/knowledge/search"), 422)
    problem(client.get("/v1/knowledge/search?q=x&limit=0"), 422)


def test_a_document_put_again_unchanged_is_left_alone(gateway: Gateway) -> None:
    client = gateway.client("lead")
    assert "unchanged" not in client.post("/v1/knowledge", json=DOCUMENT).json()
    assert client.post("/v1/knowledge", json=DOCUMENT).json()["unchanged"] is True


def test_a_sensitive_document_without_a_summary_is_refused_and_with_one_is_told_by_it(gateway: Gateway) -> None:
    client = gateway.client("lead")
    secret = {**DOCUMENT, "sensitive": True}
    assert "summary" in problem(client.post("/v1/knowledge", json=secret), 422)["detail"]
    client.post("/v1/knowledge", json={**secret, "summary": "There is an app for it."})
    told = {item["text"] for item in client.get("/v1/knowledge/search?q=tunnel").json()["items"]}
    assert told == {"There is an app for it."}
    inside = client.get("/v1/knowledge/search?q=tunnel&audience=internal").json()["items"]
    assert any("tunnel client" in item["text"] for item in inside)


def test_what_knowledge_lacks_is_told_in_groups(gateway: Gateway, now: datetime) -> None:
    for words in ("brew coffee", "brew coffee", "zebras"):
        ticket_id = gateway.submit(f"How about {words}")
        gap = {"question": words, "why": "below_threshold", "best": 0.3, "nearest": "kitchen"}
        resolve(gateway.store, ticket_id, now=now, knowledge_gap=gap)
    answer = gateway.client("analyst").get("/v1/knowledge/gaps").json()
    assert answer["questions"] == 3
    assert next((g["count"], g["examples"], g["nearest_id"]) for g in answer["items"]) == (2, ["brew coffee"], "kitchen")
    problem(gateway.client("service").get("/v1/knowledge/gaps"), 403)


# --- the log ---


def test_the_log_is_read_by_ticket_and_verified_whole(gateway: Gateway, now: datetime) -> None:
    first, second = gateway.submit(), gateway.submit()
    resolve(gateway.store, first, now=now)
    client = gateway.client("auditor")
    page = client.get("/v1/audit", params={"ticket": first, "limit": 3}).json()
    rest = client.get("/v1/audit", params={"ticket": first, "cursor": page["next_cursor"]}).json()
    kinds = [event["kind"] for event in (*page["items"], *rest["items"])]
    assert kinds == ["opened", "triaged", "intended", "observed", "state", "verified", "outcome"]
    assert {event["ticket_id"] for event in (*page["items"], *rest["items"])} == {first}
    assert second in {event["ticket_id"] for event in client.get("/v1/audit").json()["items"]}
    verdict = client.get("/v1/audit/verify").json()
    assert (verdict["whole"], verdict["problem"]) == (True, None)


# --- switch, health, figures ---


def test_a_lead_gives_free_what_the_circuit_breaker_holds_and_says_why(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit("Reset it again")
    frozen = Frozen(
        action="identity.reset_password", target="user 1", kind="repeats", reason="thrice", ticket_id=ticket_id, frozen_at=now
    )
    gateway.store.run(lambda tx: tx.freeze([frozen]))
    client, named = gateway.client("lead"), {"action": "identity.reset_password", "target": "user 1"}
    listed = client.get("/v1/breakers").json()
    assert [(each["action"], each["reason"]) for each in listed["items"]] == [("identity.reset_password", "thrice")]
    assert listed["unresolved"] == [] and client.get("/v1/kpis").json()["frozen"] == 1
    problem(client.post("/v1/breakers/release", json=named), 422)  # no reason
    problem(gateway.client("analyst").post("/v1/breakers/release", json={**named, "reason": "x"}), 403)
    assert client.post("/v1/breakers/release", json={**named, "reason": "spoke to her"}).status_code == 200
    problem(client.post("/v1/breakers/release", json={**named, "reason": "again"}), 404)
    kinds = [each["kind"] for each in gateway.store.run(lambda tx: tx.events(ticket_id=ticket_id))[0]]
    assert "frozen" in kinds and "unfrozen" in kinds


def test_the_kill_switch_is_thrown_with_a_reason(gateway: Gateway) -> None:
    client = gateway.client("lead")
    stopped = client.post("/v1/kill-switch", json={"stopped": True, "reason": "odd refunds"})
    assert (stopped.status_code, stopped.json()["stopped"], stopped.json()["by"]) == (200, True, "lead")
    assert client.post("/v1/kill-switch", json={"stopped": False, "reason": "explained"}).json()["stopped"] is False
    for body in ({"stopped": "yes", "reason": "x"}, {"stopped": 1, "reason": "x"}, {"stopped": True}):
        problem(client.post("/v1/kill-switch", json=body), 422)


class DeadLanguage(EchoLanguage):
    async def status(self) -> Mapping[str, Any]:
        raise ModelUnavailable("The engine of standin-echo has died.")


def test_readiness_goes_red_with_the_engine_and_names_it(store: PostgresStore) -> None:
    async def away() -> Mapping[str, Any]:
        return {"ok": False, "trouble": "no worker"}

    with running(store, language=DeadLanguage(), others={"orchestrator": away}) as gateway:
        answer = gateway.client().get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["parts"] == {"database": True, "language_model": False, "embedder": True, "orchestrator": False}
        assert gateway.client().get("/health/live").status_code == 200
        parts = gateway.client("admin").get("/v1/status").json()
        assert "has died" in parts["language_model"]["detail"]
        assert parts["orchestrator"] == {"ok": False, "trouble": "no worker"}
        assert parts["gateway"]["ok"]


def test_the_figures_have_both_denominators(gateway: Gateway, now: datetime) -> None:
    done, _ = gateway.submit(), gateway.submit()
    resolve(gateway.store, done, now=now)
    figures = gateway.client("analyst").get("/v1/kpis").json()
    assert figures["tickets"] == {"all": 2, "eligible": 1}
    assert figures["rates"]["resolved"] == {"of_all": 0.5, "of_eligible": 1.0}
    assert "probe" in figures["definitions"]["resolved"]


def test_metrics_are_prometheus_text(gateway: Gateway) -> None:
    gateway.submit()
    gateway.client("service").get("/v1/tickets/T-1001")
    answer = gateway.client("admin").get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'cloister_http_requests_total{method="GET",route="/v1/tickets/{ticket_id}",status="200"} 1' in lines
    assert 'cloister_tickets{state="active"} 1' in lines
    assert 'cloister_queue{what="waiting"} 1' in lines
    for line in lines:
        assert line.startswith("# ") or float(line.rpartition(" ")[2]) >= 0
    named = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(named) == len(set(named))


def test_an_admin_makes_one_time_passwords_for_the_console(gateway: Gateway) -> None:
    client = gateway.client("admin")
    first, second = (client.post("/v1/console/logins", json={}).json() for _ in range(2))
    assert first["password"] != second["password"] and len(first["password"]) > 30
    assert (first["role"], first["name"]) == ("lead", "console")
    problem(client.post("/v1/console/logins", json={"role": "service"}), 422)
    events = client.get("/v1/audit").json()["items"]
    assert "console_login_made" in {event["kind"] for event in events}
    assert first["password"] not in str(events)


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_the_documentation_is_served_from_here_alone(gateway: Gateway, path: str) -> None:
    page = gateway.client("service").get(path)
    assert page.status_code == 200
    assert "/v1/tickets/{ticket_id}/override" in page.text
    assert "http://" not in page.text and "https://" not in page.text and "<script" not in page.text
