"""The console in a browser without scripts: logging in, looking, deciding. Pages are read as a person's browser would get them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx
from desk_records import handed_over, resolved, triage
from gateway_desk import ask_approval, claim, hand_over, join, resolve
from gateway_server import Gateway, running

from orchestrator.storage.store import PostgresStore
from serving.gateway.console.sessions import COOKIE

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def password(gateway: Gateway, **who: str) -> str:
    made: str = gateway.client("admin").post("/v1/console/logins", json=who).json()["password"]
    return made


def logged_in(gateway: Gateway, role: str = "lead", name: str = "mira@example.test") -> httpx.Client:
    browser = gateway.client()
    answer = browser.post("/console/login", data={"password": password(gateway, role=role, name=name)})
    assert answer.status_code == 303, answer.text
    return browser


def csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page)
    assert found
    return found[1]


def send(browser: httpx.Client, path: str, fields: Mapping[str, Any], *, page: str = "/console") -> httpx.Response:
    return browser.post(path, data={"csrf": csrf(browser.get(page).text), **fields})


# --- logging in ---


def test_a_one_time_password_opens_the_console_once(gateway: Gateway) -> None:
    once = password(gateway)
    browser = gateway.client()
    answer = browser.post("/console/login", data={"password": f"  {once.upper()} "})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "Path=/" in cookie
    assert browser.get("/console").status_code == 200
    again = gateway.client().post("/console/login", data={"password": once})
    assert again.status_code == 401 and "does not open" in again.text
    assert "set-cookie" not in again.headers


def test_a_password_that_waited_too_long_opens_nothing(store: PostgresStore) -> None:
    moments = [datetime.now(UTC)]
    with running(store, clock=lambda: moments[0]) as gateway:
        once = password(gateway)
        moments[0] += timedelta(minutes=10, seconds=1)
        assert gateway.client().post("/console/login", data={"password": once}).status_code == 401


def test_a_session_ends_by_itself_and_by_logging_out(store: PostgresStore) -> None:
    moments = [datetime.now(UTC)]
    with running(store, clock=lambda: moments[0]) as gateway:
        early, late = logged_in(gateway), logged_in(gateway)
        token = early.cookies[COOKIE]
        assert send(early, "/console/logout", {}).headers["location"] == "/console/login"
        stolen = gateway.client(Cookie=f"{COOKIE}={token}")
        assert stolen.get("/console").headers["location"].startswith("/console/login")
        moments[0] += timedelta(hours=9)
        assert late.get("/console").status_code == 303


def test_without_a_session_every_page_leads_to_the_login(gateway: Gateway) -> None:
    for path in ("/console", "/console/tickets/T-1", "/console/incidents", "/console/approvals", "/console/knowledge"):
        answer = gateway.client().get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/console/login?next={path}")
    assert gateway.client().get("/").headers["location"] == "/console"
    assert gateway.client(Accept="text/html").get("/docs").headers["location"] == "/console/login?next=/docs"
    assert logged_in(gateway).get("/docs").status_code == 200


def test_the_login_leads_to_our_own_pages_only(gateway: Gateway) -> None:
    for target in ("https://evil.test/", "//evil.test", "/console//evil.test", "/consoles\\evil", "javascript:alert(1)"):
        answer = gateway.client().post("/console/login", data={"password": password(gateway), "next": target})
        assert answer.headers["location"] == "/console", target
    deep = gateway.client().post("/console/login", data={"password": password(gateway), "next": "/console/approvals"})
    assert deep.headers["location"] == "/console/approvals"


def test_a_session_never_opens_the_api(gateway: Gateway) -> None:
    browser = logged_in(gateway)
    for path in ("/v1/tickets", "/v1/kpis", "/metrics", "/v1/audit"):
        assert browser.get(path).status_code == 401


# --- safety of the pages ---


def pages(gateway: Gateway, now: datetime) -> list[str]:
    ticket_id = gateway.submit(EVIL, requester={"email": "x'b@example.test", "name": EVIL}, context={EVIL: EVIL})
    other = gateway.submit(EVIL)
    incident = join(gateway.store, other, ticket_id, now=now)
    ask_approval(gateway.store, ticket_id, now=now)
    gateway.client("service").post(f"/v1/tickets/{ticket_id}/messages", json={"body": EVIL})
    paths = ["/console", f"/console?q={EVIL}&category={EVIL}&tab={EVIL}&said={EVIL}", f"/console/tickets/{ticket_id}"]
    return [
        *paths,
        "/console/incidents",
        "/console/knowledge",
        f"/console/incidents/{incident}",
        "/console/approvals?show=all",
        "/docs",
        "/console/login",
    ]


def test_no_page_runs_or_fetches_anything_from_elsewhere(gateway: Gateway, now: datetime) -> None:
    browser = logged_in(gateway)
    for path in pages(gateway, now):
        answer = browser.get(path, follow_redirects=True)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src" not in policy and "unsafe" not in policy
        assert (answer.headers["x-frame-options"], answer.headers["cache-control"]) == ("DENY", "no-store")
        elements = Elements()
        elements.feed(answer.text)
        assert not {"script", "iframe", "object", "style", "base"} & {name for name, _ in elements.found}, path
        for name, attributes in elements.found:
            assert not [key for key in attributes if key.startswith("on") or key == "style"], (path, name, attributes)
            for key in {"src", "href", "action", "srcset"} & attributes.keys():
                assert str(attributes[key]).startswith(("/console", "/docs", "/openapi.json", "#")), (path, attributes)


class Elements(HTMLParser):
    """Every element with its attributes, as a browser would read them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_what_a_requester_wrote_is_shown_as_written(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit(EVIL)
    hand_over(gateway.store, ticket_id, now=now)
    page = logged_in(gateway).get(f"/console/tickets/{ticket_id}").text
    assert EVIL not in page and EVIL in unescape(page)


def test_the_style_sheet_is_ours_and_nothing_else_is_served(gateway: Gateway) -> None:
    sheet = gateway.client().get("/console/assets/console.css")
    assert sheet.headers["content-type"].startswith("text/css")
    assert "url(" not in sheet.text and "@import" not in sheet.text
    for name in ("nothing.css", "..%2Fpages.py", "%2e%2e%2f%2e%2e%2fapp.py"):
        assert gateway.client().get(f"/console/assets/{name}").status_code == 404


def test_a_form_without_the_token_of_its_session_does_nothing(gateway: Gateway) -> None:
    ticket_id = gateway.submit()
    browser, other = logged_in(gateway), logged_in(gateway)
    path = f"/console/tickets/{ticket_id}/note"
    for token in ("", "0" * 64, csrf(other.get("/console").text)):
        assert browser.post(path, data={"csrf": token, "note": "forged"}).status_code == 403
    good = csrf(browser.get("/console").text)
    assert browser.post(path, data={"csrf": good, "note": "forged"}, headers={"Origin": "https://evil.test"}).status_code == 403
    assert gateway.client("lead").get(f"/v1/tickets/{ticket_id}").json()["messages"] == []
    assert browser.post(path, data={"csrf": good, "note": "mine"}, headers={"Origin": gateway.url}).status_code == 303


def test_a_role_sees_and_does_what_the_table_says(gateway: Gateway, now: datetime) -> None:
    approval = ask_approval(gateway.store, gateway.submit(), now=now)
    analyst, auditor = logged_in(gateway, "analyst"), logged_in(gateway, "auditor")
    page = analyst.get("/console/approvals").text
    assert 'value="approve"' not in page and "to be decided by the role" in page
    refused = send(analyst, f"/console/approvals/{approval}", {"decision": "approve", "reason": "x"})
    assert refused.status_code == 403 and "<h1>Not allowed</h1>" in refused.text
    assert "Keep note" not in auditor.get("/console/tickets/T-1001").text
    assert send(auditor, "/console/kill-switch", {"stopped": "true", "reason": "x"}).status_code == 403


# --- looking and working ---


def shown(page: str) -> list[str]:
    return re.findall(r'class="subject" href="/console/tickets/(T-\d+)"', page)


def test_the_queue_is_sorted_by_urgency_and_filtered(gateway: Gateway, now: datetime) -> None:
    low, done, high = gateway.submit("low"), gateway.submit("done"), gateway.submit("high")
    settle_all(gateway, now, low=low, done=done, high=high)
    browser = logged_in(gateway)
    assert shown(browser.get("/console").text) == [high, low]
    assert shown(browser.get("/console?tab=all").text) == [high, low, done]
    assert shown(browser.get("/console?tab=resolved").text) == [done]
    assert shown(browser.get("/console?priority=1").text) == [high]
    assert shown(browser.get("/console?category=vpn").text) == [high]
    assert shown(browser.get("/console", params={"group": "Service Desk", "q": "low"}).text) == [low]
    assert shown(browser.get("/console?page=2").text) == [] and browser.get("/console?page=x&priority=9").status_code == 200


def settle_all(gateway: Gateway, now: datetime, *, low: str, done: str, high: str) -> None:
    with gateway.store.transaction() as tx:
        held = tx.claim(worker="w", limit=9, lease_s=60)
        tx.save_triage({low: triage(level=4), done: triage(level=4), high: triage("vpn", level=1)}, now=now)
        tx.save_outcomes({low: handed_over(), done: resolved(), high: handed_over()}, notes={}, now=now)
        tx.finish(held)


def test_a_ticket_page_tells_the_whole_story(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit()
    resolve(gateway.store, ticket_id, now=now)
    page = unescape(logged_in(gateway).get(f"/console/tickets/{ticket_id}").text)
    for part in (
        "Your password was reset.",
        "Confirmed by the system of record",
        "changed at 10:02",
        "identity.reset_password",
        "own-records",
        "from record: identity.find_user: account",
        "The nearest labeled ticket says so.",
        "Triaged: Password reset (97 % sure, by the head), P4, Service Desk",
        "Active → Resolved",
        "I forgot my password",
    ):
        assert part in page, part


def test_a_lead_approves_from_the_page(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit("Refund 900")
    approval = ask_approval(gateway.store, ticket_id, now=now)
    browser = logged_in(gateway)
    page = browser.get("/console/approvals").text
    assert "above the limit" in page and "identity.reset_password" in page and ">1</span>" in page
    answer = send(browser, f"/console/approvals/{approval}", {"decision": "approve", "reason": "agreed with finance"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/approvals?said=approved")
    assert "executed once" in browser.get(answer.headers["location"]).text
    with gateway.store.transaction() as tx:
        decided = tx.approval(approval)
    assert (decided.status, decided.decided_by, decided.decision_reason) == ("approved", "mira@example.test", "agreed with finance")
    assert claim(gateway.store, ticket_id)
    assert send(browser, f"/console/approvals/{approval}", {"decision": "reject", "reason": "again"}).status_code == 409
    assert send(browser, f"/console/approvals/{approval}", {"decision": "approve", "reason": ""}).status_code == 422


def test_nobody_approves_their_own_request_from_the_page(gateway: Gateway, now: datetime) -> None:
    approval = ask_approval(gateway.store, gateway.submit(requester={"email": "mira@example.test"}), now=now)
    browser = logged_in(gateway)
    assert "own request" in unescape(browser.get("/console/approvals").text)
    assert send(browser, f"/console/approvals/{approval}", {"decision": "approve", "reason": "mine"}).status_code == 403


def test_tickets_are_taken_out_of_an_incident_from_the_page(gateway: Gateway, now: datetime) -> None:
    lead, stray = gateway.submit("Cannot sign in"), gateway.submit("Another site")
    incident = join(gateway.store, stray, lead, now=now)
    browser = logged_in(gateway)
    assert incident in browser.get("/console/incidents").text
    path = f"/console/incidents/{incident}"
    assert send(browser, f"{path}/split", {"reason": "nobody chosen"}).status_code == 422
    assert send(browser, f"{path}/split", {"ticket": [stray], "reason": "other site"}).headers["location"] == f"{path}?said=split"
    assert "Taken out" in browser.get(path).text and "other site" in browser.get(path).text


def test_a_person_corrects_notes_and_reopens(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit()
    resolve(gateway.store, ticket_id, now=now)
    browser, path = logged_in(gateway, "analyst"), f"/console/tickets/{ticket_id}"
    assert send(browser, f"{path}/override", {"category": "vpn", "priority": "2", "reason": "the tunnel"}).status_code == 303
    assert send(browser, f"{path}/note", {"note": "called her"}).status_code == 303
    assert send(browser, f"{path}/reopen", {"reason": "still broken"}).status_code == 303
    found = gateway.client("lead").get(f"/v1/tickets/{ticket_id}").json()
    assert (found["category"], found["priority"]["level"], found["state"]) == ("vpn", 2, "active")
    assert [(m["author"], m["body"]) for m in found["messages"][-2:]] == [("note", "called her"), ("note", "still broken")]
    for fields in (
        {"reason": "nothing"},
        {"category": "vpn"},
        {"priority": "7", "reason": "x"},
        {"category": "none", "reason": "x"},
    ):
        assert send(browser, f"{path}/override", fields).status_code == 422


def test_the_switch_stops_everything_from_any_page_and_every_page_says_so(gateway: Gateway) -> None:
    browser = logged_in(gateway)
    answer = send(browser, "/console/kill-switch", {"stopped": "true", "reason": "odd refunds", "back": "/console/incidents"})
    assert answer.headers["location"] == "/console/incidents?said=stopped"
    assert "All autonomy is stopped: odd refunds" in browser.get("/console/approvals").text
    with gateway.store.transaction() as tx:
        assert tx.kill_switch()["stopped"]
    assert send(browser, "/console/kill-switch", {"stopped": "false", "reason": "explained"}).status_code == 303


def test_a_page_that_is_not_there_is_told_in_words(gateway: Gateway) -> None:
    browser = logged_in(gateway)
    for path in ("/console/tickets/T-9999", "/console/incidents/INC-9", "/console/nothing"):
        answer = browser.get(path)
        assert answer.status_code == 404 and answer.headers["content-type"].startswith("text/html")
        assert "Not found" in answer.text


def test_the_log_names_who_did_what_in_the_console(gateway: Gateway) -> None:
    ticket_id = gateway.submit()
    browser = logged_in(gateway, name="Jin Takahara")
    send(browser, f"/console/tickets/{ticket_id}/note", {"note": "seen"})
    send(browser, "/console/logout", {})
    events = gateway.client("auditor").get("/v1/audit?limit=500").json()["items"]
    mine = [event["kind"] for event in events if event["actor"] == "Jin Takahara"]
    assert mine == ["console_session_opened", "message", "console_session_ended"]
