"""Kill the worker, the gateway, the database and the systems of record at seeded random moments while tickets flow; then count.

    python -m tests.acceptance.kill_test --kills 200 --engine-kills 5 --seed 20261120

The parts are real processes (gateway over HTTP, worker, embedded PostgreSQL, sandbox) with stand-in models; `--engine-kills` kills the
vLLM engine of a whole running stack. Exit code 0 when every accepted ticket reached an outcome, every side effect happened exactly once
and no process ended by itself. Prints the seed, what was killed, and how long work rested after a worker's death.
"""

import argparse
import hashlib
import json
import random
import statistics
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.bootstrap import open_store
from orchestrator.sandbox.process import SandboxProcess
from orchestrator.storage.embedded import Server
from orchestrator.storage.store import PostgresStore
from tests.acceptance.kill_cases import MATTERS, world
from tests.acceptance.kill_flow import Flow
from tests.acceptance.kill_judge import judge
from tests.acceptance.kill_parts import DatabasePart, Part, SandboxPart, free_port, preload, run_gateway, run_worker

LEASE_S = 3.0
VICTIMS = ("worker", "worker", "worker", "gateway", "gateway", "database", "database", "systems")
AT_ONCE = 0.3  # of the kills come with no look at whether the desk got to work since the one before
PROGRESS_S = 15.0  # the others wait for work to go on, at most so long
QUIET_EVERY = 8  # after every eighth worker's death everything else is left alone until its tickets are taken up again
KEYS = {"portal": ("service", "portal"), "door": ("service", "api"), "lead": ("lead", "api"), "approver": ("approver", "api")}
PATIENCE_S = 60.0
Say = Callable[[str], None]
Lease = tuple[int, int]
Killable = Part | DatabasePart | SandboxPart


