"""Numbered migrations, each applied once, in order, under a lock, with its digest recorded.

Knows SQL files; knows no table but its own.
"""

import hashlib
import re
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psycopg

from orchestrator.domain.errors import ConfigurationError, StoreUnavailable

FOLDER = Path(__file__).parent / "migrations"
LOCK = 0x636C6F6973746572  # "cloister": the advisory lock of whoever migrates

RECORD = """
    CREATE TABLE IF NOT EXISTS schema_migration (
        number int PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""


@dataclass(frozen=True, kw_only=True)
class Migration:
    number: int
    name: str  # "0001_audit.sql"
    sha256: str
    sql: str


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """The files in order. Raises ConfigurationError for a double number or a name that is not NNNN_words.sql."""
    found = [_read(path) for path in sorted(folder.glob("*.sql"))]
    for earlier, migration in pairwise(found):
        if migration.number == earlier.number:
            raise ConfigurationError(
                f"Migration {migration.name} has the number of {earlier.name}.", hint="Give each a number of its own."
            )
    return found


def migrate(dsn: str, folder: Path = FOLDER) -> list[str]:
    """Apply what is missing; gives the names applied now. Each migration is one transaction. Raises ConfigurationError."""
    migrations = read_migrations(folder)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        try:
            _require_vector(connection)
            connection.execute(RECORD)
            applied = {
                number: (name, digest)
                for number, name, digest in connection.execute("SELECT number, name, sha256 FROM schema_migration")
            }
            _compare(migrations, applied)
            return [_apply(connection, migration) for migration in migrations if migration.number not in applied]
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _read(path: Path) -> Migration:
    match = re.fullmatch(r"(\d{4})_[a-z0-9_]+\.sql", path.name)
    if match is None:
        raise ConfigurationError(f"{path.name} is not the name of a migration.", hint="Call it NNNN_words.sql.")
    text = path.read_text(encoding="utf-8")
    return Migration(number=int(match[1]), name=path.name, sha256=hashlib.sha256(text.encode()).hexdigest(), sql=text)


def _require_vector(connection: psycopg.Connection) -> None:
    if connection.execute("SELECT FROM pg_extension WHERE extname = 'vector'").fetchall():
        return
    try:
        connection.execute("CREATE EXTENSION vector")
    except psycopg.Error as error:
        raise ConfigurationError(
            f"The database has no extension vector and this role cannot create it: {str(error).strip()}.",
            hint="Install pgvector 0.7 or later and run CREATE EXTENSION vector in this database as a superuser.",
        ) from error


def _compare(migrations: list[Migration], applied: dict[int, tuple[str, str]]) -> None:
    known = {migration.number: migration for migration in migrations}
    problems = []
    for number, (name, digest) in sorted(applied.items()):
        if number not in known:
            problems.append(f"the database has {name}, which this version does not know: it is older than the database")
        elif known[number].sha256 != digest:
            problems.append(
                f"{name} was changed after it had been applied (recorded {digest[:12]}, file {known[number].sha256[:12]})"
            )
    if problems:
        raise ConfigurationError(
            f"The migrations do not fit this database: {'; '.join(problems)}.",
            hint="Restore the files and add a new migration instead.",
        )


def _apply(connection: psycopg.Connection, migration: Migration) -> str:
    with connection.transaction():
        connection.execute(migration.sql.encode())
        connection.execute(
            "INSERT INTO schema_migration (number, name, sha256) VALUES (%s, %s, %s)",
            [migration.number, migration.name, migration.sha256],
        )
    return migration.name


def migrate_when_up(dsn: str, *, patience_s: float = 60.0) -> list[str]:
    """`migrate`, waiting for a database that is starting or restarting. Raises StoreUnavailable when the time is up."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return migrate(dsn)
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"The database did not answer for {patience_s:.0f} s: {error}") from error
            time.sleep(0.2)
