"""What lies behind incidents. Knows the table incident_cause and reads the tickets of incidents; judges nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.storage import audit
from orchestrator.storage.connection import Connection, columns, execute, number_of, rows
from orchestrator.storage.serialize import dumps

EARLIER = 500  # tickets received before the first of an incident, of which those of its type are compared with
DUE = """
    SELECT i.number, count(*)::int AS members, min(m.ticket) AS first, max(m.ticket) AS last, min(lead.category) AS category
    FROM incident i JOIN ticket lead ON lead.number = i.lead
    JOIN incident_member m ON m.incident = i.number AND m.left_at IS NULL
    LEFT JOIN incident_cause c ON c.incident = i.number
    WHERE c.incident IS NULL OR lead.state NOT IN ('resolved', 'closed')
    GROUP BY i.number, c.members HAVING count(*) IS DISTINCT FROM c.members
    ORDER BY i.number LIMIT %s
"""
REPORTS = """
    SELECT t.created_at AS at, g.body -> 'entities' AS entities, g.body -> 'causes' AS causes
    FROM ticket t LEFT JOIN triage g ON g.ticket = t.number
    LEFT JOIN incident_member m ON m.ticket = t.number AND m.left_at IS NULL
    WHERE t.number BETWEEN %(first)s - %(earlier)s AND %(last)s
        AND (m.incident = %(incident)s OR m.incident IS NULL AND t.number < %(first)s AND t.category = %(category)s)
"""
SAVE = """
    INSERT INTO incident_cause (incident, members, causes, found_at)
    SELECT incident, members, causes::jsonb, now FROM unnest(%s::bigint[], %s::int[], %b::text[], %s::timestamptz[])
        AS n (incident, members, causes, now)
    ON CONFLICT (incident) DO UPDATE SET members = excluded.members, causes = excluded.causes, found_at = excluded.found_at
"""


def incidents_to_explain(connection: Connection, *, limit: int) -> list[dict[str, Any]]:
    """[{id, members, reports: [{at, entities, causes}]}]: open incidents whose tickets are others than when last looked at.

    Beside an incident's own tickets the reports hold earlier ones of the same type: whoever says *none before* must have looked.
    """
    return [
        {
            "id": f"INC-{due['number']}",
            "members": due["members"],
            "reports": rows(
                connection,
                REPORTS,
                {**{name: due[name] for name in ("first", "last", "category")}, "incident": due["number"], "earlier": EARLIER},
            ),
        }
        for due in rows(connection, DUE, [limit])
    ]


def save_causes(connection: Connection, found: Sequence[tuple[str, int, Sequence[Mapping[str, Any]]]], *, now: datetime) -> None:
    """(incident, how many tickets it had, causes best first); the best one is audited at the incident's lead."""
    if not found:
        return
    execute(connection, SAVE, columns([(number_of(i, "INC"), members, dumps(causes), now) for i, members, causes in found], 4))
    audit.append(
        connection, [(None, "incident_explained", audit.CLOISTER, {"incident": i, "cause": c[0]}) for i, _, c in found if c]
    )


def causes_of(connection: Connection, incident: int) -> list[dict[str, Any]]:
    found = rows(connection, "SELECT causes FROM incident_cause WHERE incident = %s", [incident])
    return list(found[0]["causes"]) if found else []
