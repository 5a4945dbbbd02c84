"""The whole JSON record of one ticket, as GET /v1/tickets/{id} answers it. Reads every table about a ticket; changes none."""

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.errors import NotFound
from orchestrator.storage import approvals, audit
from orchestrator.storage.children import children
from orchestrator.storage.connection import Connection, Row, number_of, row, rows
from orchestrator.storage.serialize import dump, instant
from orchestrator.storage.tickets import summary

TICKET = """
    SELECT t.*, i.id AS incident_id, g.body AS triage, g.triaged_at, o.kind AS outcome_kind, o.body AS outcome_body, o.notes,
        o.runbook, o.eligible, o.at AS outcome_at
    FROM ticket t LEFT JOIN triage g ON g.ticket = t.number LEFT JOIN outcome o ON o.ticket = t.number
    LEFT JOIN incident_member m ON m.ticket = t.number AND m.left_at IS NULL LEFT JOIN incident i ON i.number = m.incident
    WHERE t.number = %s
"""
MESSAGES = "SELECT author, body, at, by FROM message WHERE ticket = %s ORDER BY id"
STEPS = "SELECT * FROM step WHERE ticket = %s ORDER BY seq"
TIMELINE = "SELECT seq, at, kind, actor, body FROM event WHERE ticket = %s ORDER BY seq"
STEP_FIELDS = (
    "seq",
    "epoch",
    "runbook",
    "step",
    "action",
    "arguments",
    "provenance",
    "preview",
    "owner",
    "digest",
    "idempotency_key",
    "writes",
    "target",
    "before",
    "after",
    "verification",
    "undoes",
    "unknowns",
)


def ticket_record(connection: Connection, ticket_id: str) -> dict[str, Any]:
    number = number_of(ticket_id, "T")
    found = row(connection, TICKET, [number])
    if found is None:
        raise NotFound(f"There is no ticket {ticket_id!r}.", hint="Look it up in the list of tickets.")
    connection.execute(audit.CHAIN_NOW)
    outcome = found["outcome_body"] or {}
    triage = found["triage"] or {}
    return {
        **summary(found),
        "children": [dump(child) for child in children(connection, [ticket_id]).get(ticket_id, [])],
        "description": found["description"],
        "context": found["context"],
        "autonomy_rung": found["autonomy_rung"],
        "classification": _classification(found, triage),
        "entities": triage.get("entities"),
        "signals": triage.get("signals"),
        "link": _link(found, triage),
        "priority": _priority(found, triage),
        "assignment": _assignment(found, triage),
        "outcome": found["outcome_kind"],
        "resolution": _resolution(found, outcome, rows(connection, STEPS, [number])),
        "reply": outcome.get("reply") or outcome.get("question") or None,
        "question": outcome.get("question"),
        "handover": outcome.get("packet"),
        "explanation": [*triage.get("explanation", []), *_sentences((found["notes"] or {}).get("explanation"))],
        "notes": found["notes"],
        "timeline": [_event(event) for event in rows(connection, TIMELINE, [ticket_id])],
        "messages": [{**message, "at": instant(message["at"])} for message in rows(connection, MESSAGES, [number])],
        "approvals": [dump(approval) for approval in approvals.of_tickets(connection, [ticket_id])[ticket_id]],
    }


def _classification(found: Row, triage: Mapping[str, Any]) -> dict[str, Any] | None:
    """As triage found it; a person's override stands above it."""
    if "classification" not in triage:
        return None
    classified = dict(triage["classification"])
    if classified["category"] != found["category"]:
        return {**classified, "category": found["category"], "abstained": False, "overridden_from": classified["category"]}
    return classified


def _link(found: Row, triage: Mapping[str, Any]) -> dict[str, Any] | None:
    """The link as triage found it; `undone` when a person has taken the ticket out of that incident."""
    link = triage.get("link")
    if link is None:
        return None
    undone = link.get("incident_id") is not None and found["incident_id"] != link["incident_id"]
    return {**link, "undone": undone}


def _priority(found: Row, triage: Mapping[str, Any]) -> dict[str, Any] | None:
    if "priority" not in triage:
        return None
    return {**triage["priority"], "level": found["priority"]}


def _assignment(found: Row, triage: Mapping[str, Any]) -> dict[str, Any] | None:
    if "assignment" not in triage:
        return None
    return {**triage["assignment"], "group": found["assignment_group"], "assignee": found["assignee"]}


def _resolution(found: Row, outcome: Mapping[str, Any], steps: list[Row]) -> dict[str, Any] | None:
    if found["outcome_kind"] is None and not steps:
        return None
    shown = [_step(step) for step in steps]
    return {
        "outcome": found["outcome_kind"],
        "at": None if found["outcome_at"] is None else instant(found["outcome_at"]),
        "runbook": found["runbook"] or (steps[-1]["runbook"] if steps else None),
        "eligible": found["eligible"],
        "resolution_code": outcome.get("resolution_code"),
        "internal_note": outcome.get("internal_note"),
        "verification": outcome.get("verification"),
        "steps": shown,
        "unresolved": [_unresolved(step) for step in shown if step["writes"] and _is_open(step)],
        "verdicts": [{"step": step["step"], "action": step["action"], **step["verdict"]} for step in shown],
        "observations": [
            {"step": step["step"], "action": step["action"], **step["observation"]} for step in shown if step["observation"]
        ],
    }


def _is_open(step: Mapping[str, Any]) -> bool:
    """Nobody knows whether it happened."""
    return step["observation"] is None or step["observation"]["status"] == "unknown"


def _unresolved(step: Mapping[str, Any]) -> dict[str, Any]:
    return {name: step[name] for name in ("step", "action", "arguments", "idempotency_key", "intended_at", "unknowns")}


def _step(step: Row) -> dict[str, Any]:
    times = {name: None if step[name] is None else instant(step[name]) for name in ("intended_at", "observed_at")}
    return {**{name: step[name] for name in STEP_FIELDS}, "verdict": step["verdict"], "observation": step["observation"], **times}


def _event(event: Row) -> dict[str, Any]:
    return {
        "seq": event["seq"],
        "at": instant(event["at"]),
        "kind": event["kind"],
        "actor": event["actor"],
        "body": audit.shown_body(event["body"]),
    }


def _sentences(explanation: Any) -> list[str]:
    return [explanation] if isinstance(explanation, str) else list(explanation or [])
