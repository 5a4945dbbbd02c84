"""The HTTP connector against the sandbox: every catalogue action, and every way in which a call can go wrong."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.connectors.http import HttpSystemsOfRecord
from orchestrator.domain.errors import ConfigurationError
from orchestrator.domain.resolution import Observation, ObservationStatus
from orchestrator.resolution.catalog import load_catalog
from orchestrator.sandbox import world
from orchestrator.sandbox.process import SandboxProcess

CATALOG = load_catalog()
WORLD = json.loads((Path(world.__file__).parent / "small_world.json").read_text(encoding="utf-8"))

OK, REFUSED = ObservationStatus.OK, ObservationStatus.REFUSED
UNKNOWN, UNAVAILABLE = ObservationStatus.UNKNOWN, ObservationStatus.UNAVAILABLE

# One call of many an action, and a look at the answer. Every action is held against the sandbox in test_conformance.py.
CALLS: dict[str, tuple[dict[str, Any], Callable[[Any], bool]]] = {
    "identity.find_user": ({"email": "mara.lindt@ardent.example"}, lambda rows: rows[0]["id"] == "usr-001"),
    "identity.get_user": ({"user_id": "usr-001"}, lambda user: user["status"] == "locked"),
    "identity.reset_password": ({"user_id": "usr-001"}, lambda user: user["status"] == "active"),
    "identity.reset_mfa": ({"user_id": "usr-001"}, lambda user: user["mfa_enrolled"] is False),
    "identity.resend_activation": ({"user_id": "usr-002"}, lambda user: bool(user["activation_sent_at"])),
    "identity.add_to_group": ({"user_id": "usr-001", "group": "a/b ü"}, lambda user: "a/b ü" in user["groups"]),
    "identity.remove_from_group": ({"user_id": "usr-001", "group": "staff"}, lambda user: user["groups"] == []),
    "vpn.list_sessions": ({"user_id": "usr-001"}, lambda rows: len(rows) == 1),
    "vpn.get_session": ({"session_id": "vpn-1"}, lambda session: session["state"] == "hung"),
    "vpn.reset_session": ({"session_id": "vpn-1"}, lambda session: session["state"] == "closed"),
    "billing.get_account": ({"account_id": "acc-birch"}, lambda account: account["tier"] == "standard"),
    "billing.list_invoices": ({"account": "acc-birch"}, lambda rows: len(rows) == 1),
    "billing.get_invoice": ({"invoice_id": "INV-20431"}, lambda invoice: invoice["amount"] == 75.5),
    "billing.send_invoice": (
        {"invoice_id": "INV-20431", "email": "joy.birch@birch.example"},
        lambda invoice: invoice["last_sent_to"] == "joy.birch@birch.example",
    ),
    "billing.list_payments": ({"invoice": "INV-20431"}, lambda rows: len(rows) == 2),
    "billing.get_payment": ({"payment_id": "PAY-2"}, lambda payment: payment["duplicate_of"] == "PAY-1"),
    "billing.refund": ({"payment_id": "PAY-2", "amount": 75.5, "reason": "twice"}, lambda refund: refund["amount"] == 75.5),
    "billing.list_refunds": ({"payment_id": "PAY-2"}, lambda rows: rows == []),
    "billing.list_subscriptions": ({"account": "acc-birch"}, lambda rows: len(rows) == 2),
    "billing.get_subscription": ({"subscription_id": "SUB-1"}, lambda subscription: subscription["status"] == "active"),
    "billing.cancel_subscription": ({"subscription_id": "SUB-1"}, lambda subscription: subscription["ends_on"] == "2026-12-01"),
    "billing.reactivate_subscription": ({"subscription_id": "SUB-2"}, lambda subscription: subscription["status"] == "active"),
    "billing.list_licenses": ({"user_id": "usr-001"}, lambda rows: len(rows) == 2),
    "billing.get_license": ({"license_id": "lic-1"}, lambda found: found["state"] == "expired"),
    "billing.renew_license": ({"license_id": "lic-1"}, lambda found: found["state"] == "active"),
    "orders.list": ({"email": "joy.birch@birch.example"}, lambda rows: len(rows) == 1),
    "orders.get": ({"order_id": "ORD-70012"}, lambda order: order["status"] == "shipped"),
    "monitoring.list_services": ({}, lambda rows: len(rows) == 3),
    "monitoring.get_service": ({"service": "mobile-app"}, lambda service: len(service["deployments"]) == 2),
    "monitoring.list_alerts": ({"service": "file-share", "site": "Leeds", "state": "firing"}, lambda rows: len(rows) == 1),
    "monitoring.get_alert": ({"alert_id": "al-1"}, lambda alert: alert["state"] == "firing"),
    "monitoring.list_deployments": ({"service": "mobile-app"}, lambda rows: rows[0]["id"] == "dep-931"),
    "monitoring.get_deployment": ({"deployment_id": "dep-931"}, lambda deployment: deployment["state"] == "live"),
    "monitoring.list_certificates": ({"service": "sso-gateway"}, lambda rows: len(rows) == 1),
    "monitoring.get_certificate": ({"certificate_id": "cert-sso"}, lambda certificate: certificate["state"] == "expired"),
    "monitoring.restart_service": ({"service": "file-share", "site": "Leeds"}, lambda service: len(service["alerts"]) == 1),
    "monitoring.rotate_certificate": ({"certificate_id": "cert-sso"}, lambda certificate: certificate["state"] == "valid"),
    "monitoring.roll_back_deployment": ({"deployment_id": "dep-931"}, lambda deployment: deployment["state"] == "rolled_back"),
    "catalog.services": ({}, lambda rows: len(rows) == 3),
    "catalog.sites": ({}, lambda rows: len(rows) == 2),
    "catalog.staff": ({}, lambda rows: len(rows) == 1),
    "catalog.freeze_windows": ({}, lambda rows: len(rows) == 1),
    "catalog.company": ({}, lambda company: company["currency"] == "EUR"),
    "mail.send": (
        {"to": "mara.lindt@ardent.example", "subject": "Your code", "body": "123456\n"},
        lambda mail: mail["to"] == "mara.lindt@ardent.example",
    ),
    "helpdesk.reply": ({"external_id": "JIRA/1", "body": "Done."}, lambda ticket: ticket["external_id"] == "JIRA/1"),
    "helpdesk.note": ({"external_id": "JIRA/1", "body": "Was locked."}, lambda ticket: len(ticket["notes"]) == 1),
    "helpdesk.status": ({"external_id": "JIRA/1", "state": "resolved", "code": "vpn"}, lambda ticket: ticket["code"] == "vpn"),
    "helpdesk.get": ({"external_id": "OLD-1"}, lambda ticket: ticket["state"] == "open"),
}
MORE = {
    "subscriptions": [*WORLD["subscriptions"], {"id": "SUB-2", "account": "acc-birch", "status": "cancelled"}],
    "helpdesk": [
        {"id": "OLD-1", "external_id": "OLD-1", "state": "open", "code": None, "replies": [], "notes": [], "updated_at": None}
    ],
}


def clock() -> datetime:
    return datetime(2026, 11, 18, 17, tzinfo=UTC)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with SandboxProcess(tmp_path_factory.mktemp("sandbox") / "world.db") as process:
        yield process


@pytest.fixture
def systems(sandbox: SandboxProcess) -> Iterator[HttpSystemsOfRecord]:
    sandbox.start().seed({**WORLD, **MORE})
    with connect(sandbox.url, sandbox.tokens()) as connected:
        yield connected


def connect(url: str, tokens: dict[tuple[str, str], str], **more: Any) -> HttpSystemsOfRecord:
    urls = dict.fromkeys(CATALOG.systems, url)
    return HttpSystemsOfRecord(CATALOG, base_urls=urls, tokens=tokens, clock=clock, sleep=lambda pause_s: None, **more)


def connect_anywhere(url: str) -> HttpSystemsOfRecord:
    return connect(url, {(system, direction): "t" for system in CATALOG.systems for direction in ("read", "write")})


# --- the catalogue conforms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_every_action_does_what_the_catalogue_says(systems, sandbox, name):
    arguments, holds = CALLS[name]
    action = CATALOG.action(name)
    observation = systems.call(name, arguments, idempotency_key="key-1")
    assert observation.status is OK, observation.body
    assert action.output_problems(observation.body) == [] and holds(observation.body)
    assert observation.at == clock() and observation.http_status in (200, 201)
    (call,) = sandbox.calls()
    assert (call["system"], call["method"], call["changed"]) == (action.system, action.method, action.writes)
    assert call["idempotency_key"] == ("key-1" if action.writes else None)
    sent = observation.request
    assert (sent["system"], sent["method"], sent["path"], sent["query"]) == tuple(
        call[key] for key in ("system", "method", "path", "query")
    )
    assert sent["json"] == (call["body"] if action.method == "POST" else None)
    assert "authorization" not in json.dumps(dict(sent)).lower()


def test_a_compensation_undoes_its_action(systems, sandbox):
    before = sandbox.state()
    for name, undo in (
        ("identity.add_to_group", "identity.remove_from_group"),
        ("billing.cancel_subscription", "billing.reactivate_subscription"),
    ):
        arguments = CALLS[name][0]
        assert CATALOG.action(name).compensation == undo
        for step in (name, undo):
            assert systems.call(step, arguments, idempotency_key=f"{step}-1").status is OK
    assert sandbox.state() == before


def test_the_same_key_again_answers_the_same_and_changes_nothing(systems, sandbox):
    arguments = CALLS["billing.refund"][0]
    first, second = (systems.call("billing.refund", arguments, idempotency_key="once") for _ in range(2))
    assert first == second and len(sandbox.state()["refunds"]) == 1
    assert systems.call("billing.refund", {**arguments, "amount": 1}, idempotency_key="once").status is REFUSED


# --- nothing leaves that the catalogue does not allow ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "key", "problem"),
    [
        ("identity.reset", {"user_id": "usr-001"}, "k", "no action 'identity.reset'"),
        ("identity.reset_password_all", {}, "k", "no action"),
        ("identity.reset_password", {}, "k", "lacks 'user_id'"),
        ("identity.reset_password", {"user_id": "usr-001", "notify": "me"}, "k", "unknown 'notify'"),
        ("identity.reset_password", {"user_id": "usr-001"}, None, "needs an idempotency key"),
        ("identity.reset_password", {"user_id": "usr-001"}, "", "needs an idempotency key"),
        ("identity.reset_password", {"user_id": "usr-001"}, "k\r\nX: y", "needs an idempotency key"),
        ("identity.reset_password", {"user_id": ".."}, "k", "user_id cannot be '..'"),
        ("identity.get_user", {"user_id": "."}, None, "user_id cannot be '.'"),
        ("identity.get_user", {"user_id": "  "}, None, "user_id cannot be"),
        ("identity.get_user", {"user_id": "a\nb"}, None, "user_id must match"),
        ("identity.get_user", {"user_id": "\ud800"}, None, "cannot be written as JSON"),
        ("billing.refund", {"payment_id": "PAY-1", "amount": float("nan"), "reason": "x"}, "k", "cannot be written as JSON"),
    ],
)
def test_a_call_outside_the_catalogue_is_refused_before_anything_leaves(systems, sandbox, name, arguments, key, problem):
    observation = systems.call(name, arguments, idempotency_key=key)
    assert (observation.status, observation.http_status) == (REFUSED, None)
    assert any(problem in said for said in observation.body["problems"]), observation.body
    assert sandbox.calls() == []


@pytest.mark.parametrize(
    "value",
    [
        "../usr-001",
        "usr-001/password-reset",
        "x/../../billing/refunds",
        "usr-001?admin=1",
        "usr-001#",
        "%2e%2e",
        "a b",
        "ü\\..",
        "..;/x",
    ],
)
def test_a_value_cannot_leave_its_path_segment(systems, sandbox, value):
    assert systems.call("identity.get_user", {"user_id": value}).status is REFUSED
    (call,) = sandbox.calls()
    assert (
        call["status"] == 404
        and call["path"].startswith("/identity/users/")
        and call["path"].count("/") == 3
        and call["query"] == {}
    )
    assert systems.call("identity.remove_from_group", {"user_id": "usr-001", "group": value}, idempotency_key="k").status is OK


# --- what the world answers -------------------------------------------------------------------------------------------------


def test_a_no_of_the_system_is_refused_with_its_reason(systems):
    observation = systems.call("identity.reset_password", {"user_id": "usr-003"}, idempotency_key="k")
    assert (observation.status, observation.http_status) == (REFUSED, 409) and "disabled" in observation.body["detail"]
    assert systems.call("orders.get", {"order_id": "ORD-0"}).http_status == 404


def test_a_wrong_token_is_refused(sandbox):
    with connect_anywhere(sandbox.url) as systems:
        assert systems.call("orders.get", {"order_id": "ORD-70012"}).http_status == 401


def test_a_read_uses_the_read_token(sandbox):
    only_read = {key: token if key[1] == "read" else "wrong" for key, token in sandbox.tokens().items()}
    with connect(sandbox.url, only_read) as systems:
        assert systems.call("vpn.get_session", {"session_id": "vpn-1"}).status is OK
        assert systems.call("vpn.reset_session", {"session_id": "vpn-1"}, idempotency_key="k").http_status == 401


@pytest.mark.parametrize("fault", ["error_500", "timeout_before"])
def test_a_read_that_fails_twice_is_had_the_third_time(systems, sandbox, fault):
    sandbox.fail("/vpn", fault, times=2)
    assert systems.call("vpn.get_session", {"session_id": "vpn-1"}).status is OK
    assert len(sandbox.calls()) == 3


@pytest.mark.parametrize("fault", ["error_500", "timeout_before"])
def test_a_read_that_keeps_failing_is_unavailable(systems, sandbox, fault):
    sandbox.fail("/vpn", fault, times=3)
    assert systems.call("vpn.get_session", {"session_id": "vpn-1"}).status is UNAVAILABLE
    assert len(sandbox.calls()) == 3


@pytest.mark.parametrize(
    ("fault", "happened"), [("error_500", False), ("error_500_after", True), ("timeout_before", False), ("timeout_after", True)]
)
def test_a_write_without_a_clear_answer_is_unknown_and_not_sent_again_by_itself(systems, sandbox, fault, happened):
    sandbox.fail("/vpn", fault)
    observation = systems.call("vpn.reset_session", {"session_id": "vpn-1"}, idempotency_key="k")
    assert observation.status is UNKNOWN and observation.request["idempotency_key"] == "k"
    assert [call["changed"] for call in sandbox.calls()] == [happened]
    assert systems.call("vpn.reset_session", {"session_id": "vpn-1"}, idempotency_key="k").status is OK
    assert sum(call["changed"] for call in sandbox.calls()) == 1


def test_a_system_that_is_down_was_never_reached(systems, sandbox):
    assert systems.call("vpn.get_session", {"session_id": "vpn-1"}).status is OK  # a pooled connection exists
    sandbox.kill()
    for name, key in (("vpn.get_session", None), ("vpn.reset_session", "k")):
        observation = systems.call(name, {"session_id": "vpn-1"}, idempotency_key=key)
        assert (observation.status, observation.http_status) == (UNAVAILABLE, None)
        assert observation.body["title"] == "Not reached" and observation.request["path"].startswith("/vpn/sessions/vpn-1")
    sandbox.start()
    assert systems.call("vpn.reset_session", {"session_id": "vpn-1"}, idempotency_key="k").status is OK


class Stubborn:
    """A system that answers every request with the same bytes."""

    def __init__(self, status: int, body: bytes, **headers: str) -> None:
        self.seen: list[str] = []
        stubborn = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                stubborn.seen.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Stubborn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answers(server: Stubborn) -> tuple[Observation, Observation]:
    with connect_anywhere(server.url) as systems:
        read = systems.call("vpn.get_session", {"session_id": "vpn-1"})
        return read, systems.call("vpn.reset_session", {"session_id": "vpn-1"}, idempotency_key="k")


SESSION = {"id": "v", "user_id": None, "gateway": None, "state": "closed", "since": None, "reset_at": None}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"id": "v"}',
        b"\xff\xfe",
        b"{" * 100_000,
        json.dumps({**SESSION, "state": "melted"}).encode(),
        json.dumps({**SESSION, "gateway": "a\x00b"}).encode(),
        json.dumps({**SESSION, "gateway": "\ud800"}).encode(),
        json.dumps({**SESSION, "load": float("nan")}).encode(),
    ],
)
def test_an_answer_that_does_not_fit_the_catalogue_is_never_taken_for_a_success(body):
    with Stubborn(200, body) as server:
        read, write = answers(server)
    assert (read.status, write.status) == (UNAVAILABLE, UNKNOWN)
    assert write.body["title"] == "Unexpected answer" and "\x00" not in json.dumps(write.body, ensure_ascii=False).encode().decode()


def test_an_answer_with_more_than_we_know_fits():
    with Stubborn(200, json.dumps({**SESSION, "nickname": "Bob\\u0000"}).encode()) as server:
        assert answers(server)[0].status is OK


@pytest.mark.parametrize(
    ("status", "of_read", "of_write"), [(429, UNAVAILABLE, UNAVAILABLE), (503, UNAVAILABLE, UNKNOWN), (404, REFUSED, REFUSED)]
)
def test_the_status_decides_what_is_known(status, of_read, of_write):
    with Stubborn(status, b'{"detail": "no"}') as server:
        read, write = answers(server)
    assert (read.status, write.status) == (of_read, of_write) and read.body == {"detail": "no"}
    assert len([line for line in server.seen if line.startswith("POST")]) == 1


def test_a_redirect_is_not_followed(sandbox):
    with Stubborn(307, b"", Location=f"{sandbox.url}/vpn/sessions/vpn-1") as server:
        read, write = answers(server)
    assert (read.status, write.status) == (REFUSED, REFUSED) and len(server.seen) == 2


def test_an_answer_beyond_all_measure_is_not_read_to_its_end():
    with Stubborn(200, b'"' + b"x" * (9 << 20)) as server:
        read, write = answers(server)
    assert (read.status, write.status) == (UNAVAILABLE, UNKNOWN) and len(json.dumps(read.body)) < 1000


def test_a_proxy_of_the_environment_is_not_used(sandbox, systems, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as trap:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{trap.getsockname()[1]}")
        with connect(sandbox.url, sandbox.tokens()) as fresh:
            assert fresh.call("vpn.get_session", {"session_id": "vpn-1"}).status is OK


def test_what_is_missing_in_the_settings_is_listed_at_once():
    with pytest.raises(ConfigurationError) as caught:
        HttpSystemsOfRecord(
            CATALOG, base_urls={"vpn": "ftp://x", "mail": "http://u:p@h"}, tokens={("vpn", "read"): "t"}, clock=clock
        )
    said = str(caught.value)
    for problem in ("vpn needs a base URL", "mail needs a base URL", "billing needs a base URL", "vpn needs a write token"):
        assert problem in said
    assert "vpn needs a read token" not in said and "catalog needs a write token" not in said


def test_many_threads_share_one_connector_and_kill_9_never_does_anything_twice(systems, sandbox):
    """Refunds of 0.01 flow while the sandbox is killed; whoever got no clear answer asks again with the same key."""
    work, kill_after = 150, (15, 50, 85, 120)
    done = threading.Condition()
    finished: list[int] = []

    def refund(number: int) -> None:
        arguments = {"payment_id": "PAY-1", "amount": 0.01, "reason": f"part {number}"}
        for _ in range(500):
            observation = systems.call("billing.refund", arguments, idempotency_key=f"part-{number}")
            if observation.status is OK:
                with done:
                    finished.append(number)
                    done.notify_all()
                return
            assert observation.status in (UNKNOWN, UNAVAILABLE), observation
            time.sleep(0.02)
        raise AssertionError(f"part {number} never came through")

    with ThreadPoolExecutor(8) as pool:
        parts = [pool.submit(refund, number) for number in range(work)]
        for count in kill_after:
            with done:
                assert done.wait_for(lambda count=count: len(finished) >= count, timeout=60)
            sandbox.kill()
            sandbox.start()
    for part in parts:
        part.result()
    state = sandbox.state()
    assert len(finished) == len(state["refunds"]) == work == sum(call["changed"] for call in sandbox.calls())
    assert state["payments"][0]["refunded_amount"] == 1.5


def test_a_draft_is_never_sent_and_needs_no_token(sandbox):
    sandbox.start()
    drafts = {"vpn.reset_session": replace(CATALOG["vpn.reset_session"], reviewed=False)}
    with HttpSystemsOfRecord(drafts, base_urls=sandbox.base_urls(), tokens=sandbox.tokens(), clock=clock) as systems:
        before = len(sandbox.calls())
        seen = systems.call("vpn.reset_session", {"session_id": "vpn-1"}, idempotency_key="k")
    assert seen.status is REFUSED and "draft" in seen.body["problems"][0] and len(sandbox.calls()) == before
    HttpSystemsOfRecord(drafts, base_urls={}, tokens={}, clock=clock).close()
