"""HR: people who will start. Read only: who starts, when, where and for which manager is decided there, not at the desk."""

from orchestrator.sandbox.calls import get, listing, one

ROUTES = (
    get("/hr/hires", listing("hires", manager_email="manager_email"), "manager_email"),
    get("/hr/hires/{id}", one("hires")),
)
