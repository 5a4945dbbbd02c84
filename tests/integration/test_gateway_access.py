"""Who may call what: every route stands in the table, every wrong role is refused, no body makes anybody more than their key."""

from gateway_server import Gateway, problem

from orchestrator.storage.store import PostgresStore
from serving.gateway.app import create_app
from serving.gateway.roles import DECIDERS, OPEN, ROLES, ROUTE_ROLES
from serving.gateway.standalone import standalone_parts

API = sorted(route for route in ROUTE_ROLES if not route[1].startswith("/console") and route[1] != "/")
GUARDED = [route for route in API if ROUTE_ROLES[route] != OPEN]


def path_of(template: str) -> str:
    return (
        template.replace("{ticket_id}", "T-1")
        .replace("{incident_id}", "INC-1")
        .replace("{approval_id}", "A-1")
        .replace("{name}", "x")
    )


def test_every_route_stands_in_the_table_and_nothing_else_does(store: PostgresStore) -> None:
    app = create_app(standalone_parts(store))
    served = {(method, route.path) for route in app.routes for method in getattr(route, "methods", ()) if method != "HEAD"}  # type: ignore[attr-defined]
    assert served == set(ROUTE_ROLES)


def test_the_table_reads_as_meant() -> None:
    opened = sorted(f"{method} {path}" for (method, path), roles in ROUTE_ROLES.items() if roles == OPEN)
    assert opened == [
        "GET /",
        "GET /console/approvals/link/{token}",  # the token is the key
        "GET /console/assets/{name}",
        "GET /console/login",
        "GET /health/live",
        "GET /health/ready",
        "POST /console/approvals/link/{token}",
        "POST /console/login",
    ]
    assert all(roles <= ROLES for roles in ROUTE_ROLES.values() if roles != OPEN)
    assert {"approver": {"approver", "lead"}, "lead": {"lead"}} == {name: set(roles) for name, roles in DECIDERS.items()}
    assert ROUTE_ROLES["POST", "/v1/score"] == {"ml-engineer"}
    assert ROUTE_ROLES["GET", "/v1/status"] == {"admin"}


def test_no_route_but_health_answers_without_a_key(gateway: Gateway) -> None:
    for method, template in GUARDED:
        answer = gateway.client().request(method, path_of(template), content=b"{" if method == "POST" else None)
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_wrong_keys_are_told_so(gateway: Gateway) -> None:
    for header in ("Bearer nonsense", "Bearer", "Basic YWRhOnB3", "nonsense", "Bearer \xff"):
        answer = gateway.client().get("/v1/tickets", headers={"Authorization": header.encode("latin-1")})  # type: ignore[dict-item]
        problem(answer, 401)


def test_every_role_that_the_table_does_not_name_is_refused(gateway: Gateway) -> None:
    refused = 0
    for role in sorted(ROLES):
        client = gateway.client(role)
        for method, template in GUARDED:
            answer = client.request(method, path_of(template), content=b"{" if method == "POST" else None)
            if role in ROUTE_ROLES[method, template]:
                assert answer.status_code not in (401, 403), (role, method, template, answer.text)
            else:
                assert role in problem(answer, 403)["detail"]
                refused += 1
    assert refused > 60


def test_health_needs_no_key_and_says_little(gateway: Gateway) -> None:
    assert gateway.client().get("/health/live").json() == {"status": "live"}
    ready = gateway.client().get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {
        "status": "ready",
        "parts": {"database": True, "language_model": True, "embedder": True},
        "unhealthy_aliases": [],
    }
