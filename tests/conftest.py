"""What every test may ask for: the data folder, the time, and a database of its own on a real embedded PostgreSQL.

The server starts once per session, on first use, without fsync (a test's database need not outlive a power cut); each test that
asks for
`dsn` or `store` gets a fresh database, copied from a migrated template.
"""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from orchestrator.storage.embedded import ROLE, SUPERUSER, Server
from orchestrator.storage.migrate import migrate
from orchestrator.storage.store import PostgresStore

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data beside the checkout; tests that need it are skipped where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no data folder at {DATA}: this test needs real data beside the checkout")
    return DATA


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


def _roomy_folder() -> Path:
    """Memory where there is plenty of it: copying the template for every test is mostly making files."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30
    return memory if roomy else Path(tempfile.gettempdir())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The session's server; its database `cloister` is migrated and serves as the template: connect to a copy, never to it."""
    server = Server(_roomy_folder() / f"cloister-test-{secrets.token_hex(4)}", settings=UNSAFE_BUT_FAST)
    try:
        server.start()
        migrate(server.dsn)
        yield server
    finally:
        server.destroy()


@pytest.fixture
def database(postgres: Server) -> Iterator[str]:
    """The name of a fresh, migrated database."""
    name = f"test_{secrets.token_hex(6)}"
    administer = postgres.dsn_of("postgres", role=SUPERUSER)
    with psycopg.connect(administer, autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE cloister OWNER {} STRATEGY FILE_COPY")
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier(ROLE)))
    yield name
    with psycopg.connect(administer, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def dsn(postgres: Server, database: str) -> str:
    """The application's role in a fresh database."""
    return postgres.dsn_of(database)


@pytest.fixture
def superuser_dsn(postgres: Server, database: str) -> str:
    """A superuser in the same fresh database, for tests of what even triggers cannot refuse."""
    return postgres.dsn_of(database, role=SUPERUSER)


@pytest.fixture
def store(dsn: str) -> Iterator[PostgresStore]:
    """The store on a fresh database."""
    with PostgresStore(dsn, patience_s=20.0) as opened:
        yield opened
