"""Checkpoints, erasure, export and both verifiers on a real PostgreSQL, with a real key and real files."""

import itertools
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from desk_records import incoming
from gateway_desk import resolve

from orchestrator.audit import verify_standalone as standalone
from orchestrator.audit.checkpoints import AuditBroken
from orchestrator.audit.events import line
from orchestrator.bootstrap import open_notary
from orchestrator.domain.errors import Conflict
from orchestrator.pipeline.notary import ALARM, Notary
from orchestrator.storage.store import PostgresStore

VERIFIER = Path(standalone.__file__)


@pytest.fixture
def notary(store: PostgresStore, tmp_path: Path) -> Notary:
    return open_notary(store, tmp_path, folders=[str(tmp_path / "one"), str(tmp_path / "two")])


def write(store: PostgresStore, count: int, *, ticket: str | None = None) -> None:
    with store.transaction() as tx:
        tx.audit([(ticket, "test", 'an "auditor"\tö', {"n": n, "words": "é\n\"'😀"}) for n in range(count)])


def closed_ticket(store: PostgresStore, *, now: datetime, subject: str = "Zebra4711") -> str:
    with store.transaction() as tx:
        (accepted,) = tx.accept([replace(incoming(), subject=subject, description="my secret words Zebra4711")], now=now)
    resolve(store, accepted.ticket_id, now=now, reply="Zebra4711 is done")
    return accepted.ticket_id


def exported(notary: Notary, folder: Path) -> tuple[Path, list[str]]:
    """The log as it is now, with what is in the folder of checkpoints."""
    path = folder / f"events-{random.randrange(10**9)}.jsonl"
    with notary.store.transaction() as tx, path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(line(event) + "\n" for event in tx.chain_rows(after=0, up_to=2**62))
    return path, [str(each) for each in notary.folders]


