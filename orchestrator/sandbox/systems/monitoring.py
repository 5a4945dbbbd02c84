"""Monitoring and deployments: services, alerts, certificates, restarts, rollbacks. What cures an alert is written in it."""

from collections.abc import Callable
from typing import Any

from orchestrator.sandbox import world as worlds
from orchestrator.sandbox.calls import Answer, Call, Problem, get, listing, one, post
from orchestrator.sandbox.systems.billing import a_year_after

DEPLOYMENTS_SHOWN = 5


def _told(alert: dict[str, Any]) -> dict[str, Any]:
    """An alert as monitoring knows it: what would really cure it shows only when it is tried."""
    return {name: value for name, value in alert.items() if name != "needs"}


def list_alerts(call: Call) -> Answer:
    return Answer(
        body=[_told(alert) for alert in call.filtered("alerts", service="service", site="site", region="region", state="state")]
    )


def get_alert(call: Call) -> Answer:
    return Answer(body=_told(call.the("alerts", call.path["id"])))


def _newest_first(deployments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(deployments, key=lambda deployment: deployment["at"] or "", reverse=True)


def _shown(call: Call, service: dict[str, Any]) -> dict[str, Any]:
    alerts = [_told(alert) for alert in call.records.find("alerts", service=service["name"], state="firing")]
    deployments = _newest_first(call.records.find("deployments", service=service["name"]))
    return {**service, "alerts": alerts, "deployments": deployments[:DEPLOYMENTS_SHOWN]}


def list_services(call: Call) -> Answer:
    return Answer(body=[_shown(call, service) for service in call.records.find("services")])


def get_service(call: Call) -> Answer:
    return Answer(body=_shown(call, call.the("services", call.path["id"])))


def list_deployments(call: Call) -> Answer:
    return Answer(body=_newest_first(call.filtered("deployments", service="service")))


def _clear(call: Call, service: str, cure: str, within: Callable[[dict[str, Any]], bool]) -> None:
    """Clear the firing alerts that this cure clears; with none left, the service is up."""
    for alert in call.records.find("alerts", service=service, state="firing"):
        if (alert["needs"] or alert["cleared_by"]) == cure and within(alert):
            call.records.put("alerts", alert["id"], {**alert, "state": "cleared", "cleared_at": call.at})
    found = call.records.get("services", service)
    if found and not call.records.find("alerts", service=service, state="firing"):
        call.records.put("services", service, {**found, "state": "up"})


def restart_service(call: Call) -> Answer:
    service = call.the("services", call.path["id"])
    site = call.text("site") if call.body.get("site") is not None else None
    call.records.put("services", service["name"], {**service, "restarted_at": call.at})
    _clear(call, service["name"], "restart", lambda alert: site is None or alert["site"] == site)
    return Answer(body=_shown(call, call.the("services", service["name"])))


def clear_disk(call: Call) -> Answer:
    """Delete temporary files and old logs at one site; what fills up again for another reason stays full."""
    service, site = call.the("services", call.path["id"]), call.text("site")
    if site not in service["sites"]:
        raise Problem(404, f"{service['name']} does not run at {site!r}; it runs at {', '.join(service['sites']) or 'no site'}.")
    call.records.put("services", service["name"], {**service, "disk_cleared_at": call.at})
    _clear(call, service["name"], "clear_disk", lambda alert: alert["site"] == site)
    return Answer(body=_shown(call, call.the("services", service["name"])))


def rotate_certificate(call: Call) -> Answer:
    old = call.the("certificates", call.path["id"])
    new = {**old, "state": "valid", "expires_at": worlds.iso(a_year_after(call.now)), "rotated_at": call.at}
    call.records.put("certificates", old["id"], new)
    regions = old["regions"]
    _clear(call, old["service"], "rotate", lambda alert: not regions or alert["region"] is None or alert["region"] in regions)
    return Answer(body=new)


def roll_back_deployment(call: Call) -> Answer:
    deployment = call.the("deployments", call.path["id"])
    if deployment["state"] != "live":
        raise Problem(409, f"Deployment {deployment['id']} is {deployment['state']}, not live.")
    undone = {**deployment, "state": "rolled_back", "rolled_back_at": call.at}
    call.records.put("deployments", deployment["id"], undone)
    _clear(call, deployment["service"], "rollback", lambda alert: True)
    return Answer(body=undone)


ROUTES = (
    get("/monitoring/services", list_services),
    get("/monitoring/services/{id}", get_service),
    get(
        "/monitoring/alerts",
        list_alerts,
        "service", "site", "region", "state",
    ),
    get("/monitoring/alerts/{id}", get_alert),
    get("/monitoring/deployments", list_deployments, "service"),
    get("/monitoring/deployments/{id}", one("deployments")),
    get("/monitoring/certificates", listing("certificates", service="service"), "service"),
    get("/monitoring/certificates/{id}", one("certificates")),
    post("/monitoring/services/{id}/clear-disk", clear_disk, "site"),
    post("/monitoring/services/{id}/restart", restart_service, "site"),
    post("/monitoring/certificates/{id}/rotate", rotate_certificate),
    post("/monitoring/deployments/{id}/rollback", roll_back_deployment),
)  # fmt: skip
