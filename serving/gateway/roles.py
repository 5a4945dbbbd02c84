"""Who may call which route. One table; a test holds every route of the app against it. Knows roles and routes; checks nothing."""

from collections.abc import Mapping

ANALYST, LEAD, APPROVER, ML_ENGINEER = "analyst", "lead", "approver", "ml-engineer"
AUDITOR, ADMIN, SERVICE = "auditor", "admin", "service"
ROLES = frozenset({ANALYST, LEAD, APPROVER, ML_ENGINEER, AUDITOR, ADMIN, SERVICE})

ANYONE = ROLES  # any valid key
DESK = frozenset({ANALYST, LEAD, ADMIN})
READERS = DESK | {APPROVER, AUDITOR}
MODEL_USERS = frozenset({SERVICE, ANALYST, LEAD, ML_ENGINEER, ADMIN})
OPEN = frozenset({"*"})  # no key at all: health, and what shows the console's login form

Route = tuple[str, str]  # method, path template

ROUTE_ROLES: Mapping[Route, frozenset[str]] = {
    # tickets
    ("POST", "/v1/tickets"): DESK | {SERVICE},
    ("GET", "/v1/tickets"): READERS | {SERVICE},
    ("GET", "/v1/tickets/{ticket_id}"): READERS | {SERVICE},
    ("POST", "/v1/tickets/{ticket_id}/messages"): DESK | {SERVICE},
    ("POST", "/v1/tickets/{ticket_id}/override"): frozenset({ANALYST, LEAD}),
    ("POST", "/v1/tickets/{ticket_id}/reopen"): frozenset({ANALYST, LEAD, SERVICE}),
    ("POST", "/v1/tickets/{ticket_id}/feedback"): frozenset({ANALYST, LEAD, SERVICE}),
    ("POST", "/v1/tickets/{ticket_id}/erase"): frozenset({ADMIN}),
    # incidents and approvals
    ("GET", "/v1/incidents"): READERS,
    ("GET", "/v1/incidents/{incident_id}"): READERS,
    ("POST", "/v1/incidents/{incident_id}/split"): frozenset({ANALYST, LEAD}),
    ("GET", "/v1/approvals"): READERS,
    ("GET", "/v1/approvals/{approval_id}"): READERS,
    ("POST", "/v1/approvals/{approval_id}"): frozenset({APPROVER, LEAD}),
    ("POST", "/v1/approvals/{approval_id}/edit"): frozenset({APPROVER, LEAD}),
    ("POST", "/v1/approvals/{approval_id}/review"): frozenset({APPROVER, LEAD, AUDITOR}),
    ("POST", "/v1/approvals/{approval_id}/links"): frozenset({LEAD, ADMIN}),
    # knowledge
    ("POST", "/v1/knowledge"): frozenset({LEAD, ADMIN}),
    ("GET", "/v1/knowledge/search"): READERS | {SERVICE, ML_ENGINEER},
    ("GET", "/v1/knowledge/gaps"): READERS,
    # audit and operations
    ("GET", "/v1/audit"): frozenset({AUDITOR, LEAD, ADMIN}),
    ("GET", "/v1/audit/verify"): frozenset({AUDITOR, ADMIN}),
    ("GET", "/v1/decisions"): frozenset({AUDITOR, LEAD, ADMIN}),
    ("GET", "/v1/audit/export"): frozenset({AUDITOR, ADMIN}),
    ("GET", "/v1/kpis"): READERS | {ML_ENGINEER},
    ("POST", "/v1/kill-switch"): frozenset({LEAD, ADMIN}),
    ("GET", "/v1/breakers"): READERS,
    ("POST", "/v1/breakers/release"): frozenset({LEAD, ADMIN}),
    ("GET", "/v1/status"): frozenset({ADMIN}),
    # the autonomy ladder
    ("GET", "/v1/autonomy"): READERS | {ML_ENGINEER},
    ("GET", "/v1/autonomy/scorecard"): READERS | {ML_ENGINEER},
    ("GET", "/v1/autonomy/{type}"): READERS | {ML_ENGINEER},
    ("POST", "/v1/autonomy/{type}"): frozenset({LEAD, ADMIN}),
    ("GET", "/v1/qa"): READERS,
    ("POST", "/v1/qa/{ticket_id}"): frozenset({ANALYST, LEAD}),
    ("GET", "/v1/chaos-days"): READERS,
    ("POST", "/v1/chaos-days"): frozenset({LEAD, ADMIN}),
    ("GET", "/v1/chaos-days/{day_id}"): READERS,
    ("POST", "/v1/chaos-days/{day_id}/cancel"): frozenset({LEAD, ADMIN}),
    ("POST", "/v1/console/logins"): frozenset({ADMIN}),
    # models
    ("GET", "/v1/models"): MODEL_USERS,
    ("POST", "/v1/chat/completions"): MODEL_USERS,
    ("POST", "/v1/completions"): MODEL_USERS,
    ("POST", "/v1/embeddings"): MODEL_USERS,
    ("POST", "/v1/score"): frozenset({ML_ENGINEER}),
    # training
    ("GET", "/v1/training/rows"): frozenset({ML_ENGINEER, ADMIN}),
    ("GET", "/v1/training/decisions"): frozenset({ML_ENGINEER, ADMIN}),
    # the process
    ("GET", "/health/live"): OPEN,
    ("GET", "/health/ready"): OPEN,
    ("GET", "/version"): ANYONE,
    ("GET", "/metrics"): ANYONE,
    ("GET", "/docs"): ANYONE,
    ("GET", "/openapi.json"): ANYONE,
    # the console, by session
    ("GET", "/"): OPEN,
    ("GET", "/console/login"): OPEN,
    ("POST", "/console/login"): OPEN,
    ("GET", "/console/assets/{name}"): OPEN,
    ("POST", "/console/logout"): ANYONE,
    ("GET", "/console"): READERS,
    ("GET", "/console/tickets/{ticket_id}"): READERS,
    ("POST", "/console/tickets/{ticket_id}/note"): DESK,
    ("POST", "/console/tickets/{ticket_id}/override"): frozenset({ANALYST, LEAD}),
    ("POST", "/console/tickets/{ticket_id}/reopen"): frozenset({ANALYST, LEAD}),
    ("GET", "/console/knowledge"): READERS,
    ("GET", "/console/incidents"): READERS,
    ("GET", "/console/incidents/{incident_id}"): READERS,
    ("POST", "/console/incidents/{incident_id}/split"): frozenset({ANALYST, LEAD}),
    ("GET", "/console/approvals"): READERS,
    ("POST", "/console/approvals/{approval_id}"): frozenset({APPROVER, LEAD}),
    ("GET", "/console/approvals/link/{token}"): OPEN,  # the token is the key: it shows one frozen action, and decides by POST once
    ("POST", "/console/approvals/link/{token}"): OPEN,
    ("POST", "/console/kill-switch"): frozenset({LEAD, ADMIN}),
    ("GET", "/console/autonomy"): READERS,
}

BY_SESSION: frozenset[Route] = frozenset(route for route in ROUTE_ROLES if route[1].startswith("/console")) | {
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
}
"""Routes that a console session opens. The API takes keys alone, so no browser can be tricked into calling it."""

DECIDERS: Mapping[str, frozenset[str]] = {
    "approver": frozenset({APPROVER, LEAD}),
    "lead": frozenset({LEAD}),
}
"""By what a proposal's policy names as approvers: the roles that may decide it."""

CONSOLE_ROLES = frozenset({ANALYST, LEAD, APPROVER, AUDITOR, ADMIN})
