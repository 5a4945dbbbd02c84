"""Kill the worker, the gateway and the database at seeded random moments while tickets flow; then count what was lost or doubled.

    python -m tests.acceptance.kill_test --kills 200 --engine-kills 5 --seed 1

The parts are real processes (gateway, worker, embedded PostgreSQL, sandbox) with stand-in models; `--engine-kills` kills the vLLM engine
of a whole running stack. Exit code 0 when every accepted ticket reached an outcome and every side effect happened exactly once.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from orchestrator.bootstrap import open_store
from orchestrator.sandbox.process import SandboxProcess
from orchestrator.storage.embedded import Server

LEASE_S = 3.0
MATTERS = ("password_reset", "mfa_reset", "account_activation", "vpn", "software_license", "order_status", "hardware")
ACTING = {
    "password_reset": "/identity/users/{user}/password-reset",
    "mfa_reset": "/identity/users/{user}/mfa-reset",
    "vpn": "/vpn/sessions/{session}/reset",
    "software_license": "/billing/licenses/{license}/renew",
}


def world(people: int) -> dict[str, Any]:
    """Everybody has one hung session and one expired license, so that each matter of theirs can be resolved once."""
    numbers = range(people)
    return {
        "now": "2026-01-01T00:00:00Z",
        "company": {"name": "Crash Test Co", "mail_domain": "crash.example", "currency": "EUR"},
        "accounts": [{"id": "acc-1", "name": "House", "tier": "standard", "vip": False, "annual_value": 1000}],
        "users": [
            {
                "id": f"usr-{n}", "email": f"p{n}@crash.example", "name": f"Person {n}", "account": "acc-1", "kind": "employee",
                "status": "active", "vip": False, "language": "en", "mfa_enrolled": True, "groups": [],
            }
            for n in numbers
        ],
        "vpn_sessions": [{"id": f"vpn-{n}", "user_id": f"usr-{n}", "gateway": "gw-1", "state": "hung", "since": "2026-01-01T00:00:00Z"} for n in numbers],
        "licenses": [
            {
                "id": f"lic-{n}", "user_id": f"usr-{n}", "product": "Drafter", "state": "expired", "expires_at": "2025-12-01T00:00:00Z",
                "auto_renew": False, "seat_cost": 20,
            }
            for n in numbers
        ],
    }  # fmt: skip


@dataclass
class Process:
    """One of our processes, started again after each kill."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill()


