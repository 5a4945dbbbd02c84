"""What triage found out, vectors and incidents. Knows the tables triage, embedding, incident, incident_member."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from orchestrator.domain.errors import BadInput, NotFound
from orchestrator.domain.triage import Entities, Link, PriorityLevel, Triage
from orchestrator.ports import Similar
from orchestrator.storage import audit, queue
from orchestrator.storage.causes import causes_of
from orchestrator.storage.connection import Connection, Row, columns, execute, number_of, page, position_of, row, rows, tickets_of
from orchestrator.storage.serialize import clean, dumps, instant, load
from orchestrator.storage.similar import similar_of

MAX_OTHER_CAUSES = 4
SAVE = """
    WITH found AS (
        SELECT * FROM unnest(%s::bigint[], %b::text[], %b::text[], %s::float8[], %s::boolean[], %s::smallint[], %b::text[],
                             %b::text[], %s::timestamptz[])
            AS f (number, body, category, confidence, abstained, priority, assignment_group, assignee, now)
    ), queued AS (
        UPDATE job SET priority = found.priority FROM found WHERE job.ticket = found.number AND job.priority <> found.priority
    ), kept AS (
        INSERT INTO triage (ticket, body, triaged_at) SELECT number, body::jsonb, now FROM found
        ON CONFLICT (ticket) DO UPDATE SET body = excluded.body, triaged_at = excluded.triaged_at
    )
    UPDATE ticket SET confidence = found.confidence, stage = 'triaged', updated_at = found.now,
        category = coalesce(said.category, found.category), abstained = found.abstained AND said.category IS NULL,
        priority = coalesce(said.priority, found.priority), assignment_group = coalesce(said.assignment_group, found.assignment_group),
        assignee = CASE WHEN coalesce(said.assignment_group, found.assignment_group) = found.assignment_group THEN found.assignee END
    FROM found CROSS JOIN LATERAL said_by_people(found.number) said WHERE ticket.number = found.number
"""
TRIAGES = """
    SELECT g.ticket, g.body, said.category, said.priority, said.assignment_group, member.incident, i.lead,
        EXISTS (SELECT FROM incident_member other WHERE other.incident = member.incident AND other.left_at IS NULL
            AND 'T-' || other.ticket = g.body -> 'link' ->> 'ticket_id') AS beside
    FROM triage g CROSS JOIN LATERAL said_by_people(g.ticket) said
    LEFT JOIN incident_member member ON member.ticket = g.ticket AND member.left_at IS NULL
    LEFT JOIN incident i ON i.number = member.incident
    WHERE g.ticket = ANY(%s)
"""
EMBED = """
    INSERT INTO embedding (ticket, model, created_at, vector, entities)
    SELECT number, %s, created_at, %s, %s::jsonb FROM ticket WHERE number = %s
    ON CONFLICT (ticket, model) DO UPDATE SET vector = excluded.vector, entities = excluded.entities,
        written_by = pg_current_xact_id()
"""
LINKING_LOCK = 0x6C696E6B696E67  # "linking"
INCIDENTS = """
    SELECT i.*, t.state AS lead_state, t.priority AS lead_priority, t.assignment_group, t.category,
        (SELECT count(*) FROM incident_member m WHERE m.incident = i.number AND m.left_at IS NULL) AS members
    FROM incident i JOIN ticket t ON t.number = i.lead
    WHERE (%(number)s::bigint IS NULL OR i.number = %(number)s) AND (%(before)s::bigint IS NULL OR i.number < %(before)s)
    ORDER BY i.number DESC LIMIT %(limit)s
"""
MEMBERS = """
    SELECT t.id, t.subject, t.state, t.requester_email, t.created_at, m.joined_at, m.left_at, m.left_reason, m.left_by,
        g.body -> 'link' AS link
    FROM incident_member m JOIN ticket t ON t.number = m.ticket LEFT JOIN triage g ON g.ticket = t.number
    WHERE m.incident = %s ORDER BY t.number
