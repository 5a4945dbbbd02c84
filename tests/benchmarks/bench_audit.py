"""What the audit log costs: events appended per second through the real store, a checkpoint, and 1 M events verified both ways.

Run: python -m tests.benchmarks.bench_audit [--events 1000000]. Limits: >= 3,000 events/s appended, 1 M verified in < 10 s on 2 cores.
"""

import argparse
import os
import platform
import shutil
import tempfile
import threading
import time
from pathlib import Path

import psycopg

from orchestrator.audit import verify_standalone
from orchestrator.audit.events import line
from orchestrator.bootstrap import open_notary
from orchestrator.storage.embedded import Server
from orchestrator.storage.migrate import migrate
from orchestrator.storage.store import PostgresStore

BODY = {
    "verdict": {"decision": "allow", "rule": "refund_within_limit", "reason": "the amount is below the limit"},
    "words": "x" * 300,
}
FILL = """
    SELECT audit_append(t, array_fill('test'::text, ARRAY[%(n)s]), array_fill('bench'::text, ARRAY[%(n)s]),
        array_fill(%(body)s::text, ARRAY[%(n)s]))
    FROM array_fill('T-1'::text, ARRAY[%(n)s]) AS t
"""


def fsync_ms(folder: Path) -> float:
    times = []
    with (folder / "fsync").open("wb") as file:
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return sorted(times)[25] * 1000


def appended(store: PostgresStore, *, per_transaction: int, writers: int, seconds: float) -> float:
    counts = [0] * writers
    until = time.perf_counter() + seconds

    def write(place: int) -> None:
        while time.perf_counter() < until:
            with store.transaction() as tx:
                tx.audit([("T-1", "test", "bench", BODY)] * per_transaction)
            counts[place] += per_transaction

    threads = [threading.Thread(target=write, args=(place,)) for place in range(writers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def fill(dsn: str, count: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        body = '{"words": "' + "x" * 380 + '"}'
        left = count
        while left > 0:
            n = min(10_000, left)
            connection.execute(FILL, {"n": n, "body": body})
            left -= n


def _cpu_s() -> float:
    """Of this process and its ended children; the database's server is not among them."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _took(started: float, cpu: float) -> str:
    return f"{time.perf_counter() - started:.1f} s, {_cpu_s() - cpu:.1f} s of CPU in Python   limit 10 s per 1 M"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    count = parser.parse_args().events
    folder = Path(tempfile.mkdtemp(prefix="cloister-audit-"))
    server = Server(folder / "pg")
    try:
        server.start()
        migrate(server.dsn)
        print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, fsync {fsync_ms(folder):.2f} ms")
        with PostgresStore(server.dsn) as store:
            for writers, per in ((1, 1), (4, 1), (1, 128), (4, 32)):
                rate = appended(store, per_transaction=per, writers=writers, seconds=4)
                print(f"append: {rate:8.0f} events/s  ({writers} writers, {per} events a transaction)   limit 3,000")
            have = store.run(lambda tx: tx.chain_head())
            fill(server.dsn, count - (have[0] if have else 0))
            notary = open_notary(store, folder)
            started = time.perf_counter()
            notary.checkpoint()
            print(f"first checkpoints over {count} events: {time.perf_counter() - started:.1f} s")
            appended(store, per_transaction=100, writers=1, seconds=0.5)
            before = notary.last.size if notary.last else 0
            started = time.perf_counter()
            made = notary.checkpoint()
            print(f"a checkpoint of {made.size - before} new events: {(time.perf_counter() - started) * 1000:.0f} ms")
            started, cpu = time.perf_counter(), _cpu_s()
            found = notary.verify()
            print(f"verify in the database: {found['events']} events, whole {found['whole']}: {_took(started, cpu)}")
            path = folder / "events.jsonl"
            with store.transaction() as tx, path.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(line(event) + "\n" for event in tx.chain_rows(after=0, up_to=found["events"]))
            key = verify_standalone.read_key(str(notary.signer.key))
        started, cpu = time.perf_counter(), _cpu_s()
        told = verify_standalone.verify_log(str(path), [str(notary.folders[0])], key, processes=2)
        print(f"standalone: {told['events']} events, whole {told['whole']}: {_took(started, cpu)}")
    finally:
        server.destroy()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
