"""The ladder in the database: rungs, evidence, findings of the sample, switches of single types, chaos days. Counts; judges nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.domain.autonomy import ChaosDay, Evidence, Finding, HumanResponse, Move, Standing
from orchestrator.domain.errors import Conflict, NotFound
from orchestrator.domain.resolution import Rung
from orchestrator.storage import audit
from orchestrator.storage.connection import Connection, Row, columns, execute, number_of, row, rows
from orchestrator.storage.serialize import clean, dumps, instant

TYPE_SWITCH = "type:"
BEGIN = """
    INSERT INTO autonomy (type, rung, since, by, reason)
    SELECT type, rung, %s, 'cloister', 'as the reviewed file begins' FROM unnest(%b::text[], %b::text[]) AS b (type, rung)
    ON CONFLICT (type) DO NOTHING RETURNING type, rung
"""
MOVE = "UPDATE autonomy SET rung = %s, since = %s, by = %s, reason = %s WHERE type = %s AND rung = %s RETURNING type"
# One row per ticket that came to an outcome and went its own way (one that waited for another shows nothing of its type).
# `acted`: the desk changed something for it, or resolved it. `foreseen`: in shadow or as a suggestion, it would have.
SEEN = """
    SELECT t.number, t.category AS type, o.at,
        o.kind = 'resolved' AND t.state IN ('resolved', 'closed') AND t.reopened_count = 0 AS verified,
        t.reopened_count > 0 AS reopened,
        coalesce(o.notes ->> 'rung', '') NOT IN ('shadow', 'suggest') AND (o.kind = 'resolved' OR EXISTS (
            SELECT FROM step s WHERE s.ticket = t.number AND s.writes AND s.step <> 'identity_code')) AS acted,
        coalesce(o.notes ->> 'rung', '') IN ('shadow', 'suggest')
            AND (coalesce((o.notes ->> 'would_resolve')::boolean, false)
                 OR jsonb_array_length(coalesce(o.notes -> 'proposed_actions', '[]')) > 0)
            AS foreseen,
        t.state IN ('resolved', 'closed') AS finished,
        EXISTS (SELECT FROM feedback f WHERE f.ticket = t.number AND (
            (f.kind = 'override' AND (f.body ->> 'category') IS NOT NULL) OR f.body ->> 'rating' = 'bad')) AS corrected,
        q.finding
    FROM ticket t JOIN outcome o ON o.ticket = t.number LEFT JOIN qa_finding q ON q.ticket = t.number
    WHERE t.linked_to IS NULL AND t.category IS NOT NULL
"""
COUNTED = """
    count(*) FILTER (WHERE foreseen) AS decided,
    count(*) FILTER (WHERE foreseen AND finished AND NOT corrected) AS agreed,
    count(*) FILTER (WHERE foreseen AND corrected) AS disagreed,
    count(*) FILTER (WHERE acted) AS acted, count(*) FILTER (WHERE acted AND verified) AS verified,
    count(*) FILTER (WHERE acted AND reopened) AS reopened,
    count(finding) AS sampled, count(*) FILTER (WHERE finding = 'right') AS right,
    count(*) FILTER (WHERE finding = 'wrong') AS wrong, count(*) FILTER (WHERE finding = 'harmful') AS harmful
"""
SINCE = f"""
    WITH seen AS ({SEEN})
    SELECT seen.type, {COUNTED} FROM seen JOIN autonomy a ON a.type = seen.type AND seen.at >= a.since GROUP BY seen.type
"""
LAST = f"""
    WITH seen AS ({SEEN}), ranked AS (
        SELECT seen.*, row_number() OVER (PARTITION BY seen.type ORDER BY seen.at DESC) AS place
        FROM seen JOIN autonomy a ON a.type = seen.type AND seen.at >= a.since
        WHERE acted)
    SELECT type, {COUNTED} FROM ranked WHERE place <= %s GROUP BY type
"""
DECIDED_APPROVALS = """
    SELECT t.category AS type, count(*) FILTER (WHERE p.status IN ('approved', 'executed')) AS approved,
        count(*) FILTER (WHERE p.status = 'rejected') AS rejected
    FROM approval p JOIN ticket t ON t.number = p.ticket JOIN autonomy a ON a.type = t.category AND p.decided_at >= a.since GROUP BY 1
