"""The company's catalogue: services with their owners, sites, staff, freeze windows; read only."""

from orchestrator.sandbox.calls import Answer, Call, get, listing


def company(call: Call) -> Answer:
    return Answer(body=call.records.meta("company") or {})


ROUTES = (
    get("/catalog/services", listing("services")),
    get("/catalog/sites", listing("sites")),
    get("/catalog/staff", listing("staff")),
    get("/catalog/freeze-windows", listing("freeze_windows")),
    get("/catalog/company", company),
)