def both(notary: Notary, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the notary and the standalone verifier say of the same log."""
    inside = notary.verify()
    path, folders = exported(notary, folder)
    outside = standalone.verify_log(str(path), folders, standalone.read_key(str(notary.signer.key)), processes=1)
    return inside, outside


def test_an_untouched_log_is_whole_for_both_verifiers_at_every_size(notary: Notary, store: PostgresStore, tmp_path: Path) -> None:
    for count in (1, 1, 2, 3, 5, 8, 13):
        write(store, count)
        notary.checkpoint()
        inside, outside = both(notary, tmp_path)
        assert inside["whole"] and outside["whole"], (inside, outside)
        assert inside["covered"] == outside["covered"] and inside["unprotected"] == 1  # word of the checkpoint itself
    assert inside["checkpoints"] == outside["checkpoints"] == 7


def test_nothing_new_makes_no_new_checkpoint(notary: Notary, store: PostgresStore) -> None:
    write(store, 3)
    first = notary.checkpoint()
    assert notary.checkpoint().number == first.number
    write(store, 1)
    assert notary.checkpoint().number == first.number + 1


def test_the_copies_get_what_they_missed(notary: Notary, store: PostgresStore, tmp_path: Path) -> None:
    write(store, 1)
    notary.checkpoint()
    shutil.rmtree(tmp_path / "two")
    write(store, 1)
    notary.checkpoint()
    names = [sorted(path.name for path in (tmp_path / name).rglob("*.note")) for name in ("one", "two")]
    assert names[0] == names[1] and len(names[0]) == 2


def test_an_erased_ticket_leaves_no_word_and_the_log_is_whole(
    notary: Notary, store: PostgresStore, superuser_dsn: str, tmp_path: Path, now: datetime
) -> None:
    ticket_id = closed_ticket(store, now=now)
    notary.checkpoint()
    with store.transaction() as tx:
        erased = tx.erase(ticket_id, reason="request 17", by="admin")
    assert erased["events"] > 3
    with psycopg.connect(superuser_dsn) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        ).fetchall()
        for (table,) in tables:
            for (row,) in connection.execute(f'SELECT t::text FROM "{table}" t'.encode()):
                assert "Zebra4711" not in row, table
    inside, outside = both(notary, tmp_path)
    assert inside["whole"] and outside["whole"]
    assert inside["erased"] == outside["erased"] == erased["events"]
    with store.transaction() as tx:
        record = tx.ticket_record(ticket_id)
    assert record["subject"] == "[erased]" and record["timeline"][-1]["kind"] == "erased"
    with pytest.raises(Conflict, match="erased"), store.transaction() as tx:
        tx.reopen(ticket_id, reason="again", by="lead")


def test_a_ticket_in_work_is_not_erased(store: PostgresStore, now: datetime) -> None:
    with store.transaction() as tx:
        (accepted,) = tx.accept([incoming()], now=now)
    with pytest.raises(Conflict, match="still worked on"), store.transaction() as tx:
        tx.erase(accepted.ticket_id, reason="r", by="admin")


def test_retention_erases_old_closed_tickets_and_no_others(notary: Notary, store: PostgresStore, dsn: str, now: datetime) -> None:
    old, young, resolved = (closed_ticket(store, now=now) for _ in range(3))
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE ticket SET state = 'closed' WHERE id = ANY(%s)", [[old, young]])
        connection.execute("UPDATE ticket SET updated_at = now() - interval '31 days' WHERE id = ANY(%s)", [[old, resolved]])
    notary.look()
    assert [_subject(store, each) for each in (old, young, resolved)] == ["Zebra4711"] * 3  # off by default
    notary.erase_after_days = 30
    notary.look()
    assert [_subject(store, each) for each in (old, young, resolved)] == ["[erased]", "Zebra4711", "Zebra4711"]


def _subject(store: PostgresStore, ticket_id: str) -> str:
    with store.transaction() as tx:
        return tx.ticket(ticket_id).subject


def test_erasure_knows_every_table_with_a_ticket_in_it(dsn: str) -> None:
    from orchestrator.storage.erasure import KEPT, NOTHING_PERSONAL, STATEMENTS

    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT DISTINCT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND confrelid = 'ticket'::regclass"
        ).fetchall()
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            " AND data_type IN ('text', 'jsonb', 'json', 'bytea', 'ARRAY')"
        ).fetchall()
    forgotten = [
        f"{table}.{column}"
        for table, column in columns
        if "UPDATE" in (statement := STATEMENTS.get(table, ""))
        and not re.search(rf"\b{column} =", statement)
        and column not in KEPT.get(table, "").split()
    ]
    assert not forgotten, f"say in storage/erasure.py what erasing a ticket does to {forgotten}"
    missing = {table for (table,) in found} - STATEMENTS.keys() - NOTHING_PERSONAL
    assert not missing, f"say in storage/erasure.py what erasing a ticket does to {missing}"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET body = NULL, salt = NULL WHERE seq = 1",
        "UPDATE event SET hash = hash",
        "DELETE FROM event",
        "TRUNCATE event CASCADE",
        "DELETE FROM erasure",
        "UPDATE erasure SET reason = 'x'",
    ],
)
def test_text_goes_by_erasure_alone(store: PostgresStore, dsn: str, now: datetime, statement: str) -> None:
    ticket_id = closed_ticket(store, now=now)
    with store.transaction() as tx:
        tx.erase(ticket_id, reason="r", by="admin")
    write(store, 1)
    with psycopg.connect(dsn) as connection, pytest.raises(psycopg.Error, match="append-only"):
        connection.execute(statement.encode())


def test_a_bundle_proves_one_tickets_events_to_anybody(notary: Notary, store: PostgresStore, tmp_path: Path, now: datetime) -> None:
    write(store, 5)
    ticket_id = closed_ticket(store, now=now)
    other = closed_ticket(store, now=now)
    with store.transaction() as tx:
        tx.erase(other, reason="r", by="admin")
    for each in (ticket_id, other):
        path = tmp_path / f"{each}.json"
        path.write_text(notary.export(each))
        ran = subprocess.run(
            [sys.executable, "-I", "-S", str(VERIFIER), "bundle", str(path), "--key", str(notary.signer.key), "--show", "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        head, *lines = ran.stdout.splitlines()
        assert json.loads(head)["ticket"] == each and len(lines) == json.loads(head)["events"] > 3
    whole = json.loads((tmp_path / f"{ticket_id}.json").read_text())
    import base64

    payload = json.loads(base64.b64decode(whole["payload"]))
    seen = set()
    for place, field in itertools.product(range(len(payload["events"])), ("line", "before", "proof")):
        changed = json.loads(json.dumps(payload))
        value = changed["events"][place][field]
        if field == "line":
            changed["events"][place][field] = value.replace('"at":"2', '"at":"3', 1)
        elif field == "before":
            changed["events"][place][field] = ("0" if value[0] != "0" else "1") + value[1:]
        else:
            changed["events"][place][field] = value[:-1]
        broken = _signed_again(notary, changed, tmp_path)
        found = standalone.verify_bundle(str(broken), standalone.read_key(str(notary.signer.key)))
        assert not found["whole"], (place, field)
        seen.add(found["problem"]["what"])
    assert any("not in the log" in what for what in seen) and any("hash does not fit" in what for what in seen)
    unsigned = {**whole, "payload": base64.b64encode(json.dumps(payload).encode()).decode()}
    (tmp_path / "unsigned.json").write_text(json.dumps(unsigned))
    assert "not signed" in standalone.verify_bundle(str(tmp_path / "unsigned.json"))["problem"]["what"]


def _signed_again(notary: Notary, payload: dict[str, Any], folder: Path) -> Path:
    from orchestrator.audit.bundle import _envelope

    path = folder / "broken.json"
    path.write_text(_envelope(json.dumps(payload, ensure_ascii=False).encode(), notary.signer))
    return path


# --- what a superuser does, past every trigger ---


def tamper(superuser_dsn: str, *statements: str) -> None:
    with psycopg.connect(superuser_dsn) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement.encode())


RECHAIN = """
    DO $$ DECLARE e event%ROWTYPE; last bytea := decode(repeat('00', 32), 'hex'); BEGIN
        FOR e IN SELECT * FROM event ORDER BY seq LOOP
            last := sha256(last || convert_to(e.seq || E'\\n' || to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || E'\\n'
                || coalesce(e.ticket, '') || E'\\n' || e.kind || E'\\n' || e.actor || E'\\n' || encode(e.body_sha256, 'hex'), 'UTF8'));
            UPDATE event SET hash = last WHERE seq = e.seq;
            UPDATE chain_head SET seq = e.seq, hash = last;
        END LOOP;
    END $$
"""
CLOSE_UP = ("UPDATE event SET seq = -seq WHERE seq > 3", "UPDATE event SET seq = -seq - 1 WHERE seq < 0")
REDIGEST = "UPDATE event SET body_sha256 = sha256(salt || convert_to(body, 'UTF8')) WHERE body IS NOT NULL"
HEAD = "UPDATE chain_head SET seq = (SELECT max(seq) FROM event), hash = (SELECT hash FROM event ORDER BY seq DESC LIMIT 1)"


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["DELETE FROM event WHERE seq > 15", HEAD], "cut or rolled back"),
        (["UPDATE event SET body = '{\"n\": 99}' WHERE seq = 3", REDIGEST, RECHAIN], "rewritten"),
        (["DELETE FROM event WHERE seq = 3", *CLOSE_UP, RECHAIN], "rewritten"),
        (["UPDATE event SET body = NULL, salt = NULL WHERE seq = 3"], "no later event says that it was erased"),
    ],
)  # fmt: skip
def test_both_verifiers_catch_what_the_chain_alone_cannot(
    notary: Notary, store: PostgresStore, superuser_dsn: str, tmp_path: Path, statements: list[str], words: str
) -> None:
    for _ in range(4):
        write(store, 5)
        notary.checkpoint()
    tamper(superuser_dsn, *statements)
    inside, outside = both(notary, tmp_path)
    assert not inside["whole"] and words in inside["problem"]["what"], inside
    assert not outside["whole"] and words in outside["problem"]["what"], outside


def test_a_database_rolled_back_to_yesterday_is_caught_and_nothing_is_signed(
    notary: Notary, store: PostgresStore, superuser_dsn: str, tmp_path: Path
) -> None:
    """Yesterday's rows restored whole, then the desk goes on working."""
    write(store, 10)
    notary.checkpoint()
    with psycopg.connect(superuser_dsn) as connection:
        connection.execute("CREATE TABLE dump AS SELECT * FROM event")
        connection.execute("CREATE TABLE dump_head AS SELECT * FROM chain_head")
    write(store, 10)
    notary.checkpoint()
    tamper(
        superuser_dsn,
        "DELETE FROM event",
        "INSERT INTO event SELECT * FROM dump",
        "DELETE FROM chain_head",
        "INSERT INTO chain_head SELECT * FROM dump_head",
        "DROP TABLE dump, dump_head",
    )
    inside, outside = both(notary, tmp_path)
    assert "rolled back" in inside["problem"]["what"] and "rolled back" in outside["problem"]["what"]
    write(store, 30)  # by now the log is longer than it was
    inside, outside = both(notary, tmp_path)
    assert "rewritten" in inside["problem"]["what"] and "rewritten" in outside["problem"]["what"]
    notary.look()
    assert "is not the one" in notary.trouble and (tmp_path / "one" / ALARM).exists()
    assert notary.verify()["alarm"]
    with pytest.raises(AuditBroken, match="alarm"):
        notary.checkpoint()


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _forked(notary: Notary, notes: list[Path], rng: random.Random) -> None:
    notes[1].write_text(notes[0].read_text())


def _new_key(notary: Notary, notes: list[Path], rng: random.Random) -> None:
    """Everything signed again by a key of the attacker's."""
    from orchestrator.audit import note
    from orchestrator.audit.checkpoints import NOTHING, parse

    other = note.signer(notes[0].parents[2] / "other.pem", "cloister")
    previous = NOTHING
    for path in notes:
        made = replace(parse(path.read_text(), ""), previous=previous)
        made = replace(made, note=other.sign(made.text()))
        path.write_text(made.note)
        previous = made.sha256


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda notary, notes, rng: notes[1].unlink(), "missing"),
        (lambda notary, notes, rng: notes[-1].unlink(), "missing"),
        (lambda notary, notes, rng: [path.unlink() for path in notes], "missing"),
        (_forked, "holds checkpoint"),
        (_new_key, "not signed by"),
        (lambda notary, notes, rng: _flip(notes[rng.randrange(4)], rng), ""),
    ],
)
def test_both_verifiers_catch_changed_checkpoints(
    notary: Notary, store: PostgresStore, tmp_path: Path, act: Callable[[Notary, list[Path], random.Random], None], words: str
) -> None:
    notary.folders = notary.folders[:1]
    for _ in range(4):
        write(store, 5)
        notary.checkpoint()
    whole = tmp_path / "whole"
    shutil.copytree(notary.folders[0], whole)
    for seed in range(1 if words else 100):
        shutil.rmtree(notary.folders[0])
        shutil.copytree(whole, notary.folders[0])
        act(notary, notary.folder.files(), random.Random(seed))
        inside, outside = both(notary, tmp_path)
        assert not inside["whole"] and words in inside["problem"]["what"], (seed, inside)
        assert not outside["whole"] and words in outside["problem"]["what"], (seed, outside)