"""
LINKED_TO = """
    WITH lead AS (SELECT unnest(%(leads)s::bigint[]) AS number)
    SELECT lead.number AS lead, t.number, t.id FROM lead JOIN ticket t ON t.linked_to = lead.number
    WHERE t.state = 'escalated' AND t.outcome = 'linked' AND t.number <> lead.number
    UNION
    SELECT lead.number, t.number, t.id
    FROM lead JOIN incident i ON i.lead = lead.number JOIN incident_member m ON m.incident = i.number JOIN ticket t ON t.number = m.ticket
    WHERE m.left_at IS NULL AND t.state = 'escalated' AND t.outcome = 'linked' AND t.number <> lead.number
    ORDER BY lead, number
"""
FIRST_OF_CAUSES = """
    SELECT DISTINCT ON (cause) cause, t.number AS found, t.id, t.subject, t.description, t.requester_email, t.category,
        t.created_at, t.state, g.body -> 'entities' AS entities, i.id AS incident_id
    FROM triage g JOIN ticket t ON t.number = g.ticket
    CROSS JOIN LATERAL jsonb_array_elements_text(g.body -> 'causes') AS cause
    LEFT JOIN incident_member m ON m.ticket = t.number AND m.left_at IS NULL LEFT JOIN incident i ON i.number = m.incident
    WHERE g.body -> 'causes' ?| %(causes)s::text[] AND cause = ANY(%(causes)s::text[]) AND t.created_at >= %(since)s
        AND t.state IN ('active', 'pending', 'escalated')
    ORDER BY cause, t.created_at, t.number
"""
STRANDED = """
    SELECT t.number FROM ticket t JOIN ticket other ON other.number = t.linked_to
    WHERE t.state = 'escalated' AND t.outcome = 'linked' AND other.state IN ('resolved', 'closed')
    ORDER BY t.number LIMIT 500
"""
LEAVE = """
    UPDATE incident_member SET left_at = now(), left_reason = %s, left_by = %s
    WHERE incident = %s AND ticket = ANY(%s) AND left_at IS NULL RETURNING ticket
"""
SUCCESSOR = """
    SELECT min(m.ticket) AS ticket FROM incident i JOIN incident_member m ON m.incident = i.number AND m.left_at IS NULL
    WHERE i.number = %s AND i.lead = ANY(%s) AND m.ticket <> ALL(%s) HAVING count(*) > 0
"""
FOLLOW = """
    UPDATE ticket SET linked_to = %(lead)s FROM incident_member m
    WHERE m.ticket = ticket.number AND m.incident = %(incident)s AND m.left_at IS NULL AND linked_to = ANY(%(left)s)
        AND number <> %(lead)s AND state = 'escalated' AND outcome = 'linked'
"""
BACK_TO_WORK = """
    UPDATE ticket SET state = 'active', linked_to = NULL, state_reason = %s, state_by = %s, updated_at = now()
    WHERE number = ANY(%s) AND state = 'escalated' AND outcome = 'linked'
