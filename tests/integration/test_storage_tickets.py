"""Tickets in a real PostgreSQL: acceptance, states, messages, lists, migrations, records as JSON."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from desk_records import awaiting_approval, handed_over, incoming, linked, proposal, resolved, triage

from orchestrator.domain.errors import BadInput, ConfigurationError, Conflict, NotFound
from orchestrator.domain.resolution import AwaitingRequester, HandedOver, Proposal
from orchestrator.domain.tickets import TRANSITIONS, Assurance, Author, IncomingTicket, Message, Requester, Stage, State
from orchestrator.domain.triage import Triage
from orchestrator.storage import migrate as migrations
from orchestrator.storage.serialize import OUTCOMES, dump, dumps, load
from orchestrator.storage.store import PostgresStore


def opened(store: PostgresStore, now: datetime, *tickets: IncomingTicket) -> list[str]:
    with store.transaction() as tx:
        return [accepted.ticket_id for accepted in tx.accept(tickets or (incoming(),), now=now)]


def kinds(store: PostgresStore, ticket_id: str) -> list[str]:
    with store.transaction() as tx:
        return [event["kind"] for event in tx.events(ticket_id=ticket_id)[0]]


# --- acceptance ---


def test_a_ticket_is_opened_with_its_job_and_its_event(store: PostgresStore, now: datetime) -> None:
    context = {"page": "/login", "n": 1.5}
    [ticket_id] = opened(store, now, incoming("VPN hangs", source="portal", external_id="x-1", channel="web", context=context))
    with store.transaction() as tx:
        ticket = tx.ticket(ticket_id)
        assert (ticket.state, ticket.stage, ticket.number) == (State.ACTIVE, Stage.ACCEPTED, int(ticket_id[2:]))
        assert (ticket.subject, ticket.source, ticket.external_id, ticket.context) == ("VPN hangs", "portal", "x-1", context)
        assert ticket.created_at == now
        assert tx.queue_depth() == 1
    assert kinds(store, ticket_id) == ["opened"]


def test_the_same_source_and_external_id_is_one_ticket(store: PostgresStore, now: datetime) -> None:
    once = incoming(source="zendesk", external_id="77")
    first, second = opened(store, now, once, once)
    with store.transaction() as tx:
        [again] = tx.accept([once], now=now)
        other = tx.accept([incoming(source="jira", external_id="77")], now=now)[0]
        nameless = tx.accept([incoming(source="zendesk"), incoming(source="zendesk")], now=now)
        assert tx.queue_depth() == 4
    assert first == second == again.ticket_id and not again.created
    assert len({first, other.ticket_id, *(accepted.ticket_id for accepted in nameless)}) == 4
    assert kinds(store, first) == ["opened"]


def test_two_doors_that_take_the_same_ticket_at_once_make_one(store: PostgresStore, now: datetime) -> None:
    answers: list[tuple[str, bool]] = []

    def take() -> None:
        with store.transaction() as tx:
            [accepted] = tx.accept([incoming(source="mail", external_id="m-1")], now=now)
            answers.append((accepted.ticket_id, accepted.created))

    doors = [threading.Thread(target=take) for _ in range(4)]
    for door in doors:
        door.start()
    for door in doors:
        door.join()
    assert len({ticket_id for ticket_id, _ in answers}) == 1
    assert sorted(created for _, created in answers) == [False, False, False, True]


def test_accepted_tickets_come_back_in_the_order_they_came(store: PostgresStore, now: datetime) -> None:
    ids = opened(store, now, *[incoming(f"matter {n}") for n in range(20)])
    with store.transaction() as tx:
        assert [ticket.subject for ticket in tx.tickets(ids).values()] == [f"matter {n}" for n in range(20)]
        assert sorted(ids, key=lambda identity: int(identity[2:])) == ids


def test_a_batch_that_fails_leaves_nothing(store: PostgresStore, now: datetime) -> None:
    with pytest.raises(RuntimeError), store.transaction() as tx:
        tx.accept([incoming()], now=now)
        raise RuntimeError("the door fell shut")
    with store.transaction() as tx:
        assert tx.list_tickets() == ([], None) and tx.queue_depth() == 0
        assert tx.verify_chain()["events"] == 0


def test_text_that_no_database_can_hold_is_mended_and_kept(store: PostgresStore, now: datetime) -> None:
    odd = IncomingTicket(
        subject="nul \x00 and \ud83d",
        description='quotes " \\ {a,b} NULL é 😀',
        requester=Requester(email="Ä@example.test"),
        context={"k\x00": "\x00"},
    )
    [ticket_id] = opened(store, now, odd)
    with store.transaction() as tx:
        ticket = tx.ticket(ticket_id)
    assert ticket.subject == "nul � and �"
    assert ticket.description == 'quotes " \\ {a,b} NULL é 😀'
    assert ticket.context == {"k�": "�"}


def test_an_unknown_ticket_is_not_found(store: PostgresStore, now: datetime) -> None:
    with store.transaction() as tx:
        for unknown in ("T-9", "T-", "nonsense", "T-1; DROP TABLE ticket", "T-99999999999999999999"):
            with pytest.raises(NotFound):
                tx.ticket(unknown)
            with pytest.raises(NotFound):
                tx.ticket_record(unknown)
        with pytest.raises(NotFound):
            tx.add_message("T-9", Message(author=Author.NOTE, body="?", at=now))
        with pytest.raises(NotFound):
            tx.set_state("T-9", State.PENDING, reason="?")
        with pytest.raises(NotFound):
            tx.save_outcomes({"T-9": resolved()}, notes={}, now=now)


# --- states ---


def test_the_database_holds_the_same_transitions_as_the_domain(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        table = {(State(a), State(b)) for a, b in connection.execute("SELECT from_state, to_state FROM transition")}
    assert table == {(state, target) for state, targets in TRANSITIONS.items() for target in targets}


@pytest.mark.parametrize("start", list(State))
def test_the_database_refuses_every_illegal_transition_and_writes_the_event_of_every_legal_one(
    store: PostgresStore, dsn: str, now: datetime, start: State
) -> None:
    route = {State.ACTIVE: [], State.CLOSED: [State.RESOLVED, State.CLOSED]}.get(start, [start])
    for target in set(State) - {start}:
        [ticket_id] = opened(store, now)
        for step in route:
            with store.transaction() as tx:
                tx.set_state(ticket_id, step, reason="on the way")
        before = kinds(store, ticket_id)
        if target in TRANSITIONS[start]:
            with psycopg.connect(dsn) as connection:  # by hand, past our code: the event is written all the same
                connection.execute("UPDATE ticket SET state = %s, state_by = 'psql' WHERE id = %s", [target, ticket_id])
            with store.transaction() as tx:
                last = tx.events(ticket_id=ticket_id)[0][-1]
            assert (last["kind"], last["actor"], last["body"]["from"], last["body"]["to"]) == ("state", "psql", start, target)
        else:
            with pytest.raises(Conflict, match=f"{ticket_id} is {start} and cannot become {target}"), store.transaction() as tx:
                tx.set_state(ticket_id, target, reason="no")
            assert kinds(store, ticket_id) == before


def test_a_ticket_cannot_begin_in_another_state_or_change_its_number(dsn: str, store: PostgresStore, now: datetime) -> None:
    insert = """INSERT INTO ticket (source, subject, description, requester, requester_email, channel, state,
                                    created_at, received_at, updated_at)
                VALUES ('x', '', '', '{}', '', 'x', 'resolved', now(), now(), now())"""
    [ticket_id] = opened(store, now)
    with psycopg.connect(dsn) as connection:
        with pytest.raises(psycopg.Error, match="cannot begin as resolved"), connection.transaction():
            connection.execute(insert)
        with pytest.raises(psycopg.Error, match=r"never changes|violates foreign key"), connection.transaction():
            connection.execute("UPDATE ticket SET number = number + 1000")
    assert kinds(store, ticket_id) == ["opened"]


def test_the_same_state_again_is_no_transition(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    with store.transaction() as tx:
        tx.set_state(ticket_id, State.ACTIVE, reason="still")
    assert kinds(store, ticket_id) == ["opened"]


def test_reopening_counts_and_wakes_the_job(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    with store.transaction() as tx:
        claims = tx.claim(worker="w", limit=1, lease_s=60)
        tx.save_triage({ticket_id: triage()}, now=now)
        tx.save_outcomes({ticket_id: resolved()}, notes={}, now=now)
        tx.finish(claims)
        assert tx.queue_depth() == 0
    with store.transaction() as tx:
        assert tx.ticket(ticket_id).stage is Stage.FINISHED
        tx.reopen(ticket_id, reason="still broken", by="lead")
    with store.transaction() as tx:
        ticket = tx.ticket(ticket_id)
        assert (ticket.state, ticket.stage, ticket.reopened_count) == (State.ACTIVE, Stage.TRIAGED, 1)
        assert tx.queue_depth() == 1
    with pytest.raises(Conflict), store.transaction() as tx:
        tx.reopen(ticket_id, reason="again", by="lead")
    assert kinds(store, ticket_id)[-2:] == ["state", "reopened"]


# --- messages, feedback, lists ---


def test_messages_are_kept_in_order(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    with store.transaction() as tx:
        tx.add_message(ticket_id, Message(author=Author.REQUESTER, body="It is order 4711", at=now, by="ada@example.test"))
        tx.add_message(ticket_id, Message(author=Author.NOTE, body="internal", at=now))
    with store.transaction() as tx:
        ticket = tx.ticket(ticket_id)
    assert [(message.author, message.body) for message in ticket.messages] == [
        ("requester", "It is order 4711"),
        ("note", "internal"),
    ]
    assert ticket.words_of_requester.endswith("It is order 4711") and "internal" not in ticket.words_of_requester


def test_an_override_takes_effect_and_is_kept_as_training_data(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    with store.transaction() as tx:
        tx.save_triage({ticket_id: triage()}, now=now)
        tx.record_feedback(
            ticket_id,
            "override",
            {"category": "vpn", "group": "Network Engineering", "priority": 1, "reason": "it is the VPN"},
            by="lead",
        )
    with store.transaction() as tx:
        shown = tx.ticket_record(ticket_id)
        assert tx.list_tickets(category="vpn")[0][0]["id"] == ticket_id
        with pytest.raises(BadInput):
            tx.record_feedback(ticket_id, "override", {"priority": 9}, by="lead")
    assert shown["classification"]["category"] == "vpn" and shown["classification"]["overridden_from"] == "password_reset"
    assert (shown["assignment"]["group"], shown["priority"]["level"]) == ("Network Engineering", 1)
    assert kinds(store, ticket_id)[-1] == "override"


def test_lists_filter_and_page_without_gap_or_repetition(store: PostgresStore, now: datetime) -> None:
    ids = opened(store, now, *[incoming(f"matter {n} 100%", email=f"{'ada' if n % 2 else 'bob'}@example.test") for n in range(7)])
    seen: list[str] = []
    cursor = None
    while True:
        with store.transaction() as tx:
            items, cursor = tx.list_tickets(limit=3, cursor=cursor)
        seen += [item["id"] for item in items]
        if cursor is None:
            break
    assert seen == ids[::-1]
    with store.transaction() as tx:
        tx.set_state(ids[0], State.ESCALATED, reason="look")
    with store.transaction() as tx:
        assert [item["id"] for item in tx.list_tickets(state="escalated")[0]] == [ids[0]]
        assert len(tx.list_tickets(requester="ADA@example.test")[0]) == 3
        assert [item["subject"] for item in tx.list_tickets(q="matter 3")[0]] == ["matter 3 100%"]
        assert tx.list_tickets(q="10_%")[0] == []
        assert [item["id"] for item in tx.list_tickets(q=ids[2].lower())[0]] == [ids[2]]
        with pytest.raises(BadInput):
            tx.list_tickets(cursor="made up")


def test_earlier_contacts_of_a_requester_are_known(store: PostgresStore, now: datetime) -> None:
    old, new = opened(store, now, incoming("old", created_at=now - timedelta(days=9)), incoming("new", email="Ada@Example.test"))
    with store.transaction() as tx:
        found = tx.contacts(["ADA@example.test", "nobody@example.test"], since=now - timedelta(days=1))
        assert [contact["id"] for contact in found["ADA@example.test"]] == [new]
        assert found["nobody@example.test"] == []
        assert len(tx.contacts(["ada@example.test"], since=now - timedelta(days=30))["ada@example.test"]) == 2
    assert old != new


def test_open_load_counts_open_tickets_of_each_assignee(store: PostgresStore, now: datetime) -> None:
    first, second, third = opened(store, now, incoming(), incoming(), incoming())
    with store.transaction() as tx:
        tx.save_triage(
            {first: triage(assignee="kim@x"), second: triage(assignee="kim@x"), third: triage(assignee="lee@x")}, now=now
        )
        tx.set_state(second, State.RESOLVED, reason="done")
    with store.transaction() as tx:
        assert tx.open_load() == {"kim@x": 1, "lee@x": 1}


# --- records as JSON ---


def test_a_triage_survives_the_database_whole(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    found = triage(due=now)
    with store.transaction() as tx:
        tx.save_triage({ticket_id: found}, now=now)
    with store.transaction() as tx:
        assert tx.triage(ticket_id) == found
        assert tx.triages([ticket_id, "T-1"]) == {ticket_id: found}
        assert tx.triage("T-1") is None


def test_every_outcome_survives_json(now: datetime) -> None:
    question = AwaitingRequester(question="Which order?", purpose="detail", missing=("order_number",))
    for outcome in (resolved(), linked("T-1", "INC-1"), awaiting_approval("T-1"), question, handed_over()):
        assert load(type(outcome), json.loads(dumps(outcome))) == outcome
        assert type(outcome) in OUTCOMES.values()
    assert load(HandedOver, {"packet": {"summary": "s", "why_stopped": "w", "new": 1}, "reply": ""}).packet.checked == ()


def test_what_json_has_no_word_for_is_mended_or_refused(now: datetime) -> None:
    assert dump({"nan": float("nan"), "at": now.astimezone(UTC), "state": State.ACTIVE})["nan"] is None
    assert dump(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"
    with pytest.raises(ValueError, match="no time zone"):
        dump(datetime(2026, 1, 2))
    with pytest.raises(TypeError, match="no JSON form"):
        dump(object())
    assert load(Triage, dump(triage())) == triage()
    assert load(Proposal, dump(proposal("T-1"))) == proposal("T-1")


def test_proving_the_identity_raises_the_assurance(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    with store.transaction() as tx:
        assert tx.live_code(ticket_id) is None
        tx.issue_code(ticket_id, email="ada@example.test", code_sha256="abc", expires_at=now + timedelta(minutes=10))
        code = tx.live_code(ticket_id)
        assert code == {"code_sha256": "abc", "expires_at": now + timedelta(minutes=10), "attempts": 0, "email": "ada@example.test"}
        tx.prove_identity(ticket_id)
    with store.transaction() as tx:
        assert tx.ticket(ticket_id).requester.assurance is Assurance.PROVEN
        assert tx.live_code(ticket_id) is None


# --- migrations ---


def test_migrating_again_changes_nothing(dsn: str) -> None:
    assert migrations.migrate(dsn) == []


def test_a_changed_migration_is_refused(dsn: str, tmp_path: Path) -> None:
    for file in migrations.FOLDER.glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "0002_desk.sql").write_text("SELECT 1;")
    with pytest.raises(ConfigurationError, match=r"0002_desk\.sql was changed after it had been applied"):
        migrations.migrate(dsn, tmp_path)


def test_a_database_that_is_newer_than_the_program_is_refused(dsn: str, tmp_path: Path) -> None:
    first = sorted(migrations.FOLDER.glob("*.sql"))[0]
    (tmp_path / first.name).write_text(first.read_text())
    with pytest.raises(ConfigurationError, match="older than the database"):
        migrations.migrate(dsn, tmp_path)


def test_a_new_migration_is_applied_once_and_a_failing_one_leaves_nothing(dsn: str, tmp_path: Path) -> None:
    files = sorted(migrations.FOLDER.glob("*.sql"))
    for file in files:
        (tmp_path / file.name).write_text(file.read_text())
    new = tmp_path / f"{int(files[-1].name[:4]) + 1:04d}_more.sql"
    new.write_text("CREATE TABLE more (a int); SELECT 1 / 0;")
    with pytest.raises(psycopg.Error):
        migrations.migrate(dsn, tmp_path)
    new.write_text("CREATE TABLE more (a int);")
    assert migrations.migrate(dsn, tmp_path) == [new.name]
    assert migrations.migrate(dsn, tmp_path) == []


def test_the_same_number_twice_is_refused(tmp_path: Path) -> None:
    for name in ("0002_late.sql", "0002_later.sql"):
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(ConfigurationError, match=r"0002_later\.sql has the number of 0002_late\.sql"):
        migrations.read_migrations(tmp_path)
