"""The page behind a signed link: one frozen action for one person. A GET only shows it (mail scanners follow links); the form on it
decides, once. Needs no session; knows nothing but this approval."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from orchestrator.domain.errors import Conflict
from orchestrator.domain.resolution import Approval, ApprovalStatus
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import links
from serving.gateway.console import views
from serving.gateway.console.forms import form_of, same_origin, why
from serving.gateway.console.rendering import render
from serving.gateway.keys import Principal
from serving.gateway.problems import Refusal
from serving.gateway.routes.approvals import decided, why_not
from serving.gateway.shop import Shop, shop_of

router = APIRouter(include_in_schema=False)
EXCERPT_CHARS = 400


@router.get("/console/approvals/link/{token}")
async def show(token: str, request: Request) -> Response:
    shop = shop_of(request)
    now = shop.parts.clock()
    return HTMLResponse(render("link.html", **await shop.desk.run(lambda tx: _shown(tx, shop, token, now)), now=now, said=""))


@router.post("/console/approvals/link/{token}")
async def decide(token: str, request: Request) -> Response:
    shop, form = shop_of(request), form_of(request)
    same_origin(request)
    decision, reason = form.get("decision", [""])[0], why(form)
    if decision not in ("approve", "reject"):
        raise Refusal(422, "Choose approve or reject.")
    now = shop.parts.clock()

    def work(tx: PostgresTransaction) -> dict[str, Any]:
        asked, person = _opened(tx, shop, token, now)
        if not tx.approval_links.use(str(links.nonce_of(token)), now=now):
            raise Conflict("This link has been used.", hint="Ask for a new one where something is left to decide.")
        decided(tx, asked.id, decision == "approve", reason, person, now)
        return _as_page(tx, tx.approval(asked.id), person, now)

    done = "Your word is kept: it stands in the log under your name."
    return HTMLResponse(render("link.html", **await shop.desk.run(work), now=now, said=done))


def _shown(tx: PostgresTransaction, shop: Shop, token: str, now: datetime) -> Mapping[str, Any]:
    return _as_page(tx, *_opened(tx, shop, token, now), now)


def _opened(tx: PostgresTransaction, shop: Shop, token: str, now: datetime) -> tuple[Approval, Principal]:
    """The approval and whose link it is. Raises Refusal for what we did not make, what is over, and what was changed since."""
    nonce = links.nonce_of(token)
    row = tx.approval_links.find(nonce) if nonce else None
    if row is None:
        raise Refusal(
            404, "This link is none of ours, or it was cut short on its way. Copy the whole address, or ask for a new one."
        )
    bound = {name: str(row[name]) for name in ("approval", "digest", "person", "role")}
    if not links.genuine(token, shop.parts.console_secret, **bound, now=now):
        raise Refusal(410, "This link is over, or was tampered with. Ask for a new one.")
    asked = tx.approval(bound["approval"])
    if asked.proposal.digest != bound["digest"]:
        raise Refusal(410, "What this link was made for has changed. Ask for a new one.")
    return asked, Principal(name=bound["person"], role=bound["role"], kind="link")


def _as_page(tx: PostgresTransaction, asked: Approval, person: Principal, now: datetime) -> dict[str, Any]:
    ticket = tx.ticket(asked.ticket_id)
    refusal = why_not(asked, person, requester=ticket.requester.email)
    if not refusal and asked.status is not ApprovalStatus.WAITING:
        refusal = f"{asked.id} is {asked.status}."
    about = {"id": ticket.id, "subject": ticket.subject or ticket.description[:80], "requester": ticket.requester}
    about["excerpt"] = ticket.description[:EXCERPT_CHARS]
    return {"a": views.approval(asked, about, now=now, refusal=refusal), "person": person}
