"""Connections, transactions, trying again, waiting for work.

Knows psycopg and its errors; the SQL lies in the modules beside it.
"""

import random
import select
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import psycopg
from pgvector.psycopg import register_vector
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from orchestrator.domain.errors import CloisterError, Conflict, StoreUnavailable
from orchestrator.storage.connection import Connection
from orchestrator.storage.migrate import migrate
from orchestrator.storage.similar import VectorWindows
from orchestrator.storage.transaction import PostgresTransaction

Result = TypeVar("Result")

CHANNEL = "cloister_work"
OPTIONS = "-c timezone=UTC -c application_name=cloister -c random_page_cost=1.1 -c jit=off"
"""Our statements look up dozens of rows by key: an index is right also while the table is small and its statistics are young."""
ILLEGAL_TRANSITION = "CL001"
APPEND_ONLY = "CL002"
TRY_AGAIN = ("40001", "40P01", "55P03", "57014")  # serialization, deadlock, lock not available, canceled
CUT_OFF = ("57P01", "57P02", "57P03", "57P05")  # shutdown, crash, starting up, idle session closed


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A commit whose answer was lost."""

    backend_pid: int
    token: uuid.UUID


class CommitUnknown(StoreUnavailable):
    """The connection broke during commit: it may have happened. `Store.run` finds out."""

    def __init__(self, message: str, *, attempt: Attempt | None) -> None:
        super().__init__(message, hint="Look whether it was written before trying again.")
        self.attempt = attempt


class PostgresStore:
    """`orchestrator.ports.Store` on PostgreSQL. Thread-safe; opens its connections on first use. Give it to one process only."""

    def __init__(self, dsn: str, *, max_connections: int = 8, patience_s: float = 60.0) -> None:
        self._dsn = dsn
        self._patience_s = patience_s
        self._pool = ConnectionPool(
            dsn,
            connection_class=psycopg.Connection,
            kwargs={"row_factory": dict_row, "options": OPTIONS, "connect_timeout": 10},
            configure=_configure,
            check=_check,
            min_size=1,
            max_size=max_connections,
            timeout=30.0,
            max_idle=300.0,
            reconnect_timeout=300.0,
            open=False,
            name="cloister",
        )
        self._windows = VectorWindows()
        self._opening = threading.Lock()
        self._listening = threading.Lock()
        self._listener: psycopg.Connection | None = None

    def __enter__(self) -> "PostgresStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._pool.close()
        with self._listening:
            self._stop_listening()

    # --- transactions ---

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        """Commit when the block ends cleanly, rollback otherwise. Raises our errors only: see `_translate`."""
        with self._connection() as connection:
            try:
                yield PostgresTransaction(connection, self._windows)
                _commit(connection)
            except psycopg.Error as error:
                raise _translate(error) from error
            finally:
                with suppress(psycopg.Error):
                    connection.rollback()  # nothing to do after a commit

    def run(self, work: Callable[[PostgresTransaction], Result]) -> Result:
        """`work` in a transaction of its own, tried again with growing pauses until `patience_s` is up; committed once.

        Where the connection breaks during commit, the database is asked afterwards whether that transaction was committed.
        """
        deadline = time.monotonic() + self._patience_s
        pause_s = 0.02
        while True:
            results: list[Result] = []
            try:
                with self.transaction() as transaction:
                    results.append(work(transaction))
                return results[0]
            except CommitUnknown as error:
                if self._was_committed(error.attempt, deadline):
                    return results[0]
            except StoreUnavailable:
                if time.monotonic() + pause_s > deadline:
                    raise
            time.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, 1.0)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            with self._opening:
                if self._pool.closed:
                    self._pool.open()
            connection = self._pool.getconn()
        except (PoolTimeout, psycopg.OperationalError) as error:
            raise StoreUnavailable(f"The database does not answer: {_first_line(error)}.", hint="Is it running?") from error
        try:
            yield connection
        finally:
            with suppress(PoolClosed):
                self._pool.putconn(connection)

    def _was_committed(self, attempt: "Attempt | None", deadline: float) -> bool:
        """Waits until the backend that was committing is gone, then looks for the token that it wrote."""
        if attempt is None:
            return False  # it had written nothing
        while True:
            try:
                with self._connection() as connection:
                    busy = connection.execute(COMMITTING, [attempt.backend_pid]).fetchone()
                    connection.rollback()  # what is looked for next must be seen as it is after that
                    found = connection.execute("SELECT FROM commit_marker WHERE token = %s", [attempt.token]).fetchone()
                    connection.rollback()
                if found is not None or busy is None:
                    return found is not None
            except (psycopg.Error, StoreUnavailable):
                pass
            if time.monotonic() > deadline:
                raise CommitUnknown("Whether the transaction was committed is not known.", attempt=attempt)
            time.sleep(0.1)

    # --- waiting ---

    def wait_for_work(self, timeout_s: float) -> bool:
        """LISTEN until a job is ready or the time is up. A database that is away is waited for, too."""
        deadline = time.monotonic() + timeout_s
        with self._listening:
            while True:
                try:
                    pause_s = self._next_work_s()
                    if pause_s <= 0:
                        return True
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        return False
                    for _ in self._listener_connection().notifies(timeout=min(left_s, pause_s), stop_after=1):
                        pass
                except psycopg.Error:
                    self._stop_listening()
                    if time.monotonic() >= deadline:
                        return False
                    time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))

    def _next_work_s(self) -> float:
        """Seconds until some job may be claimed: 0 now, 3600 when nothing waits at all."""
        row = self._listener_connection().execute(NEXT_WORK).fetchone()
        return 3600.0 if row is None or row[0] is None else max(0.0, float(row[0]))

    def _listener_connection(self) -> psycopg.Connection:
        if self._listener is None:
            self._listener = psycopg.connect(self._dsn, autocommit=True, connect_timeout=10, application_name="cloister-listen")
            self._listener.execute(f"LISTEN {CHANNEL}")
        return self._listener

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None


COMMITTING = "SELECT FROM pg_stat_activity WHERE pid = %s AND datname = current_database() AND usename = current_user"
NEXT_WORK = """
    SELECT extract(epoch FROM min(greatest(run_at, coalesce(lease_until, run_at))) - clock_timestamp())
    FROM (SELECT run_at, lease_until FROM job WHERE wanted > done AND dead_at IS NULL ORDER BY priority, ticket LIMIT 2000) AS j
