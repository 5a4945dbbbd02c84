"""Kill workers at every step of the executor, seeded; then judge by the systems' own list of calls and by the desk's records.

    python -m tests.acceptance.kill_executor --kills 1000 --seed 20261126

Points: reobserved (before anything is intended), intended (committed, nothing sent), sent (a request is on its way), answered (nothing
stored of it), verified (probed, nothing stored), observed (committed); each also while something is being undone. In between, answers
are lost on purpose. Nothing lost, nothing twice, no act of unknown end left, the log whole: exit code 0.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.bootstrap import open_store, utc_now
from orchestrator.domain.tickets import Assurance, IncomingTicket, Requester
from orchestrator.sandbox.process import SandboxProcess
from orchestrator.storage.embedded import Server
from orchestrator.storage.store import PostgresStore
from tests.acceptance.kill_cases import world
from tests.acceptance.kill_parts import CONTEXT

POINTS = ("reobserved", "intended", "sent", "sent", "answered", "verified", "observed")
WHILE_UNDOING = 0.2  # of the deaths wait until something is being undone
LOST_ANSWERS = 0.3  # lives in which some answer is lost on top
FAULTS = ("timeout_after", "timeout_before", "error_500_after", "error_500")
REFUNDS = 12  # more within an hour are a spike, which a person looks at
FED = 24  # tickets that wait, at least, while there are deaths to come
LIFE_S = 90.0
Say = Callable[[str], None]

EFFECTS: Mapping[str, tuple[str, ...]] = {  # category -> what happens in the world, once each
    "password_reset": ("POST /identity/users/usr-p{n}/password-reset",),
    "mfa_reset": ("POST /identity/users/usr-p{n}/mfa-reset",),
    "vpn": ("POST /vpn/sessions/vpn-{n}/reset",),
    "software_license": ("POST /billing/licenses/lic-{n}/renew",),
    "access_request": ("POST /identity/users/usr-q{n}/groups", "DELETE /identity/users/usr-q{n}/groups/travel-desk"),
    "refund": ("POST /billing/refunds PAY-B{n}",),
}
UNDONE = "access_request"


@dataclass(frozen=True, kw_only=True)
class Case:
    number: int

    @property
    def category(self) -> str:
        names = [name for name in EFFECTS if name != "refund" or self.person < REFUNDS]
        return names[self.number % len(EFFECTS) % len(names)]

    @property
    def person(self) -> int:
        return self.number // len(EFFECTS)

    @property
    def repeated(self) -> bool:
        """The sixth ticket of a person who gets no refund."""
        return self.number % len(EFFECTS) == len(EFFECTS) - 1 and self.person >= REFUNDS

    @property
    def ticket(self) -> IncomingTicket:
        letter = {"refund": "c", UNDONE: "q"}.get(self.category, "p")  # what was approved must find its target unchanged
        words = {"access_request": "Please add me to the group travel-desk.", "refund": "I was charged twice, please refund it."}
        return IncomingTicket(
            subject=f"{self.category}: please help",
            description=f"{words.get(self.category, 'Nothing works since this morning.')} Case x{self.number}.",
            requester=Requester(email=f"{letter}{self.person}@crash.example", assurance=Assurance.AUTHENTICATED),
            source="kill-executor",
            external_id=f"x-{self.number}",
        )

    @property
    def effects(self) -> list[str]:
        return [effect.format(n=self.person) for effect in EFFECTS[self.category]]


@dataclass
class Storm:
    store: PostgresStore
    sandbox: SandboxProcess
    dsn: str
    chance: random.Random
    cases: dict[str, Case] = field(default_factory=dict)  # by ticket id
    deaths: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    numbers: int = 0
    troubles: list[str] = field(default_factory=list)

    def blow(self, kills: int, say: Say) -> None:
        while sum(self.deaths.values()) < kills and not self.troubles:
            self.feed()
            self.live(die=True)
            if (count := sum(self.deaths.values())) and count % 50 == 0:
                say(f"  {count}/{kills} deaths, {len(self.cases)} tickets")

    def feed(self) -> None:
        """New tickets where few wait, and a yes to every open approval."""
        waiting = self.store.run(lambda tx: tx.queue_depth())
        while waiting < FED:
            case = Case(number=self.numbers)
            self.numbers += 1
            if case.repeated:
                continue
            (accepted,) = self.store.run(lambda tx, one=case: tx.accept([one.ticket], now=utc_now()))  # type: ignore[misc]
            self.cases[accepted.ticket_id] = case
            waiting += 1
        self.approve()

    def approve(self) -> None:
        def decide(tx: Any) -> None:
            for approval in tx.approvals(status="waiting", limit=100)[0]:
                tx.decide(approval.id, approve=True, reason="checked", by="lead", now=utc_now())

        self.store.run(decide)

    def live(self, *, die: bool) -> None:
        """One worker from its start to its end; what it held is free at once, as housekeeping frees what the dead held."""
        from tests.acceptance.kill_executor_worker import Fate, live  # the forked process has it imported already

        self.lives += 1
        point = self.chance.choice(POINTS) if die else ""
        undoing = die and self.chance.random() < WHILE_UNDOING
        fate = Fate(
            name=f"life-{self.lives}",
            dsn=self.dsn,
            url=self.sandbox.url,
            secret=self.sandbox.secret,
            point=point,
            occurrence=1 if undoing else self.chance.randint(1, 3),
            in_flight_s=self.chance.uniform(0.0, 0.006),
            undoing=undoing,
        )
        if die and self.chance.random() < LOST_ANSWERS:
            path = self.chance.choice(("/identity", "/vpn", "/billing"))
            method = "DELETE" if undoing and path == "/identity" else "POST"
            self.sandbox.fail(path, self.chance.choice(FAULTS), method=method)
        process = CONTEXT.Process(target=live, args=(fate,), daemon=True)
        process.start()
        process.join(timeout=LIFE_S)
        if process.is_alive():
            self.troubles.append(f"{fate.name} ({point or 'unharmed'}) did not end within {LIFE_S:.0f} s")
            process.kill()
            process.join()
        elif process.exitcode == -9:
            self.deaths[f"{point}{' while undoing' if undoing else ''}"] += 1
        elif process.exitcode:
            self.troubles.append(f"{fate.name} ({point or 'unharmed'}) ended with code {process.exitcode}")
        self.store.run(lambda tx: tx.end_leases([fate.name]))

    def settle(self, *, timeout_s: float = 240.0) -> None:
        """Unharmed workers until nothing is left to do."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not self.troubles:
            self.approve()
            pending = self.store.run(lambda tx: len(tx.list_tickets(state="pending")[0]))
            if not pending and not self.store.run(lambda tx: tx.queue_depth()):
                return
            self.live(die=False)
        self.troubles.append(f"not settled after {timeout_s:.0f} s")


