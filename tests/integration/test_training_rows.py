"""What people said, read out of a real PostgreSQL and given over HTTP as training rows; and what triage decided."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from desk_records import handed_over, incoming, resolved, triage
from gateway_desk import ask_approval, hand_over, resolve
from gateway_server import Gateway, key_of, problem

from orchestrator.domain.errors import Forbidden, ModelUnavailable
from orchestrator.domain.tickets import State
from orchestrator.storage import training_rows
from orchestrator.storage.store import PostgresStore
from training.feedback import collect
from training.feedback.decisions import decisions_from


def given(gateway: Gateway, path: str = "rows", **query: Any) -> list[Mapping[str, Any]]:
    """All pages, as the ml-engineer reads them."""
    client, items, cursor = gateway.client("ml-engineer"), [], None
    while True:
        answer = client.get(f"/v1/training/{path}", params={**query, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        if (cursor := answer.json()["next_cursor"]) is None:
            return items


def override(gateway: Gateway, ticket_id: str, category: str, *, who: str = "analyst") -> None:
    body = {"category": category, "reason": f"it is about {category}"}
    answer = gateway.client(who).post(f"/v1/tickets/{ticket_id}/override", json=body)
    assert answer.status_code == 200, answer.text


def test_an_override_comes_back_as_a_row_with_who_and_why(gateway: Gateway, now: datetime) -> None:
    ticket_id = gateway.submit("Tunnel drops every ten minutes")
    resolve(gateway.store, ticket_id, now=now)
    override(gateway, ticket_id, "vpn")
    (row,) = given(gateway)
    assert (row["id"], row["category"], row["kind"], row["who"], row["why"]) == (
        ticket_id, "vpn", "override", "analyst", "it is about vpn",
    )  # fmt: skip
    assert row["was"] == {"category": "password_reset", "confidence": 0.97, "stage": "head", "model": ""}
    assert (row["eligible"], row["ineligible_because"], row["weight"], row["by_person"]) == (True, {}, 1.0, True)
    assert row["subject"] == "Tunnel drops every ten minutes" and row["decided_at"] >= row["created_at"]


def test_approvals_verdicts_and_reopenings_come_with_their_reasons(gateway: Gateway, now: datetime) -> None:
    approved, rated, back = (
        gateway.submit(name) for name in ("Refund of the last order", "Cannot sign in here", "Locked out again")
    )
    approval = ask_approval(gateway.store, approved, now=now)
    gateway.client("approver").post(f"/v1/approvals/{approval}", json={"decision": "approve", "reason": "fine"})
    rated = gateway.submit("Cannot sign in here")
    resolve(gateway.store, rated, now=now)
    gateway.client("lead").post(f"/v1/tickets/{rated}/feedback", json={"rating": "good", "reason": "sampled"})
    back = gateway.submit("Locked out again")
    resolve(gateway.store, back, now=now)
    gateway.client("lead").post(f"/v1/tickets/{back}/feedback", json={"rating": "good", "reason": "sampled"})
    gateway.client("service").post(f"/v1/tickets/{back}/reopen", json={"reason": "still locked"})
    found = {(row["id"], row["kind"]): row for row in given(gateway)}
    assert found[approved, "confirmed"]["eligible"] and found[approved, "confirmed"]["why"] == f"{approval} approved: fine"
    assert found[rated, "qa_right"]["eligible"]
    assert set(found[back, "qa_right"]["ineligible_because"]) == {"objected"}
    assert (found[back, "reopened"]["why"], found[back, "reopened"]["eligible"]) == ("still locked", False)
    assert "by_a_service" in found[back, "reopened"]["ineligible_because"]


def test_a_verified_resolution_counts_once_it_was_quiet_and_not_before(store: PostgresStore, now: datetime, dsn: str) -> None:
    with store.transaction() as tx:
        (done, shadow) = (accepted.ticket_id for accepted in tx.accept([incoming(), incoming()], now=now))
        tx.save_triage({done: triage(), shadow: triage()}, now=now)
        tx.save_outcomes({done: resolved(), shadow: resolved()}, notes={}, now=now)
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE ticket SET autonomy_rung = 'shadow' WHERE id = %s", [shadow])
    later = now + timedelta(days=training_rows.QUIET_DAYS, hours=1)
    with store.transaction() as tx:
        assert training_rows.verdicts(tx, since=now - timedelta(days=1), now=now) == ([], None)
        (found,), _ = training_rows.verdicts(tx, since=now - timedelta(days=1), now=later)
        assert training_rows.verdicts(tx, since=later, now=later) == ([], None)
    (word,) = found.statements
    assert (found.ticket_id, word.said, word.who) == (done, "verified", "cloister")
    assert word.why == "confirmed by identity.get_user, not reopened in 14 days"


def test_what_a_person_finished_after_a_hand_over_is_their_word(store: PostgresStore, now: datetime) -> None:
    with store.transaction() as tx:
        (ticket_id,) = (accepted.ticket_id for accepted in tx.accept([incoming()], now=now))
        tx.save_triage({ticket_id: triage()}, now=now)
        tx.save_outcomes({ticket_id: handed_over()}, notes={}, now=now)
        tx.set_state(ticket_id, State.RESOLVED, reason="done by hand", by="lena")
    with store.transaction() as tx:
        ((found,), _) = training_rows.verdicts(tx, since=now - timedelta(days=1), now=now)
    assert [(s.said, s.who, s.why) for s in found.statements] == [("finished", "lena", "done by hand")]


def test_identical_overrides_in_a_burst_are_counted_and_refused(store: PostgresStore, now: datetime) -> None:
    with store.transaction() as tx:
        ids = [accepted.ticket_id for accepted in tx.accept([incoming(f"Where is parcel {n}") for n in range(4)], now=now)]
    for ticket_id, category in zip(ids, ("order_status", "order_status", "order_status", "vpn"), strict=True):
        with store.transaction() as tx:
            tx.record_feedback(ticket_id, "override", {"category": category, "reason": "moved"}, by="lena")
    with store.transaction() as tx:
        found, following = training_rows.verdicts(tx, since=now - timedelta(days=1), now=now, limit=2)
        rest, _ = training_rows.verdicts(tx, since=now - timedelta(days=1), now=now, limit=2, cursor=following)
    assert [verdicts.statements[0].alike for verdicts in (*found, *rest)] == [3, 3, 3, 1]


def test_pages_hold_every_ticket_once_and_since_is_kept(gateway: Gateway, now: datetime) -> None:
    ids = [gateway.submit(f"The tunnel drops at site {n}") for n in range(5)]
    with gateway.store.transaction() as tx:
        tx.save_triage({ticket_id: triage() for ticket_id in ids}, now=now)
    for ticket_id in ids:
        override(gateway, ticket_id, "vpn")
    assert [row["id"] for row in given(gateway, limit=2)] == ids
    assert given(gateway, since=(datetime.now(UTC) + timedelta(hours=1)).isoformat()) == []
    problem(gateway.client("ml-engineer").get("/v1/training/rows?cursor=nonsense"), 422)
    problem(gateway.client("ml-engineer").get("/v1/training/rows?since=yesterday"), 422)


def test_reading_rows_is_for_training_and_leaves_a_trace(gateway: Gateway) -> None:
    for role in ("service", "analyst", "lead", "approver", "auditor"):
        problem(gateway.client(role).get("/v1/training/rows"), 403)
        problem(gateway.client(role).get("/v1/training/decisions"), 403)
    given(gateway)
    events = [
        event for event in gateway.client("auditor").get("/v1/audit").json()["items"] if event["kind"] == "training_rows_read"
    ]
    assert [(event["actor"], event["body"]["tickets"]) for event in events] == [("ml-engineer", 0)]


def test_a_training_run_collects_rows_and_decisions_over_http(
    gateway: Gateway, now: datetime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ids = [gateway.submit("Tunnel drops", description=f"Site {n} is cut off. Write to ada.lovelace@example.com") for n in range(3)]
    with gateway.store.transaction() as tx:
        tx.save_triage({ticket_id: triage() for ticket_id in ids}, now=now)
    for ticket_id in ids[:2]:
        override(gateway, ticket_id, "vpn")
    monkeypatch.setattr(collect, "PAGE_TICKETS", 1)
    monkeypatch.setenv("CLOISTER_HOME", str(tmp_path))
    monkeypatch.setenv("CLOISTER_URL", gateway.url)
    with pytest.raises(ModelUnavailable, match="no key"):
        collect.collect_feedback()
    monkeypatch.setenv("CLOISTER_API_KEY", key_of("analyst"))
    with pytest.raises(Forbidden, match="ml-engineer"):
        collect.collect_feedback()
    monkeypatch.setenv("CLOISTER_API_KEY", key_of("ml-engineer"))
    found = collect.collect_feedback(since=now - timedelta(hours=1))
    assert [(ticket.id, ticket.category) for ticket in found.tickets] == [(ids[0], "vpn"), (ids[1], "vpn")]
    assert "ada" not in found.tickets[0].text and found.redactions["EMAIL"] == 2
    seen = decisions_from(collect.collect_decisions(since=now - timedelta(hours=1)), now=now)
    assert [(d.category, d.corrected_to) for d in seen] == [("password_reset", "vpn")] * 2 + [("password_reset", None)]


def test_decisions_say_what_became_of_each(gateway: Gateway, now: datetime) -> None:
    good = gateway.submit("Password forgotten")
    resolve(gateway.store, good, now=now)
    moved = gateway.submit("Tunnel drops")
    resolve(gateway.store, moved, now=now)
    override(gateway, moved, "vpn")
    handed = gateway.submit("Odd matter")
    hand_over(gateway.store, handed, now=now)
    found = {item["id"]: item for item in given(gateway, "decisions", limit=2)}
    assert [found[i]["outcome"] for i in (good, moved, handed)] == ["resolved", "resolved", "handed_over"]
    assert [found[i]["corrected_to"] for i in (good, moved, handed)] == [None, "vpn", None]
    assert found[good]["verified"] and found[handed]["verified"] is None and not found[good]["reopened"]
    assert found[good]["alternatives"][0] == ["password_reset", 0.97] and "neighbors" not in found[good]
