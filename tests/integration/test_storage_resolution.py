"""Steps, outcomes, approvals, incidents, similar tickets and knowledge in a real PostgreSQL."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from desk_records import (
    ALLOW,
    awaiting_approval,
    handed_over,
    incoming,
    linked,
    observed,
    proposal,
    resolved,
    triage,
    vector,
)

from orchestrator.domain.errors import BadInput, Conflict, NotFound
from orchestrator.domain.resolution import ApprovalStatus, AwaitingRequester
from orchestrator.domain.tickets import Stage, State
from orchestrator.domain.triage import Entities, Link, LinkKind
from orchestrator.ports import Claim, Reader
from orchestrator.storage.similar import VectorWindows
from orchestrator.storage.store import PostgresStore


def opened(store: PostgresStore, now: datetime, count: int = 1) -> tuple[list[str], list[Claim]]:
    with store.transaction() as tx:
        ids = [accepted.ticket_id for accepted in tx.accept([incoming(f"matter {n}") for n in range(count)], now=now)]
        return ids, tx.claim(worker="w", limit=count, lease_s=60)


# --- steps ---


def test_an_intended_step_awaits_its_observation(store: PostgresStore, now: datetime) -> None:
    [ticket_id], claims = opened(store, now)
    with store.transaction() as tx:
        tx.save_intended(
            claims,
            [(proposal(ticket_id, key="a"), ALLOW), (proposal(ticket_id, step="lookup", key="b", writes=False), ALLOW)],
            now=now,
        )
    with store.transaction() as tx:
        first, second = tx.steps([ticket_id])[ticket_id]
    assert (first.seq, first.step, first.writes, first.observation, first.verdict) == (1, "reset", True, None, ALLOW)
    assert (second.seq, second.step, second.writes, second.epoch) == (2, "lookup", False, 0)
    seen = observed(now, body={"n": [1.5, None, "é"]})
    with store.transaction() as tx:
        tx.save_observed([(ticket_id, "a", seen)], now=now)
    with store.transaction() as tx:
        assert [step.observation for step in tx.steps([ticket_id])[ticket_id]] == [seen, None]
        kinds = [event["kind"] for event in tx.events(ticket_id=ticket_id)[0]]
    assert kinds == ["opened", "intended", "intended", "observed"]


def test_a_resumed_run_keeps_what_was_done_and_observes_the_rest_anew(store: PostgresStore, now: datetime) -> None:
    [ticket_id], claims = opened(store, now)
    act, read, unsure = (
        proposal(ticket_id, key="act"),
        proposal(ticket_id, step="read", key="read", writes=False),
        proposal(ticket_id, key="unsure"),
    )
    with store.transaction() as tx:
        tx.save_intended(claims, [(act, ALLOW), (read, ALLOW), (unsure, ALLOW)], now=now)
        tx.save_observed(
            [
                (ticket_id, "act", observed(now)),
                (ticket_id, "read", observed(now)),
                (ticket_id, "unsure", observed(now, status="unknown")),
            ],
            now=now,
        )
    with store.transaction() as tx:
        tx.save_intended(claims, [(act, ALLOW), (read, ALLOW), (unsure, ALLOW)], now=now)
    with store.transaction() as tx:
        steps = {step.idempotency_key: step for step in tx.steps([ticket_id])[ticket_id]}
    assert len(steps) == 3
    assert steps["act"].observation is not None and steps["read"].observation is None and steps["unsure"].observation is None


def test_what_was_never_intended_cannot_be_observed(store: PostgresStore, now: datetime) -> None:
    [ticket_id], claims = opened(store, now)
    with pytest.raises(NotFound, match="No intended step"), store.transaction() as tx:
        tx.save_observed([(ticket_id, "nowhere", observed(now))], now=now)
    with pytest.raises(BadInput, match="T-9"), store.transaction() as tx:
        tx.save_intended(claims, [(proposal("T-9"), ALLOW)], now=now)


# --- outcomes ---


def test_each_outcome_puts_the_ticket_where_the_desk_expects_it(store: PostgresStore, now: datetime) -> None:
    ids, _ = opened(store, now, 5)
    question = AwaitingRequester(question="Which order?", purpose="detail", missing=("order_number",))
    outcomes = [resolved(), linked(ids[0]), awaiting_approval(ids[2]), question, handed_over()]
    with store.transaction() as tx:
        tx.save_outcomes(
            dict(zip(ids, outcomes, strict=True)), notes={ids[0]: {"eligible": True, "runbook": "password_reset@3"}}, now=now
        )
    with store.transaction() as tx:
        records = [tx.ticket_record(ticket_id) for ticket_id in ids]
    assert [record["state"] for record in records] == ["resolved", "escalated", "pending", "pending", "escalated"]
    assert [record["outcome"] for record in records] == [
        "resolved",
        "linked",
        "awaiting_approval",
        "awaiting_requester",
        "handed_over",
    ]
    assert [record["reply"] for record in records] == [
        "Your password was reset.",
        "We are on it.",
        "We asked for an approval.",
        "Which order?",
        "A colleague takes over.",
    ]
    assert [message["body"] for record in records for message in record["messages"]] == [record["reply"] for record in records]
    assert records[0]["resolution"]["verification"]["confirmed"] and records[0]["resolution"]["runbook"] == "password_reset@3"
    assert records[0]["resolved_at"] is not None and records[4]["resolved_at"] is None
    assert records[1]["linked_to"] == ids[0] and records[4]["handover"]["why_stopped"] == "a person must look"
    assert [event["kind"] for event in records[0]["timeline"]] == ["opened", "state", "verified", "outcome"]
    assert [ticket["stage"] for ticket in records] == ["finished", "finished", "accepted", "accepted", "finished"]


def test_an_outcome_that_came_too_late_is_dropped_and_leaves_the_others_alone(store: PostgresStore, now: datetime) -> None:
    [closed, fine], _ = opened(store, now, 2)
    with store.transaction() as tx:
        tx.set_state(closed, State.RESOLVED, reason="by hand")
        tx.set_state(closed, State.CLOSED, reason="by hand")
    with store.transaction() as tx:
        tx.save_outcomes({closed: handed_over(), fine: resolved()}, notes={}, now=now)
    with store.transaction() as tx:
        late, kept = tx.ticket_record(closed), tx.ticket_record(fine)
        assert [item.ticket_id for item in tx.outbox_due(limit=10, now=now)] == [fine, fine]
    assert (late["state"], late["reply"], late["messages"]) == ("closed", None, [])
    assert late["timeline"][-1]["kind"] == "outcome_dropped"
    assert kept["state"] == "resolved"


def test_a_linked_ticket_is_resolved_with_the_one_it_waits_for(store: PostgresStore, now: datetime) -> None:
    [lead, member, duplicate, other], _ = opened(store, now, 4)
    with store.transaction() as tx:
        incident_id = tx.join_incident(member, lead, title="Logins fail", now=now)
        tx.save_outcomes({member: linked(lead, incident_id), duplicate: linked(lead), other: linked(duplicate)}, notes={}, now=now)
    with store.transaction() as tx:
        assert tx.linked_to(lead) == [member, duplicate]
        assert tx.linked_to(duplicate) == [other]
        tx.save_outcomes({ticket_id: resolved() for ticket_id in (lead, member, duplicate)}, notes={}, now=now)
    with store.transaction() as tx:
        assert tx.linked_to(lead) == []
        assert tx.ticket(member).state is State.RESOLVED
        assert tx.kpis()["counts"]["resolved_with_another"] == 2


def test_a_shadowed_ticket_says_nothing_to_anybody(store: PostgresStore, dsn: str, now: datetime) -> None:
    import psycopg

    [ticket_id], _ = opened(store, now)
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE ticket SET autonomy_rung = 'shadow'")
    with store.transaction() as tx:
        tx.save_outcomes({ticket_id: resolved()}, notes={}, now=now)
    with store.transaction() as tx:
        assert tx.outbox_due(limit=10, now=now) == []
        assert tx.ticket_record(ticket_id)["messages"] == []
        assert tx.ticket(ticket_id).stage is Stage.FINISHED


def test_rates_have_both_denominators(store: PostgresStore, now: datetime) -> None:
    ids, _ = opened(store, now, 4)
    eligible = {"eligible": True}
    with store.transaction() as tx:
        assert tx.kpis()["rates"]["resolved"] == {"of_all": 0.0, "of_eligible": None}
        tx.save_outcomes(
            {ids[0]: resolved(), ids[1]: handed_over(), ids[2]: handed_over()}, notes={ids[0]: eligible, ids[1]: eligible}, now=now
        )
    with store.transaction() as tx:
        figures = tx.kpis()
    assert figures["tickets"] == {"all": 4, "eligible": 2}
    assert figures["rates"]["resolved"] == {"of_all": 0.25, "of_eligible": 0.5}
    with store.transaction() as tx:  # what a later outcome does not say stays as it was
        tx.save_outcomes({ids[1]: resolved()}, notes={ids[1]: {"resolved_with": ids[0]}}, now=now)
    with store.transaction() as tx:
        assert tx.kpis()["rates"]["resolved"] == {"of_all": 0.5, "of_eligible": 1.0}
    assert set(figures["definitions"]) >= {"resolved", "eligible", "of_all", "of_eligible"}


# --- approvals ---


def asked(store: PostgresStore, now: datetime) -> tuple[str, str]:
    [ticket_id], claims = opened(store, now)
    with store.transaction() as tx:
        tx.save_outcomes({ticket_id: awaiting_approval(ticket_id)}, notes={}, now=now)
        tx.save_outcomes({ticket_id: awaiting_approval(ticket_id)}, notes={}, now=now)  # a resumed run asks for the same
        tx.finish(claims)
        [approval] = tx.approvals_of([ticket_id])[ticket_id]
    return ticket_id, approval.id


def test_an_approval_is_decided_once_and_wakes_the_ticket(store: PostgresStore, now: datetime) -> None:
    ticket_id, approval_id = asked(store, now)
    with store.transaction() as tx:
        assert tx.queue_depth() == 0
        decided = tx.decide(approval_id, approve=True, reason="fine", by="lead@x", now=now)
    assert (decided.status, decided.decided_by, decided.proposal) == (ApprovalStatus.APPROVED, "lead@x", proposal(ticket_id))
    with pytest.raises(Conflict, match="decided before: approved by lead@x"), store.transaction() as tx:
        tx.decide(approval_id, approve=False, reason="no", by="other@x", now=now)
    with store.transaction() as tx:
        assert tx.approval(approval_id) == decided
        assert tx.ticket(ticket_id).state is State.ACTIVE
        assert tx.queue_depth() == 1
        assert tx.approvals(status="waiting") == ([], None)
        with pytest.raises(NotFound):
            tx.approval("A-1")


def test_an_approval_that_expired_cannot_be_given(store: PostgresStore, now: datetime) -> None:
    ticket_id, approval_id = asked(store, now)
    later = now + timedelta(days=2)
    with pytest.raises(Conflict, match="expired"), store.transaction() as tx:
        tx.decide(approval_id, approve=True, reason="fine", by="lead@x", now=later)
    with store.transaction() as tx:
        assert tx.expire_approvals(now=now) == 0
        assert tx.expire_approvals(now=later) == 1
    with store.transaction() as tx:
        assert tx.approval(approval_id).status is ApprovalStatus.EXPIRED
        assert tx.ticket(ticket_id).state is State.ACTIVE and tx.queue_depth() == 1


def test_an_approved_action_that_was_carried_out_is_marked_executed(store: PostgresStore, now: datetime) -> None:
    ticket_id, approval_id = asked(store, now)
    with store.transaction() as tx:
        tx.decide(approval_id, approve=True, reason="fine", by="lead@x", now=now)
        claims = tx.claim(worker="w", limit=1, lease_s=60)
        tx.save_intended(claims, [(proposal(ticket_id), ALLOW)], now=now)
        tx.save_observed([(ticket_id, "key-1", observed(now))], now=now)
    with store.transaction() as tx:
        assert tx.approval(approval_id).status is ApprovalStatus.EXECUTED


# --- incidents ---


def test_tickets_of_one_cause_share_an_incident(store: PostgresStore, now: datetime) -> None:
    [lead, second, third, alone], _ = opened(store, now, 4)
    with store.transaction() as tx:
        first = tx.join_incident(second, lead, title="Logins fail", now=now)
        assert tx.join_incident(third, second, title="another title", now=now) == first
        assert tx.join_incident(third, second, title="again", now=now) == first
    with store.transaction() as tx:
        shown = tx.incident(first)
        assert (shown["title"], shown["lead"], shown["members"], shown["status"]) == ("Logins fail", lead, 3, "open")
        assert [ticket["id"] for ticket in shown["tickets"]] == [lead, second, third]
        assert (tx.incident_of(third), tx.incident_of(alone)) == (first, None)
        assert [item["id"] for item in tx.incidents()[0]] == [first]
        assert [item["id"] for item in tx.list_tickets(incident=first)[0]] == [third, second, lead]
        with pytest.raises(BadInput):
            tx.join_incident(lead, lead, title="self", now=now)
        with pytest.raises(NotFound):
            tx.incident("INC-1")


def test_a_split_is_undone_work_that_stays_undone(store: PostgresStore, now: datetime) -> None:
    [lead, second, third], claims = opened(store, now, 3)
    with store.transaction() as tx:
        tx.save_embeddings("m", [(ticket_id, vector(1, 0), Entities()) for ticket_id in (lead, second, third)])
        incident_id = tx.join_incident(second, lead, title="Outage", now=now)
        tx.join_incident(third, lead, title="Outage", now=now)
        tx.save_outcomes({second: linked(lead, incident_id), third: linked(lead, incident_id)}, notes={}, now=now)
        tx.finish(claims)
    with store.transaction() as tx:
        tx.split_incident(incident_id, [third], reason="another site", by="lead@x")
    with store.transaction() as tx:
        assert tx.ticket(third).state is State.ACTIVE and tx.ticket(second).state is State.ESCALATED
        assert tx.linked_to(lead) == [second]
        assert [claim.ticket_id for claim in tx.claim(worker="w", limit=9, lease_s=60)] == [third]
        assert tx.similar("m", [third], window_s=3600, at_least=0.5, limit=9)[third] == []
        gone = tx.incident(incident_id)["tickets"][2]
        assert (gone["id"], gone["left_reason"], gone["left_by"]) == (third, "another site", "lead@x")
        with pytest.raises(NotFound):
            tx.split_incident(incident_id, [third], reason="twice", by="lead@x")
    with store.transaction() as tx:
        tx.split_incident(incident_id, [lead], reason="not the cause", by="lead@x")
    with store.transaction() as tx:
        assert tx.incident(incident_id)["lead"] == second
        assert tx.ticket(second).state is State.ACTIVE  # or nobody would work on the incident


def test_a_link_counts_only_while_its_incident_holds_the_ticket(store: PostgresStore, now: datetime) -> None:
    [lead, second, third, fourth], claims = opened(store, now, 4)
    followers = (second, third, fourth)
    with store.transaction() as tx:
        for ticket_id in followers:
            incident_id = tx.join_incident(ticket_id, lead, title="Outage", now=now)
        link = Link(kind=LinkKind.INCIDENT, ticket_id=lead, incident_id=incident_id, similarity=0.9, score=0.9, evidence=())
        tx.save_triage({lead: triage()} | {each: replace(triage(), link=link) for each in followers}, now=now)
        tx.save_outcomes({each: linked(lead, incident_id) for each in followers}, notes={}, now=now)
        tx.finish(claims)
        assert all(tx.triages(followers)[each].link == link for each in followers)
    with store.transaction() as tx:
        tx.split_incident(incident_id, [fourth], reason="another site", by="lead@x")
        links = {each: found.link for each, found in tx.triages(followers).items()}
        assert links == {second: link, third: link, fourth: None}
    with store.transaction() as tx:
        tx.split_incident(incident_id, [lead], reason="not the cause", by="lead@x")
    with store.transaction() as tx:
        links = {each: found.link for each, found in tx.triages(followers).items()}
        assert links == {second: None, third: replace(link, ticket_id=second), fourth: None}
        assert (tx.linked_to(lead), tx.linked_to(second)) == ([], [third])
        assert {claim.ticket_id for claim in tx.claim(worker="w", limit=9, lease_s=60)} == {lead, second, fourth}


def test_what_a_person_corrected_outlives_another_triage(store: PostgresStore, now: datetime) -> None:
    [ticket_id], _ = opened(store, now)
    with store.transaction() as tx:
        tx.save_triage({ticket_id: triage(assignee="ann@x")}, now=now)
        tx.record_feedback(ticket_id, "override", {"category": "vpn", "reason": "it is the tunnel"}, by="lead@x")
        tx.record_feedback(ticket_id, "override", {"priority": 1, "group": "Network Engineering", "reason": "a site"}, by="lead@x")
    for _ in range(2):
        with store.transaction() as tx:
            found, shown = tx.triages([ticket_id])[ticket_id], tx.ticket_record(ticket_id)
            assert (found.classification.category, found.classification.abstained) == ("vpn", False)
            assert (int(found.priority.level), found.assignment.group, found.assignment.assignee) == (
                1,
                "Network Engineering",
                None,
            )
            assert (shown["category"], shown["group"], shown["assignee"]) == ("vpn", "Network Engineering", None)
            assert shown["priority"]["level"] == 1 and shown["classification"]["overridden_from"] == "password_reset"
            tx.save_triage({ticket_id: triage(assignee="ann@x")}, now=now)


# --- similar tickets ---


def test_similar_tickets_are_earlier_ones_in_the_window_best_first(store: PostgresStore, now: datetime) -> None:
    ages_h = [100, 3, 2, 2, 0, -1]
    with store.transaction() as tx:
        accepted = tx.accept([incoming(f"n{i}", created_at=now - timedelta(hours=age)) for i, age in enumerate(ages_h)], now=now)
        ids = [ticket.ticket_id for ticket in accepted]
        vectors = [(1, 0), (1, 0.2), (1, 0.1), (0, 1), (1, 0), (1, 0)]
        tx.save_embeddings("m", [(i, vector(*v), Entities(services=("sso",))) for i, v in zip(ids, vectors, strict=True)])
        tx.save_embeddings("another model", [(ids[2], vector(1, 0, 0), Entities())])
    with store.transaction() as tx:
        found = tx.similar("m", [ids[4], ids[0]], window_s=24 * 3600, at_least=0.6, limit=10)
        assert [similar.ticket_id for similar in found[ids[4]]] == [
            ids[2],
            ids[1],
        ]  # neither the old, the unlike, nor the later one
        assert found[ids[0]] == []
        best = found[ids[4]][0]
        assert best.cosine == pytest.approx(1 / np.sqrt(1.01), abs=1e-6)
        assert (best.subject, best.entities.services, best.state, best.incident_id) == ("n2", ("sso",), State.ACTIVE, None)
        assert [similar.ticket_id for similar in tx.similar("m", [ids[4]], window_s=1e6, at_least=0.6, limit=1)[ids[4]]] == [ids[0]]
        assert tx.similar("another model", [ids[4]], window_s=1e6, at_least=-1, limit=9)[ids[4]] == []


def test_tickets_of_one_moment_are_ordered_by_number(store: PostgresStore, now: datetime) -> None:
    ids, _ = opened(store, now, 3)
    with store.transaction() as tx:
        tx.save_embeddings("m", [(ticket_id, vector(3, 4), Entities()) for ticket_id in ids])
        found = tx.similar("m", ids, window_s=60, at_least=0.9, limit=10)
    assert {ticket_id: [similar.ticket_id for similar in found[ticket_id]] for ticket_id in ids} == {
        ids[0]: [],
        ids[1]: [ids[0]],
        ids[2]: [ids[0], ids[1]],
    }


def test_a_vector_comes_back_at_unit_length(store: PostgresStore, now: datetime) -> None:
    [ticket_id], _ = opened(store, now)
    with store.transaction() as tx:
        tx.save_embeddings("m", [(ticket_id, vector(3, 4), Entities())])
        assert np.allclose(tx.embeddings("m", [ticket_id, "T-1"])[ticket_id], [0.6, 0.8])
        with pytest.raises(BadInput):
            tx.save_embeddings("m", [(ticket_id, vector(0, 0), Entities())])


# --- knowledge ---


def document(identity: str, **more: object) -> dict[str, object]:
    return {
        "id": identity,
        "title": identity.title(),
        "source": f"kb/{identity}.md",
        "audience": "requester",
        "digest": "d1",
        **more,
    }


def test_knowledge_is_found_by_meaning_and_by_words(store: PostgresStore) -> None:
    with store.transaction() as tx:
        tx.put_document(
            document("export"),
            [("Export", "Choose Export, then CSV.", vector(1, 0)), ("Limits", "At most 10000 rows.", vector(0.6, 0.8))],
            model="m",
        )
        tx.put_document(document("import"), [("Import", "Upload a file with error E-4711 in it.", vector(0, 1))], model="m")
    with store.transaction() as tx:
        found = tx.search_knowledge("m", vector(1, 0), "how do I export", limit=5)
        assert found[0].heading == "Export" and found[0].score == pytest.approx(1.0)
        assert tx.search_knowledge("m", vector(1, 0), "e-4711", limit=1)[0].heading in ("Import", "Export")
        by_words = tx.search_knowledge("m", vector(0.6, 0.8), "E-4711 upload", limit=3)
        assert {passage.heading for passage in by_words[:2]} == {"Import", "Limits"}
        unlike = tx.search_knowledge("other model", vector(0, 1, 0), "export", limit=5)
        assert {passage.score for passage in unlike} == {0.0}, "found by its words; vectors of two models are never compared"
        assert tx.search_knowledge("m", vector(1, 0), "' | & ! ) (", limit=1)[0].heading == "Export"


def test_the_words_of_a_title_count(store: PostgresStore) -> None:
    """Where nothing of a passage repeats its title, a worse one would win by the common words of the question."""
    with store.transaction() as tx:
        tx.put_document(document("office", title="Out of office"), [("Switch it on", "Choose two days.", vector(1, 0))], model="m")
        tx.put_document(document("printer"), [("Printers", "How to add one of the printers.", vector(0.6, 0.8))], model="m")
        tx.put_document(document("leave"), [("Leave", "Ask for leave.", vector(0, 1))], model="m")
    with store.transaction() as tx:
        found = tx.search_knowledge("m", vector(1, 0), "how to set out of office", limit=3)
        assert found[0].document_id == "office"


def test_requesters_see_only_what_is_for_them_and_in_force(store: PostgresStore) -> None:
    today = date.today()
    passage = [("Head", "words words", vector(1, 0))]
    with store.transaction() as tx:
        tx.put_document(document("open", effective_on="2020-01-01", reviewed_on="2026-01-02"), passage, model="m")
        tx.put_document(document("inside", audience="analyst"), passage, model="m")
        tx.put_document({"id": "silent", "digest": "x"}, passage, model="m")
        tx.put_document(document("future", effective_on=(today + timedelta(days=3)).isoformat()), passage, model="m")
        tx.put_document(document("gone", expires_on=(today - timedelta(days=1)).isoformat()), passage, model="m")
    with store.transaction() as tx:
        [seen] = tx.search_knowledge("m", vector(1, 0), "words", limit=9)
        assert (seen.document_id, seen.effective_on, seen.reviewed_on, seen.source) == (
            "open",
            "2020-01-01",
            "2026-01-02",
            "kb/open.md",
        )
        everything = tx.search_knowledge("m", vector(1, 0), "words", limit=9, reader=Reader(audience="internal"))
        assert {passage.document_id for passage in everything} == {"open", "inside", "silent"}


def test_a_document_is_replaced_when_its_digest_changed(store: PostgresStore) -> None:
    with store.transaction() as tx:
        tx.put_document(document("export"), [("Old", "old", vector(1, 0))], model="m")
        tx.put_document(document("export"), [("Ignored", "same digest", vector(1, 0))], model="m")
        assert [passage.heading for passage in tx.search_knowledge("m", vector(1, 0), "", limit=9)] == ["Old"]
        tx.put_document(document("export", digest="d2"), [("New", "new", vector(1, 0))], model="m")
        assert [passage.heading for passage in tx.search_knowledge("m", vector(1, 0), "", limit=9)] == ["New"]
        assert tx.document_digests() == {"export": "d2"}
        tx.put_document(document("export", digest="d2"), [("Other", "other vectors", vector(1, 0, 0))], model="m2")
        assert tx.search_knowledge("m", vector(1, 0), "", limit=9) == []


def test_the_kept_window_finds_what_the_database_finds(dsn: str, now: datetime) -> None:
    """Random tickets in random order of creation, written by several transactions, some rolled back, some replaced."""
    rng = np.random.default_rng(7)

    def close_to_one_of_three() -> np.ndarray:
        return np.eye(8, dtype=np.float32)[rng.integers(3)] + rng.normal(scale=0.25, size=8).astype(np.float32)

    with PostgresStore(dsn) as keeping, PostgresStore(dsn) as searching:
        searching._windows = VectorWindows(max_kept=0)
        for _ in range(6):
            ages = rng.integers(0, 5000, size=12)
            with keeping.transaction() as tx:
                ids = [
                    a.ticket_id
                    for a in tx.accept([incoming(created_at=now - timedelta(seconds=int(age))) for age in ages], now=now)
                ]
                tx.save_embeddings("m", [(ticket_id, close_to_one_of_three(), Entities()) for ticket_id in ids])
            with pytest.raises(ZeroDivisionError), keeping.transaction() as tx:
                tx.save_embeddings("m", [(ticket_id, close_to_one_of_three(), Entities()) for ticket_id in ids])
                tx.similar("m", ids, window_s=3000, at_least=0.5, limit=5)
                raise ZeroDivisionError
            with keeping.transaction() as tx:
                tx.save_embeddings("m", [(ids[0], close_to_one_of_three(), Entities())])
                mine = tx.similar("m", ids, window_s=2000, at_least=0.6, limit=5)
            with searching.transaction() as tx:
                theirs = tx.similar("m", ids, window_s=2000, at_least=0.6, limit=5)
            assert mine == theirs
            assert any(mine.values())


def test_a_vector_that_commits_late_is_not_passed_over(store: PostgresStore, dsn: str, now: datetime) -> None:
    (early, late, asking), _ = opened(store, now, 3)
    with store.transaction() as tx:
        tx.save_embeddings("m", [(early, vector(1, 0), Entities()), (asking, vector(1, 0), Entities())])
    with PostgresStore(dsn) as slow:
        with slow.transaction() as hanging:
            hanging.save_embeddings("m", [(late, vector(1, 0), Entities())])
            with store.transaction() as tx:
                tx.save_embeddings("m", [(asking, vector(1, 0), Entities())])
                assert [similar.ticket_id for similar in tx.similar("m", [asking], window_s=60, at_least=0.9, limit=9)[asking]] == [
                    early
                ]
        with store.transaction() as tx:
            assert [similar.ticket_id for similar in tx.similar("m", [asking], window_s=60, at_least=0.9, limit=9)[asking]] == [
                early,
                late,
            ]