@dataclass
class Storm:
    """Everything that runs, and what the kills did to it."""

    store: PostgresStore
    parts: dict[str, Part]
    killable: dict[str, Killable]
    flow: Flow
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    rests: list[float] = field(default_factory=list)  # s from a worker's death until another claimed something
    takeovers: list[float] = field(default_factory=list)  # and until all that it held was claimed again, more urgent tickets first

    def blow(self, kills: int, say: Say) -> None:
        while (count := sum(self.done.values())) < kills:
            if self.chance.random() > AT_ONCE:
                self._until_work_goes_on()
            time.sleep(self.chance.uniform(0.0, 1.0))
            for part in self.parts.values():
                part.look()
            self._kill(self.chance.choice(VICTIMS))
            if (count + 1) % 20 == 0:
                say(f"  {count + 1}/{kills} kills ({_told(self.done)}), {len(self.flow.accepted)} tickets accepted")

    def _kill(self, victim: str) -> None:
        self.done[victim] += 1
        quiet = victim == "worker" and self.done[victim] % QUIET_EVERY == 1
        if quiet:
            self._until_work_goes_on()
        held = self._leased() if quiet else set()
        self.killable[victim].kill()
        if held:
            self._measure(held, time.monotonic())

    def _measure(self, held: set[Lease], began: float) -> None:
        """How long work rests; nothing else is killed meanwhile."""
        first = False
        while time.monotonic() - began < PATIENCE_S:
            now = self._leased()
            if not first and now - held:
                first = True
                self.rests.append(time.monotonic() - began)
            if not now & held:
                self.takeovers.append(time.monotonic() - began)
                return
            time.sleep(0.05)

    def _leased(self) -> set[Lease]:
        """(ticket, token) of what some worker holds, or held when it died; what is claimed again has another token."""
        query = "SELECT ticket, token FROM job WHERE lease_until IS NOT NULL AND wanted > done"
        rows = self.store.run(lambda tx: tx._connection.execute(query).fetchall())
        return {(row["ticket"], row["token"]) for row in rows}

    def _until_work_goes_on(self) -> None:
        """Some ticket came in and some event was written since now."""
        deadline, accepted, events = time.monotonic() + PROGRESS_S, len(self.flow.accepted), self._events()
        while time.monotonic() < deadline and not (len(self.flow.accepted) > accepted and self._events() > events + 20):
            time.sleep(0.05)

    def _events(self) -> int:
        row = self.store.run(lambda tx: tx._connection.execute("SELECT seq FROM chain_head").fetchone())
        return int(row["seq"]) if row else 0

    def settle(self, say: Say, *, timeout_s: float = 300.0) -> None:
        """Wait until nothing is left to do: no job, no undelivered word, nobody who waits."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            left = self.store.run(lambda tx: (tx.queue_depth(), tx.outbox_unsent(), len(tx.list_tickets(state="pending")[0])))
            if not any(left):
                return
            for part in self.parts.values():
                part.look()
            if any(part.deaths for part in self.parts.values()):
                say("  not settled: a process ended by itself")
                return
            time.sleep(0.3)
        say(f"  not settled after {timeout_s:.0f} s: {left[0]} jobs, {left[1]} outbox items, {left[2]} pending tickets")


def run(kills: int, seed: int, *, say: Say = print) -> list[str]:
    """The whole test; gives the list of what went wrong, empty when nothing did."""
    people = max(60, kills * 6)
    with tempfile.TemporaryDirectory(prefix="cloister-kill-") as name:
        folder = Path(name)
        (folder / "world.json").write_text(json.dumps(world(people)))
        database = Server(folder / "postgres").start()
        sandbox = SandboxProcess(folder / "sandbox.db", world=folder / "world.json").start()
        try:
            with open_store(database.dsn) as store:
                return _run(store, database, sandbox, folder, kills=kills, most=people * len(MATTERS), seed=seed, say=say)
        finally:
            sandbox.stop()
            database.destroy()


def _run(
    store: PostgresStore, database: Server, sandbox: SandboxProcess, folder: Path, *, kills: int, most: int, seed: int, say: Say
) -> list[str]:
    port, keys = free_port(), add_keys(store)
    preload()
    parts = start_parts(database.dsn, sandbox, folder, port=port)
    flow = Flow(url=f"http://127.0.0.1:{port}", keys=keys, calls=lambda after: sandbox.calls(after=after), seed=seed, most=most)
    killable: dict[str, Killable] = {**parts, "database": DatabasePart(database), "systems": SandboxPart(sandbox)}
    storm = Storm(store=store, parts=parts, killable=killable, flow=flow, chance=random.Random(seed))
    threads = flow.start()
    began = time.monotonic()
    try:
        storm.blow(kills, say)
        stormed_s = time.monotonic() - began
        flow.stopping.set()
        threads[0].join(timeout=60)
        storm.settle(say)
        flow.ending.set()
        threads[1].join(timeout=60)
        for part in parts.values():
            part.look()
        problems = [*flow.troubles, *(death for part in parts.values() for death in part.deaths)]
        problems += judge(store, sandbox.calls(), flow)
    finally:
        flow.stopping.set()
        flow.ending.set()
        for part in parts.values():
            part.stop()
    settled_s = time.monotonic() - began - stormed_s
    say(
        f"seed {seed}: {sum(storm.done.values())} kills ({_told(storm.done)}) in {stormed_s:.0f} s, settled in {settled_s:.0f} s more: "
        f"{len(flow.accepted)} tickets accepted, {len(problems)} problems"
    )
    for what, seconds in (("work went on", storm.rests), ("all that it held was taken up again", storm.takeovers)):
        if seconds:
            say(
                f"after a worker's death {what} within {statistics.median(seconds):.1f} s (median; most {max(seconds):.1f}, "
                f"{len(seconds)} measured); the lease is {LEASE_S:.0f} s"
            )
    for part in parts.values() if problems else ():
        say(f"--- {part.name}: {part.said()}")
    return problems


def start_parts(dsn: str, sandbox: SandboxProcess, folder: Path, *, port: int) -> dict[str, Part]:
    working = Namespace(dsn=dsn, systems=sandbox.url, secret=sandbox.secret, batch=32, threads=8, lease=LEASE_S)
    parts = {
        "worker": Part("worker", run_worker, working, folder / "worker.log"),
        "gateway": Part("gateway", run_gateway, Namespace(dsn=dsn, port=port), folder / "gateway.log"),
    }
    for part in parts.values():
        part.start()
    return parts


def add_keys(store: PostgresStore) -> dict[str, str]:
    keys = {name: f"kill-test-{name}-key" for name in KEYS}

    def write(tx: object) -> None:
        for name, (role, kind) in KEYS.items():
            tx.add_key(name=name, role=role, kind=kind, sha256=hashlib.sha256(keys[name].encode()).hexdigest())  # type: ignore[attr-defined]

    store.run(write)
    return keys


def _told(done: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(done.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--engine-kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=20261120)
    arguments = parser.parse_args()
    problems = run(arguments.kills, arguments.seed) if arguments.kills else []
    if arguments.engine_kills:
        from tests.acceptance.engine_kill import run_engine_kills

        problems += run_engine_kills(arguments.engine_kills, arguments.seed)
    for problem in problems[:50]:
        print("PROBLEM", problem)
    print("nothing lost, nothing twice" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
