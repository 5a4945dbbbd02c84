"""Checkpoints: what the log was at a moment, signed, in files outside the database. Knows files and notes; knows no event.

A checkpoint is a signed note whose first three lines are those of C2SP's tlog-checkpoint:

    ORIGIN, SIZE (events covered), BASE64(root), "number N", "previous HEX(sha256 of the note before)" (zeros for the first),
    "at INSTANT", "chain HEX(hash of event SIZE)", "peaks BASE64 BASE64 ..." (roots of the full subtrees, the largest first)

Each lies in a file of its own, DAY/NUMBER.note, and is never written again: a folder on a share that lets nothing be changed will do.
"""

import base64
import binascii
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.audit.merkle import Frontier
from orchestrator.audit.note import VerifierKey, opened, text_of
from orchestrator.domain.errors import CloisterError

NOTHING = "0" * 64


class AuditBroken(CloisterError):
    """The log, or what vouches for it, is not what it was. Nothing is signed until a person has looked."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes
    number: int  # from 1
    previous: str  # hex sha256 of the whole note before
    at: str
    chain: bytes  # hash of the last event covered
    peaks: tuple[bytes, ...]
    note: str = ""  # whole, as signed

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.note.encode()).hexdigest()

    @property
    def named(self) -> str:
        return f"checkpoint {self.number} of {self.at}"

    def text(self) -> str:
        peaks = " ".join(base64.b64encode(peak).decode() for peak in self.peaks)
        return (
            f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\nnumber {self.number}\nprevious {self.previous}\n"
            f"at {self.at}\nchain {self.chain.hex()}\npeaks {peaks}\n"
        )

    def frontier(self) -> Frontier:
        return Frontier(self.size, self.peaks)


def parse(note: str, where: str) -> Checkpoint:
    """Form alone; whoever signed it. Raises AuditBroken."""
    text = text_of(note)
    if text is None:
        raise AuditBroken(f"{where} is not a signed note.")
    try:
        origin, size, root, *named = text.splitlines()
        number, previous, at, chain, peaks = (
            _value(line, name) for line, name in zip(named, ("number", "previous", "at", "chain", "peaks"), strict=True)
        )
        found = Checkpoint(
            origin=origin,
            size=int(size),
            root=base64.b64decode(root, validate=True),
            number=int(number),
            previous=previous,
            at=at,
            chain=bytes.fromhex(chain),
            peaks=tuple(base64.b64decode(peak, validate=True) for peak in peaks.split()),
            note=note,
        )
        if found.text() != text or found.frontier().root() != found.root:
            raise ValueError("its parts do not fit each other")
    except (ValueError, binascii.Error) as error:
        raise AuditBroken(f"{where} is not a checkpoint: {error}.") from error
    return found


def _value(line: str, name: str) -> str:
    if not line.startswith(f"{name} "):
        raise ValueError(f"a line {name!r} is missing")
    return line.removeprefix(f"{name} ")


class CheckpointFolder:
    """One folder of checkpoints. Several processes may write, one after the other under a lock that the caller holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> list[Path]:
        """In the order of their numbers."""
        return sorted(self.path.glob("????-??-??/*.note"), key=lambda path: path.stem)

    def last(self) -> Checkpoint | None:
        """The one with the highest number. Raises AuditBroken where it cannot be read."""
        for day in sorted((path for path in self.path.glob("????-??-??") if path.is_dir()), reverse=True):
            if files := sorted(day.glob("*.note")):
                return parse(files[-1].read_text(encoding="utf-8"), str(files[-1]))
        return None

    def read(self) -> Iterator[Checkpoint]:
        """Raises AuditBroken at the first that cannot be read."""
        for path in self.files():
            try:
                found = parse(path.read_text(encoding="utf-8"), str(path))
            except UnicodeDecodeError as error:
                raise AuditBroken(f"{path} is not a signed note.") from error
            if path.stem != f"{found.number:012d}":
                raise AuditBroken(f"{path} holds checkpoint {found.number}.")
            yield found

    def write(self, checkpoint: Checkpoint) -> Path:
        """Whole or not at all, flushed to the disk; a file that is there already is never replaced."""
        path = self.path / checkpoint.at[:10] / f"{checkpoint.number:012d}.note"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            raise AuditBroken(f"{path} exists already.", hint="Two stacks must not write the same folder.")
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(checkpoint.note)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.rename(path)
        for folder in (path.parent, self.path):
            _flush(folder)
        return path


def read_series(folders: Sequence[Path], key: VerifierKey) -> list[Checkpoint]:
    """All checkpoints of all the folders as one series, each following the one before, the last one signed by `key`.

    Every note names the sha256 of the one before, so the last signature vouches for all. Raises AuditBroken.
    """
    series: dict[int, Checkpoint] = {}
    for folder in folders:
        for found in CheckpointFolder(folder).read():
            known = series.setdefault(found.number, found)
            if known.note != found.note:
                raise AuditBroken(f"There are two different checkpoints {found.number}: the log was forked.")
    ordered = [series[number] for number in sorted(series)]
    _require_series(ordered)
    if ordered:
        require_signed(ordered[-1], key)
    return ordered


def _require_series(ordered: Sequence[Checkpoint]) -> None:
    previous, size, number = NOTHING, 0, 0
    for found in ordered:
        if found.number != number + 1:
            raise AuditBroken(f"Checkpoint {number + 1} is missing; the next one there is {found.number}.")
        if found.previous != previous:
            raise AuditBroken(f"{found.named} does not follow from the one before: one of them was changed.")
        if found.size < size:
            raise AuditBroken(f"{found.named} covers {found.size} events, the one before {size}.")
        previous, size, number = found.sha256, found.size, found.number


def require_signed(checkpoint: Checkpoint, key: VerifierKey) -> None:
    """Raises AuditBroken where it is not signed by that key."""
    if opened(checkpoint.note, key) is None or checkpoint.origin != key.name:
        raise AuditBroken(f"{checkpoint.named} is not signed by {key.key_id} ({key.name}).")


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