"""
STOPPED = """
    SELECT substr(name, 6) AS type, reason, by, at FROM switch WHERE name LIKE 'type:%%' AND stopped
    UNION ALL
    SELECT type, format('Chaos day %%s until %%s UTC: people take these tickets', id,
            to_char(ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')),
        by, starts_at FROM chaos_day WHERE cancelled_at IS NULL AND starts_at <= %(now)s AND ends_at > %(now)s
"""
SWITCH = """
    INSERT INTO switch (name, stopped, reason, by) VALUES (%s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE SET stopped = excluded.stopped, reason = excluded.reason, by = excluded.by, at = now()
"""
# Resolved without a person, by type in the order of time; `before` is how many of the type came earlier: early ones are looked at more.
RESOLVED_ALONE = """
    SELECT t.number, t.id, t.category AS type, t.subject, o.runbook, o.at, q.finding, q.reason, q.by, q.at AS found_at,
        row_number() OVER (PARTITION BY t.category ORDER BY o.at, t.number) - 1 AS before
    FROM ticket t JOIN outcome o ON o.ticket = t.number LEFT JOIN qa_finding q ON q.ticket = t.number
    WHERE o.kind = 'resolved' AND t.linked_to IS NULL AND t.category IS NOT NULL ORDER BY o.at DESC, t.number DESC
"""
FIND = """
    INSERT INTO qa_finding (ticket, finding, reason, by, at) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (ticket) DO UPDATE SET finding = excluded.finding, reason = excluded.reason, by = excluded.by, at = excluded.at
"""
RESPONSE = """
    WITH came AS (
        SELECT t.number, t.id, t.received_at, t.state, t.reopened_count, (g.body -> 'priority' ->> 'sla_due_at')::timestamptz AS due_at,
            (SELECT min(m.at) FROM message m
                WHERE m.ticket = t.number AND m.author IN ('desk', 'note') AND m.by <> 'cloister') AS answered_at,
            (SELECT min(e.at) FROM event e WHERE e.ticket = t.id AND e.kind = 'state' AND e.actor <> 'cloister'
                AND e.body::jsonb ->> 'to' IN ('resolved', 'closed')) AS resolved_at
        FROM ticket t LEFT JOIN triage g ON g.ticket = t.number
        WHERE t.category = %(type)s AND t.received_at >= %(starts_at)s AND t.received_at < %(ends_at)s
    )
    SELECT count(*) AS tickets, count(coalesce(answered_at, resolved_at)) AS answered, count(resolved_at) AS resolved,
        count(*) FILTER (WHERE state IN ('active', 'pending', 'escalated')) AS open,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM least(answered_at, resolved_at) - received_at) / 60)
            AS median_answer_min,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM resolved_at - received_at) / 60) AS median_resolution_min,
        count(*) FILTER (WHERE resolved_at IS NOT NULL AND (due_at IS NULL OR resolved_at <= due_at)) AS within_sla,
        count(*) FILTER (WHERE reopened_count > 0) AS reopened
    FROM came
"""
WAITING = """
    SELECT category AS type, count(*) AS waiting, count(*) FILTER (WHERE priority = 1) AS urgent FROM ticket
    WHERE state IN ('active', 'pending', 'escalated') AND category = ANY(%b::text[]) GROUP BY 1
"""
HISTORY = """
    SELECT t.category AS type, count(*) AS tickets,
        greatest(1.0, extract(epoch FROM max(t.received_at) - min(t.received_at)) / 604800) AS weeks,
        count(*) FILTER (WHERE o.runbook IS NOT NULL) AS tried,
        count(*) FILTER (WHERE o.kind IN ('resolved', 'awaiting_approval') OR (o.notes ->> 'would_resolve')::boolean) AS done,
        count(*) FILTER (WHERE g.body -> 'signals' ->> 'legal_threat' = 'true' OR g.body -> 'signals' ->> 'distress' = 'true') AS sensitive
    FROM ticket t LEFT JOIN outcome o ON o.ticket = t.number LEFT JOIN triage g ON g.ticket = t.number
    WHERE t.category IS NOT NULL GROUP BY 1
"""
LOOKUPS = """
    SELECT t.category AS type, count(*) FILTER (WHERE NOT s.writes) AS looked_up,
        count(*) FILTER (WHERE NOT s.writes AND s.observation ->> 'status' = 'ok') AS answered,
        count(*) FILTER (WHERE s.writes) AS judged,
        count(*) FILTER (WHERE s.writes AND s.verdict ->> 'rule' <> 'default') AS clear
    FROM step s JOIN ticket t ON t.number = s.ticket WHERE t.category IS NOT NULL GROUP BY 1
