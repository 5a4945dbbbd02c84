"""Customer relations: tags on the accounts that billing knows."""

from typing import Any

from orchestrator.sandbox.calls import Answer, Call, delete, get, post


def _account(call: Call) -> dict[str, Any]:
    account = call.the("accounts", call.path["id"])
    return call.records.get("crm_accounts", account["id"]) or {"id": account["id"], "tags": []}


def get_account(call: Call) -> Answer:
    return Answer(body=_account(call))


def set_tag(call: Call) -> Answer:
    account, tag = _account(call), call.text("tag")
    tags = account["tags"] if tag in account["tags"] else [*account["tags"], tag]
    return Answer(body=call.records.put("crm_accounts", account["id"], {**account, "tags": tags}))


def remove_tag(call: Call) -> Answer:
    account = _account(call)
    tags = [tag for tag in account["tags"] if tag != call.path["tag"]]
    return Answer(body=call.records.put("crm_accounts", account["id"], {**account, "tags": tags}))


ROUTES = (
    get("/crm/accounts/{id}", get_account),
    post("/crm/accounts/{id}/tags", set_tag, "tag"),
    delete("/crm/accounts/{id}/tags/{tag}", remove_tag),
)
