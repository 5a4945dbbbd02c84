"""The notary: signs checkpoints of the log into folders outside the database, and bundles of one ticket's events.

Knows the store and the folders. It never signs a log that is not the one it signed before, grown: it raises AuditBroken instead, leaves
a file ALARM in its folder, and signs nothing more until a person has looked and taken that file away.
"""

import fcntl
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.audit.bundle import bundle
from orchestrator.audit.checkpoints import NOTHING, AuditBroken, Checkpoint, CheckpointFolder, read_series, require_signed
from orchestrator.audit.events import CHECKPOINTED, GENESIS, EventRow, body_digest, event_hash
from orchestrator.audit.merkle import Frontier
from orchestrator.audit.note import Signer
from orchestrator.domain.errors import CloisterError, NotFound
from orchestrator.ports import Clock, Store, Transaction

log = logging.getLogger("cloister.notary")
MOST_AT_ONCE = 50_000  # events per checkpoint: a log that was never signed is caught up with in steps
ALARM, LOCK = "ALARM", "lock"
DAY = timedelta(days=1)


@dataclass(kw_only=True)
class Notary:
    """Several processes on one folder take turns. Thread-safe by that lock alone: use one per thread that signs."""

    store: Store
    signer: Signer
    folders: Sequence[Path]  # the first is the one that is read; the others get copies
    clock: Clock
    every_events: int = 1000
    every_s: float = 10.0
    erase_after_days: int | None = None
    trouble: str = ""
    last: Checkpoint | None = None
    _looked: float = field(default=0.0)
    _erased: float = field(default=0.0)

    @property
    def folder(self) -> CheckpointFolder:
        return CheckpointFolder(self.folders[0])

    def look(self) -> Checkpoint | None:
        """What housekeeping calls again and again: signs when it is time. Never raises our errors; `trouble` says what is wrong."""
        try:
            self._retain()
            if not self._is_due():
                return None
            made = self.checkpoint()
            self.trouble = ""
            return made
        except CloisterError as error:
            self._complain(error)
        except OSError as error:
            self._complain(error)
        return None

    def status(self) -> dict[str, Any]:
        last = self.last
        return {
            "trouble": self.trouble,
            "size": last.size if last else 0,
            "at": last.at if last else None,
            "key": self.signer.key.key_id,
        }

    def checkpoint(self) -> Checkpoint:
        """Sign all there is, in as many steps as it takes; where nothing is new, the last one again. Raises AuditBroken."""
        with self._alone():
            while True:
                before = self._last()
                head = self.store.run(lambda tx: tx.chain_head())
                try:
                    made = self._advance(before, head)
                except AuditBroken as error:
                    self._alarm(str(error))
                    raise
                if made is None and before is not None:
                    self._copy()
                    return before
                made = self._write(made or self._note(None, Frontier(), GENESIS))
                if head is not None and made.size >= head[0]:
                    self._copy()
                    return made

    def series(self) -> list[Checkpoint]:
        """All checkpoints, as verification wants them. Raises AuditBroken."""
        return read_series(self.folders, self.signer.key)

    def verify(self) -> dict[str, Any]:
        """The whole log against all checkpoints, and what the last checkpoint does not cover yet."""
        key = {"key": self.signer.key.key_id, "alarm": self.alarm()}
        try:
            series, head = self.series_and_head()
        except AuditBroken as error:
            found = self.store.run(lambda tx: tx.verify_chain())
            return {**found, "whole": False, "problem": {"seq": 0, "what": str(error)}, "unprotected": found["events"], **key}
        found = self.store.run(lambda tx: tx.verify_chain(series, head=head))
        return {**found, "unprotected": max(0, found["events"] - found["covered"]), **key}

    def series_and_head(self) -> tuple[list[Checkpoint], tuple[int, bytes] | None]:
        """All checkpoints and the head of the log, of one moment: nobody signs in between. Raises AuditBroken."""
        with self._locked():
            return self.series(), self.store.run(lambda tx: tx.chain_head())

    def export(self, ticket_id: str) -> str:
        """One ticket's events as a signed bundle, each with its proof. A checkpoint is signed first. Raises NotFound, AuditBroken."""
        checkpoint = self.checkpoint()
        return self.store.run(lambda tx: self._bundle(tx, ticket_id, checkpoint))

    def alarm(self) -> str:
        """What a notary found wrong; empty where nothing is."""
        path = self.folders[0] / ALARM
        return path.read_text(encoding="utf-8").strip() if path.exists() else ""

    # --- within ---

    def _bundle(self, tx: Transaction, ticket_id: str, checkpoint: Checkpoint) -> str:
        mine: list[tuple[EventRow, bytes]] = []

        def hashes() -> Iterator[bytes]:
            before = GENESIS
            for event in tx.chain_rows(after=0, up_to=checkpoint.size):
                if event.ticket == ticket_id:
                    mine.append((event, before))
                before = event.hash
                yield event.hash

        seqs = tx.seqs_of(ticket_id, up_to=checkpoint.size)
        if not seqs:
            raise NotFound(f"The log has no event of {ticket_id!r}.", hint="Look it up in the list of tickets.")
        return bundle(ticket_id, hashes(), [seq - 1 for seq in seqs], mine, checkpoint, self.signer, at=_instant(self.clock()))

    def _is_due(self) -> bool:
        if alarm := self.alarm():
            raise AuditBroken(alarm)
        now, head = time.monotonic(), self.store.run(lambda tx: tx.chain_head())
        grown = head[0] - (self.last.size if self.last else 0) if head else -1
        if self._looked and now - self._looked < self.every_s and 0 <= grown < self.every_events:
            return False
        self._looked = now
        return True

    def _last(self) -> Checkpoint | None:
        found = self.folder.last()
        if found is not None:
            require_signed(found, self.signer.key)
        if self.last is not None and (found is None or found.number < self.last.number):
            raise AuditBroken(f"{self.last.named} is gone from {self.folder.path}.")
        self.last = found
        return found

    def _advance(self, before: Checkpoint | None, head: tuple[int, bytes] | None) -> Checkpoint | None:
        """The next checkpoint; none where there is nothing new. Reads the events since the last one alone."""
        size, chain = (before.size, before.chain) if before else (0, GENESIS)
        if head is None or head[0] < size:
            count = "no head" if head is None else f"{head[0]} events"
            named = before.named if before else "nothing"
            raise AuditBroken(f"The log was rolled back or cut: {named} covers {size} events, the database has {count}.")
        if before is not None and not self.store.run(lambda tx: tx.has_news(size)):
            self.store.run(lambda tx: _require_prefix(tx, before))
            return None
        tree = before.frontier() if before else Frontier()
        chain = self.store.run(lambda tx: _grow(tx, before, size, chain, tree))
        return self._note(before, tree, chain) if tree.size > size else None

    def _note(self, before: Checkpoint | None, tree: Frontier, chain: bytes) -> Checkpoint:
        made = Checkpoint(
            origin=self.signer.key.name,
            size=tree.size,
            root=tree.root(),
            number=before.number + 1 if before else 1,
            previous=before.sha256 if before else NOTHING,
            at=_instant(self.clock()),
            chain=chain,
            peaks=tuple(tree.peaks),
        )
        return replace(made, note=self.signer.sign(made.text()))

    def _write(self, made: Checkpoint) -> Checkpoint:
        """The file first, then word of it in the log: what the log tells of must be there."""
        self.folder.write(made)
        self.last = made
        body = {"number": made.number, "size": made.size, "sha256": made.sha256, "key": self.signer.key.key_id}
        self.store.run(lambda tx: tx.audit([(None, CHECKPOINTED, "cloister", body)]))
        return made

    def _copy(self) -> None:
        """Bring the other folders up to date: one that was away gets what it missed."""
        for path in self.folders[1:]:
            copy = CheckpointFolder(path)
            last = copy.last()
            have = last.number if last else 0
            if self.last is None or have >= self.last.number:
                continue
            for found in self.folder.read():
                if found.number > have:
                    copy.write(found)

    def _retain(self) -> None:
        now = time.monotonic()
        if self.erase_after_days is None or (self._erased and now - self._erased < 60.0):
            return
        before = self.clock() - DAY * self.erase_after_days
        if not self.store.run(lambda tx: tx.erase_old(before=before)):
            self._erased = now  # while there are more, go on at once

    def _complain(self, error: Exception) -> None:
        if str(error) != self.trouble:
            log.error("audit: %s", error)
        self.trouble = str(error)

    def _alarm(self, what: str) -> None:
        path = self.folders[0] / ALARM
        if not path.exists():
            path.write_text(f"{_instant(self.clock())} {what}\n", encoding="utf-8")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if alarm := self.alarm():
            raise AuditBroken(f"Nothing is signed since the alarm: {alarm}", hint="See docs/audit.md, `When the alarm is raised`.")
        with self._locked():
            yield

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Folders that this process may not write are read without: a verifier of a mounted copy."""
        try:
            self.folders[0].mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = (self.folders[0] / LOCK).open("w")
        except OSError:
            yield
            return
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _grow(tx: Transaction, before: Checkpoint | None, size: int, chain: bytes, tree: Frontier) -> bytes:
    """Checks and adds the events after `size`; gives the hash of the last. Raises AuditBroken."""
    if before is not None:
        _require_prefix(tx, before)
        tree.size, tree.peaks = before.size, list(before.peaks)  # also when the database made us begin again
    else:
        tree.size, tree.peaks = 0, []
    for event in tx.chain_rows(after=size, up_to=size + MOST_AT_ONCE):
        if event.seq != tree.size + 1 or event_hash(chain, event) != event.hash:
            raise AuditBroken(f"Event {event.seq} does not follow from the one before: the log was changed.")
        if event.body is not None and body_digest(event.salt or b"", event.body) != event.body_sha256:
            raise AuditBroken(f"The text of event {event.seq} was changed.")
        chain = event.hash
        tree.add(chain)
    return chain


def _require_prefix(tx: Transaction, before: Checkpoint) -> None:
    """The event that the last checkpoint ends with is still the one it was, so what is added extends that log."""
    if before.size == 0:
        return
    found = next(iter(tx.chain_rows(after=before.size - 1, up_to=before.size)), None)
    if found is None or found.hash != before.chain:
        raise AuditBroken(f"The log is not the one that {before.named} covers: event {before.size} is another one or gone.")


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