"""
TEXTS = """
    SELECT type, array_agg(text) AS texts FROM (
        SELECT category AS type, left(subject || E'\\n' || description, 600) AS text,
            row_number() OVER (PARTITION BY category ORDER BY number DESC) AS place
        FROM ticket WHERE category IS NOT NULL) AS t WHERE place <= 400 GROUP BY type
"""


class LadderBook:
    """`orchestrator.ports.LadderBook` on one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- rungs ---

    def begin(self, rungs: Mapping[str, Rung], *, now: datetime) -> list[str]:
        """Types that have no standing yet get the one that the reviewed file begins with; gives those."""
        table = [(type, rung.value) for type, rung in rungs.items()]
        if not table:
            return []
        begun = rows(self._connection, BEGIN, [now, *columns(table, 2)])
        audit.append(
            self._connection, [(None, "autonomy_began", audit.CLOISTER, {"type": b["type"], "rung": b["rung"]}) for b in begun]
        )
        return [found["type"] for found in begun]

    def standings(self) -> list[Standing]:
        return [
            Standing(type=r["type"], rung=Rung(r["rung"]), since=r["since"], by=r["by"], reason=r["reason"])
            for r in rows(self._connection, "SELECT * FROM autonomy ORDER BY type")
        ]

    def rungs(self) -> dict[str, Rung]:
        """By type."""
        return {found["type"]: Rung(found["rung"]) for found in rows(self._connection, "SELECT type, rung FROM autonomy")}

    def move(self, judged: Move, *, evidence: Evidence | None, by: str, reason: str, now: datetime) -> None:
        """Raises Conflict where the type is no longer on the rung that was judged."""
        moved = row(self._connection, MOVE, [judged.target.value, now, clean(by), clean(reason), judged.type, judged.start.value])
        if moved is None:
            raise Conflict(f"{judged.type} is not on {judged.start} any more.", hint="Look at it again and decide anew.")
        shown = {"evidence": evidence, "criteria": judged.criteria, "why": judged.why}
        execute(
            self._connection,
            "INSERT INTO autonomy_move (type, start, target, at, by, reason, evidence) VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb)",
            [judged.type, judged.start.value, judged.target.value, now, clean(by), clean(reason), dumps(shown)],
        )
        body = {"type": judged.type, "from": judged.start, "to": judged.target, "reason": reason, **shown}
        audit.append(self._connection, [(None, "autonomy_moved", clean(by), body)])

    def moves(self, type: str, *, limit: int = 20) -> list[dict[str, Any]]:
        """Newest first, JSON-ready."""
        found = rows(self._connection, "SELECT * FROM autonomy_move WHERE type = %s ORDER BY id DESC LIMIT %s", [type, limit])
        names = ("start", "target", "by", "reason", "evidence")
        return [{**{name: r[name] for name in names}, "at": instant(r["at"])} for r in found]

    def evidence(self, *, now: datetime) -> dict[str, Evidence]:
        """What every type has shown since it came to its rung."""
        days = {each.type: max(0.0, (now - each.since).total_seconds() / 86400) for each in self.standings()}
        counted = {found["type"]: dict(found) for found in rows(self._connection, SINCE)}
        for found in rows(self._connection, DECIDED_APPROVALS):
            counted.setdefault(found["type"], {"type": found["type"]}).update(found)
        return {type: Evidence(**{"type": type, **counted.get(type, {})}, days=age) for type, age in days.items()}

    def recent_evidence(self, *, last: int) -> dict[str, Evidence]:
        """What the last tickets that each type acted on have shown, none older than its rung."""
        return {found["type"]: Evidence(**found, days=0) for found in rows(self._connection, LAST, [last])}

    # --- switches of single types ---

    def stopped_types(self, *, now: datetime) -> dict[str, dict[str, Any]]:
        """{type: {stopped, reason, by, at}} of those that nothing acts on now: switched off, or on a chaos day."""
        found = rows(self._connection, STOPPED, {"now": now})
        return {
            r["type"]: {"stopped": True, "type": r["type"], "reason": r["reason"], "by": r["by"], "at": instant(r["at"])}
            for r in found
        }

    def set_type_switch(self, type: str, *, stopped: bool, reason: str, by: str) -> None:
        execute(self._connection, SWITCH, [f"{TYPE_SWITCH}{type}", stopped, clean(reason), clean(by)])
        audit.append(self._connection, [(None, "kill_switch", clean(by), {"type": type, "stopped": stopped, "reason": reason})])

    # --- the sample ---

    def resolved_alone(self) -> list[Row]:
        """Newest first: what was resolved without a person, with what was found in it."""
        return rows(self._connection, RESOLVED_ALONE)

    def find(self, ticket_id: str, finding: Finding, *, reason: str, by: str, now: datetime) -> None:
        """Raises NotFound, Conflict for a ticket that was not resolved by the desk alone."""
        number = number_of(ticket_id, "T")
        known = row(self._connection, "SELECT kind FROM outcome WHERE ticket = %s", [number])
        if known is None or known["kind"] != "resolved":
            what = "has no outcome" if known is None else f"ended as {known['kind']}"
            raise Conflict(f"{ticket_id} {what}; the sample is of tickets that the desk resolved.", hint="See GET /v1/qa.")
        execute(self._connection, FIND, [number, finding.value, clean(reason), clean(by), now])
        audit.append(self._connection, [(ticket_id, "sampled", clean(by), {"finding": finding, "reason": reason})])

    # --- chaos days ---

    def plan_chaos_day(self, *, type: str, starts_at: datetime, ends_at: datetime, by: str, reason: str) -> ChaosDay:
        made = row(
            self._connection,
            "INSERT INTO chaos_day (type, starts_at, ends_at, by, reason) VALUES (%s, %s, %s, %s, %s) RETURNING *",
            [type, starts_at, ends_at, clean(by), clean(reason)],
        )
        assert made is not None
        body = {"chaos_day": made["id"], "type": type, "starts_at": starts_at, "ends_at": ends_at, "reason": reason}
        audit.append(self._connection, [(None, "chaos_day_planned", clean(by), body)])
        return _day(made)

    def chaos_days(self) -> list[ChaosDay]:
        """Newest first."""
        return [_day(found) for found in rows(self._connection, "SELECT * FROM chaos_day ORDER BY number DESC")]

    def chaos_day(self, day_id: str) -> ChaosDay:
        found = row(self._connection, "SELECT * FROM chaos_day WHERE id = %s", [clean(day_id)])
        if found is None:
            raise NotFound(f"There is no chaos day {day_id!r}.", hint="Its id looks like C-1; see GET /v1/chaos-days.")
        return _day(found)

    def cancel_chaos_day(self, day_id: str, *, because: str, by: str, now: datetime) -> None:
        """Raises NotFound, Conflict where it is over or cancelled already."""
        self.chaos_day(day_id)
        done = execute(
            self._connection,
            "UPDATE chaos_day SET cancelled_at = %s, cancelled_because = %s WHERE id = %s AND cancelled_at IS NULL AND ends_at > %s",
            [now, clean(because), day_id, now],
        )
        if not done:
            raise Conflict(f"{day_id} is over, or was cancelled before.", hint="Nothing was changed.")
        audit.append(self._connection, [(None, "chaos_day_cancelled", clean(by), {"chaos_day": day_id, "reason": because})])

    def human_response(self, type: str, *, starts_at: datetime, ends_at: datetime) -> HumanResponse:
        """How people did with the type's tickets that came in this window."""
        found = row(self._connection, RESPONSE, {"type": type, "starts_at": starts_at, "ends_at": ends_at})
        assert found is not None
        minutes = {
            name: None if found[name] is None else float(found[name]) for name in ("median_answer_min", "median_resolution_min")
        }
        return HumanResponse(**{**found, **minutes})

    def waiting(self, types: Sequence[str]) -> dict[str, tuple[int, int]]:
        """{type: (open tickets, of those P1)}."""
        return {r["type"]: (r["waiting"], r["urgent"]) for r in rows(self._connection, WAITING, [list(types)])}

    # --- history, for the scorecard ---

    def histories(self) -> dict[str, dict[str, Any]]:
        """By type: the counts and texts that a scorecard is made of."""
        found = {r["type"]: {**r, "weeks": float(r["weeks"])} for r in rows(self._connection, HISTORY)}
        for extra in (*rows(self._connection, LOOKUPS), *rows(self._connection, TEXTS)):
            found[extra["type"]].update(extra)
        return found


def _day(found: Row) -> ChaosDay:
    names = ("id", "type", "starts_at", "ends_at", "by", "reason", "cancelled_at", "cancelled_because")
    return ChaosDay(**{name: found[name] for name in names})
