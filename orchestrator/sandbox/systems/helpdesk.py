"""The desk that tickets came from: takes replies, notes and states back. The first of them opens a ticket it has not seen."""

from typing import Any

from orchestrator.sandbox.calls import Answer, Call, get, one, post


def _ticket(call: Call) -> dict[str, Any]:
    number = call.path["id"]
    empty: dict[str, Any] = {
        "id": number,
        "external_id": number,
        "state": None,
        "code": None,
        "replies": [],
        "notes": [],
        "updated_at": None,
    }
    return {**empty, **(call.records.get("helpdesk", number) or {})}


def _append(call: Call, where: str) -> Answer:
    ticket = _ticket(call)
    ticket[where] = [*ticket[where], {"body": call.text("body"), "at": call.at}]
    return Answer(status=201, body=call.records.put("helpdesk", ticket["id"], {**ticket, "updated_at": call.at}))


def reply(call: Call) -> Answer:
    return _append(call, "replies")


def note(call: Call) -> Answer:
    return _append(call, "notes")


def status(call: Call) -> Answer:
    ticket = {**_ticket(call), "state": call.text("state"), "code": call.body.get("code"), "updated_at": call.at}
    return Answer(body=call.records.put("helpdesk", ticket["id"], ticket))


ROUTES = (
    get("/helpdesk/tickets/{id}", one("helpdesk")),
    post("/helpdesk/tickets/{id}/replies", reply, "body"),
    post("/helpdesk/tickets/{id}/notes", note, "body"),
    post("/helpdesk/tickets/{id}/status", status, "state", "code"),
)