"""


def open_store(dsn: str, *, max_connections: int = 8, patience_s: float = 60.0) -> PostgresStore:
    """Migrate the database, then give its store. Raises ConfigurationError when the migrations do not fit, StoreUnavailable."""
    try:
        migrate(dsn)
    except psycopg.OperationalError as error:
        raise StoreUnavailable(f"The database does not answer: {_first_line(error)}.", hint="Is it running?") from error
    return PostgresStore(dsn, max_connections=max_connections, patience_s=patience_s)


def retrying(store: PostgresStore, work: Callable[[PostgresTransaction], Result]) -> Result:
    """The same as `store.run(work)`, for those who like it as a function."""
    return store.run(work)


def _check(connection: psycopg.Connection) -> None:
    """A server that went away has closed the socket, which then reads as ready; where it is silent, no round trip is needed."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(connection)


def _configure(connection: psycopg.Connection) -> None:
    register_vector(connection)
    connection.rollback()


MARK = """
    INSERT INTO commit_marker (token) SELECT %s WHERE pg_current_xact_id_if_assigned() IS NOT NULL
    RETURNING token
"""


def _commit(connection: Connection) -> None:
    """A transaction that wrote leaves a token of its own, so that it can be found out afterwards whether it was committed."""
    token, backend_pid = uuid.uuid4(), connection.info.backend_pid
    row = connection.execute(MARK, [token]).fetchone()
    try:
        connection.commit()
    except psycopg.OperationalError as error:
        if error.sqlstate is None or error.sqlstate in CUT_OFF:
            attempt = Attempt(backend_pid=backend_pid, token=token) if row else None
            raise CommitUnknown(f"The database went away during commit: {_first_line(error)}.", attempt=attempt) from error
        raise


def _translate(error: psycopg.Error) -> CloisterError:
    """The one place that turns the driver's errors into ours."""
    state = error.sqlstate
    hint = (error.diag.message_hint or "") if error.diag else ""
    if state in (ILLEGAL_TRANSITION, APPEND_ONLY):
        return Conflict(error.diag.message_primary or str(error), hint=hint)
    if isinstance(error, psycopg.errors.UniqueViolation):
        return Conflict(f"There is such a record already: {error.diag.message_detail or _first_line(error)}.")
    if state in TRY_AGAIN:
        return StoreUnavailable(f"The database asked to try again: {_first_line(error)}.", hint="Try again.")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(f"The database went away: {_first_line(error)}.", hint="Try again.")
    return CloisterError(
        f"The database refused: {_first_line(error)} [{state}].", hint="This is a fault in our SQL or its arguments; report it."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