@dataclass
class Flow:
    """Submits tickets for as long as told, each until it is accepted; remembers what the gateway promised."""

    url: str
    key: str
    people: int
    seed: int
    accepted: dict[str, str] = field(default_factory=dict)  # external id -> ticket id
    matter: dict[str, tuple[str, int]] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        chance = random.Random(self.seed)
        number = 0
        with httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=10, trust_env=False
        ) as client:
            while not self.stopping.is_set() and number < self.people * len(MATTERS):
                matter, person = MATTERS[number % len(MATTERS)], number // len(MATTERS)
                external_id = f"k-{number}"
                self.matter[external_id] = (matter, person)
                self._submit(client, external_id, matter, person)
                number += 1
                time.sleep(chance.uniform(0.0, 0.03))

    def _submit(self, client: httpx.Client, external_id: str, matter: str, person: int) -> None:
        body = {
            "source": "kill-test", "external_id": external_id, "subject": f"{matter}: please help", "channel": "portal",
            "description": f"My case number is {external_id}.", "requester": {"email": f"p{person}@crash.example"},
        }  # fmt: skip
        while not self.stopping.is_set():
            try:
                answer = client.post("/v1/tickets", json=body)
            except httpx.HTTPError:
                time.sleep(0.1)
                continue
            if answer.status_code in (200, 202):
                self.accepted[external_id] = answer.json()["id"]
                return
            if answer.status_code not in (429, 500, 502, 503):
                raise AssertionError(f"{answer.status_code}: {answer.text[:300]}")
            time.sleep(0.1)
        self.matter.pop(external_id, None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(kills: int, seed: int, *, say: Any = print) -> list[str]:
    """The whole test; gives the list of what went wrong, empty when nothing did."""
    chance = random.Random(seed)
    people = max(40, kills * 4)
    with tempfile.TemporaryDirectory(prefix="cloister-kill-") as name:
        folder = Path(name)
        world_file = folder / "world.json"
        world_file.write_text(json.dumps(world(people)))
        database = Server(folder / "postgres").start()
        sandbox = SandboxProcess(folder / "sandbox.db", world=world_file).start()
        try:
            return _run(database, sandbox, folder, kills=kills, people=people, chance=chance, seed=seed, say=say)
        finally:
            sandbox.stop()
            database.destroy()


def _run(
    database: Server, sandbox: SandboxProcess, folder: Path, *, kills: int, people: int, chance: random.Random, seed: int, say: Any
) -> list[str]:
    key = "kill-test-portal-key"
    store = open_store(database.dsn)
    with store.transaction() as tx:
        tx.add_key(name="portal", role="service", kind="portal", sha256=hashlib.sha256(key.encode()).hexdigest())
    port = free_port()
    python = [sys.executable, "-m", "serving.standalone"]
    parts = {
        "worker": Process(
            "worker",
            [
                *python,
                "worker",
                "--dsn",
                database.dsn,
                "--systems",
                sandbox.url,
                "--secret",
                sandbox.secret,
                "--lease",
                str(LEASE_S),
            ],
            folder / "worker.log",
        ),
        "gateway": Process("gateway", [*python, "gateway", "--dsn", database.dsn, "--port", str(port)], folder / "gateway.log"),
    }
    flow = Flow(url=f"http://127.0.0.1:{port}", key=key, people=people, seed=seed)
    done: Counter[str] = Counter()
    began = time.monotonic()
    try:
        for part in parts.values():
            part.start()
        submitting = threading.Thread(target=flow.run, daemon=True)
        submitting.start()
        time.sleep(3.0)
        while sum(done.values()) < kills:
            time.sleep(chance.uniform(0.05, 1.2))
            victim = chance.choice(["worker", "worker", "gateway", "database"])
            _kill(victim, parts, database)
            done[victim] += 1
            if sum(done.values()) % 20 == 0:
                say(f"  {sum(done.values())}/{kills} kills ({dict(done)}), {len(flow.accepted)} tickets accepted")
        flow.stopping.set()
        submitting.join(timeout=60)
        if not submitting.is_alive():
            _settle(store, flow, say)
        problems = judge(store, sandbox, flow)
        say(
            f"{sum(done.values())} kills ({dict(done)}) in {time.monotonic() - began:.0f} s, seed {seed}: "
            f"{len(flow.accepted)} tickets accepted, {len(problems)} problems"
        )
        if problems:
            for part in parts.values():
                say(f"--- {part.name}: {part.log.read_text(errors='replace')[-1500:]}")
        return problems
    finally:
        flow.stopping.set()
        for part in parts.values():
            part.stop()
        store.close()


def _kill(victim: str, parts: dict[str, Process], database: Server) -> None:
    if victim == "database":
        if pid := database.pid:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        database.restart_if_dead()
        return
    parts[victim].kill()
    parts[victim].start()


def _settle(store: Any, flow: Flow, say: Any, *, timeout_s: float = 180.0) -> None:
    """Wait until no accepted ticket is active and the outbox is empty."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        waiting = store.run(lambda tx: tx.queue_depth())
        with store.transaction() as tx:
            unsent = tx.outbox_unsent()
        if not waiting and not unsent:
            return
        time.sleep(0.3)
    say(f"  not settled after {timeout_s:.0f} s: {waiting} jobs, {unsent} outbox items")


def judge(store: Any, sandbox: SandboxProcess, flow: Flow) -> list[str]:
    """Nothing lost: every accepted ticket has an outcome. Nothing twice: every side effect exactly once, every reply once."""
    problems: list[str] = []
    calls = [c for c in sandbox.calls() if c["changed"]]
    effects = Counter((c["method"], c["path"]) for c in calls if c["system"] not in {"mail", "helpdesk"})
    replies = Counter(c["path"] for c in calls if c["system"] == "helpdesk" and c["path"].endswith("/replies"))
    for external_id, ticket_id in flow.accepted.items():
        record = store.run(lambda tx, ticket_id=ticket_id: tx.ticket_record(ticket_id))
        matter, person = flow.matter[external_id]
        if record["state"] == "active":
            problems.append(f"{ticket_id} ({external_id}) has no outcome")
        path = ACTING.get(matter, "").format(user=f"usr-{person}", session=f"vpn-{person}", license=f"lic-{person}")
        times = effects.pop(("POST", path), 0) if path else 0
        if path and record["state"] == "resolved" and times != 1:
            problems.append(f"{ticket_id}: {path} happened {times} times")
        if path and record["state"] != "resolved":
            problems.append(f"{ticket_id} ({matter}) is {record['state']}, not resolved: {record.get('state_reason')}")
        if replies[f"/helpdesk/tickets/{external_id}/replies"] != 1:
            problems.append(f"{ticket_id}: {replies[f'/helpdesk/tickets/{external_id}/replies']} replies")
    problems += [
        f"{method} {path} happened {times} times and no accepted ticket asked for it" for (method, path), times in effects.items()
    ]
    chain = store.run(lambda tx: tx.verify_chain())
    if not chain.get("ok", chain.get("whole")):
        problems.append(f"the audit chain is broken: {chain}")
    return problems


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