"""


# --- triage ---


def save_triage(connection: Connection, triages: Mapping[str, Triage], *, now: datetime) -> None:
    """Row, job priority, ticket columns and event *triaged* of all of them in two statements."""
    ordered = sorted(triages.items(), key=lambda item: number_of(item[0], "T"))
    bodies = [dumps(triage) for _, triage in ordered]
    table = [
        _triaged(number_of(ticket_id, "T"), triage, body, now) for (ticket_id, triage), body in zip(ordered, bodies, strict=True)
    ]
    if table:
        execute(connection, SAVE, columns(table, 9))
        audit.append(connection, audit.about([ticket_id for ticket_id, _ in ordered], "triaged", bodies))


def _triaged(number: int, triage: Triage, body: str, now: datetime) -> tuple[Any, ...]:
    found, level, assigned = triage.classification, int(triage.priority.level), triage.assignment
    confidence = float(found.confidence)
    return (
        number,
        body,
        clean(found.category),
        confidence,
        bool(found.abstained),
        level,
        clean(assigned.group),
        assigned.assignee,
        now,
    )


def triages(connection: Connection, ids: Sequence[str]) -> dict[str, Triage]:
    """As triage found it, with what people have corrected since: an override counts, a link that was undone is none."""
    found = rows(connection, TRIAGES, [tickets_of(ids)])
    return {f"T-{record['ticket']}": _corrected(load(Triage, record["body"]), record) for record in found}


def _corrected(triage: Triage, found: Row) -> Triage:
    classified, level, assigned = triage.classification, triage.priority, triage.assignment
    if found["category"]:
        classified = replace(classified, category=found["category"], abstained=False)
    if found["priority"]:
        level = replace(level, level=PriorityLevel(found["priority"]))
    if found["assignment_group"] and found["assignment_group"] != assigned.group:
        assigned = replace(assigned, group=found["assignment_group"], assignee=None)
    link = _standing(triage.link, found)
    return replace(triage, classification=classified, priority=level, assignment=assigned, link=link)


def _standing(link: Link | None, found: Row) -> Link | None:
    """A link to an incident stands while the ticket is in it and does not lead it; where the other one has left, it goes to the lead."""
    if link is None or link.incident_id is None:
        return link
    if link.incident_id != f"INC-{found['incident']}" or found["lead"] == found["ticket"]:
        return None
    return link if found["beside"] else replace(link, ticket_id=f"T-{found['lead']}")


# --- vectors ---


def save_embeddings(connection: Connection, model: str, entries: Sequence[tuple[str, np.ndarray, Entities]]) -> None:
    """Vectors are brought to unit length, so that the inner product is the cosine. Sent in one go (pipelined)."""
    table = [(model, unit(vector), dumps(entities), number_of(ticket_id, "T")) for ticket_id, vector, entities in entries]
    with connection.cursor() as cursor:
        cursor.executemany(EMBED, table)


def unit(vector: np.ndarray) -> np.ndarray:
    values = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(values))
    if not np.isfinite(length) or length == 0.0:
        raise BadInput(f"A vector of length {length} has no direction.", hint="Is the embedder working?")
    return values / np.float32(length)


def embeddings(connection: Connection, model: str, ids: Sequence[str]) -> dict[str, np.ndarray]:
    found = rows(connection, "SELECT ticket, vector FROM embedding WHERE model = %s AND ticket = ANY(%s)", [model, tickets_of(ids)])
    return {f"T-{record['ticket']}": record["vector"].to_numpy() for record in found}


def linking_lock(connection: Connection) -> None:
    connection.execute("SELECT pg_advisory_xact_lock(%s)", [LINKING_LOCK])


# --- incidents ---


def join_incident(connection: Connection, ticket_id: str, to_ticket_id: str, *, title: str, now: datetime) -> str:
    """Joining again gives the incident that the ticket is in already."""
    if ticket_id == to_ticket_id:
        raise BadInput(f"{ticket_id} cannot be linked to itself.")
    asked = [number_of(ticket_id, "T"), number_of(to_ticket_id, "T"), clean(title), now]
    found = row(connection, "SELECT incident_join(%s, %s, %s, %s) AS number", asked)
    assert found is not None  # a function call gives one row
    return f"INC-{found['number']}"


def split_incident(connection: Connection, incident_id: str, ticket_ids: Sequence[str], *, reason: str, by: str) -> None:
    """These tickets leave, go back to work on their own, and are not offered this incident again.

    A leaving lead is succeeded by the oldest, which goes back to work, too: nobody else would work on the incident.
    """
    number, numbers = number_of(incident_id, "INC"), sorted(tickets_of(ticket_ids))
    successor = [found["ticket"] for found in rows(connection, SUCCESSOR, [number, numbers, numbers])]
    queue.wake(connection, [*numbers, *successor])
    left = {found["ticket"] for found in rows(connection, LEAVE, [clean(reason), clean(by), number, numbers])}
    missing = [f"T-{ticket}" for ticket in numbers if ticket not in left]
    if missing:
        raise NotFound(f"{', '.join(missing)} is not in {incident_id}.", hint="Look at the incident's members.")
    for lead in successor:
        execute(connection, "UPDATE incident SET lead = %s WHERE number = %s", [lead, number])
        execute(connection, FOLLOW, {"lead": lead, "incident": number, "left": numbers})
        execute(connection, BACK_TO_WORK, [clean(f"leads {incident_id} now: {reason}"), clean(by), successor])
    execute(connection, BACK_TO_WORK, [clean(f"taken out of {incident_id}: {reason}"), clean(by), numbers])
    body = {"incident": incident_id, "reason": reason}
    audit.append(
        connection, audit.about([f"T-{ticket}" for ticket in numbers], "incident_left", [body] * len(numbers), actor=clean(by))
    )


def incident(connection: Connection, incident_id: str) -> dict[str, Any]:
    number = number_of(incident_id, "INC")
    found = row(connection, INCIDENTS, {"number": number, "before": None, "limit": 1})
    if found is None:
        raise NotFound(f"There is no incident {incident_id!r}.", hint="Look it up in the list of incidents.")
    causes = causes_of(connection, number)
    explained = {"cause": causes[0] if causes else None, "other_causes": causes[1:MAX_OTHER_CAUSES]}
    return {**_incident(found), **explained, "tickets": [_member(member) for member in rows(connection, MEMBERS, [number])]}


def incidents(connection: Connection, *, cursor: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    parameters = {"number": None, "before": position_of(cursor), "limit": limit + 1}
    found = [_incident(record) for record in rows(connection, INCIDENTS, parameters)]
    return page(found, limit, lambda item: number_of(item["id"], "INC"))


def incident_of(connection: Connection, ticket_id: str) -> str | None:
    found = row(
        connection, "SELECT incident FROM incident_member WHERE ticket = %s AND left_at IS NULL", [number_of(ticket_id, "T")]
    )
    return None if found is None else f"INC-{found['incident']}"


def first_of_causes(connection: Connection, causes: Sequence[str], *, since: datetime) -> dict[str, Similar]:
    """The earliest open ticket of each cause; its cosine is not computed."""
    found = rows(connection, FIRST_OF_CAUSES, {"causes": list(causes), "since": since})
    return {each["cause"]: similar_of(each) for each in found}


def stranded(connection: Connection) -> list[str]:
    """Tickets that wait for one that was resolved without them: it happened while they were being linked to it."""
    return [f"T-{found['number']}" for found in rows(connection, STRANDED)]


def linked_to(connection: Connection, ids: Sequence[str]) -> dict[str, list[str]]:
    """Who waits for each of these tickets; those that nobody waits for are missing."""
    answer: dict[str, list[str]] = {}
    for found in rows(connection, LINKED_TO, {"leads": tickets_of(ids)}):
        answer.setdefault(f"T-{found['lead']}", []).append(found["id"])
    return answer


def _incident(found: Row) -> dict[str, Any]:
    status = "resolved" if found["lead_state"] in ("resolved", "closed") else "open"
    lead = {"lead": f"T-{found['lead']}", "lead_state": found["lead_state"], "priority": found["lead_priority"]}
    shown = {"id": found["id"], "title": found["title"], "status": status, **lead}
    return {
        **shown,
        "group": found["assignment_group"],
        "category": found["category"],
        "members": found["members"],
        "opened_at": instant(found["opened_at"]),
    }


def _member(found: Row) -> dict[str, Any]:
    return {name: instant(value) if isinstance(value, datetime) else value for name, value in found.items()}
