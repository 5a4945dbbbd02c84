"""What people said about tickets, and what triage decided, for training. Reads feedback, approval, event, triage, outcome and ticket;
judges no statement and changes nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from orchestrator.domain.feedback import Said, Statement, Verdicts
from orchestrator.storage import audit
from orchestrator.storage.connection import Connection, Row, page, position_of, rows
from orchestrator.storage.serialize import clean, instant
from orchestrator.storage.transaction import PostgresTransaction

QUIET_DAYS = 14  # a verified resolution that nobody came back to for so long counts as a weak confirmation
ALIKE_S = 600.0  # identical overrides by one person within so many seconds are counted together
SHADOW_RUNG = "shadow"

# Tickets about which something was said since then, in the order of their numbers.
SPOKEN_OF = f"""
    SELECT number FROM (
        SELECT ticket AS number FROM feedback WHERE at >= %(since)s
        UNION SELECT ticket FROM approval
            WHERE decided_at >= %(since)s AND decided_by IS NOT NULL AND status IN ('approved', 'rejected', 'executed')
        UNION SELECT t.number FROM ticket t WHERE t.reopened_count > 0
            AND EXISTS (SELECT FROM event e WHERE e.ticket = t.id AND e.kind = 'reopened' AND e.at >= %(since)s)
        UNION SELECT t.number FROM ticket t JOIN outcome o ON o.ticket = t.number
            WHERE t.state IN ('resolved', 'closed') AND t.resolved_at IS NOT NULL
                AND (o.kind = 'handed_over' AND t.state_by <> 'cloister' AND t.resolved_at >= %(since)s
                    OR o.kind = 'resolved' AND t.resolved_at BETWEEN %(quiet_since)s AND %(quiet_until)s
                        AND (o.body #>> '{{verification,confirmed}}')::boolean
                        AND t.autonomy_rung IS DISTINCT FROM '{SHADOW_RUNG}')
    ) AS spoken WHERE (%(after)s::bigint IS NULL OR number > %(after)s) ORDER BY number LIMIT %(limit)s
"""
TICKETS = """
    SELECT t.*, g.body -> 'classification' AS classified, g.body -> 'signals' AS signals, g.triaged_at,
        g.body #>> '{assignment,group}' AS found_group, o.kind AS outcome_kind, o.at AS outcome_at,
        (o.body #>> '{verification,confirmed}')::boolean AS verified, o.body #>> '{verification,probe}' AS probe
    FROM ticket t LEFT JOIN triage g ON g.ticket = t.number LEFT JOIN outcome o ON o.ticket = t.number
    WHERE t.number = ANY(%s) ORDER BY t.number
"""
FEEDBACK = "SELECT ticket, kind, body, by, at FROM feedback WHERE ticket = ANY(%s) ORDER BY id"
APPROVALS = """
    SELECT ticket, id, status, decided_by, decided_at, decision_reason FROM approval
    WHERE ticket = ANY(%s) AND decided_by IS NOT NULL AND decided_at IS NOT NULL AND status IN ('approved', 'rejected', 'executed')
"""
REOPENINGS = (
    "SELECT ticket, at, actor, body::jsonb ->> 'reason' AS reason FROM event WHERE ticket = ANY(%b::text[]) AND kind = 'reopened'"
)
# How many overrides to the same category one person gave around each of theirs; keyed by person, category and moment.
ALIKE = """
    SELECT by, body ->> 'category' AS category, at,
        count(*) OVER (PARTITION BY by, body ->> 'category' ORDER BY at
            RANGE BETWEEN %(around)s PRECEDING AND %(around)s FOLLOWING) AS alike
    FROM feedback WHERE kind = 'override' AND body ->> 'category' IS NOT NULL AND at BETWEEN %(first)s AND %(last)s
"""
ROLES = """
    SELECT DISTINCT ON (name) name, role FROM (
        SELECT name, role, created_at AS at FROM api_key UNION ALL SELECT name, role, opened_at FROM console_session
    ) AS known WHERE name = ANY(%b::text[]) ORDER BY name, at DESC
"""
DECISIONS = """
    SELECT t.number, t.id, t.subject, t.description, t.created_at, t.state, t.outcome, t.resolved_at, t.reopened_count, t.autonomy_rung,
        g.triaged_at, g.body -> 'classification' AS classified, g.body #>> '{signals,language}' AS language,
        said.category AS corrected_to, o.eligible, o.runbook, (o.body #>> '{verification,confirmed}')::boolean AS verified,
        EXISTS (SELECT FROM feedback f WHERE f.ticket = t.number AND f.body ->> 'rating' = 'bad') AS rated_bad,
        EXISTS (SELECT FROM approval a WHERE a.ticket = t.number AND a.status = 'rejected') AS rejected
    FROM triage g JOIN ticket t ON t.number = g.ticket LEFT JOIN outcome o ON o.ticket = t.number
    CROSS JOIN LATERAL said_by_people(t.number) said
    WHERE g.triaged_at >= %(since)s AND (%(after)s::bigint IS NULL OR t.number > %(after)s) ORDER BY t.number LIMIT %(limit)s
"""


# --- statements ---


def verdicts(
    tx: PostgresTransaction, *, since: datetime, now: datetime, cursor: str | None = None, limit: int = 200
) -> tuple[list[Verdicts], str | None]:
    """Tickets of which something was said since then, with everything that was ever said of them. `limit` counts tickets."""
    connection, quiet = tx._connection, timedelta(days=QUIET_DAYS)
    asked = {
        "since": since,
        "quiet_since": since - quiet,
        "quiet_until": now - quiet,
        "after": position_of(cursor),
        "limit": limit + 1,
    }
    found, following = page([r["number"] for r in rows(connection, SPOKEN_OF, asked)], limit, lambda number: number)
    said = _said(connection, found)
    tickets = rows(connection, TICKETS, [found])
    for ticket in tickets:
        said[ticket["number"]] += _by_itself(ticket, now)
    roles = _roles(connection, {s["who"] for statements in said.values() for s in statements})
    return [_verdicts(ticket, said[ticket["number"]], roles) for ticket in tickets], following


def _said(connection: Connection, numbers: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    said: dict[int, list[dict[str, Any]]] = defaultdict(list)
    spoken = rows(connection, FEEDBACK, [list(numbers)])
    alike = _alike(connection, spoken)
    for record in spoken:
        said[record["ticket"]].append(_feedback(record) | {"alike": alike.get((record["by"], record["at"]), 1)})
    for record in rows(connection, APPROVALS, [list(numbers)]):
        kind = Said.REJECTED if record["status"] == "rejected" else Said.APPROVED
        why = f"{record['id']} {kind}: {record['decision_reason'] or ''}"
        said[record["ticket"]].append({"said": kind, "at": record["decided_at"], "who": record["decided_by"], "why": why})
    for record in rows(connection, REOPENINGS, [[f"T-{number}" for number in numbers]]):
        why = record["reason"] or ""
        said[int(record["ticket"][2:])].append({"said": Said.REOPENED, "at": record["at"], "who": record["actor"], "why": why})
    return said


def _feedback(record: Row) -> dict[str, Any]:
    body = record["body"]
    kind = Said.OVERRIDE if record["kind"] == "override" else Said.FEEDBACK
    named = {name: body.get(name) for name in ("category", "group", "rating")}
    return {"said": kind, "at": record["at"], "who": record["by"], "why": body.get("reason") or "", **named}


def _alike(connection: Connection, spoken: Sequence[Row]) -> Mapping[tuple[str, datetime], int]:
    moments = [record["at"] for record in spoken if record["kind"] == "override"]
    if not moments:
        return {}
    around = timedelta(seconds=ALIKE_S)
    found = rows(connection, ALIKE, {"around": around, "first": min(moments) - around, "last": max(moments) + around})
    return {(record["by"], record["at"]): record["alike"] for record in found}


def _by_itself(ticket: Row, now: datetime) -> list[dict[str, Any]]:
    """What the state of a ticket says where nobody wrote a word."""
    done = ticket["state"] in ("resolved", "closed") and ticket["resolved_at"] is not None
    if done and ticket["outcome_kind"] == "handed_over" and ticket["state_by"] != audit.CLOISTER:
        return [{"said": Said.FINISHED, "at": ticket["resolved_at"], "who": ticket["state_by"], "why": ticket["state_reason"]}]
    quiet_at = ticket["resolved_at"] + timedelta(days=QUIET_DAYS) if done else None
    verified = ticket["outcome_kind"] == "resolved" and ticket["verified"] and ticket["autonomy_rung"] != SHADOW_RUNG
    if quiet_at is None or not verified or quiet_at > now:
        return []
    why = f"confirmed by {ticket['probe']}, not reopened in {QUIET_DAYS} days"
    return [{"said": Said.VERIFIED, "at": quiet_at, "who": audit.CLOISTER, "why": why}]


def _roles(connection: Connection, names: set[str]) -> dict[str, str]:
    return {record["name"]: record["role"] for record in rows(connection, ROLES, [sorted(names)])}


def _verdicts(ticket: Row, said: Sequence[Mapping[str, Any]], roles: Mapping[str, str]) -> Verdicts:
    classified, signals = ticket["classified"] or {}, ticket["signals"] or {}
    statements = sorted((Statement(**fields, role=roles.get(fields["who"])) for fields in said), key=lambda s: s.at)
    return Verdicts(
        ticket_id=ticket["id"],
        subject=ticket["subject"],
        description=ticket["description"],
        created_at=ticket["created_at"],
        category=classified.get("category"),
        confidence=classified.get("confidence"),
        abstained=bool(classified.get("abstained", True)),
        stage=classified.get("stage", ""),
        model=classified.get("model", ""),
        group=ticket["assignment_group"] or ticket["found_group"],
        language=signals.get("language", "en"),
        smuggled_instruction=bool(signals.get("smuggled_instruction")),
        triaged_at=ticket["triaged_at"],
        handed_over_at=ticket["outcome_at"] if ticket["outcome_kind"] == "handed_over" else None,
        statements=tuple(statements),
        source=ticket["source"],
        external_id=ticket["external_id"],
    )


# --- decisions ---


def decisions(
    tx: PostgresTransaction, *, since: datetime, cursor: str | None = None, limit: int = 500
) -> tuple[list[dict[str, Any]], str | None]:
    """What triage decided since then and what became of it, oldest ticket first, JSON-ready."""
    asked = {"since": since, "after": position_of(cursor), "limit": limit + 1}
    found, following = page(rows(tx._connection, DECISIONS, asked), limit, lambda record: record["number"])
    return [_decision(record) for record in found], following


def _decision(record: Row) -> dict[str, Any]:
    classified = record["classified"]
    told = ("category", "confidence", "abstained", "alternatives", "stage", "model")
    plain = ("id", "subject", "description", "state", "outcome", "verified", "rated_bad", "rejected", "eligible", "runbook")
    times = {name: None if record[name] is None else instant(record[name]) for name in ("created_at", "triaged_at", "resolved_at")}
    corrected = record["corrected_to"] if record["corrected_to"] != classified.get("category") else None
    return {
        **{name: record[name] for name in plain},
        **times,
        **{name: classified.get(name) for name in told},
        "language": record["language"] or "en",
        "corrected_to": corrected,
        "reopened": record["reopened_count"] > 0,
        "shadow": record["autonomy_rung"] == SHADOW_RUNG,
    }


def note_reading(tx: PostgresTransaction, what: str, *, by: str, since: datetime, tickets: int) -> None:
    """Tickets' texts were given to somebody: an event of the log."""
    body = {"what": what, "since": since, "tickets": tickets}
    audit.append(tx._connection, [(None, "training_rows_read", clean(by), body)])
