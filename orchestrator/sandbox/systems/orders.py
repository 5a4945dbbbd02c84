"""Orders and shipments; read only."""

from orchestrator.sandbox.calls import get, listing, one

ROUTES = (
    get("/orders", listing("orders", email="customer_email", account="account"), "email", "account"),
    get("/orders/{id}", one("orders")),
)
