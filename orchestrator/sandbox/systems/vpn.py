"""Remote access: sessions, their gateways, device certificates, and what the gateway says to somebody who wants in."""

from orchestrator.sandbox import world as worlds
from orchestrator.sandbox.calls import Answer, Call, get, listing, one, post
from orchestrator.sandbox.systems.billing import a_year_after


def reset_session(call: Call) -> Answer:
    session = call.the("vpn_sessions", call.path["id"])
    return Answer(body=call.records.put("vpn_sessions", session["id"], {**session, "state": "closed", "reset_at": call.at}))


def get_access(call: Call) -> Answer:
    """Whether the gateway would let this user in now, check by check."""
    user = call.the("users", call.path["id"])
    certificate = next(iter(call.records.find("vpn_certificates", user_id=user["id"])), None)
    hung = [session["id"] for session in call.records.find("vpn_sessions", user_id=user["id"], state="hung")]
    checks = {
        "account": user["status"],
        "certificate": certificate["state"] if certificate else "none",
        "second_factor": "enrolled" if user["mfa_enrolled"] else "missing",
        "hung_session": hung[0] if hung else None,
    }
    good = {"account": ("active",), "certificate": ("valid", "none"), "second_factor": ("enrolled",), "hung_session": (None,)}
    refused = [name for name, value in checks.items() if value not in good[name]]
    named = {"user_id": user["id"], "certificate_id": certificate["id"] if certificate else None}
    return Answer(body={**named, **checks, "may_connect": not refused, "refused_for": refused})


def renew_certificate(call: Call) -> Answer:
    old = call.the("vpn_certificates", call.path["id"])
    new = {**old, "state": "valid", "expires_at": worlds.iso(a_year_after(call.now)), "renewed_at": call.at}
    return Answer(body=call.records.put("vpn_certificates", old["id"], new))


ROUTES = (
    get("/vpn/sessions", listing("vpn_sessions", user_id="user_id"), "user_id"),
    get("/vpn/sessions/{id}", one("vpn_sessions")),
    post("/vpn/sessions/{id}/reset", reset_session),
    get("/vpn/access/{id}", get_access),
    get("/vpn/certificates/{id}", one("vpn_certificates")),
    post("/vpn/certificates/{id}/renew", renew_certificate),
)