def judge(storm: Storm) -> list[str]:
    """What went wrong, one sentence each."""
    problems = list(storm.troubles)
    calls = storm.sandbox.calls()
    happened = Counter(_effect(call) for call in calls if call["changed"] and call["system"] not in {"mail", "helpdesk"})
    wanted = Counter(effect for case in storm.cases.values() for effect in case.effects)
    for effect in sorted({*happened, *wanted}):
        if happened[effect] != wanted[effect]:
            problems.append(f"{effect} happened {happened[effect]} times, not {wanted[effect]}")
    for ticket_id, case in storm.cases.items():
        record = storm.store.run(lambda tx, one=ticket_id: tx.ticket_record(one))  # type: ignore[misc]
        problems += [f"{ticket_id} ({case.category}): {problem}" for problem in _odd(record, undone=case.category == UNDONE)]
    if left := storm.store.run(lambda tx: tx.unresolved()):
        problems.append(f"{len(left)} acts of unknown end are left: {left[:3]}")
    if any("travel-desk" in user["groups"] for user in storm.sandbox.state()["users"]):
        problems.append("somebody is still in a group from which they were to be taken")
    chain = storm.store.run(lambda tx: tx.verify_chain())
    return problems if chain["whole"] else [*problems, f"the audit chain is broken: {chain}"]


def _effect(call: Mapping[str, Any]) -> str:
    named = f"{call['method']} {call['path']}"
    return f"{named} {call['body']['payment_id']}" if named == "POST /billing/refunds" else named


def _odd(record: Mapping[str, Any], *, undone: bool) -> list[str]:
    steps = [step for step in (record["resolution"] or {}).get("steps", []) if step["writes"]]
    problems = [f"{step['action']} has no end" for step in steps if step["observation"] is None]
    if any(event["kind"] == "given_up" for event in record["timeline"]):
        problems.append("was given up")
    if record["state"] != ("escalated" if undone else "resolved"):
        problems.append(f"is {record['state']}: {record['state_reason']}")
    if undone and not any(step["undoes"] for step in steps):
        problems.append(f"was not undone: {record['state_reason']}")
    for step in steps:
        if step["verification"] and not step["verification"]["confirmed"]:
            problems.append(f"{step['action']} is not confirmed")
    return problems


def probes(storm: Storm) -> Counter[str]:
    """How the ends of acts became known."""
    query = "SELECT observation ->> 'kind' AS kind, count(*) AS acts FROM step WHERE writes GROUP BY 1"
    found: Sequence[Mapping[str, Any]] = storm.store.run(lambda tx: tx._connection.execute(query).fetchall())  # type: ignore[attr-defined]
    return Counter({str(row["kind"]): int(row["acts"]) for row in found})


def run(kills: int, seed: int, *, say: Say = print) -> list[str]:
    """The whole test; gives what went wrong."""
    CONTEXT.set_forkserver_preload(["tests.acceptance.kill_executor_worker"])
    with tempfile.TemporaryDirectory(prefix="cloister-kill-") as name:
        folder = Path(name)
        database = Server(folder / "postgres").start()
        sandbox = SandboxProcess(folder / "sandbox.db").start()
        try:
            sandbox.seed(world(max(60, kills)))
            with open_store(database.dsn) as store:
                storm = Storm(store=store, sandbox=sandbox, dsn=database.dsn, chance=random.Random(seed))
                began = time.monotonic()
                storm.blow(kills, say)
                storm.settle()
                problems = judge(storm)
                told = ", ".join(f"{point} {count}" for point, count in sorted(storm.deaths.items()))
                resent = sum(call["replayed"] for call in sandbox.calls())
                say(
                    f"seed {seed}: {sum(storm.deaths.values())} deaths ({told}) in {storm.lives} lives, "
                    f"{time.monotonic() - began:.0f} s; {len(storm.cases)} tickets, ends of acts {dict(probes(storm))}, "
                    f"{resent} requests answered from the systems' memory of their keys; {len(problems)} problems"
                )
                return problems
        finally:
            sandbox.stop()
            database.destroy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20261126)
    arguments = parser.parse_args()
    problems = run(arguments.kills, arguments.seed)
    for problem in problems[:50]:
        print("PROBLEM", problem)
    print("nothing lost, nothing twice, nothing left unknown" if not problems else f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