COLUMNS = ("at", "ticket", "kind", "actor", "salt", "body_sha256", "body", "hash", "seq")


def _mutant(rng: random.Random, count: int) -> str:
    """One flipped bit, or one small act, as SQL."""
    seq = rng.randrange(1, count)
    column = rng.choice([*COLUMNS, "delete", "swap"])
    where = f"WHERE seq = {seq}"
    if column == "delete":
        return f"DELETE FROM event {where}"
    if column == "swap":
        moves = ((-seq, seq), (seq, seq + 1), (seq + 1, -seq))
        return "; ".join(f"UPDATE event SET seq = {new} WHERE seq = {old}" for new, old in moves)
    if column == "seq":
        return f"UPDATE event SET seq = seq # (1::bigint << {rng.randrange(8, 60)}) {where}"
    if column == "at":
        return f"UPDATE event SET at = at + interval '1 microsecond' * {2 ** rng.randrange(30)} {where}"
    if column in ("salt", "body_sha256", "hash"):
        bit = rng.randrange(128 if column == "salt" else 256)
        return f"UPDATE event SET {column} = set_bit({column}, {bit}, 1 - get_bit({column}, {bit})) {where}"
    place, bit = rng.randrange(1, 9), 1 << rng.randrange(5)
    value = f"coalesce(nullif({column}, ''), 'T')"
    at = f"least({place}, length({value}))"
    flipped = f"overlay({value} placing chr(ascii(substr({value}, {at}, 1)) # {bit}) from {at} for 1)"
    return f"UPDATE event SET {column} = {flipped} {where}"


