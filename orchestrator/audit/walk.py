"""Is the log whole? One pass over its events: chain, text, erasures, every checkpoint. Knows rows; knows no database and no file."""

import json
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from orchestrator.audit.checkpoints import Checkpoint
from orchestrator.audit.events import CHECKPOINTED, ERASED, GENESIS, SALT_LENGTHS, EventRow
from orchestrator.audit.merkle import Frontier

NEWEST = "what was written since is protected by the chain alone, until the next checkpoint"


class Broken(Exception):
    """`seq` is the first event that does not fit."""

    def __init__(self, seq: int, what: str) -> None:
        super().__init__(what)
        self.seq = seq


def verify(rows: Iterable[EventRow], *, head: tuple[int, bytes] | None, checkpoints: Sequence[Checkpoint] | None) -> dict[str, Any]:
    """{whole, events, head, problem, erased, checkpoints, covered}. `problem` is None or {seq, what}.

    `head`: seq and hash that the database remembers, none where it remembers nothing. `checkpoints`: a series that was found to be
    one already; none: there is nothing outside to compare with, and what only a checkpoint shows goes unseen.
    """
    walk = _Walk(checkpoints)
    problem = None
    try:
        if head is None:
            raise Broken(0, "the head of the chain is gone")
        walk.over(rows)
        walk.end(head)
    except Broken as broken:
        problem = {"seq": broken.seq, "what": str(broken)}
    covered = checkpoints[-1].size if checkpoints else 0
    seen = {"whole": problem is None, "events": walk.count, "head": walk.chain.hex(), "problem": problem, "erased": walk.erased}
    return {**seen, "checkpoints": len(checkpoints or ()), "covered": covered}


class _Walk:
    def __init__(self, checkpoints: Sequence[Checkpoint] | None) -> None:
        self.count, self.chain, self.erased = 0, GENESIS, 0
        self._checkpoints = checkpoints
        self._due = list(reversed(checkpoints or ()))
        self._tree = Frontier()
        self._uncovered: dict[int, str] = {}  # erased, and no event that says so yet: seq -> ticket
        self._told: dict[int, tuple[int, str]] = {}  # number of a checkpoint -> (event that tells of it, its sha256)

    def over(self, rows: Iterable[EventRow]) -> None:
        chain, count, add, due = self.chain, self.count, self._tree.add, self._due
        try:
            self._compare(count, chain)
            for event in rows:
                seq, at, ticket, kind, actor, salt, digest, body, stored = event
                if seq != count + 1:
                    raise Broken(count + 1, f"event {count + 1} is missing: the next one is {seq}")
                expected = sha256(chain + f"{seq}\n{at}\n{ticket}\n{kind}\n{actor}\n{digest.hex()}".encode()).digest()
                if expected != stored:
                    raise Broken(seq, "the event or the one before it was changed: its hash does not fit")
                if body is None and salt is None:
                    self._uncovered[seq] = ticket
                elif body is None or salt is None:
                    raise Broken(seq, "the event's text was changed: it and its salt do not belong together")
                elif len(salt) not in SALT_LENGTHS or sha256(salt + body.encode()).digest() != digest:
                    raise Broken(seq, "the event's text was changed: its digest does not fit")
                elif kind in (ERASED, CHECKPOINTED):
                    self._read(event)
                add(stored)
                chain, count = expected, seq
                if due and due[-1].size == count:
                    self._compare(count, chain)
        finally:
            self.chain, self.count = chain, count

    def end(self, head: tuple[int, bytes]) -> None:
        if self._due:
            missed = self._due[-1]
            raise Broken(
                self.count + 1,
                f"the log was cut or rolled back: {missed.named} covers {missed.size} events, the log has {self.count}",
            )
        if (self.count, self.chain) != head:
            raise Broken(self.count + 1, f"the tail is cut off: the head stands at {head[0]}, the last event is {self.count}")
        if self._uncovered:
            seq = min(self._uncovered)
            raise Broken(seq, f"the text of event {seq} is gone and no later event says that it was erased")
        if self._checkpoints is not None:
            self._compare_told({found.number: found for found in self._checkpoints})

    def _compare(self, count: int, chain: bytes) -> None:
        while self._due and self._due[-1].size == count:
            found = self._due.pop()
            if found.root != self._tree.root() or (count and found.chain != chain):
                raise Broken(count, f"the log up to event {count} is not the one that {found.named} vouches for: it was rewritten")

    def _read(self, event: EventRow) -> None:
        try:
            body = json.loads(event.body or "")
            if event.kind == ERASED:
                self._cover(event, body["seqs"])
            else:
                self._told[int(body["number"])] = event.seq, str(body["sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise Broken(event.seq, f"the event {event.kind} cannot be read: {error}") from error

    def _cover(self, event: EventRow, seqs: Sequence[int]) -> None:
        for seq in seqs:
            if self._uncovered.get(seq) == event.ticket:
                del self._uncovered[seq]
                self.erased += 1

    def _compare_told(self, found: dict[int, Checkpoint]) -> None:
        for number, (seq, sha) in self._told.items():
            if number not in found:
                raise Broken(seq, f"checkpoint {number} is missing: event {seq} tells of it")
            if found[number].sha256 != sha:
                raise Broken(seq, f"checkpoint {number} is another one than event {seq} tells of: the checkpoints were replaced")
