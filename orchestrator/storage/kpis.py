"""The desk's figures, with their definitions and both denominators. Counts rows; judges nothing."""

from typing import Any

from orchestrator.storage.connection import Connection, row, rows
from orchestrator.storage.touches import frozen, unresolved

COUNTS = """
    SELECT count(*) AS all_tickets,
        count(*) FILTER (WHERE o.eligible) AS eligible,
        count(*) FILTER (WHERE o.kind = 'resolved' AND t.state IN ('resolved', 'closed')) AS resolved,
        count(*) FILTER (WHERE o.kind = 'resolved' AND t.state IN ('resolved', 'closed') AND o.eligible) AS resolved_eligible,
        count(*) FILTER (WHERE o.kind = 'resolved' AND t.state IN ('resolved', 'closed') AND t.linked_to IS NOT NULL)
            AS resolved_with_another,
        count(*) FILTER (WHERE t.linked_to IS NOT NULL) AS linked,
        count(*) FILTER (WHERE o.kind = 'awaiting_approval' AND t.state = 'pending') AS awaiting_approval,
        count(*) FILTER (WHERE o.kind = 'awaiting_requester' AND t.state = 'pending') AS awaiting_requester,
        count(*) FILTER (WHERE o.kind = 'awaiting_children' AND t.state = 'pending') AS awaiting_children,
        count(*) FILTER (WHERE o.kind = 'handed_over' AND t.state = 'escalated') AS handed_over,
        count(*) FILTER (WHERE t.abstained) AS abstained,
        count(*) FILTER (WHERE t.reopened_count > 0) AS reopened,
        count(*) FILTER (WHERE o.kind IS NULL) AS without_outcome,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM t.resolved_at - t.received_at))
            FILTER (WHERE o.kind = 'resolved' AND t.state IN ('resolved', 'closed')) AS median_s
    FROM ticket t LEFT JOIN outcome o ON o.ticket = t.number
"""
BY = "SELECT {column} AS name, count(*) AS tickets FROM ticket GROUP BY 1 ORDER BY 2 DESC, 1"
QUEUE = """
    SELECT count(*) FILTER (WHERE wanted > done AND dead_at IS NULL) AS waiting,
        count(*) FILTER (WHERE dead_at IS NOT NULL) AS given_up
    FROM job
"""
DEFINITIONS = {
    "resolved": "Cloister resolved it, a probe of the system of record confirmed it, and it is still resolved or closed",
    "eligible": "the ticket's type has a runbook that acts",
    "linked": "waits, or waited, for another ticket or for its incident",
    "handed_over": "with a person, with a packet",
    "abstained": "triage would not guess the category",
    "reopened": "came back at least once after an outcome",
    "unresolved_unknowns": "acts whose end nobody knows and no worker is looking for: a person has to",
    "frozen": "actions that the circuit breaker holds on a target until a lead gives it free",
    "of_all": "divided by all tickets",
    "of_eligible": "eligible ones that were resolved, divided by all eligible ones",
}


def kpis(connection: Connection) -> dict[str, Any]:
    counts = dict(row(connection, COUNTS) or {})
    median_s = counts.pop("median_s")
    everything, eligible = counts.pop("all_tickets"), counts.pop("eligible")
    resolved_eligible = counts.pop("resolved_eligible")
    return {
        "tickets": {"all": everything, "eligible": eligible},
        "counts": {**counts, "resolved_eligible": resolved_eligible},
        "rates": {
            "resolved": {"of_all": _rate(counts["resolved"], everything), "of_eligible": _rate(resolved_eligible, eligible)},
            **{name: {"of_all": _rate(counts[name], everything)} for name in ("linked", "handed_over", "abstained", "reopened")},
        },
        "median_seconds_to_resolution": None if median_s is None else float(median_s),
        "by_state": _by(connection, "state"),
        "by_category": _by(connection, "category"),
        "queue": dict(row(connection, QUEUE) or {}),
        "unresolved_unknowns": len(unresolved(connection)),
        "frozen": len(frozen(connection, None)),
        "definitions": DEFINITIONS,
    }


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _by(connection: Connection, column: str) -> dict[str, int]:
    return {found["name"] or "none": found["tickets"] for found in rows(connection, BY.format(column=column))}
