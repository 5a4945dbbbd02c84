"""Acts by their targets, what is frozen, and what nobody knows the end of. Knows the tables step and breaker; judges nothing."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from orchestrator.domain.errors import NotFound
from orchestrator.domain.resolution import Frozen, Touch
from orchestrator.storage import audit
from orchestrator.storage.connection import Connection, Row, columns, number_of, row, rows
from orchestrator.storage.serialize import clean, instant

LOCK = "SELECT pg_advisory_xact_lock(14, hashtext(name)) FROM unnest(%b::text[]) WITH ORDINALITY AS n (name, place) ORDER BY place"
TOUCHES = """
    SELECT ticket, action, target, idempotency_key, intended_at, before ->> 'state' AS before, after ->> 'state' AS after,
        coalesce(observation ->> 'status' = 'refused', false) AS refused,
        (before ->> 'at')::timestamptz AS before_at, (after ->> 'at')::timestamptz AS after_at
    FROM step WHERE target = ANY(%s) AND intended_at >= %s ORDER BY intended_at, ticket, seq
"""
ACTS = """
    SELECT action, count(*) AS acts FROM step
    WHERE writes AND action = ANY(%s) AND intended_at >= %s AND coalesce(observation ->> 'status' <> 'refused', true) GROUP BY 1
"""
UNRESOLVED = """
    SELECT s.ticket, s.step, s.action, s.arguments, s.idempotency_key, s.intended_at, s.unknowns FROM step s
    JOIN ticket t ON t.number = s.ticket LEFT JOIN job j ON j.ticket = s.ticket AND j.wanted > j.done AND j.dead_at IS NULL
    WHERE s.writes AND coalesce(s.observation ->> 'status', 'unknown') = 'unknown' AND j.ticket IS NULL
    ORDER BY s.intended_at
"""
FROZEN = (
    "SELECT * FROM breaker WHERE %(targets)s::text[] IS NULL OR target = ANY(%(targets)s) ORDER BY frozen_at DESC, action, target"
)
FREEZE = """
    INSERT INTO breaker (action, target, kind, reason, ticket, frozen_at)
    SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %s::bigint[], %s::timestamptz[])
    ON CONFLICT (action, target) DO NOTHING RETURNING action, target
"""
UNFREEZE = "DELETE FROM breaker WHERE action = %s AND target = %s RETURNING *"


def lock(connection: Connection, names: Sequence[str]) -> None:
    """Sorted, so that two transactions never wait for each other in a circle."""
    if names:
        rows(connection, LOCK, [sorted(set(names))])


def touches(connection: Connection, targets: Sequence[str], *, since: datetime) -> dict[str, list[Touch]]:
    found: dict[str, list[Touch]] = {}
    for each in rows(connection, TOUCHES, [list(targets), since]):
        touch = Touch(
            ticket_id=f"T-{each['ticket']}",
            action=each["action"],
            target=each["target"],
            idempotency_key=each["idempotency_key"],
            at=each["intended_at"],
            before=each["before"],
            after=each["after"],
            refused=each["refused"],
            before_at=each["before_at"],
            after_at=each["after_at"],
        )
        found.setdefault(touch.target, []).append(touch)
    return found


def acts_since(connection: Connection, actions: Sequence[str], *, since: datetime) -> dict[str, int]:
    return {each["action"]: each["acts"] for each in rows(connection, ACTS, [list(actions), since])}


def unresolved(connection: Connection) -> list[dict[str, Any]]:
    return [
        {**{key: value for key, value in each.items() if key != "ticket"}, "ticket_id": f"T-{each['ticket']}"}
        | {"intended_at": instant(each["intended_at"])}
        for each in rows(connection, UNRESOLVED)
    ]


def frozen(connection: Connection, targets: Sequence[str] | None) -> list[Frozen]:
    return [_frozen(each) for each in rows(connection, FROZEN, {"targets": None if targets is None else list(targets)})]


def freeze(connection: Connection, found: Sequence[Frozen]) -> None:
    unique = {(each.action, each.target): each for each in found}
    table = [
        (e.action, clean(e.target), e.kind, clean(e.reason), number_of(e.ticket_id, "T"), e.frozen_at) for e in unique.values()
    ]
    new = {(each["action"], each["target"]) for each in rows(connection, FREEZE, columns(table, 6))}
    events: list[audit.Event] = [
        (
            each.ticket_id,
            "frozen",
            audit.CLOISTER,
            {"action": each.action, "target": each.target, "kind": each.kind, "reason": each.reason},
        )
        for key, each in unique.items()
        if (key[0], clean(key[1])) in new
    ]
    audit.append(connection, events)


def unfreeze(connection: Connection, action: str, target: str, *, reason: str, by: str) -> Frozen:
    found = row(connection, UNFREEZE, [action, target])
    if found is None:
        raise NotFound(f"{action} is not frozen on {target!r}.", hint="List what is frozen: GET /v1/breakers.")
    given = _frozen(found)
    body = {"action": action, "target": target, "reason": reason, "was": given.reason}
    audit.append(connection, [(given.ticket_id, "unfrozen", clean(by), body)])
    return given


def _frozen(found: Row) -> Frozen:
    return Frozen(
        action=found["action"],
        target=found["target"],
        kind=found["kind"],
        reason=found["reason"],
        ticket_id=f"T-{found['ticket']}",
        frozen_at=found["frozen_at"],
    )
