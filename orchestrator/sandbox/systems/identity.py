"""Identity provider: users, passwords, second factors, groups. Reset links go to the address on record, to no other."""

from typing import Any

from orchestrator.sandbox import world as worlds
from orchestrator.sandbox.calls import Answer, Call, Problem, delete, get, listing, one, post


def _enabled(call: Call) -> dict[str, Any]:
    user = call.the("users", call.path["id"])
    if user["status"] == "disabled":
        raise Problem(409, f"User {user['id']} is disabled; enable the account first.")
    return user


def reset_password(call: Call) -> Answer:
    user = _enabled(call)
    if user["status"] == "invited":
        raise Problem(409, f"User {user['id']} has not activated the account yet; resend the activation instead.")
    link = "Choose a new password with the link in this mail. It is valid for one hour."
    call.send_mail(by="identity", to=user["email"], subject="Reset your password", body=link)
    return Answer(body=call.records.put("users", user["id"], {**user, "status": "active", "password_reset_sent_at": call.at}))


def reset_mfa(call: Call) -> Answer:
    user = _enabled(call)
    link = "Enroll your second factor again with the link in this mail. It is valid for one hour."
    call.send_mail(by="identity", to=user["email"], subject="Enroll your second factor", body=link)
    return Answer(body=call.records.put("users", user["id"], {**user, "mfa_enrolled": False, "mfa_reset_at": call.at}))


def resend_activation(call: Call) -> Answer:
    user = call.the("users", call.path["id"])
    if user["status"] != "invited":
        raise Problem(409, f"User {user['id']} is {user['status']}, not invited; there is nothing to activate.")
    link = "Activate your account with the link in this mail. It is valid for three days."
    call.send_mail(by="identity", to=user["email"], subject="Activate your account", body=link)
    return Answer(body=call.records.put("users", user["id"], {**user, "activation_sent_at": call.at}))


def create_user(call: Call) -> Answer:
    """A new colleague: invited, with a link to activate the account."""
    email = call.text("email")
    if "@" not in email:
        raise Problem(422, f"The body needs 'email', a mail address; got {email!r}.")
    if call.records.find("users", email=email):
        raise Problem(409, f"{email} is the address of a user already.")
    number = call.records.next_id("users", "usr")
    given = {name: call.body.get(name) for name in ("site", "department", "manager_email")}
    user = {**worlds.KINDS["users"].defaults, "id": number, "email": email, "name": call.text("name"), **given, "status": "invited"}
    link = "Activate your account with the link in this mail. It is valid for three days."
    call.send_mail(by="identity", to=email, subject="Activate your account", body=link)
    return Answer(status=201, body=call.records.put("users", number, {**user, "activation_sent_at": call.at}))


def withdraw_user(call: Call) -> Answer:
    user = call.the("users", call.path["id"])
    if user["status"] != "invited":
        raise Problem(409, f"User {user['id']} is {user['status']}; only an invitation can be withdrawn.")
    call.records.drop("users", user["id"])
    return Answer(body=user)


def revoke_tokens(call: Call) -> Answer:
    user = _enabled(call)
    return Answer(body=call.records.put("users", user["id"], {**user, "tokens_revoked_at": call.at}))


def add_to_group(call: Call) -> Answer:
    user, group = _enabled(call), call.text("group")
    groups = user["groups"] if group in user["groups"] else [*user["groups"], group]
    return Answer(body=call.records.put("users", user["id"], {**user, "groups": groups}))


def remove_from_group(call: Call) -> Answer:
    user = call.the("users", call.path["id"])
    groups = [group for group in user["groups"] if group != call.path["group"]]
    return Answer(body=call.records.put("users", user["id"], {**user, "groups": groups}))


ROUTES = (
    get("/identity/users", listing("users", email="email"), "email"),
    get("/identity/users/{id}", one("users")),
    post("/identity/users/{id}/password-reset", reset_password),
    post("/identity/users/{id}/mfa-reset", reset_mfa),
    post("/identity/users/{id}/activation", resend_activation),
    post("/identity/users/{id}/groups", add_to_group, "group"),
    delete("/identity/users/{id}/groups/{group}", remove_from_group),
    post("/identity/users", create_user, "email", "name", "site", "department", "manager_email"),
    delete("/identity/users/{id}", withdraw_user),
    post("/identity/users/{id}/tokens/revoke", revoke_tokens),
)
