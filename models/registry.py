"""Which models an installation has, and which of them each alias means. Folders, an append-only history, locks; no torch, no ray.

`<root>/<full name>/` holds a model, `history.jsonl` every move of an alias, `trusted/` public keys, `gates/` reports of the
promotion gate, `registry.json` settings. The models that came with the installation are visible too and never changed. Knows files;
knows nothing of engines: who serves is told by `models.announce`.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models import strict_json
from models.inspection import FILE_NAME, FULL_NAME
from models.local import ADAPTER, STORE
from models.manifest import BESIDE, MANIFEST_FILE, SIGNATURE_FILE, Kind, Manifest, ModelRefused, read, shown, verify
from models.signing import Judgement, Standing, Trusted, judge, read_trusted
from models.strict_json import Malformed

HISTORY_FILE = "history.jsonl"
SETTINGS_FILE = "registry.json"
COPY_BYTES = 16 * 2**20
Progress = Callable[[int], None]
"""Told the bytes written since the last call."""


class RegistryError(ModelRefused):
    """The registry cannot do what was asked."""


class NotInRegistry(RegistryError):
    """No model of this name."""


class Alias(StrEnum):
    LIVE = "live"
    CANARY = "canary"
    SHADOW = "shadow"


TASKS: Mapping[str, Kind] = MappingProxyType({"triage": Kind.ADAPTER, "embedding": Kind.EMBEDDER})
BUNDLED: Mapping[str, str] = MappingProxyType({"triage": ADAPTER})  # task -> bundled model that is live where nobody moved anything


@dataclass(frozen=True, kw_only=True)
class Entry:
    full_name: str
    folder: Path
    manifest: Manifest
    bundled: bool = False


@dataclass(frozen=True, kw_only=True)
class Move:
    """An alias of a task was pointed elsewhere. A name of None: to nothing (a live alias: to what came with the installation)."""

    number: int  # from 1, without a gap; 0: nobody moved it
    at: str  # UTC, ISO 8601
    task: str
    alias: str
    name: str | None
    percent: int | None = None  # of live traffic, canary only
    by: str
    reason: str
    evidence: Mapping[str, Any] | None = None
    previous: str | None = None
    undoes: int | None = None  # number of the move that this one takes back


def registry_root(home: Path | None = None) -> Path:
    """`models` in the state folder ($CLOISTER_HOME, default `.cloister`)."""
    return (home or Path(os.environ.get("CLOISTER_HOME", ".cloister"))) / "models"


class Registry:
    """The models and aliases of one installation. Many processes may use one root at a time."""

    def __init__(self, root: Path, *, store: Path = STORE) -> None:
        self.root = root
        self.store = store

    # --- models ---

    def entries(self) -> list[Entry]:
        """Bundled models, then imported ones from old to new."""
        bundled = [_bundled(path.parent) for path in sorted(self.store.glob(f"*/{MANIFEST_FILE}"))]
        known = {entry.full_name for entry in bundled}
        folders = [path for path in self.root.iterdir() if FULL_NAME.fullmatch(path.name)] if self.root.is_dir() else []
        folders = [path for path in folders if path.name not in known and (path / MANIFEST_FILE).is_file()]
        imported = sorted(folders, key=lambda path: ((path / MANIFEST_FILE).stat().st_mtime_ns, path.name))
        return bundled + [entry for path in imported if (entry := _imported(path))]

    def damaged(self) -> list[str]:
        """Full names of folders whose manifest cannot be read any more; they are in no list."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        return sorted(path.name for path in folders if FULL_NAME.fullmatch(path.name) and not _imported(path))

    def find(self, name: str) -> Entry:
        """The model of a full name, of a beginning of one (`name@sha256-<6 or more digits>`), or the newest of a plain name.

        Raises NotInRegistry with the names that are known.
        """
        entries = self.entries()
        plain, at, digits = name.partition("@sha256-")
        if at and len(digits) >= 6:
            found = [entry for entry in entries if entry.full_name.startswith(name)]
        else:
            found = [] if at else [entry for entry in entries if entry.manifest.name == plain][-1:]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotInRegistry(f"{name!r} may be {' or '.join(entry.full_name for entry in found)}. Give more digits.")
        known = ", ".join(sorted({entry.manifest.name for entry in entries})) or "none"
        raise NotInRegistry(f"there is no model {name!r} in {self.root} (known: {known}). Import it with `cloister models import`.")

    def verify(self, name: str, *, deep: bool = True) -> tuple[Entry, Judgement]:
        """A model of the registry, every byte looked at again, and what its signature is worth. Raises ModelRefused."""
        entry = self.find(name)
        base = self._base_of(entry.manifest, None)
        manifest = verify(entry.folder, expect=entry.full_name, base=base, deep=deep)
        return entry, self.judge(entry.folder, manifest, bundled=entry.bundled)

    def judge(
        self, folder: Path, manifest: Manifest, *, trusted: Trusted | None = None, require: bool = False, bundled: bool = False
    ) -> Judgement:
        """What a model's signature is worth here. Raises ModelRefused where a signature is required and no trusted key gave one.

        What came with the installation needs none: whoever could change it could change this program too.
        """
        judgement = judge(folder, manifest, self.trusted() if trusted is None else trusted)
        if (require or self.requires_signature()) and judgement.standing is not Standing.SIGNED and not bundled:
            raise ModelRefused(
                f"{manifest.full_name} is refused: it is {judgement}, and a signature by a trusted key is required. Sign it with"
                " `cloister models sign`, or trust its key with `cloister models trust KEYFILE`."
            )
        return judgement

    def trusted(self) -> Trusted:
        return read_trusted(self.root / "trusted")

    def requires_signature(self) -> bool:
        """`{"require_signature": true}` in `registry.json`. Raises RegistryError when the file cannot be understood."""
        path = self.root / SETTINGS_FILE
        if not path.exists():
            return False
        try:
            settings = strict_json.loads(path.read_bytes())
        except Malformed as error:
            raise RegistryError(f"{path} {error}. Mend it.") from error
        if not isinstance(settings, dict) or settings.keys() - {"require_signature"} or not _is_flag(settings):
            raise RegistryError(f'{path} is not {{"require_signature": true}} or false. Mend it.')
        return bool(settings.get("require_signature", False))

    def add(
        self,
        folder: Path,
        *,
        trusted: Trusted | None = None,
        require_signature: bool = False,
        base: Path | None = None,
        expect: str | None = None,
        progress: Progress | None = None,
    ) -> str:
        """Copy a model in, verify the copy in depth, and only then give it its place. Gives the full name.

        `trusted`: public keys instead of those of this registry. `base`: folder of an adapter's base that is not in this registry.
        Raises ModelRefused; nothing is left behind then.
        """
        with self.staging() as staging:
            copy = staging / "model"
            copy_model(folder, copy, progress=progress)
            return self.admit(copy, shown=folder, trusted=trusted, require_signature=require_signature, base=base, expect=expect)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder of this registry's file system for what is not yet believed; gone afterwards, whatever happens."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self._locked("import"):
            for left in self.root.glob(".incoming-*"):  # of a process that was killed: nobody else holds the lock
                shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=".incoming-", dir=self.root))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def check(
        self,
        folder: Path,
        *,
        shown: Path | None = None,
        trusted: Trusted | None = None,
        require_signature: bool = False,
        base: Path | None = None,
        expect: str | None = None,
    ) -> tuple[Manifest, Judgement]:
        """Everything that `add` asks of a folder, without taking it in. `shown`: what messages call it. Raises ModelRefused."""
        shown = shown or folder
        try:
            manifest = read(folder)
            if expect is None and FULL_NAME.fullmatch(shown.name):
                expect = shown.name
            manifest = verify(folder, expect=expect, base=self._base_of(manifest, base), deep=True)
            bundled = self._is_bundled(manifest.full_name)
            return manifest, self.judge(folder, manifest, trusted=trusted, require=require_signature, bundled=bundled)
        except ModelRefused as error:
            raise type(error)(str(error).replace(str(folder), str(shown))) from error

    def admit(self, copy: Path, **asked: Any) -> str:
        """Give a staged copy its place, once `check` (which see for `asked`) has nothing against it."""
        manifest, _ = self.check(copy, **asked)
        return self.place(copy, manifest)

    def place(self, copy: Path, manifest: Manifest) -> str:
        """Rename a checked, staged copy to its name. Where the model is there and whole, it stays; a better signature is taken over."""
        name = manifest.full_name
        target = self.root / name
        if self._is_bundled(name):
            return name
        if target.exists() and self._is_whole(target, name):
            if self._is_better_signed(copy, target, manifest):
                (copy / SIGNATURE_FILE).replace(target / SIGNATURE_FILE)
            return name
        if target.exists():
            aside = Path(tempfile.mkdtemp(prefix=".damaged-", dir=self.root))
            target.rename(aside / name)
        os.utime(copy / MANIFEST_FILE)
        copy.rename(target)
        _sync_folder(self.root)
        return name

    def _is_bundled(self, full_name: str) -> bool:
        return any(entry.bundled and entry.full_name == full_name for entry in self.entries())

    def _is_better_signed(self, copy: Path, target: Path, manifest: Manifest) -> bool:
        """A signature by a trusted key replaces another; any signature replaces none."""
        new, old = (judge(folder, manifest, self.trusted()).standing for folder in (copy, target))
        return new is Standing.SIGNED or (new is Standing.UNTRUSTED and old is Standing.UNSIGNED)

    def _is_whole(self, folder: Path, name: str) -> bool:
        try:
            verify(folder, expect=name)
        except ModelRefused:
            return False
        return True

    def _base_of(self, manifest: Manifest, given: Path | None) -> Path | None:
        """The folder of an adapter's base. Raises ModelRefused when it is not here or is another."""
        if manifest.kind is not Kind.ADAPTER:
            return None
        if given is not None:
            there = read(given).full_name
            if there != manifest.base:
                raise ModelRefused(
                    f"{manifest.full_name} is refused: it was trained on {manifest.base}, the base given is {there}."
                )
            return given
        try:
            return self.find(str(manifest.base)).folder
        except NotInRegistry as error:
            raise ModelRefused(
                f"{manifest.full_name} is refused: its base {manifest.base} is not in this registry. Import the base first, or give"
                " its folder with --base."
            ) from error

    # --- aliases ---

    def history(self) -> list[Move]:
        """Every move from first to last. A line that a killed process did not finish was never a move.

        Raises RegistryError when a finished line is damaged or one is missing.
        """
        moves = [self._read_move(number, line) for number, line in enumerate(self._committed().splitlines(), start=1)]
        return moves

    def aliases(self, task: str) -> dict[str, Move]:
        """What each alias of a task means now; those that mean nothing are left out."""
        _check_task(task)
        now = {move.alias: move for move in self.history() if move.task == task}
        if now.get(Alias.LIVE) is None or now[Alias.LIVE].name is None:
            implied = self._implied(task)
            now = {key: move for key, move in now.items() if key != Alias.LIVE} | ({Alias.LIVE: implied} if implied else {})
        return {alias: move for alias, move in now.items() if move.name is not None}

    def move(
        self,
        task: str,
        alias: str,
        full_name: str | None,
        *,
        percent: int | None = None,
        by: str,
        reason: str,
        evidence: Mapping[str, Any] | None = None,
    ) -> Move:
        """Point an alias elsewhere, at once and with history; None: at nothing. What it means already is not moved again.

        Raises RegistryError or ModelRefused when the model may not be there.
        """
        return self._move(
            Move(
                number=0,
                at="",
                task=task,
                alias=alias,
                name=full_name,
                percent=percent,
                by=by,
                reason=reason,
                evidence=dict(evidence) if evidence is not None else None,
            )
        )

    def rollback(self, task: str, alias: str = Alias.LIVE, *, by: str, reason: str) -> Move:
        """Take the last move of an alias back; again, the one before it. Raises RegistryError when there is none to take back."""
        _check_task(task)
        with self._locked("history"):
            standing: list[Move] = []
            for move in self.history():
                if (move.task, move.alias) == (task, alias):
                    standing = standing[:-1] if move.undoes is not None else [*standing, move]
            if not standing:
                raise RegistryError(
                    f"there is nothing to roll back: {alias} of {task} has no earlier target. `cloister models history` lists the moves."
                )
            last, before = standing[-1], standing[-2] if len(standing) > 1 else None
            move = Move(
                number=0,
                at="",
                task=task,
                alias=alias,
                name=before.name if before else self._still_there(last.previous),
                percent=before.percent if before else None,
                by=by,
                reason=reason,
                undoes=last.number,
            )
            return self._append(move)

    def _still_there(self, full_name: str | None) -> str | None:
        """The bundled model that was live before anybody moved anything; None where an upgrade has replaced it."""
        return full_name if full_name and any(entry.full_name == full_name for entry in self.entries()) else None

    def gate(self, full_name: str) -> Mapping[str, Any] | None:
        """The report of the promotion gate about a model, or None. Raises RegistryError when it cannot be understood."""
        path = self.root / "gates" / f"{full_name}.json"
        if not path.is_file():
            return None
        try:
            report = strict_json.loads(path.read_bytes())
        except Malformed as error:
            raise RegistryError(f"{path} {error}. Run `cloister train promote` again.") from error
        if not isinstance(report, dict) or any(report.get(key, full_name) != full_name for key in ("full_name", "candidate")):
            raise RegistryError(f"{path} is not a gate report about {full_name}. Run `cloister train promote` again.")
        return report

    def _implied(self, task: str) -> Move | None:
        name = BUNDLED.get(task)
        entry = next((entry for entry in self.entries() if entry.bundled and entry.manifest.name == name), None)
        if entry is None:
            return None
        return Move(
            number=0, at="", task=task, alias=Alias.LIVE, name=entry.full_name, by="cloister", reason="came with the installation"
        )

    def _move(self, move: Move) -> Move:
        _check_move(move)
        with self._locked("history"):
            current = self.aliases(move.task).get(move.alias)
            if current and (current.name, current.percent) == (move.name, move.percent) and current.number:
                return current
            if current is None and move.name is None:
                raise RegistryError(f"{move.alias} of {move.task} means nothing already.")
            return self._append(move)

    def _append(self, move: Move) -> Move:
        """Under the lock: number, date and write a move, once its model is found and whole."""
        if move.name is not None:
            self._check_target(move)
        current = self.aliases(move.task).get(move.alias)
        committed = self._committed()
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        previous = current.name if current else None
        move = replace(move, number=len(committed.splitlines()) + 1, at=at, previous=previous)
        line = json.dumps(asdict(move), sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        path = self.root / HISTORY_FILE
        with path.open("ab") as handle:
            if handle.tell() > len(committed):
                handle.truncate(len(committed))  # the line of a killed process, which was never a move
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())
        _sync_folder(self.root)
        return move

    def _check_target(self, move: Move) -> None:
        name = str(move.name)
        entry = self.find(name)
        if entry.full_name != name:
            raise RegistryError(f"an alias points to a full name; {name!r} is {entry.full_name}.")
        if entry.manifest.kind is not TASKS[move.task]:
            raise RegistryError(f"{name} is of kind {entry.manifest.kind}; {move.task} needs {TASKS[move.task]}.")
        self.verify(name, deep=False)

    def _committed(self) -> bytes:
        """The history up to its last finished line."""
        path = self.root / HISTORY_FILE
        content = path.read_bytes() if path.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def _read_move(self, number: int, line: bytes) -> Move:
        try:
            move = Move(**strict_json.loads(line))
        except (Malformed, TypeError) as error:
            raise RegistryError(f"line {number} of {self.root / HISTORY_FILE} is damaged ({error}). Restore the file.") from error
        if move.number != number:
            raise RegistryError(f"line {number} of {self.root / HISTORY_FILE} is move {move.number}: lines were removed or added.")
        return move

    @contextmanager
    def _locked(self, what: str) -> Iterator[None]:
        """One process (or thread) at a time; the system gives the lock back when its holder dies."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f".{what}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def copy_model(source: Path, target: Path, *, progress: Progress | None = None) -> None:
    """Copy a flat folder of plain files; modes are not taken over. Raises ModelRefused at anything else."""
    if source.is_symlink() or not source.is_dir():
        raise ModelRefused(f"{source} is refused: it is not a folder.")
    paths = sorted(source.iterdir())
    odd = [path.name for path in paths if path.is_symlink() or not path.is_file() or not FILE_NAME.fullmatch(path.name)]
    if odd:
        raise ModelRefused(f"{source} is refused: {_why_odd(source / odd[0])}.")
    modes = [path.name for path in paths if path.stat().st_mode & 0o7111]
    if modes:
        raise ModelRefused(
            f"{source} is refused: {modes[0]} is executable or has set-id mode bits; a model is data. Run: chmod 644"
        )
    listed = read(source).files.keys() | BESIDE
    extra = [path.name for path in paths if path.name not in listed]
    if extra:
        raise ModelRefused(f"{source} is refused: {', '.join(map(shown, extra))} is not in the manifest.")
    target.mkdir(parents=True)
    for path in paths:
        copy_file(path, target / path.name, progress=progress)


def copy_file(source: Path, target: Path, *, progress: Progress | None = None) -> None:
    """Bytes alone, to disk, read-only; a link is not followed."""
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb") as reading, target.open("xb") as writing:
        while chunk := reading.read(COPY_BYTES):
            writing.write(chunk)
            if progress:
                progress(len(chunk))
        writing.flush()
        os.fsync(writing.fileno())
    target.chmod(0o444)


def _why_odd(path: Path) -> str:
    if path.is_symlink():
        return f"{path.name} is a symbolic link"
    if not path.is_file():
        return f"{path.name} is not a plain file"
    return f"{path.name!a} is not a plain file name of letters, digits, dot, dash and underscore"


def _bundled(folder: Path) -> Entry:
    manifest = read(folder)
    return Entry(full_name=manifest.full_name, folder=folder, manifest=manifest, bundled=True)


def _imported(folder: Path) -> Entry | None:
    """None where the manifest cannot be read. The name is the folder's: whether the content still has it is `verify`'s matter."""
    try:
        return Entry(full_name=folder.name, folder=folder, manifest=read(folder))
    except ModelRefused:
        return None


def _is_flag(settings: Mapping[str, Any]) -> bool:
    return isinstance(settings.get("require_signature", False), bool)


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise RegistryError(f"there is no task {task!r}; tasks are {', '.join(TASKS)}.")


def _check_move(move: Move) -> None:
    _check_task(move.task)
    if move.alias not in list(Alias):
        raise RegistryError(f"there is no alias {move.alias!r}; aliases are {', '.join(Alias)}.")
    if not move.reason.strip() or not move.by.strip():
        raise RegistryError("a move needs who made it and a reason.")
    canary = move.alias == Alias.CANARY and move.name is not None
    if canary and (type(move.percent) is not int or not 1 <= move.percent <= 99):
        raise RegistryError(f"a canary needs a percent of live traffic from 1 to 99, not {move.percent}.")
    if not canary and move.percent is not None:
        raise RegistryError(f"percent={move.percent} is for a canary, not for {move.alias}.")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
