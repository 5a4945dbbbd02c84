"""Data-protection erasure: a ticket's text goes, the fact that it was there stays. Knows what every table holds about a ticket.

What is left: numbers, states, times, categories, which steps were taken and with what result, and the proofs of its events.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.domain.errors import Conflict
from orchestrator.storage import queue
from orchestrator.storage.connection import Connection, execute, number_of, row, rows
from orchestrator.storage.serialize import clean
from orchestrator.storage.tickets import no_such_ticket

GONE = "[erased]"
STATEMENTS: Mapping[
    str, str
] = {  # by table; %(ticket)s is the ticket's number. A test holds every table with a ticket in it against this
    "ticket": """UPDATE ticket SET subject = '[erased]', description = '[erased]', context = '{}', state_reason = '', external_id = NULL,
        requester = '{"email": ""}', requester_email = '', erased_at = now() WHERE number = %(ticket)s""",
    "message": "UPDATE message SET body = '[erased]', by = CASE author WHEN 'requester' THEN '' ELSE by END WHERE ticket = %(ticket)s",
    "triage": "DELETE FROM triage WHERE ticket = %(ticket)s",
    "embedding": "DELETE FROM embedding WHERE ticket = %(ticket)s",
    "one_time_code": "DELETE FROM one_time_code WHERE ticket = %(ticket)s",
    "outbox": "DELETE FROM outbox WHERE ticket = %(ticket)s",
    "shadow_prediction": "DELETE FROM shadow_prediction WHERE ticket = %(ticket)s",
    "turn": "DELETE FROM turn WHERE ticket = %(ticket)s",
    "outcome": "UPDATE outcome SET body = '{}', notes = '{}' WHERE ticket = %(ticket)s",
    "feedback": "DELETE FROM feedback WHERE ticket = %(ticket)s",
    "knowledge_gap": "DELETE FROM knowledge_gap WHERE ticket = %(ticket)s",
    "qa_finding": "UPDATE qa_finding SET reason = '' WHERE ticket = %(ticket)s",
    "child": "UPDATE child SET facts = '{}' WHERE %(ticket)s IN (ticket, parent)",
    "breaker": "UPDATE breaker SET reason = '' WHERE ticket = %(ticket)s",
    "incident": "UPDATE incident SET title = '[erased]' WHERE lead = %(ticket)s",
    "incident_member": "UPDATE incident_member SET left_reason = NULL WHERE ticket = %(ticket)s",
    "step": """UPDATE step SET

        arguments = CASE WHEN jsonb_typeof(arguments -> 'amount') = 'number' THEN jsonb_build_object('amount', arguments -> 'amount')
            ELSE '{}' END, provenance = '{}', preview = '{}', owner = NULL,
        target = NULL, before = NULL, after = NULL, verification = NULL,
        verdict = jsonb_build_object('decision', verdict -> 'decision', 'rule', verdict -> 'rule', 'reason', ''),
        observation = CASE WHEN observation IS NULL THEN NULL ELSE jsonb_build_object('status', observation -> 'status') END
        WHERE ticket = %(ticket)s""",
    "approval": """UPDATE approval SET proposal = '{}', reason = '', decision_reason = NULL, review = NULL WHERE ticket = %(ticket)s""",
    "approval_vote": """UPDATE approval_vote SET reason = ''
        WHERE approval IN (SELECT number FROM approval WHERE ticket = %(ticket)s)""",
    "job": "UPDATE job SET last_error = NULL WHERE ticket = %(ticket)s",
    "idempotency": "DELETE FROM idempotency WHERE body ->> 'id' = 'T-' || %(ticket)s",
}
KEPT: Mapping[str, str] = {  # columns of text that stay, by table: what the desk did and decided, in its own words and ids
    "ticket": "id source channel state state_by stage autonomy_rung category assignment_group assignee outcome",
    "message": "author",
    "outcome": "kind runbook",
    "incident": "id",
    "incident_member": "left_by",
    "step": "runbook step action digest idempotency_key undoes",
    "approval": "id digest status approvers rule decided_by change proposed_by reviewed_by",
    "approval_vote": "person by role",
    "job": "worker",
    "child": "key runbook opened_by",
    "breaker": "action target kind",  # what is frozen stays frozen, until a lead gives it free
    "qa_finding": "finding by",
}
NOTHING_PERSONAL = frozenset({"erasure"})  # tables with a ticket in them and no word of it
RESTING = ("resolved", "closed")
READY = "SELECT state FROM ticket WHERE number = %s FOR UPDATE"
OLD = """
    SELECT number FROM ticket WHERE state = 'closed' AND erased_at IS NULL AND updated_at < %s ORDER BY updated_at LIMIT %s
"""


def erase(connection: Connection, ticket_id: str, *, reason: str, by: str) -> dict[str, Any]:
    """{ticket_id, events}: how many events lost their text. Raises NotFound; Conflict while it is in work.

    An erased ticket to which words were added since is erased again.
    """
    number = number_of(ticket_id, "T")
    queue.lock(connection, [number])
    found = row(connection, READY, [number])
    if found is None:
        raise no_such_ticket(ticket_id)
    if found["state"] not in RESTING:
        raise Conflict(f"{ticket_id} is {found['state']}: it is still worked on.", hint="Resolve or close it first.")
    for statement in STATEMENTS.values():
        execute(connection, statement, {"ticket": number})
    erased = row(connection, "SELECT audit_erase(%s, %s, %s) AS events", [number, clean(reason), clean(by).replace("\n", " ")])
    return {"ticket_id": ticket_id, "events": erased["events"] if erased else 0}


def erase_old(connection: Connection, *, before: datetime, limit: int = 20) -> list[str]:
    """Retention: closed tickets that nobody touched since then, the oldest first."""
    due = [f"T-{found['number']}" for found in rows(connection, OLD, [before, limit])]
    for ticket_id in due:
        erase(connection, ticket_id, reason=f"retention: closed and untouched since before {before:%Y-%m-%d}", by="cloister")
    return due
