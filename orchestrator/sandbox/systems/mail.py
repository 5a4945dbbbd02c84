"""Outgoing mail, to addresses on record only. Its outbox has no route of its own to read it: it holds one-time codes."""

from orchestrator.sandbox.calls import Answer, Call, Problem, post


def send(call: Call) -> Answer:
    to, subject, body = call.text("to"), call.text("subject"), call.text("body")
    if not call.records.is_address(to):
        raise Problem(404, f"{to} is not an address on record.")
    return Answer(status=201, body=call.send_mail(by="mail", to=to, subject=subject, body=body))


ROUTES = (post("/mail/messages", send, "to", "subject", "body"),)