def test_two_hundred_mutants_are_caught_by_both_verifiers(
    notary: Notary, store: PostgresStore, superuser_dsn: str, tmp_path: Path, now: datetime
) -> None:
    """Past triggers and constraints, one change at a time, taken back after each."""
    ticket_id = closed_ticket(store, now=now)
    write(store, 12, ticket="T-7")
    with store.transaction() as tx:
        tx.erase(closed_ticket(store, now=now), reason="r", by="admin")
    notary.checkpoint()
    write(store, 6, ticket=ticket_id)
    notary.checkpoint()
    for name in (
        "event_kind_check",
        "event_actor_check",
        "event_ticket_check",
        "event_check",
        "event_salt_check",
        "event_body_sha256_check",
    ):
        tamper(superuser_dsn, f"ALTER TABLE event DROP CONSTRAINT IF EXISTS {name}")
    tamper(superuser_dsn, "CREATE TABLE dump AS SELECT * FROM event")
    inside, outside = both(notary, tmp_path)
    assert inside["whole"] and outside["whole"]
    count, caught = inside["events"], 0
    for seed in range(220):
        mutant = _mutant(random.Random(seed), count)
        tamper(superuser_dsn, *mutant.split("; "))
        with psycopg.connect(superuser_dsn) as connection:
            changed = connection.execute(
                "SELECT EXISTS (SELECT * FROM event EXCEPT SELECT * FROM dump) OR (SELECT count(*) FROM event) < %s", [count]
            ).fetchone()
        if changed and changed[0]:
            inside, outside = both(notary, tmp_path)
            assert not inside["whole"] and not outside["whole"], (seed, mutant, inside, outside)
            caught += 1
        tamper(superuser_dsn, "TRUNCATE event", "INSERT INTO event SELECT * FROM dump")
    assert caught >= 200
    inside, outside = both(notary, tmp_path)
    assert inside["whole"] and outside["whole"]


