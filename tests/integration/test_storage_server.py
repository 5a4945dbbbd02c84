"""The embedded server and the store through its deaths: kill -9, restarts, a commit whose answer never came."""

import os
import secrets
import signal
import stat
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from desk_records import incoming

from orchestrator.domain.errors import StoreUnavailable
from orchestrator.storage.embedded import SUPERUSER, Server
from orchestrator.storage.store import CommitUnknown, PostgresStore, open_store, retrying
from orchestrator.storage.transaction import PostgresTransaction


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """One that these tests may kill, with the settings of production."""
    server = Server(Path(tempfile.gettempdir()) / f"cloister-own-{secrets.token_hex(4)}")
    try:
        yield server.start()
    finally:
        server.destroy()


@pytest.fixture
def desk(own_server: Server) -> Iterator[PostgresStore]:
    own_server.start()
    with open_store(own_server.dsn, patience_s=30) as store:
        yield store


def kill(server: Server) -> None:
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while server.pid is not None:  # the kernel takes a moment
        time.sleep(0.01)


def test_only_the_owner_of_the_folder_reaches_the_server(own_server: Server) -> None:
    assert stat.S_IMODE((own_server.folder / "password").stat().st_mode) == 0o600
    socket_folder = Path((own_server.folder / "socket").read_text().strip())
    assert stat.S_IMODE(socket_folder.stat().st_mode) == 0o700
    wrong = own_server.dsn.replace((own_server.folder / "password").read_text().strip(), "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    with psycopg.connect(own_server.dsn) as connection:
        settings = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
        superuser = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    assert settings["listen_addresses"] == "" and settings["fsync"] == "on" and settings["synchronous_commit"] == "on"
    assert superuser == (False,)
    with psycopg.connect(own_server.dsn_of("postgres", role=SUPERUSER)) as connection:
        rules = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
    assert rules == [("scram-sha-256",)]


def test_the_server_is_not_root(own_server: Server) -> None:
    pid = own_server.pid
    assert Path(f"/proc/{pid}").stat().st_uid != 0


def test_a_killed_server_is_noticed_and_started_again(own_server: Server, desk: PostgresStore, now: datetime) -> None:
    with desk.transaction() as tx:
        [accepted] = tx.accept([incoming()], now=now)
    assert own_server.restart_if_dead() is False
    kill(own_server)
    assert own_server.restart_if_dead() is True
    assert desk.run(lambda tx: tx.ticket(accepted.ticket_id)).id == accepted.ticket_id


def test_work_that_is_tried_again_outlives_a_killed_database(own_server: Server, desk: PostgresStore, now: datetime) -> None:
    kill(own_server)
    back = threading.Timer(0.5, own_server.restart_if_dead)
    back.start()
    [accepted] = desk.run(lambda tx: tx.accept([incoming("while it was away")], now=now))
    back.join()
    assert desk.run(lambda tx: tx.ticket(accepted.ticket_id)).subject == "while it was away"
    assert desk.run(lambda tx: tx.verify_chain())["whole"]


def test_a_database_that_is_away_is_said_so(own_server: Server, desk: PostgresStore, now: datetime) -> None:
    with pytest.raises(StoreUnavailable, match="went away"), desk.transaction() as tx:
        kill(own_server)
        tx.accept([incoming()], now=now)
    assert desk.wait_for_work(0.3) is False
    own_server.restart_if_dead()


def test_an_error_of_ours_is_not_tried_again(desk: PostgresStore) -> None:
    tries: list[int] = []

    def fail(tx: PostgresTransaction) -> None:
        tries.append(1)
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        retrying(desk, fail)
    assert len(tries) == 1


def test_a_deadlock_is_tried_again(desk: PostgresStore, own_server: Server, now: datetime) -> None:
    first, second = (accepted.ticket_id for accepted in desk.run(lambda tx: tx.accept([incoming(), incoming()], now=now)))
    meet = threading.Barrier(2)
    tries: list[str] = []

    def lock(one: str, other: str) -> None:
        def work(tx: PostgresTransaction) -> None:
            tries.append(one)
            tx.wake([one])
            if len(tries) <= 2:
                meet.wait(timeout=10)
            tx.wake([other])

        desk.run(work)

    threads = [threading.Thread(target=lock, args=pair) for pair in ((first, second), (second, first))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tries) == 3


def test_a_commit_whose_answer_never_came_is_looked_up_and_not_done_twice(
    desk: PostgresStore, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks after the server has committed: the driver only sees a broken connection."""
    _lose_the_answer_of_one_commit(monkeypatch, committed=True)
    [accepted] = desk.run(lambda tx: tx.accept([incoming("once")], now=now))
    found, _ = desk.run(lambda tx: tx.list_tickets(q="once"))
    assert [item["id"] for item in found] == [accepted.ticket_id]


def test_a_commit_that_was_lost_in_a_crash_is_done_again_though_its_number_went_to_another(
    desk: PostgresStore, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash PostgreSQL gives the number of a lost transaction to another one: only the token tells the two apart."""
    _lose_the_answer_of_one_commit(monkeypatch, committed=False)
    [accepted] = desk.run(lambda tx: tx.accept([incoming("lost")], now=now))
    found, _ = desk.run(lambda tx: tx.list_tickets(q="lost"))
    assert [item["id"] for item in found] == [accepted.ticket_id]


def _lose_the_answer_of_one_commit(monkeypatch: pytest.MonkeyPatch, *, committed: bool) -> None:
    """The first commit either happens or is rolled back by the server; the client hears of neither."""
    from orchestrator.storage import store as module

    committing = module._commit
    breaks = [True]

    def commit(connection: psycopg.Connection) -> None:
        if not breaks:
            return committing(connection)
        breaks.clear()
        token, pid = uuid.uuid4(), connection.info.backend_pid
        connection.execute(module.MARK, [token])
        if committed:
            connection.commit()
        connection.close()
        raise CommitUnknown("The connection broke.", attempt=module.Attempt(backend_pid=pid, token=token))

    monkeypatch.setattr(module, "_commit", commit)


def test_starting_a_running_server_changes_nothing(own_server: Server) -> None:
    pid = own_server.pid
    assert Server(own_server.folder).start().pid == pid
    assert own_server.pid == pid


def test_a_stopped_server_keeps_what_was_committed(own_server: Server, desk: PostgresStore, now: datetime) -> None:
    [accepted] = desk.run(lambda tx: tx.accept([incoming()], now=now))
    own_server.stop()
    assert own_server.pid is None
    own_server.start()
    assert desk.run(lambda tx: tx.ticket(accepted.ticket_id)).id == accepted.ticket_id


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_no_closed_folder_is_opened_for_the_servers_user() -> None:
    with tempfile.TemporaryDirectory() as closed:  # mode 0700, as root's home
        server = Server(Path(closed) / "desk" / "postgres", settings={"fsync": "off"})
        try:
            server.start()
            elsewhere = (server.folder / "data").resolve()
            assert stat.S_IMODE(Path(closed).stat().st_mode) == 0o700
            assert not elsewhere.is_relative_to(closed) and stat.S_IMODE(elsewhere.stat().st_mode) == 0o700
            assert elsewhere.with_suffix(".of").read_text().strip() == str(server.folder)
        finally:
            server.destroy()
        assert not elsewhere.exists()
