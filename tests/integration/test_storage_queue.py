"""The queue in a real PostgreSQL: claims, leases, fencing, waking, backing off, the dead letter, the outbox."""

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise

import psycopg
import pytest
from desk_records import incoming, resolved, triage

from orchestrator.domain.errors import FencedOut
from orchestrator.domain.tickets import State
from orchestrator.storage import queue
from orchestrator.storage.store import PostgresStore


def opened(store: PostgresStore, now: datetime, count: int = 1) -> list[str]:
    with store.transaction() as tx:
        return [accepted.ticket_id for accepted in tx.accept([incoming(f"matter {n}") for n in range(count)], now=now)]


def claimed(store: PostgresStore, *, worker: str = "w", limit: int = 64, lease_s: float = 60) -> list[queue.Claim]:
    with store.transaction() as tx:
        return tx.claim(worker=worker, limit=limit, lease_s=lease_s)


def make_due(dsn: str) -> None:
    """Time passes: every lease has run out and every pause is over."""
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE job SET run_at = run_at - interval '1 hour', lease_until = lease_until - interval '1 hour'")


def test_a_claimed_ticket_is_nobody_elses(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    [claim] = claimed(store)
    assert (claim.ticket_id, claim.attempts) == (ticket_id, 1)
    assert claimed(store, worker="other") == []


def test_workers_that_claim_at_once_get_disjoint_tickets(store: PostgresStore, now: datetime) -> None:
    ids = opened(store, now, 60)
    taken: list[list[str]] = []
    start = threading.Barrier(4)

    def work(name: str) -> None:
        start.wait()
        with store.transaction() as tx:
            mine = [claim.ticket_id for claim in tx.claim(worker=name, limit=20, lease_s=60)]
            time.sleep(0.05)  # hold the rows while the others look
        taken.append(mine)

    workers = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    together = [ticket_id for mine in taken for ticket_id in mine]
    assert sorted(together) == sorted(ids) and len(set(together)) == 60


def test_the_most_urgent_goes_first_then_the_oldest(store: PostgresStore, now: datetime) -> None:
    ids = opened(store, now, 4)
    with store.transaction() as tx:
        tx.save_triage({ids[0]: triage(level=4), ids[2]: triage(level=1), ids[3]: triage(level=1)}, now=now)
    assert [claim.ticket_id for claim in claimed(store)] == [ids[2], ids[3], ids[1], ids[0]]


def test_a_finished_job_is_not_claimed_again(store: PostgresStore, now: datetime) -> None:
    opened(store, now)
    claims = claimed(store)
    with store.transaction() as tx:
        tx.finish(claims)
    assert claimed(store) == []


def test_a_lease_that_ran_out_goes_to_another_worker_and_the_first_is_fenced_out(
    store: PostgresStore, dsn: str, now: datetime
) -> None:
    [ticket_id] = opened(store, now)
    [slow] = claimed(store, worker="slow")
    make_due(dsn)
    [fresh] = claimed(store, worker="fresh")
    assert fresh.ticket_id == ticket_id and fresh.token > slow.token and fresh.attempts == 2
    writes: list[Callable[..., object]] = [
        lambda tx: tx.hold([slow]),
        lambda tx: tx.finish([slow]),
        lambda tx: tx.save_intended([slow], [], now=now),
    ]
    for write in writes:
        with pytest.raises(FencedOut, match=ticket_id), store.transaction() as tx:
            write(tx)
    with store.transaction() as tx:
        assert [claim.token for claim in tx.heartbeat([slow, fresh], lease_s=60)] == [fresh.token]
        tx.retry([slow], error="late", now=now)  # ignored: somebody else has it
        tx.hold([fresh])
        tx.finish([fresh])


def test_a_heartbeat_prolongs_the_lease(store: PostgresStore, now: datetime) -> None:
    opened(store, now)
    [claim] = claimed(store, lease_s=1)
    with store.transaction() as tx:
        [longer] = tx.heartbeat([claim], lease_s=600)
    assert longer.lease_until > claim.lease_until + timedelta(seconds=500) and longer.token == claim.token


def test_finishing_twice_is_fenced_out(store: PostgresStore, now: datetime) -> None:
    opened(store, now)
    claims = claimed(store)
    with store.transaction() as tx:
        tx.finish(claims)
    with pytest.raises(FencedOut), store.transaction() as tx:
        tx.finish(claims)


def test_a_wake_up_during_the_work_is_not_lost(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    claims = claimed(store)
    with store.transaction() as tx:
        tx.wake([ticket_id])
    assert claimed(store) == []  # still leased
    with store.transaction() as tx:
        tx.finish(claims)
    [again] = claimed(store)
    with store.transaction() as tx:
        tx.finish([again])
    assert claimed(store) == []


def test_a_failure_waits_longer_each_time_and_ends_with_a_person(store: PostgresStore, dsn: str, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    pauses = []
    for _ in range(queue.MAX_FAILURES):
        claims = claimed(store)
        assert len(claims) == 1
        with store.transaction() as tx:
            tx.retry(claims, error="the billing system answers 500", now=now)
        assert claimed(store) == []
        with psycopg.connect(dsn) as connection:
            pauses += connection.execute("SELECT run_at - now() FROM job").fetchone() or ()
        make_due(dsn)
    assert claimed(store) == []
    assert all(later > earlier for earlier, later in pairwise(pauses[:-1]))
    with store.transaction() as tx:
        shown = tx.ticket_record(ticket_id)
        assert tx.queue_depth() == 0
        assert tx.kpis()["queue"] == {"waiting": 0, "given_up": 1}
    assert shown["state"] == "escalated"
    assert "the billing system answers 500" in shown["handover"]["why_stopped"]
    assert shown["state_reason"] == shown["handover"]["why_stopped"]
    assert [event["kind"] for event in shown["timeline"]].count("retried") == queue.MAX_FAILURES - 1


def test_a_dead_job_lives_again_when_it_is_woken(store: PostgresStore, dsn: str, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE job SET dead_at = now(), failures = 6")
    assert claimed(store) == []
    with store.transaction() as tx:
        tx.wake([ticket_id])
    assert [claim.ticket_id for claim in claimed(store)] == [ticket_id]


def test_a_ticket_that_kills_every_worker_ends_with_a_person(store: PostgresStore, dsn: str, now: datetime) -> None:
    poison, innocent = opened(store, now, 2)
    with psycopg.connect(dsn) as connection:
        connection.execute("UPDATE job SET attempts = %s WHERE ticket = %s", [queue.MAX_ATTEMPTS, int(poison[2:])])
    assert [claim.ticket_id for claim in claimed(store)] == [innocent]
    with store.transaction() as tx:
        assert tx.ticket(poison).state is State.ESCALATED


def test_waiting_ends_when_a_ticket_comes(store: PostgresStore, now: datetime) -> None:
    assert store.wait_for_work(0.05) is False
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(store.wait_for_work(20)))
    waiting.start()
    time.sleep(0.2)
    opened(store, now)
    waiting.join(timeout=10)
    assert answers == [True]
    claims = claimed(store)
    assert store.wait_for_work(0.05) is False
    with store.transaction() as tx:
        tx.wake([claims[0].ticket_id])
        tx.finish(claims)
    assert store.wait_for_work(0.05) is True


def test_waiting_ends_when_a_lease_runs_out(store: PostgresStore, now: datetime) -> None:
    opened(store, now)
    claimed(store, lease_s=0.3)
    assert store.wait_for_work(10) is True
    assert len(claimed(store, worker="other")) == 1


def test_an_outbox_item_is_given_to_one_sender_and_sent_once(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    with store.transaction() as tx:
        tx.save_outcomes({ticket_id: resolved()}, notes={}, now=now)
    with store.transaction() as tx:
        items = tx.outbox_due(limit=10, now=now)
        assert tx.outbox_due(limit=10, now=now) == []
    assert [(item.kind, item.ticket_id, item.attempts) for item in items] == [("reply", ticket_id, 1), ("status", ticket_id, 1)]
    assert items[0].payload["body"] == resolved().reply and items[1].payload["state"] == "resolved"
    with store.transaction() as tx:
        tx.outbox_sent([items[0].id], now=now)
        tx.outbox_failed(items[1].id, error="503", now=now)
    with store.transaction() as tx:
        assert tx.outbox_due(limit=10, now=now) == []
        [again] = tx.outbox_due(limit=10, now=now + timedelta(minutes=5))
        assert (again.id, again.attempts) == (items[1].id, 2)


def test_an_outbox_item_of_a_sender_that_died_is_due_again(store: PostgresStore, now: datetime) -> None:
    [ticket_id] = opened(store, now)
    with store.transaction() as tx:
        tx.enqueue(ticket_id, "one_time_code", {"code": "123456"}, now=now)
    with store.transaction() as tx:
        [item] = tx.outbox_due(limit=10, now=now)
    with store.transaction() as tx:
        assert [again.id for again in tx.outbox_due(limit=10, now=now + timedelta(minutes=2))] == [item.id]


def test_many_gateways_and_workers_at_once_end_without_a_deadlock(store: PostgresStore, now: datetime) -> None:
    """Workers that finish and people who write about the same tickets meet in every order; all of it is done, each event once."""
    ids = opened(store, now, 24)
    done: list[str] = []
    failures: list[BaseException] = []

    def worker(name: str) -> None:
        while True:
            with store.transaction() as tx:
                claims = tx.claim(worker=name, limit=4, lease_s=60)
            if not claims:
                return
            with store.transaction() as tx:
                tx.hold(claims)
                tx.save_triage({claim.ticket_id: triage() for claim in claims}, now=now)
                tx.save_outcomes({claim.ticket_id: resolved() for claim in claims}, notes={}, now=now)
                tx.finish(claims)
            done.extend(claim.ticket_id for claim in claims)

    def person() -> None:
        for ticket_id in ids[::-1]:
            with store.transaction() as tx:
                tx.record_feedback(ticket_id, "quality", {"ok": True}, by="lead")
                tx.wake([ticket_id])

    def guarded(work: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failures.append(error)

        return run

    threads = [threading.Thread(target=guarded(lambda n=n: worker(f"w{n}"))) for n in range(2)]  # type: ignore[misc]
    threads += [threading.Thread(target=guarded(person)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    worker("last")
    assert set(done) == set(ids)
    with store.transaction() as tx:
        assert tx.queue_depth() == 0
        assert tx.verify_chain()["whole"]
