"""The queue: claims, leases, fencing, backing off, waking. Knows the table job, and the database's clock alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.domain.errors import FencedOut
from orchestrator.ports import Claim
from orchestrator.storage import audit
from orchestrator.storage.connection import Connection, columns, execute, number_of, rows
from orchestrator.storage.serialize import clean

MAX_FAILURES = 6  # reported failures: after about a minute of trying, a person
MAX_ATTEMPTS = 25  # leases: a ticket that keeps killing its worker ends somewhere, too; a killed worker's other tickets do not
BACKOFF_BASE_S, BACKOFF_MAX_S = 1.0, 300.0

CLAIM = """
    WITH due AS (
        SELECT ticket FROM job
        WHERE wanted > done AND dead_at IS NULL AND run_at <= statement_timestamp()
            AND (lease_until IS NULL OR lease_until < statement_timestamp())
        ORDER BY priority, ticket LIMIT %s FOR UPDATE SKIP LOCKED
    )
    UPDATE job SET token = token + 1, claimed = wanted, worker = %s, attempts = attempts + 1,
        lease_until = clock_timestamp() + make_interval(secs => %s)
    FROM due WHERE job.ticket = due.ticket
    RETURNING job.ticket, job.token, job.lease_until, job.attempts, job.priority
"""
HEARTBEAT = """
    WITH mine AS (
        SELECT job.ticket FROM job JOIN unnest(%s::bigint[], %s::bigint[]) AS c (ticket, token) USING (ticket, token)
        WHERE lease_until IS NOT NULL ORDER BY job.ticket FOR UPDATE OF job
    )
    UPDATE job SET lease_until = clock_timestamp() + make_interval(secs => %s) FROM mine WHERE job.ticket = mine.ticket
    RETURNING job.ticket, job.token, job.lease_until, job.attempts
"""
LOCK = "SELECT ticket, token FROM job WHERE ticket = ANY(%s) ORDER BY ticket FOR UPDATE"
FINISH = """
    UPDATE job SET done = claimed, token = job.token + 1, worker = NULL, lease_until = NULL, attempts = 0,
        failures = 0, last_error = NULL
    FROM unnest(%s::bigint[], %s::bigint[]) AS c (ticket, token) WHERE job.ticket = c.ticket AND job.token = c.token
    RETURNING job.ticket, job.wanted > job.done AS wanted_again
"""
RETRY = """
    UPDATE job SET token = job.token + 1, worker = NULL, lease_until = NULL, last_error = %(error)s,
        failures = failures + %(counted)s::int, attempts = attempts - 1 + %(counted)s::int,
        run_at = clock_timestamp() + make_interval(secs => least(%(most_s)s, %(base_s)s * 2 ^ failures) * (0.75 + random() / 2)),
        dead_at = CASE WHEN %(counted)s AND failures + 1 >= %(max_failures)s OR %(bury)s THEN clock_timestamp() END
    FROM unnest(%(tickets)s::bigint[], %(tokens)s::bigint[]) AS c (ticket, token)
    WHERE job.ticket = c.ticket AND job.token = c.token
    RETURNING job.ticket, job.failures, job.attempts, job.run_at, job.dead_at
"""
WAKE = """
    WITH locked AS (SELECT ticket FROM job WHERE ticket = ANY(%s) ORDER BY ticket FOR UPDATE)
    UPDATE job SET wanted = wanted + 1, run_at = clock_timestamp(), dead_at = NULL, failures = 0, attempts = 0
    FROM locked WHERE job.ticket = locked.ticket
"""
HOLDERS = "SELECT DISTINCT worker FROM job WHERE lease_until > statement_timestamp() AND wanted > done"
END_LEASES = """
    WITH theirs AS (SELECT ticket FROM job WHERE worker = ANY(%s) AND lease_until IS NOT NULL ORDER BY ticket FOR UPDATE SKIP LOCKED)
    UPDATE job SET lease_until = statement_timestamp() FROM theirs WHERE job.ticket = theirs.ticket
