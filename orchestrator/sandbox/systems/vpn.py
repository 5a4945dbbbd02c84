"""Remote access: sessions and their gateways."""

from orchestrator.sandbox.calls import Answer, Call, get, listing, one, post


def reset_session(call: Call) -> Answer:
    session = call.the("vpn_sessions", call.path["id"])
    return Answer(body=call.records.put("vpn_sessions", session["id"], {**session, "state": "closed", "reset_at": call.at}))


ROUTES = (
    get("/vpn/sessions", listing("vpn_sessions", user_id="user_id"), "user_id"),
    get("/vpn/sessions/{id}", one("vpn_sessions")),
    post("/vpn/sessions/{id}/reset", reset_session),
)
