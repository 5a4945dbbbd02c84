"""The sandbox's memory, one SQLite file. Knows records as (kind, id, JSON), calls and idempotency keys; knows no HTTP."""

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.sandbox import world as worlds

# Lists are filtered by these fields; each has an index, so that a call costs the same in a world of 100 and of 100,000 records.
FILTERS = (
    "email",
    "account",
    "user_id",
    "reference",
    "ticket",
    "service",
    "customer_email",
    "payment_id",
    "invoice",
    "order",
    "site",
    "region",
    "state",
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (kind, id));
CREATE TABLE IF NOT EXISTS addresses (email TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    system TEXT NOT NULL, key TEXT NOT NULL, request TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (system, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, system TEXT, method TEXT NOT NULL, path TEXT NOT NULL,
    query TEXT NOT NULL, body TEXT, idempotency_key TEXT, status INTEGER, replayed INTEGER NOT NULL, changed INTEGER NOT NULL);
"""
CALL_COLUMNS = ("seq", "at", "system", "method", "path", "query", "body", "idempotency_key", "status", "replayed", "changed")


class AlreadyOpen(RuntimeError):
    """Another sandbox has this file."""


class Records:
    """The world inside one transaction. `changed` turns true when a record became different from what it was."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.changed = False

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        row = self._connection.execute("SELECT body FROM records WHERE kind = ? AND id = ?", (kind, key)).fetchone()
        return json.loads(row[0]) if row else None

    def find(self, kind: str, **equal: Any) -> list[dict[str, Any]]:
        """Records of a kind, oldest first, whose fields equal these (letter case aside; None means any value)."""
        wanted = {name: value for name, value in equal.items() if value is not None}
        clauses = "".join(f" AND json_extract(body, '$.{name}') = ? COLLATE NOCASE" for name in wanted)
        sql = f"SELECT body FROM records WHERE kind = ?{clauses} ORDER BY position"
        return [json.loads(row[0]) for row in self._connection.execute(sql, (kind, *wanted.values()))]

    def put(self, kind: str, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Insert or replace one record; gives it back."""
        body = _dump(record)
        before = self._connection.execute("SELECT body FROM records WHERE kind = ? AND id = ?", (kind, key)).fetchone()
        if before is None or before[0] != body:
            self.changed = True
            self._connection.execute(
                "INSERT INTO records (kind, id, body) VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
                (kind, key, body),
            )
        return dict(record)

    def drop(self, kind: str, key: str) -> None:
        """Remove one record, if it is there."""
        gone = self._connection.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, key)).rowcount
        self.changed = self.changed or gone > 0

    def next_id(self, kind: str, prefix: str) -> str:
        """The next free number of a kind that calls make: "REF-000001"."""
        count_up = "ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)"
        while True:
            (number,) = self._connection.execute(f"INSERT INTO meta VALUES (?, 1) {count_up}", (f"last:{kind}",)).fetchone()
            if self.get(kind, f"{prefix}-{number:06d}") is None:
                return f"{prefix}-{number:06d}"

    def is_address(self, email: str) -> bool:
        return self._connection.execute("SELECT 1 FROM addresses WHERE email = ?", (email.lower(),)).fetchone() is not None

    def meta(self, key: str) -> Any:
        row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    # --- calls and keys -----------------------------------------------------------------------------------------------

    def answer_to(self, system: str, key: str) -> tuple[str, int, str] | None:
        """(request digest, status, body) stored under an idempotency key of a system."""
        sql = "SELECT request, status, body FROM answers WHERE system = ? AND key = ?"
        return self._connection.execute(sql, (system, key)).fetchone()

    def remember(self, system: str, key: str, request: str, status: int, body: str) -> None:
        self._connection.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (system, key, request, status, body))

    def record_call(self, call: Mapping[str, Any]) -> None:
        values = [call[name] for name in CALL_COLUMNS[1:]]
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT INTO calls ({', '.join(CALL_COLUMNS[1:])}) VALUES ({marks})", values)


class Store:
    """One SQLite file, one connection, one thread: the server's. A lock file keeps a second server off it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.with_name(path.name + ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AlreadyOpen(f"Another sandbox already uses {path}; stop it or take another file.") from error
        self._connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(
            "PRAGMA synchronous = NORMAL"
        )  # a killed process loses nothing; a power cut may lose the last calls
        self._connection.executescript(SCHEMA)
        for name in FILTERS:
            self._connection.execute(
                f"CREATE INDEX IF NOT EXISTS by_{name} ON records (kind, json_extract(body, '$.{name}') COLLATE NOCASE)"
                f" WHERE json_extract(body, '$.{name}') IS NOT NULL"
            )

    def close(self) -> None:
        self._connection.close()
        self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[Records]:
        """All or nothing: whatever was written is committed when the block ends, rolled back when it raises."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield Records(self._connection)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @property
    def seeded(self) -> bool:
        return self._connection.execute("SELECT 1 FROM meta WHERE key = 'seeded'").fetchone() is not None

    def seed(self, world: worlds.World) -> dict[str, int]:
        """Start anew from this world: records, calls and keys of before are gone. Gives the number of records by kind."""
        found = worlds.records(world)
        with self.transaction():
            for table in ("records", "addresses", "answers", "calls", "meta", "sqlite_sequence"):
                self._connection.execute(f"DELETE FROM {table}")
            self._connection.executemany(
                "INSERT INTO records (kind, id, body) VALUES (?, ?, ?)",
                ((kind, key, _dump(record)) for kind, rows in found.items() for key, record in rows.items()),
            )
            self._connection.executemany(
                "INSERT INTO addresses VALUES (?)", ((email,) for email in sorted(worlds.addresses(found)))
            )
            rest = {key: value for key, value in world.items() if key not in found}
            meta = {"seeded": True, "company": world.get("company") or {}, "now": world.get("now"), "rest": rest}
            self._connection.executemany("INSERT INTO meta VALUES (?, ?)", ((key, _dump(value)) for key, value in meta.items()))
        return {kind: len(rows) for kind, rows in found.items()}

    def calls(self, *, after: int = 0) -> list[dict[str, Any]]:
        """Every recorded call with a greater `seq`, in order."""
        rows = self._connection.execute(f"SELECT {', '.join(CALL_COLUMNS)} FROM calls WHERE seq > ? ORDER BY seq", (after,))
        return [_call(dict(zip(CALL_COLUMNS, row, strict=True))) for row in rows]

    def state(self) -> dict[str, Any]:
        """The whole world now, in the form of a world file."""
        state: dict[str, Any] = {kind: [] for kind in (*worlds.KINDS, *worlds.MADE_HERE)}
        for kind, body in self._connection.execute("SELECT kind, body FROM records ORDER BY position"):
            state[kind].append(json.loads(body))
        meta = {key: json.loads(value) for key, value in self._connection.execute("SELECT key, value FROM meta")}
        return {**meta.get("rest", {}), "now": meta.get("now"), "company": meta.get("company", {}), **state}


def _call(row: dict[str, Any]) -> dict[str, Any]:
    row["query"] = json.loads(row["query"])
    row["body"] = None if row["body"] is None else json.loads(row["body"])
    row["replayed"], row["changed"] = bool(row["replayed"]), bool(row["changed"])
    return row


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
