"""The worker: claims micro-batches of tickets, handles them, keeps their leases, and does the housekeeping in between.

    claim -> handle (triage; linked? handed over? resolve) -> finish

What goes wrong with a batch: a lost lease drops that ticket and the others go on; models that are away send all of it back to wait
and nothing is claimed for a moment; any other error is looked for ticket by ticket, so that one bad ticket stays alone with it.
"""

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import CloisterError, FencedOut, ModelUnavailable, StoreUnavailable
from orchestrator.knowledge.documents import read_documents
from orchestrator.knowledge.load import load_documents
from orchestrator.pipeline.causes import explain_incidents
from orchestrator.pipeline.deliver import deliver
from orchestrator.pipeline.desk import Desk
from orchestrator.pipeline.handle import Stopwatch, handle
from orchestrator.pipeline.ladder import keep_ladder
from orchestrator.pipeline.notary import Notary
from orchestrator.ports import Claim, Transaction
from orchestrator.privacy.outgoing import shingles

log = logging.getLogger("cloister.worker")
IDLE_S = 1.0
HOUSEKEEPING_S = 0.5
LADDER_S = 30.0  # how often the ladder looks at its evidence
PAUSE_AFTER_ERROR_S = 1.0
GUARD_S = 60.0  # documents that were put meanwhile