"""
DEPTH = "SELECT count(*) AS depth FROM job WHERE wanted > done AND dead_at IS NULL"


def claim(connection: Connection, *, worker: str, limit: int, lease_s: float) -> tuple[list[Claim], list[Claim]]:
    """(claims to work on, claims that were leased too often and must be given up). Most urgent first, then oldest."""
    found = rows(connection, CLAIM, [limit, clean(worker), lease_s])
    found.sort(key=lambda job: (job["priority"], job["ticket"]))
    claims = [_claim(job) for job in found]
    return [c for c in claims if c.attempts <= MAX_ATTEMPTS], [c for c in claims if c.attempts > MAX_ATTEMPTS]


def heartbeat(connection: Connection, claims: Sequence[Claim], *, lease_s: float) -> list[Claim]:
    prolonged = {
        (f"T-{job['ticket']}", job["token"]): _claim(job) for job in rows(connection, HEARTBEAT, [*_tokens(claims), lease_s])
    }
    return [prolonged[claim.ticket_id, claim.token] for claim in claims if (claim.ticket_id, claim.token) in prolonged]


def hold(connection: Connection, claims: Sequence[Claim]) -> None:
    """Raises FencedOut when any of the leases went to another worker."""
    numbers, tokens = _tokens(claims)
    held = {job["ticket"]: job["token"] for job in rows(connection, LOCK, [numbers])}
    lost = [f"T-{number}" for number, token in zip(numbers, tokens, strict=True) if held.get(number) != token]
    if lost:
        raise _fenced_out(lost)


def finish(connection: Connection, claims: Sequence[Claim]) -> None:
    """Ends the leases; the token grows, so that the same claims can never write again."""
    finished = rows(connection, FINISH, _tokens(claims))
    lost = {c.ticket_id for c in claims} - {f"T-{job['ticket']}" for job in finished}
    if lost:
        raise _fenced_out(sorted(lost))
    if any(job["wanted_again"] for job in finished):
        notify(connection)


def retry(
    connection: Connection, claims: Sequence[Claim], *, error: str, counted: bool = True, bury: bool = False
) -> dict[str, str]:
    """Back off. Gives the tickets that are given up now, with the reason in a sentence; lost claims are ignored.

    Not `counted` is what the ticket has no part in: nothing brings it nearer to being given up.
    """
    numbers, tokens = _tokens(claims)
    parameters = {
        "error": clean(error),
        "most_s": BACKOFF_MAX_S,
        "base_s": BACKOFF_BASE_S,
        "max_failures": MAX_FAILURES,
        "counted": counted,
        "bury": bury,
    }
    jobs = rows(connection, RETRY, {**parameters, "tickets": numbers, "tokens": tokens})
    for_log = [
        (f"T-{job['ticket']}", "given_up" if job["dead_at"] else "retried", audit.CLOISTER, _failure(job, error)) for job in jobs
    ]
    audit.append(connection, for_log)
    notify(connection)
    return {f"T-{job['ticket']}": _gave_up(job, error) for job in jobs if job["dead_at"]}


def wake(connection: Connection, numbers: Iterable[int]) -> None:
    """Also while a worker is at it: then the work is done once more. A job that was given up lives again."""
    wanted = sorted(set(numbers))
    if wanted:
        execute(connection, WAKE, [wanted])
        notify(connection)


def lease_holders(connection: Connection) -> list[str]:
    return [found["worker"] for found in rows(connection, HOLDERS)]


def end_leases(connection: Connection, workers: Sequence[str]) -> int:
    """What these workers hold may be claimed at once. One that lives after all is fenced out as soon as that happened."""
    ended = execute(connection, END_LEASES, [[clean(worker) for worker in workers]])
    if ended:
        notify(connection)
    return ended


def lock(connection: Connection, numbers: Iterable[int]) -> None:
    """The jobs' rows are locked before the tickets' rows, always: see the lock order in orchestrator.ports.Transaction."""
    rows(connection, LOCK, [sorted(numbers)])


def notify(connection: Connection) -> None:
    connection.execute("SELECT pg_notify('cloister_work', '')")


def depth(connection: Connection) -> int:
    return int(rows(connection, DEPTH)[0]["depth"])


def _tokens(claims: Sequence[Claim]) -> list[list[int]]:
    return columns([(number_of(c.ticket_id, "T"), c.token) for c in claims], 2)


def _claim(job: Mapping[str, Any]) -> Claim:
    return Claim(ticket_id=f"T-{job['ticket']}", token=job["token"], lease_until=job["lease_until"], attempts=job["attempts"])


def _failure(job: Mapping[str, object], error: str) -> dict[str, object]:
    return {
        "error": error,
        "failures": job["failures"],
        "attempts": job["attempts"],
        "next_at": None if job["dead_at"] else job["run_at"],
    }


def _gave_up(job: Mapping[str, object], error: str) -> str:
    return f"Cloister gave up after {job['failures']} failures and {job['attempts']} attempts: {error}"


def _fenced_out(lost: Sequence[str]) -> FencedOut:
    return FencedOut(f"The lease of {', '.join(lost)} went to another worker.", hint="Drop what was about to be written.")
