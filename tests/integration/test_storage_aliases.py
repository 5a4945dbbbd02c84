"""Desired aliases, reports of replicas, shadow predictions and what has no vector yet: on a real PostgreSQL."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from orchestrator.domain.aliases import DesiredAlias
from orchestrator.domain.tickets import IncomingTicket, Requester
from orchestrator.domain.triage import Classification, Entities
from orchestrator.ports import Reader
from orchestrator.storage.store import PostgresStore

OLD, NEW, EMBEDDER = (f"{name}@sha256-{digit * 64}" for name, digit in (("desk", "a"), ("desk", "b"), ("words", "c")))
LIVE = DesiredAlias(task="triage", alias="live", name=OLD, path="/models/old", by="mira", reason="first", needs={EMBEDDER: "/e"})
CANARY = DesiredAlias(task="triage", alias="canary", name=NEW, path="/models/new", percent=12.5, by="mira", reason="try it")


def moves(store: PostgresStore) -> list[dict[str, object]]:
    with store.transaction() as tx:
        return [event["body"] for event in tx.events(ticket_id=None)[0] if event["kind"] == "alias_moved"]


def test_a_projection_makes_the_rows_those_of_the_registry_and_audits_what_changed(store: PostgresStore) -> None:
    assert store.run(lambda tx: tx.project_aliases(lambda: [LIVE, CANARY])) == ["triage/canary", "triage/live"]
    assert store.run(lambda tx: tx.project_aliases(lambda: [LIVE, CANARY])) == [], "what stands already is not written again"
    rows = {row.alias: row for row in store.run(lambda tx: tx.desired_aliases("triage"))}
    assert (rows["live"].name, rows["live"].needs, rows["canary"].percent) == (OLD, {EMBEDDER: "/e"}, 12.5)

    promoted = replace(LIVE, name=NEW, path="/models/new", reason="better on the golden set", needs={})
    assert store.run(lambda tx: tx.project_aliases(lambda: [promoted])) == ["triage/live", "triage/canary"]
    (row,) = store.run(lambda tx: tx.desired_aliases())
    assert (row.name, row.previous_name, row.previous_path) == (NEW, OLD, "/models/old")
    told = [(body["alias"], body["name"], body["previous"], body.get("by")) for body in moves(store)]
    assert told == [
        ("canary", NEW, None, "mira"),
        ("live", OLD, None, "mira"),
        ("live", NEW, OLD, "mira"),
        ("canary", None, NEW, None),
    ]


def test_what_stood_before_is_kept_while_only_the_percentage_moves(store: PostgresStore) -> None:
    for percent in (5.0, 50.0):
        store.run(lambda tx, percent=percent: tx.project_aliases(lambda: [replace(CANARY, percent=percent)]))
    store.run(lambda tx: tx.project_aliases(lambda: [replace(CANARY, name=OLD)]))
    store.run(lambda tx: tx.project_aliases(lambda: [replace(CANARY, name=OLD, percent=1.0)]))
    (row,) = store.run(lambda tx: tx.desired_aliases())
    assert (row.previous_name, row.percent) == (NEW, 1.0)


def test_only_replicas_that_were_heard_of_lately_count(store: PostgresStore) -> None:
    with store.transaction() as tx:
        tx.report_models("language_model", "r1", {"served": [OLD]})
        tx.report_models("language_model", "r1", {"served": [NEW]})
    with store.transaction() as tx:
        (report,) = tx.model_reports(fresh_s=30)
        assert (report["part"], report["replica"], report["body"]) == ("language_model", "r1", {"served": [NEW]})
        assert tx.model_reports(fresh_s=0) == []


def test_a_shadow_prediction_lies_beside_its_ticket_and_changes_nothing_of_it(store: PostgresStore) -> None:
    (ticket_id,) = accept(store, ["The printer is on fire"])
    said = Classification(category="hardware", confidence=0.4, abstained=True, alternatives=(), stage="model")
    before = store.run(lambda tx: tx.ticket_record(ticket_id))
    for category in ("network", "hardware"):
        store.run(lambda tx, c=category: tx.save_shadow_predictions(NEW, {ticket_id: replace(said, category=c)}))
    (found,) = store.run(lambda tx: tx.shadow_predictions(ticket_id=ticket_id))
    assert (found["name"], found["category"], found["confidence"], found["live_category"]) == (NEW, "hardware", 0.4, None)
    assert store.run(lambda tx: tx.ticket_record(ticket_id)) == before


def test_tickets_and_passages_without_a_vector_of_the_new_model_are_found_until_they_have_one(store: PostgresStore) -> None:
    first, second = accept(store, ["one", "two"])
    since = datetime.now(UTC) - timedelta(hours=1)
    with store.transaction() as tx:
        tx.save_embeddings("old", [(i, np.eye(4)[0], Entities(services=("vpn",))) for i in (first, second)])
        tx.put_document({"id": "d", "title": "Reset", "digest": "1"}, [("How", "Press it.", np.eye(4)[1])], model="old")
    with store.transaction() as tx:
        assert tx.left_without("new", since=since) == {"tickets": 2, "passages": 1}
        (newest,) = tx.tickets_without("new", since=since, limit=1)
        assert newest == (second, Entities(services=("vpn",)))
        tx.add_embeddings("new", [(second, np.eye(3)[0], newest[1])])
        tx.add_embeddings("new", [(second, np.eye(3)[1], newest[1])])  # what is there stays
        ((number, text),) = tx.passages_without("new", limit=9)
        assert text == "Reset\nHow\nPress it."
        tx.move_passages("new", [(number, np.eye(3)[2])])
    with store.transaction() as tx:
        assert tx.left_without("new", since=since) == {"tickets": 1, "passages": 0}
        assert tx.embeddings("new", [second])[second].tolist() == [1, 0, 0]
        (passage,) = tx.search_knowledge("new", np.eye(3)[2], "", limit=1, reader=Reader(audience="internal"))
        assert (passage.passage_id, round(passage.score, 4)) == (number, 1.0)


def accept(store: PostgresStore, subjects: list[str]) -> list[str]:
    requester = Requester(email="ada@example.test")
    coming = [IncomingTicket(subject=subject, description="", requester=requester, source="test") for subject in subjects]
    return [accepted.ticket_id for accepted in store.run(lambda tx: tx.accept(coming, now=datetime.now(UTC)))]