def test_housekeeping_signs_after_so_many_events_or_so_long(notary: Notary, store: PostgresStore) -> None:
    notary.every_events, notary.every_s = 10, 3600.0
    assert notary.look() is not None  # what was there when it began
    write(store, 5)
    assert notary.look() is None
    write(store, 6)
    made = notary.look()
    assert made is not None and made.size >= 11
    notary.every_s = 0.0
    write(store, 1)
    assert notary.look() is not None


def test_a_database_from_before_salts_keeps_its_log(postgres: Any, tmp_path: Path) -> None:
    """Migrated to 0012, ten events written, then to this version: the same hashes, whole, erasable."""
    from orchestrator.storage.embedded import ROLE, SUPERUSER
    from orchestrator.storage.migrate import FOLDER, migrate

    old = tmp_path / "old"
    old.mkdir()
    for path in FOLDER.glob("*.sql"):
        if path.name < "0013":
            shutil.copy(path, old)
    name = f"old_{random.randrange(10**9)}"
    with psycopg.connect(postgres.dsn_of("postgres", role=SUPERUSER), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER {ROLE}".encode())
    with psycopg.connect(postgres.dsn_of(name, role=SUPERUSER), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
    migrate(postgres.dsn_of(name), old)
    with psycopg.connect(postgres.dsn_of(name)) as connection:
        connection.execute(
            "SELECT audit_append(a, array_fill('test'::text, ARRAY[10]), array_fill('me'::text, ARRAY[10]),"
            " array_fill('{}'::text, ARRAY[10]))"
            " FROM array_fill(NULL::text, ARRAY[10]) AS a"
        )
    with psycopg.connect(postgres.dsn_of(name)) as connection:
        before = connection.execute("SELECT hash FROM chain_head").fetchone()
    migrate(postgres.dsn_of(name))
    with PostgresStore(postgres.dsn_of(name)) as store:
        notary = open_notary(store, tmp_path)
        with store.transaction() as tx:
            assert tx.verify_chain()["whole"] and before and tx.verify_chain()["head"] == before[0].hex()
        ticket_id = closed_ticket(store, now=datetime.now(UTC))
        notary.checkpoint()
        with store.transaction() as tx:
            tx.erase(ticket_id, reason="r", by="admin")
        inside, outside = both(notary, tmp_path)
        assert inside["whole"] and outside["whole"], (inside, outside)
    with psycopg.connect(postgres.dsn_of("postgres", role=SUPERUSER), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
