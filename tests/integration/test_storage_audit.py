"""The append-only log in a real PostgreSQL: what it refuses, and what verification finds when somebody edits it all the same."""

import hashlib
import threading
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from desk_records import incoming

from orchestrator.domain.errors import Conflict
from orchestrator.storage.store import PostgresStore


@pytest.fixture
def log(store: PostgresStore) -> PostgresStore:
    """Ten events in three transactions."""
    for events in (1, 4, 5):
        with store.transaction() as tx:
            tx.audit([(None, "test", "auditor", {"n": n, "words": "é\n\"'😀"}) for n in range(events)])
    return store


def verified(store: PostgresStore) -> dict[str, Any]:
    with store.transaction() as tx:
        return tx.verify_chain()


def test_an_empty_log_is_whole(store: PostgresStore) -> None:
    found = verified(store)
    assert found == {**found, "whole": True, "events": 0, "head": "00" * 32, "problem": None}


def test_a_standard_library_recomputes_the_chain(log: PostgresStore, dsn: str) -> None:
    """As documented in 0013_audit_proofs.sql, with nothing of ours."""
    last = bytes(32)
    with psycopg.connect(dsn) as connection:
        for seq, at, ticket, kind, actor, salt, body, stored in connection.execute(
            "SELECT seq, at, ticket, kind, actor, salt, body, hash FROM event ORDER BY seq"
        ):
            stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            lines = f"{seq}\n{stamp}\n{ticket or ''}\n{kind}\n{actor}\n{hashlib.sha256(salt + body.encode()).hexdigest()}"
            last = hashlib.sha256(last + lines.encode()).digest()
            assert last == stored
    found = verified(log)
    assert found == {**found, "whole": True, "events": 10, "head": last.hex(), "problem": None}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET body = '{}' WHERE seq = 3",
        "DELETE FROM event WHERE seq = 10",
        "TRUNCATE event",
        "INSERT INTO event (seq, at, kind, actor, salt, body_sha256, body, hash) VALUES (11, now(), 'made_up', 'me', '', '', '{}', 'x')",
        "UPDATE chain_head SET seq = 9",
        "DELETE FROM chain_head",
        "TRUNCATE chain_head",
        "INSERT INTO chain_head (only_row, seq, at, hash) VALUES (true, 0, now(), '') ON CONFLICT DO NOTHING",
    ],
)
def test_the_log_refuses_to_be_changed_by_hand(log: PostgresStore, dsn: str, statement: str) -> None:
    with psycopg.connect(dsn) as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute(statement.encode())
    assert verified(log)["whole"]


@pytest.mark.parametrize(
    ("statement", "seq", "words"),
    [
        ("UPDATE event SET body = '{\"n\": 99}' WHERE seq = 3", 3, "changed"),
        ("UPDATE event SET actor = 'somebody else' WHERE seq = 7", 7, "changed"),
        ("UPDATE event SET at = at + interval '1 microsecond' WHERE seq = 1", 1, "changed"),
        ("UPDATE event SET ticket = 'T-1' WHERE seq = 2", 2, "changed"),
        ("DELETE FROM event WHERE seq = 5", 5, "missing"),
        ("DELETE FROM event WHERE seq > 8", 9, "cut off"),
        (
            "UPDATE event SET seq = CASE seq WHEN 4 THEN -5 ELSE -4 END WHERE seq IN (4, 5); "
            "UPDATE event SET seq = -seq WHERE seq < 0",
            4,
            "changed",
        ),
        ("DELETE FROM chain_head", 0, "head"),
    ],
)
def test_verification_finds_what_a_superuser_did_past_the_triggers(
    log: PostgresStore, superuser_dsn: str, statement: str, seq: int, words: str
) -> None:
    with psycopg.connect(superuser_dsn) as connection:
        connection.execute("SET session_replication_role = replica")
        for part in statement.split("; "):
            connection.execute(part.encode())
    found = verified(log)
    assert not found["whole"] and found["problem"]["seq"] == seq and words in found["problem"]["what"]


def test_events_are_written_when_the_transaction_commits_and_not_otherwise(log: PostgresStore) -> None:
    with pytest.raises(RuntimeError), log.transaction() as tx:
        tx.audit([(None, "test", "auditor", {"n": "lost"})])
        raise RuntimeError
    assert verified(log)["events"] == 10
    with log.transaction() as tx:
        tx.audit([(None, "test", "auditor", {"n": "first"})])
        assert tx.events(ticket_id=None, limit=100)[0][-1]["body"] == {"n": "first"}  # this transaction sees its own
        tx.audit([(None, "test", "auditor", {"n": "second"})])
    assert verified(log) == {**verified(log), "whole": True, "events": 12}


def test_many_writers_at_once_make_one_chain(store: PostgresStore, now: datetime) -> None:
    def write(name: str) -> None:
        for n in range(10):
            with store.transaction() as tx:
                tx.audit([(None, "test", name, {"n": n}), (None, "test", name, {"n": n})])
                tx.accept([incoming()], now=now)

    writers = [threading.Thread(target=write, args=(f"writer {n}",)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert verified(store) == {**verified(store), "whole": True, "events": 120}


def test_events_are_paged_oldest_first(log: PostgresStore) -> None:
    seen: list[int] = []
    cursor = None
    while True:
        with log.transaction() as tx:
            items, cursor = tx.events(ticket_id=None, cursor=cursor, limit=4)
        seen += [event["seq"] for event in items]
        if cursor is None:
            break
    assert seen == list(range(1, 11))


def test_an_event_kind_that_would_blur_the_hashed_lines_is_refused(store: PostgresStore) -> None:
    with pytest.raises(Exception, match=r"event_kind_check|refused"), store.transaction() as tx:
        tx.audit([(None, "two\nlines", "auditor", {})])
    with store.transaction() as tx:
        tx.audit([(None, "test", "two\nlines", {})])
    with store.transaction() as tx:
        assert tx.events(ticket_id=None)[0][0]["actor"] == "two lines"


def test_the_kill_switch_is_told_with_who_and_why(store: PostgresStore) -> None:
    with store.transaction() as tx:
        assert tx.kill_switch()["stopped"] is False
        tx.set_kill_switch(stopped=True, reason="odd refunds", by="lead")
    with store.transaction() as tx:
        switch = tx.kill_switch()
        assert (switch["stopped"], switch["reason"], switch["by"]) == (True, "odd refunds", "lead")
        assert tx.events(ticket_id=None)[0][-1]["kind"] == "kill_switch"


def test_keys_answers_and_adapters_are_remembered(store: PostgresStore) -> None:
    with store.transaction() as tx:
        tx.add_key(name="portal", role="service", kind="portal", sha256="aa")
        assert tx.key_by_sha256("aa") == {"name": "portal", "role": "service", "kind": "portal"}
        assert tx.key_by_sha256("bb") is None
        assert tx.idempotent("k", route="POST /v1/tickets", body_sha256="1") is None
        tx.remember("k", route="POST /v1/tickets", body_sha256="1", status=202, body={"id": "T-1"})
        assert tx.idempotent("k", route="POST /v1/tickets", body_sha256="1") == {"status": 202, "body": {"id": "T-1"}}
        assert tx.idempotent("k", route="POST /other", body_sha256="2") is None
        tx.set_adapter("live", "desk@sha256-1")
        tx.set_adapter("live", "desk@sha256-2")
        assert tx.desired_adapters() == [{"alias": "live", "name": "desk@sha256-2", "path": None}]
    with pytest.raises(Conflict), store.transaction() as tx:
        tx.idempotent("k", route="POST /v1/tickets", body_sha256="2")
