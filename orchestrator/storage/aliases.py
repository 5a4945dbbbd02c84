"""Desired aliases, what replicas report, shadow predictions. Knows their tables; decides and serves nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.domain.aliases import TRIAGE, DesiredAlias
from orchestrator.domain.triage import Classification
from orchestrator.storage import audit
from orchestrator.storage.connection import Connection, execute, number_of, row, rows
from orchestrator.storage.serialize import clean, dumps, instant

PROJECTING_LOCK = (
    0x616C6961736573  # "aliases": one projection at a time, each reads the registry after the one before has committed
)
FORGOTTEN_AFTER_S = 300.0
DESIRED = """
    SELECT task, alias, name, path, percent, needs, previous_name, previous_path, set_at, by, reason
    FROM model_alias WHERE %(task)s::text IS NULL OR task = %(task)s ORDER BY task, alias
"""
SET = """
    INSERT INTO model_alias (task, alias, name, path, percent, needs, previous_name, previous_path, by, reason)
    VALUES (%(task)s, %(alias)s, %(name)s, %(path)s, %(percent)s, %(needs)s::jsonb, %(previous_name)s, %(previous_path)s, %(by)s,
        %(reason)s)
    ON CONFLICT (task, alias) DO UPDATE SET name = excluded.name, path = excluded.path, percent = excluded.percent,
        needs = excluded.needs, previous_name = excluded.previous_name, previous_path = excluded.previous_path,
        by = excluded.by, reason = excluded.reason, set_at = now()
"""
REPORT = """
    INSERT INTO model_report (part, replica, body) VALUES (%s, %s, %s::jsonb)
    ON CONFLICT (part, replica) DO UPDATE SET body = excluded.body, at = now()
"""
REPORTS = """
    SELECT part, replica, body, at FROM model_report
    WHERE at > now() - make_interval(secs => %s) ORDER BY part, replica
"""
PREDICTED = """
    INSERT INTO shadow_prediction (ticket, name, category, confidence, abstained, body) VALUES (%s, %s, %s, %s, %s, %s::jsonb)
    ON CONFLICT (ticket, name) DO UPDATE SET category = excluded.category, confidence = excluded.confidence,
        abstained = excluded.abstained, body = excluded.body, at = now()
"""
PREDICTIONS = """
    SELECT 'T-' || p.ticket AS ticket_id, p.name, p.category, p.confidence, p.abstained, p.at, t.category AS live_category,
        t.abstained AS live_abstained
    FROM shadow_prediction p JOIN ticket t ON t.number = p.ticket
    WHERE (%(ticket)s::bigint IS NULL OR p.ticket = %(ticket)s) AND (%(name)s::text IS NULL OR p.name = %(name)s)
    ORDER BY p.at DESC, p.ticket DESC LIMIT %(limit)s
"""


# --- desired aliases ---


def desired(connection: Connection, task: str | None = None) -> list[DesiredAlias]:
    return [DesiredAlias(**found) for found in rows(connection, DESIRED, {"task": task})]


def project(connection: Connection, read: Callable[[], Sequence[DesiredAlias]]) -> list[str]:
    """Make the desired aliases exactly those that `read` gives; gives "task/alias" of what changed. Each change is audited.

    `read` runs once the projection before this one has committed, so an older reading never overwrites a newer one.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [PROJECTING_LOCK])
    wanted = {(alias.task, alias.alias): alias for alias in read()}
    now = {(alias.task, alias.alias): alias for alias in desired(connection)}
    changed = [_set(connection, alias, now.get(key)) for key, alias in sorted(wanted.items()) if _moved(alias, now.get(key))]
    return changed + [_withdraw(connection, now[key]) for key in sorted(now.keys() - wanted.keys())]


def set_alias(connection: Connection, alias: DesiredAlias) -> None:
    before = next((a for a in desired(connection, alias.task) if a.alias == alias.alias), None)
    _set(connection, alias, before)


def _moved(alias: DesiredAlias, before: DesiredAlias | None) -> bool:
    """By or reason alone are no move: the registry's history holds them already."""
    what = ("name", "path", "percent", "needs")
    return before is None or any(getattr(alias, field) != getattr(before, field) for field in what)


def _set(connection: Connection, alias: DesiredAlias, before: DesiredAlias | None) -> str:
    previous = _previous(alias, before)
    fields = {name: getattr(alias, name) for name in ("task", "alias", "name", "path", "percent")}
    kept = {"needs": dumps(dict(alias.needs)), "previous_name": previous[0], "previous_path": previous[1]}
    execute(connection, SET, {**fields, **kept, "by": clean(alias.by), "reason": clean(alias.reason)})
    body = {**fields, "previous": before.name if before else None, "by": alias.by, "reason": alias.reason}
    audit.append(connection, [(None, "alias_moved", clean(alias.by), body)])
    return f"{alias.task}/{alias.alias}"


def _previous(alias: DesiredAlias, before: DesiredAlias | None) -> tuple[str, str]:
    """What the alias stood for before this name."""
    if before is None:
        return "", ""
    return (before.name, before.path) if before.name != alias.name else (before.previous_name, before.previous_path)


def _withdraw(connection: Connection, alias: DesiredAlias) -> str:
    execute(connection, "DELETE FROM model_alias WHERE task = %s AND alias = %s", [alias.task, alias.alias])
    body = {"task": alias.task, "alias": alias.alias, "name": None, "previous": alias.name}
    audit.append(connection, [(None, "alias_moved", audit.CLOISTER, body)])
    return f"{alias.task}/{alias.alias}"


def adapters(connection: Connection) -> list[dict[str, Any]]:
    """[{alias, name, path}] of the task triage."""
    return [{"alias": a.alias, "name": a.name, "path": a.path or None} for a in desired(connection, TRIAGE)]


# --- what replicas report ---


def report(connection: Connection, part: str, replica: str, body: Mapping[str, Any]) -> None:
    execute(connection, REPORT, [part, clean(replica), dumps(body)])
    execute(connection, "DELETE FROM model_report WHERE at < now() - make_interval(secs => %s)", [FORGOTTEN_AFTER_S])


def reports(connection: Connection, *, fresh_s: float) -> list[dict[str, Any]]:
    """{part, replica, body, at} of the replicas that were heard of lately."""
    return [{**found, "at": instant(found["at"])} for found in rows(connection, REPORTS, [fresh_s])]


# --- shadow predictions ---


def save_predictions(connection: Connection, name: str, found: Mapping[str, Classification]) -> None:
    """By ticket id, of the model `name`."""
    table = [
        (number_of(ticket_id, "T"), name, clean(c.category), float(c.confidence), bool(c.abstained), dumps(c))
        for ticket_id, c in sorted(found.items())
    ]
    with connection.cursor() as cursor:
        cursor.executemany(PREDICTED, table)


def predictions(
    connection: Connection, *, ticket_id: str | None = None, name: str | None = None, limit: int = 1000
) -> list[dict[str, Any]]:
    """Newest first, each beside what the ticket has now."""
    asked = {"ticket": number_of(ticket_id, "T") if ticket_id else None, "name": name, "limit": limit}
    return [{**found, "at": instant(found["at"])} for found in rows(connection, PREDICTIONS, asked)]


def prediction_count(connection: Connection) -> int:
    found = row(connection, "SELECT count(*) AS predicted FROM shadow_prediction")
    return int(found["predicted"]) if found else 0