class Worker:
    """One loop of claims and one of housekeeping; `run` until told to stop. Several workers share one queue."""

    def __init__(
        self, desk: Desk, *, batch_size: int = 32, lease_s: float = 30.0, name: str | None = None, notary: Notary | None = None
    ) -> None:
        self._desk = desk
        self._batch_size = batch_size
        self._lease_s = lease_s
        self._name = name or f"{process_name(os.getpid())}:{threading.get_ident()}"
        self._watch = Stopwatch()
        self._notary = notary
        self._handled = 0
        self._trouble = ""
        self._tidied = threading.Event()
        self._guarded = 0.0
        self.ready = False

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set; the batch under way is finished first."""
        keeper = threading.Thread(target=self._keep_house, args=(stopping,), name="housekeeping", daemon=True)
        keeper.start()
        self.prepare(stopping)
        self._tidied.wait(timeout=self._lease_s)  # first what a predecessor held
        while not stopping.is_set():
            try:
                if not self.work_once():
                    self._desk.store.wait_for_work(IDLE_S)
                elif self._trouble:
                    stopping.wait(PAUSE_AFTER_ERROR_S)
            except StoreUnavailable as error:
                self._troubled(error)
                stopping.wait(PAUSE_AFTER_ERROR_S)
            except Exception as error:
                self._trouble = f"{type(error).__name__}: {error}"
                log.exception("a batch failed; its tickets come back when their leases end")
                stopping.wait(PAUSE_AFTER_ERROR_S)
        keeper.join(timeout=5)

    def work_once(self) -> int:
        """Claim and handle one micro-batch; gives how many tickets it had."""
        claims = self._desk.store.run(lambda tx: tx.claim(worker=self._name, limit=self._batch_size, lease_s=self._lease_s))
        if not claims:
            return 0
        self._trouble = ""
        with self._watch.time("batch"), self._desk.at_work(), self._kept(claims):
            self._handle(claims)
        return len(claims)

    def _handle(self, claims: Sequence[Claim]) -> None:
        try:
            self._handled += handle(self._desk, claims, self._watch)
        except FencedOut as error:
            log.warning("lease lost: %s", error)
            left = self._desk.store.run(lambda tx: tx.heartbeat(claims, lease_s=self._lease_s))
            if left and len(left) < len(claims):
                self._handle(left)
        except ModelUnavailable as error:
            self._give_back(claims, error, counted=False)
        except StoreUnavailable:
            raise  # nothing can be given back either; the leases end by themselves
        except Exception as error:
            if len(claims) == 1:
                log.warning("ticket %s failed", claims[0].ticket_id, exc_info=not isinstance(error, CloisterError))
                self._give_back(claims, error)
                return
            log.warning("a batch of %d failed (%s: %s); its tickets go on one by one", len(claims), type(error).__name__, error)
            for claim in claims:
                self._handle([claim])

    def status(self) -> dict[str, Any]:
        """For `GET /v1/status`."""
        return {
            "worker": self._name,
            "handled": self._handled,
            "stage_seconds": self._watch.seconds(),
            "trouble": self._trouble,
            **({"audit": self._notary.status()} if self._notary else {}),
        }

    def prepare(self, stopping: threading.Event) -> None:
        """Load the house's documents and warm what the first batch would wait for; tried again until it works."""
        while not stopping.is_set():
            try:
                embedder = self._desk.embedder  # this moment's, or why there are no models yet
                if self._desk.knowledge and self._desk.knowledge.is_dir():
                    load_documents(self._desk.store, embedder, read_documents(self._desk.knowledge))
                self._guard_texts()
                self.ready = True
                return
            except CloisterError as error:
                self._trouble = str(error)
                log.warning("not ready: %s", error)
                stopping.wait(PAUSE_AFTER_ERROR_S)

    def _guard_texts(self) -> None:
        """What stands in documents for colleagues, which no requester may read word by word."""
        self._desk.resolution.guard.internal = shingles(self._desk.store.run(lambda tx: tx.internal_texts()))
        self._guarded = time.monotonic()

    def _give_back(self, claims: Sequence[Claim], error: Exception, *, counted: bool = True) -> None:
        self._troubled(error)
        why = str(error) if isinstance(error, CloisterError) else f"{type(error).__name__}: {error}"
        log.warning("%d tickets go back to the queue: %s", len(claims), why)
        self._desk.store.run(lambda tx: tx.retry(claims, error=why, now=self._desk.clock(), counted=counted))

    def _troubled(self, error: Exception) -> None:
        self._trouble = f"{type(error).__name__}: {error}"

    @contextmanager
    def _kept(self, claims: Sequence[Claim]) -> Iterator[None]:
        """Prolong the leases while the block runs."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self._lease_s / 3):
                try:
                    self._desk.store.run(lambda tx: tx.heartbeat(claims, lease_s=self._lease_s))
                except CloisterError as error:
                    log.warning("heartbeat failed: %s", error)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(timeout=self._lease_s)

    def _tidy(self, tx: Transaction) -> None:
        tx.expire_approvals(now=self._desk.clock())
        tx.wake(tx.stranded())
        tx.wake_parents()
        tx.forget_commits()
        dead = [name for name in tx.lease_holders() if is_dead(name)]
        if dead:
            log.warning("%s died; what they held is taken up again", ", ".join(dead))
            tx.end_leases(dead)

    def _keep_house(self, stopping: threading.Event) -> None:
        """Outbox, expiring approvals, leases of dead neighbors, checkpoints of the log: beside the batches."""
        ladder_due = 0.0
        while True:
            started = time.monotonic()
            try:
                self._desk.store.run(self._tidy)
                self._tidied.set()
                if started >= ladder_due:
                    ladder_due = started + LADDER_S
                    self._desk.store.run(lambda tx: keep_ladder(tx, self._desk.resolution.playbook, self._desk.clock))
                if self.ready and time.monotonic() - self._guarded > GUARD_S:
                    self._guard_texts()
                while deliver(self._desk.store, self._desk.systems, self._desk.pool, self._desk.clock):
                    pass
                explain_incidents(self._desk.store, self._desk.house, self._desk.clock)
                if self._notary:
                    self._notary.look()
            except CloisterError as error:
                log.warning("housekeeping: %s", error)
            except Exception:
                log.exception("housekeeping failed")
            self._watch.add("deliver", time.monotonic() - started)
            if stopping.wait(HOUSEKEEPING_S):
                self._sign_off()
                return

    def _sign_off(self) -> None:
        """A checkpoint as the worker goes, so that nothing stays unprotected while the desk is down."""
        try:
            if self._notary:
                self._notary.checkpoint()
        except (CloisterError, OSError) as error:
            log.error("audit: %s", error)


def process_name(pid: int) -> str:
    """host/namespace:pid, which tells a process from all others that share a database."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""  # not Linux
    return f"{socket.gethostname()}/{re.sub(r'[^0-9]', '', namespace)}:{pid}"


def is_dead(worker: str) -> bool:
    """Whether that worker ran on this very machine and its process is gone. Of others nothing is known: their leases run out."""
    here, pid = worker.rsplit(":", 2)[0:2] if worker.count(":") >= 2 else ("", "")
    if not pid.isdigit() or process_name(int(pid)) != f"{here}:{pid}":
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
