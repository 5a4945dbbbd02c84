"""The sandbox as a caller sees it: every route, tokens, keys, faults, and what survives kill -9. Runs the real process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.sandbox import world
from orchestrator.sandbox.process import SandboxFailed, SandboxProcess, wait_until_healthy
from orchestrator.sandbox.systems import ROUTES

SMALL_WORLD = Path(world.__file__).parent / "small_world.json"
WORLD = json.loads(SMALL_WORLD.read_text(encoding="utf-8"))


class Caller:
    """Somebody with every token, a new idempotency key for every write, and a memory of the routes used."""

    def __init__(self, process: SandboxProcess) -> None:
        self.process = process
        self.http = httpx.Client(base_url=process.url, trust_env=False, timeout=5)
        self._keys = 0

    def __call__(self, method: str, path: str, body: Any = None, *, key: str | None = None, **params: str) -> httpx.Response:
        self._keys += 1
        headers = {"Authorization": f"Bearer {self.process.token(path.split('/')[1], 'read' if method == 'GET' else 'write')}"}
        if method != "GET":
            headers["Idempotency-Key"] = key or f"key-{self._keys}"
        return self.http.request(method, path, json=body, headers=headers, params=params or None)

    def get(self, path: str, **params: str) -> Any:
        response = self("GET", path, **params)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, body: Any = None, **more: Any) -> Any:
        response = self("POST", path, body if body is not None else {}, **more)
        assert response.status_code in (200, 201), response.text
        return response.json()

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        response = self(method, path, body)
        assert response.status_code >= 400 and response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code
        return response.status_code, response.json()["detail"]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox") / "world.db") as running:
        yield running


@pytest.fixture
def call(process: SandboxProcess) -> Iterator[Caller]:
    process.seed(WORLD)
    caller = Caller(process)
    yield caller
    caller.http.close()


def mails(call: Caller) -> list[dict[str, Any]]:
    return call.process.state()["mail"]


def is_recent(instant: str) -> bool:
    return abs(datetime.now(UTC) - world.instant(instant)) < timedelta(minutes=5)


def in_a_year(instant: str) -> bool:
    return timedelta(days=364) < world.instant(instant) - datetime.now(UTC) < timedelta(days=367)


# --- identity -------------------------------------------------------------------------------------------------------


def test_a_user_is_found_by_address_in_any_letter_case(call):
    (user,) = call.get("/identity/users", email="Mara.Lindt@Ardent.example")
    assert user["id"] == "usr-001" and user["password_reset_sent_at"] is None
    assert call.get("/identity/users/usr-001") == user
    assert call.get("/identity/users", email="nobody@ardent.example") == []
    assert len(call.get("/identity/users")) == 4


def test_a_password_reset_unlocks_and_mails_the_address_on_record(call):
    user = call.post("/identity/users/usr-001/password-reset")
    assert user["status"] == "active" and is_recent(user["password_reset_sent_at"])
    assert [(mail["to"], mail["by"]) for mail in mails(call)] == [("mara.lindt@ardent.example", "identity")]
    assert call.get("/identity/users/usr-001") == user


def test_a_second_factor_reset_takes_the_factor_away_and_mails_a_link(call):
    user = call.post("/identity/users/usr-001/mfa-reset")
    assert user["mfa_enrolled"] is False and is_recent(user["mfa_reset_at"]) and len(mails(call)) == 1


def test_a_disabled_user_gets_neither_password_nor_factor_nor_group(call):
    for what, body in (("password-reset", {}), ("mfa-reset", {}), ("groups", {"group": "staff"})):
        assert call.refused("POST", f"/identity/users/usr-003/{what}", body)[0] == 409
    assert mails(call) == []


def test_only_an_invited_user_gets_the_activation_again(call):
    assert is_recent(call.post("/identity/users/usr-002/activation")["activation_sent_at"])
    assert call.refused("POST", "/identity/users/usr-001/activation", {})[0] == 409
    assert call.refused("POST", "/identity/users/usr-002/password-reset", {})[0] == 409
    assert len(mails(call)) == 1


def test_groups_come_and_go_and_twice_changes_nothing(call):
    assert call.post("/identity/users/usr-001/groups", {"group": "vpn users"})["groups"] == ["staff", "vpn users"]
    assert call.post("/identity/users/usr-001/groups", {"group": "vpn users"})["groups"] == ["staff", "vpn users"]
    assert [entry["changed"] for entry in call.process.calls()] == [True, False]
    gone = call("DELETE", "/identity/users/usr-001/groups/vpn%20users")
    assert gone.status_code == 200 and gone.json()["groups"] == ["staff"]


# --- vpn, billing, orders ---------------------------------------------------------------------------------------------


def test_a_hung_session_is_closed(call):
    assert [session["id"] for session in call.get("/vpn/sessions", user_id="usr-001")] == ["vpn-1"]
    session = call.post("/vpn/sessions/vpn-1/reset")
    assert session["state"] == "closed" and is_recent(session["reset_at"]) and call.get("/vpn/sessions/vpn-1") == session
    assert call.get("/vpn/sessions/vpn-2")["state"] == "connected"


def test_billing_answers_what_it_has(call):
    assert call.get("/billing/accounts/acc-birch")["tier"] == "standard"
    assert [row["id"] for row in call.get("/billing/invoices", account="acc-birch")] == ["INV-20431"]
    assert call.get("/billing/invoices", account="acc-ardent") == []
    assert [row["id"] for row in call.get("/billing/payments", account="acc-birch")] == ["PAY-1", "PAY-2", "PAY-3"]
    assert [row["id"] for row in call.get("/billing/payments", order="ORD-70012")] == ["PAY-3"]
    assert [row["id"] for row in call.get("/billing/payments", invoice="INV-20431")] == ["PAY-1", "PAY-2"]
    assert call.get("/billing/payments/PAY-2")["duplicate_of"] == "PAY-1"
    assert [row["id"] for row in call.get("/billing/subscriptions", account="acc-birch")] == ["SUB-1"]
    assert [row["id"] for row in call.get("/billing/licenses", user_id="usr-001")] == ["lic-1", "lic-2"]


def test_an_invoice_goes_to_an_address_on_record_and_to_no_other(call):
    invoice = call.post("/billing/invoices/INV-20431/send", {"email": "Joy.Birch@birch.example"})
    assert invoice["last_sent_to"] == "Joy.Birch@birch.example" and is_recent(invoice["last_sent_at"])
    assert "INV-20431.pdf" in mails(call)[0]["body"]
    assert call.refused("POST", "/billing/invoices/INV-20431/send", {"email": "thief@elsewhere.example"})[0] == 404
    assert len(mails(call)) == 1


def test_a_payment_is_refunded_in_parts_to_the_last_cent_and_not_beyond(call):
    first = call.post("/billing/refunds", {"payment_id": "PAY-1", "amount": 75.4, "reason": "charged twice"})
    assert first["amount"] == 75.4 and first["currency"] == "EUR" and is_recent(first["at"])
    assert call.get("/billing/payments/PAY-1")["status"] == "captured"
    status, detail = call.refused("POST", "/billing/refunds", {"payment_id": "PAY-1", "amount": 0.11, "reason": "x"})
    assert status == 409 and "0.10 left" in detail
    second = call.post("/billing/refunds", {"payment_id": "PAY-1", "amount": 0.1, "reason": "rest"})
    payment = call.get("/billing/payments/PAY-1")
    assert (payment["status"], payment["refunded_amount"]) == ("refunded", 75.5)
    assert call.get("/billing/refunds", payment_id="PAY-1") == [first, second]
    assert call.get(f"/billing/refunds/{second['id']}") == second and call.get("/billing/refunds", payment_id="PAY-2") == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"payment_id": "PAY-3", "amount": 1, "reason": "x"}, 409),
        ({"payment_id": "PAY-9", "amount": 1, "reason": "x"}, 404),
        ({"payment_id": "PAY-1", "amount": 0, "reason": "x"}, 422),
        ({"payment_id": "PAY-1", "amount": -1, "reason": "x"}, 422),
        ({"payment_id": "PAY-1", "amount": True, "reason": "x"}, 422),
        ({"payment_id": "PAY-1", "amount": "5", "reason": "x"}, 422),
        ({"payment_id": "PAY-1", "amount": 1.001, "reason": "x"}, 422),
        ({"payment_id": "PAY-1", "amount": 1}, 422),
        ({"payment_id": "PAY-1", "amount": 1, "reason": "x", "to": "other"}, 422),
    ],
)
def test_a_wrong_refund_moves_no_money(call, body, status):
    assert call.refused("POST", "/billing/refunds", body)[0] == status
    assert call.process.state()["refunds"] == [] and not any(entry["changed"] for entry in call.process.calls())


def test_a_subscription_is_cancelled_to_its_renewal_day_and_brought_back(call):
    cancelled = call.post("/billing/subscriptions/SUB-1/cancel")
    assert (cancelled["status"], cancelled["ends_on"]) == ("cancelled", "2026-12-01")
    assert call.refused("POST", "/billing/subscriptions/SUB-1/cancel", {})[0] == 409
    back = call.post("/billing/subscriptions/SUB-1/reactivate")
    assert (back["status"], back["ends_on"]) == ("active", None) and call.get("/billing/subscriptions/SUB-1") == back
    assert call.refused("POST", "/billing/subscriptions/SUB-1/reactivate", {})[0] == 409


def test_a_license_is_renewed_for_a_year_from_now_or_from_its_end(call):
    lapsed = call.post("/billing/licenses/lic-1/renew")
    assert lapsed["state"] == "active" and in_a_year(lapsed["expires_at"]) and is_recent(lapsed["renewed_at"])
    assert call.post("/billing/licenses/lic-2/renew")["expires_at"] == "2097-03-01T00:00:00.000Z"
    assert call.get("/billing/licenses/lic-1") == lapsed


def test_orders_are_found_by_customer_and_by_account(call):
    order = call.get("/orders/ORD-70012")
    assert order["tracking"] == "P1-99"
    assert call.get("/orders", email="JOY.birch@birch.example") == [order] == call.get("/orders", account="acc-birch")
    assert call.get("/orders", email="joy.birch@birch.example", account="acc-ardent") == []


# --- monitoring, catalog -----------------------------------------------------------------------------------------------


def firing(call: Caller, service: str) -> list[str]:
    return [alert["id"] for alert in call.get("/monitoring/services/" + service)["alerts"]]


def test_a_service_shows_its_firing_alerts_and_its_deployments_newest_first(call):
    app = call.get("/monitoring/services/mobile-app")
    assert app["state"] == "degraded" and [alert["id"] for alert in app["alerts"]] == ["al-5"]
    assert [deployment["id"] for deployment in app["deployments"]] == ["dep-931", "dep-930"]
    assert [service["name"] for service in call.get("/monitoring/services")] == ["sso-gateway", "file-share", "mobile-app"]
    assert call.get("/monitoring/deployments", service="mobile-app") == app["deployments"]


def test_alerts_are_filtered(call):
    assert len(call.get("/monitoring/alerts")) == 5
    assert [alert["id"] for alert in call.get("/monitoring/alerts", service="sso-gateway", region="UK")] == ["al-2"]
    assert [alert["id"] for alert in call.get("/monitoring/alerts", site="Leeds", state="firing")] == ["al-4"]
    assert call.get("/monitoring/alerts/al-1")["kind"] == "certificate_expired"


def test_a_restart_at_one_site_leaves_the_other_site_down(call):
    service = call.post("/monitoring/services/file-share/restart", {"site": "Rotterdam"})
    assert is_recent(service["restarted_at"]) and service["state"] == "degraded" and firing(call, "file-share") == ["al-4"]
    assert call.post("/monitoring/services/file-share/restart")["state"] == "up" and firing(call, "file-share") == []
    assert is_recent(call.get("/monitoring/alerts/al-4")["cleared_at"])


def test_a_restart_does_not_cure_what_it_cannot(call):
    assert call.post("/monitoring/services/sso-gateway/restart")["state"] == "down"
    assert firing(call, "sso-gateway") == ["al-1", "al-2"]


def test_a_rotated_certificate_is_valid_for_a_year_and_cures_its_own_regions(call):
    certificate = call.post("/monitoring/certificates/cert-sso/rotate")
    assert certificate["state"] == "valid" and in_a_year(certificate["expires_at"])
    assert firing(call, "sso-gateway") == ["al-2"] and call.get("/monitoring/services/sso-gateway")["state"] == "down"
    assert call.get("/monitoring/certificates", service="sso-gateway") == [certificate]
    assert call.get("/monitoring/certificates/cert-sso") == certificate


def test_a_rollback_cures_the_release_and_cannot_be_done_twice(call):
    assert call.post("/monitoring/deployments/dep-931/rollback")["state"] == "rolled_back"
    assert call.get("/monitoring/services/mobile-app")["state"] == "up"
    assert call.refused("POST", "/monitoring/deployments/dep-931/rollback", {})[0] == 409
    assert call.get("/monitoring/deployments/dep-930")["state"] == "live"


def test_the_catalogue_lists_the_company(call):
    assert [service["name"] for service in call.get("/catalog/services")] == ["sso-gateway", "file-share", "mobile-app"]
    assert [site["name"] for site in call.get("/catalog/sites")] == ["Rotterdam", "Leeds"]
    assert [colleague["open_tickets"] for colleague in call.get("/catalog/staff")] == [0]
    assert [window["id"] for window in call.get("/catalog/freeze-windows")] == ["fw-1"]
    assert call.get("/catalog/company")["mail_domain"] == "ardent.example"


# --- helpdesk, mail ---------------------------------------------------------------------------------------------------


def test_replies_notes_and_states_are_written_back_under_any_ticket_id(call):
    path = "/helpdesk/tickets/JIRA%2F42%20%C3%A9"
    call.post(f"{path}/replies", {"body": "done"})
    call.post(f"{path}/notes", {"body": "was locked"})
    ticket = call.post(f"{path}/status", {"state": "resolved", "code": "password_reset"})
    assert ticket["external_id"] == "JIRA/42 é" and (ticket["state"], ticket["code"]) == ("resolved", "password_reset")
    assert [reply["body"] for reply in ticket["replies"]] == ["done"] and [note["body"] for note in ticket["notes"]] == [
        "was locked"
    ]
    assert call.get(path) == ticket and call.process.state()["helpdesk"] == [ticket]


def test_mail_goes_to_addresses_on_record_only(call):
    mail = call.post("/mail/messages", {"to": "MARA.lindt@ardent.example", "subject": "Code", "body": "123456"})
    assert mails(call) == [mail] and mail["by"] == "mail"
    for known in ("lena.vogt@ardent.example", "ann.desk@ardent.example"):
        call.post("/mail/messages", {"to": known, "subject": "s", "body": "b"})
    assert call.refused("POST", "/mail/messages", {"to": "thief@elsewhere.example", "subject": "s", "body": "b"})[0] == 404
    assert call.refused("GET", "/mail/messages")[0] == 405
    assert len(mails(call)) == 3


# --- doors, keys, records of calls --------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_wants_its_own_systems_token(call, route):
    path = route.path.replace("{id}", "x").replace("{group}", "y")
    other = "billing" if route.system != "billing" else "vpn"
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {call.process.token(other, 'write')}"}, 403),
        *([({"Authorization": f"Bearer {call.process.token(route.system, 'read')}"}, 403)] if route.method != "GET" else []),
    ):
        assert call.http.request(route.method, path, headers=headers).status_code == status
    assert not any(entry["changed"] for entry in call.process.calls())


def test_a_write_without_a_key_is_refused_and_changes_nothing(call):
    headers = {"Authorization": f"Bearer {call.process.token('identity', 'write')}"}
    assert call.http.post("/identity/users/usr-001/password-reset", headers=headers, json={}).status_code == 400
    assert mails(call) == []


def test_the_same_key_answers_the_same_and_changes_nothing(call):
    body = {"payment_id": "PAY-1", "amount": 10, "reason": "x"}
    first, second = (call("POST", "/billing/refunds", body, key="once") for _ in range(2))
    assert "idempotency-replayed" not in first.headers and second.headers["idempotency-replayed"] == "true"
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert call.get("/billing/payments/PAY-1")["refunded_amount"] == 10
    assert [(entry["replayed"], entry["changed"]) for entry in call.process.calls()[:2]] == [(False, True), (True, False)]


def test_the_order_of_fields_does_not_make_another_request(call):
    call("POST", "/billing/refunds", {"payment_id": "PAY-1", "amount": 10, "reason": "x"}, key="once")
    again = call("POST", "/billing/refunds", {"reason": "x", "amount": 10, "payment_id": "PAY-1"}, key="once")
    assert again.headers["idempotency-replayed"] == "true"


def test_the_same_key_for_another_request_is_a_conflict(call):
    call.post("/billing/refunds", {"payment_id": "PAY-1", "amount": 10, "reason": "x"}, key="once")
    for path, body in (
        ("/billing/refunds", {"payment_id": "PAY-1", "amount": 11, "reason": "x"}),
        ("/billing/subscriptions/SUB-1/cancel", {}),
    ):
        assert call("POST", path, body, key="once").status_code == 409
    assert call.get("/billing/subscriptions/SUB-1")["status"] == "active"
    assert call("POST", "/vpn/sessions/vpn-1/reset", {}, key="once").status_code == 200  # another system keeps its own keys


def test_a_refused_write_may_come_again_under_its_key(call):
    assert call("POST", "/billing/subscriptions/SUB-1/reactivate", {}, key="later").status_code == 409
    call.post("/billing/subscriptions/SUB-1/cancel")
    assert call("POST", "/billing/subscriptions/SUB-1/reactivate", {}, key="later").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/identity/users/usr-999", 404),
        ("GET", "/identity/users?mail=x", 422),
        ("GET", "/identity/nothing", 404),
        ("GET", "/identity", 404),
        ("PUT", "/identity/users/usr-001", 405),
        ("GET", "/identity/users/usr-001%2Fpassword-reset", 404),
        ("GET", "/identity/users/..%2F..%2Fbilling", 404),
    ],
)
def test_what_is_not_there_is_a_problem_in_words(call, method, path, status):
    assert call.refused(method, path)[0] == status


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"\xff", 400), (b"[]", 422), (b'{"force": true}', 422), (b'{"a":"' + b"x" * (1 << 20) + b'"}', 413)],
)
def test_a_wrong_body_is_a_problem_and_changes_nothing(call, body, status):
    headers = {"Authorization": f"Bearer {call.process.token('vpn', 'write')}", "Idempotency-Key": "k"}
    response = call.http.post("/vpn/sessions/vpn-1/reset", content=body, headers=headers)
    assert response.status_code == status and call.get("/vpn/sessions/vpn-1")["state"] == "hung"


def test_a_system_that_does_not_exist_is_named_and_recorded(call):
    assert call.http.get("/payroll/people").status_code == 404
    assert call.process.calls()[0]["system"] is None


def test_every_call_is_recorded_in_order(call):
    call.get("/orders", email="joy.birch@birch.example")
    call.post("/vpn/sessions/vpn-1/reset", key="k-7")
    read, write = call.process.calls()
    assert (read["seq"], read["system"], read["query"], read["body"], read["changed"]) == (
        1, "orders", {"email": "joy.birch@birch.example"}, None, False,
    )  # fmt: skip
    assert write == {
        "seq": 2, "at": write["at"], "system": "vpn", "method": "POST", "path": "/vpn/sessions/vpn-1/reset", "query": {},
        "body": {}, "idempotency_key": "k-7", "status": 200, "replayed": False, "changed": True,
    }  # fmt: skip
    assert call.process.calls(after=1) == [write]


def test_the_state_is_a_world_file_again(call):
    call.post("/vpn/sessions/vpn-1/reset")
    state = call.process.state()
    assert state["company"] == WORLD["company"] and state["holidays"] == WORLD["holidays"] and state["users"][3]["shoe_size"] == 41
    call.process.seed(state)
    assert call.process.state() == state and call.process.calls() == []


def test_a_wrong_world_is_refused_and_the_old_one_stays(call):
    with pytest.raises(SandboxFailed, match="users has id 'u' twice"):
        call.process.seed({"users": [{"id": "u"}, {"id": "u"}]})
    assert call.get("/identity/users/usr-001")


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_failed_call_changes_nothing_and_the_next_one_works(call):
    call.process.fail("/vpn", "error_500", method="POST")
    assert call.get("/vpn/sessions/vpn-1")["state"] == "hung"
    assert call("POST", "/vpn/sessions/vpn-1/reset", {}).status_code == 500
    assert call.get("/vpn/sessions/vpn-1")["state"] == "hung"
    assert call.post("/vpn/sessions/vpn-1/reset")["state"] == "closed"


@pytest.mark.parametrize(("kind", "took_effect"), [("timeout_before", False), ("timeout_after", True)])
def test_a_silent_call_never_answers_and_took_effect_or_not(call, kind, took_effect):
    call.process.fail("/vpn", kind)
    with pytest.raises(httpx.RemoteProtocolError):
        call("POST", "/vpn/sessions/vpn-1/reset", {}, key="k")
    (entry,) = call.process.calls()
    assert (entry["status"], entry["changed"]) == (None, took_effect)
    again = call("POST", "/vpn/sessions/vpn-1/reset", {}, key="k")
    assert again.status_code == 200 and again.headers.get("idempotency-replayed") == ("true" if took_effect else None)
    assert sum(entry["changed"] for entry in call.process.calls()) == 1


def test_a_call_may_fail_after_it_took_effect(call):
    call.process.fail("/vpn", "error_500_after")
    assert call("POST", "/vpn/sessions/vpn-1/reset", {}).status_code == 500
    assert call.get("/vpn/sessions/vpn-1")["state"] == "closed"


def test_a_slow_call_outlasts_an_impatient_caller_and_still_takes_effect(call):
    call.process.fail("/vpn", "slow", delay_s=0.5)
    headers = {"Authorization": f"Bearer {call.process.token('vpn', 'write')}", "Idempotency-Key": "k"}
    with pytest.raises(httpx.ReadTimeout):
        call.http.post("/vpn/sessions/vpn-1/reset", headers=headers, json={}, timeout=0.1)
    assert call.get("/vpn/sessions/vpn-1")["state"] == "closed"


def test_a_fault_meets_as_many_calls_as_it_was_told(call):
    call.process.fail("/orders", "error_500", times=2)
    assert [call("GET", "/orders/ORD-70012").status_code for _ in range(3)] == [500, 500, 200]


@pytest.mark.parametrize(
    "fault", [{"kind": "meteor", "path_prefix": "/"}, {"kind": "slow"}, {"kind": "slow", "path_prefix": "/", "times": 0}]
)
def test_a_wrong_fault_is_refused(call, fault):
    assert call.http.post("/_faults", json=fault).status_code == 422


# --- the process --------------------------------------------------------------------------------------------------------


def test_kill_9_loses_neither_the_world_nor_the_keys_nor_the_calls(tmp_path):
    with SandboxProcess(tmp_path / "world.db", world=SMALL_WORLD) as process:
        call = Caller(process)
        body = {"payment_id": "PAY-1", "amount": 10, "reason": "x"}
        refund = call.post("/billing/refunds", body, key="once")
        before, calls = process.state(), process.calls()
        process.kill()
        assert not process.running
        process.start()
        assert process.state() == before and process.calls() == calls
        again = call("POST", "/billing/refunds", body, key="once")
        assert again.json() == refund and again.headers["idempotency-replayed"] == "true"
        assert process.state()["payments"][0]["refunded_amount"] == 10


def test_a_call_cut_by_kill_9_happened_wholly_or_not_at_all(tmp_path):
    with SandboxProcess(tmp_path / "world.db", world=SMALL_WORLD) as process:
        call = Caller(process)
        for round_number in range(5):
            process.fail("/billing/refunds", "slow", delay_s=5)
            headers = {"Authorization": f"Bearer {process.token('billing', 'write')}", "Idempotency-Key": f"k-{round_number}"}
            body = {"payment_id": "PAY-1", "amount": 1, "reason": "x"}
            with pytest.raises(httpx.ReadTimeout):
                call.http.post("/billing/refunds", headers=headers, json=body, timeout=0.05)
            process.kill()
            process.start()
            assert call("POST", "/billing/refunds", body, key=f"k-{round_number}").status_code == 201
            assert len(process.state()["refunds"]) == round_number + 1
            assert process.state()["payments"][0]["refunded_amount"] == round_number + 1


def test_a_second_sandbox_on_the_same_file_is_refused(process):
    other = SandboxProcess(process.db)
    with pytest.raises(SandboxFailed, match="Another sandbox already uses"):
        other.start()


def test_the_sandbox_ends_when_whoever_started_it_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from orchestrator.sandbox.process import SandboxProcess;"
        "print(SandboxProcess(Path(sys.argv[1])).start().url, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "w.db")], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        wait_until_healthy(url)
        parent.kill()
    db = SandboxProcess(tmp_path / "w.db")
    for _ in range(100):
        try:
            with db:
                return
        except SandboxFailed:
            continue
    pytest.fail("the sandbox still holds its file")


def test_a_detached_sandbox_outlives_whoever_started_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from orchestrator.sandbox.process import SandboxProcess;"
        "p = SandboxProcess(Path(sys.argv[1]), detached=True).start(); print(p.url, p.pid)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "w.db")], capture_output=True, text=True, check=True)
    url, pid = ran.stdout.split()
    try:
        wait_until_healthy(url)
    finally:
        os.kill(int(pid), signal.SIGTERM)


def test_a_sandbox_without_a_secret_or_with_a_wrong_world_says_so(tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    with pytest.raises(SandboxFailed, match="must hold one JSON object"):
        SandboxProcess(tmp_path / "w.db", world=wrong).start()
    ran = subprocess.run(
        [sys.executable, "-m", "orchestrator.sandbox", "--db", str(tmp_path / "x.db"), "--secret-env", "SURELY_NOT_SET"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2 and "SURELY_NOT_SET is empty" in ran.stderr
