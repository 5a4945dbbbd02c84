"""The systems of record, one module each: a table of routes and the small functions behind them."""

from orchestrator.sandbox.calls import Route
from orchestrator.sandbox.systems import (
    billing,
    catalog,
    crm,
    helpdesk,
    hr,
    identity,
    mail,
    monitoring,
    orders,
    requests,
    vpn,
)

ROUTES: tuple[Route, ...] = (
    *identity.ROUTES,
    *vpn.ROUTES,
    *billing.ROUTES,
    *orders.ROUTES,
    *monitoring.ROUTES,
    *catalog.ROUTES,
    *helpdesk.ROUTES,
    *mail.ROUTES,
    *requests.ROUTES,
    *crm.ROUTES,
    *hr.ROUTES,
)
