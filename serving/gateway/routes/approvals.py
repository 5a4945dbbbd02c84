"""Approvals: frozen actions that wait for people. Knows who may decide which; the store counts words, decides once and wakes the ticket."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from orchestrator.domain.errors import Conflict, Forbidden
from orchestrator.domain.resolution import Approval, ApprovalStatus, Decision, Verdict
from orchestrator.resolution.edit import edit
from orchestrator.storage.approvals import own_matter
from orchestrator.storage.serialize import dump, instant
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import links, schemas
from serving.gateway.door import visit_of
from serving.gateway.keys import Principal
from serving.gateway.once import Answer, once
from serving.gateway.roles import DECIDERS
from serving.gateway.shop import Shop, shop_of

router = APIRouter(prefix="/v1/approvals", tags=["approvals"])


@router.get("", responses={200: {"model": schemas.Page}})
async def list_approvals(filters: Annotated[schemas.ApprovalFilters, Query()], request: Request) -> JSONResponse:
    """Newest first; `?status=waiting` for those to decide, `?to_review=true` for emergencies to be looked at again."""

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        found, cursor = tx.approvals(status=filters.status, cursor=filters.cursor, limit=filters.limit, to_review=filters.to_review)
        return {"items": [dump(approval) for approval in found], "next_cursor": cursor}

    return JSONResponse(await shop_of(request).desk.run(read))


@router.get("/{approval_id}")
async def show_approval(approval_id: str, request: Request) -> JSONResponse:
    """One, with its preview and every word that was given on it."""
    return JSONResponse(await shop_of(request).desk.run(lambda tx: dump(tx.approval(approval_id))))


@router.post("/{approval_id}")
async def decide_approval(approval_id: str, decision: schemas.DecisionIn, request: Request) -> JSONResponse:
    """One person's word on the frozen action. One no ends it; at the quorum it is executed once, exactly as shown.

    409 where it was decided before, has expired, or this person has spoken already.
    """
    shop, caller = shop_of(request), visit_of(request).caller
    now = shop.parts.clock()
    approve = decision.decision == "approve"
    return (await once(request, shop.desk, lambda tx: decided(tx, approval_id, approve, decision.reason, caller, now))).response()


def decided(tx: PostgresTransaction, approval_id: str, approve: bool, reason: str, caller: Principal, now: datetime) -> Answer:
    """Raises Forbidden for the wrong role and for one's own request, Conflict when it is too late."""
    asked = tx.approval(approval_id)
    refusal = why_not(asked, caller, requester=tx.ticket(asked.ticket_id).requester.email)
    if refusal:
        raise Forbidden(refusal)
    found = tx.decide(approval_id, approve=approve, reason=reason, by=caller.name, now=now, role=caller.role)
    return Answer(status=200, body=dump(found))


def why_not(asked: Approval, caller: Principal, *, requester: str) -> str:
    """Why this caller may not decide this approval; empty when they may."""
    allowed = DECIDERS.get(asked.approvers, frozenset())
    if caller.role not in allowed:
        who = " or ".join(sorted(allowed)) or f"a role that the gateway does not know ({asked.approvers})"
        return f"{asked.id} is to be decided by the role {who}, not by {caller.role}."
    return own_matter(asked, caller.name, requester=requester)


@router.post("/{approval_id}/edit", status_code=201)
async def edit_approval(approval_id: str, wanted: schemas.EditIn, request: Request) -> JSONResponse:
    """Another proposal in its place: less money. It waits for somebody else, and governance judges it again before it is done."""
    shop, caller = shop_of(request), visit_of(request).caller
    now = shop.parts.clock()

    def work(tx: PostgresTransaction) -> Answer:
        asked = tx.approval(approval_id)
        ticket = tx.ticket(asked.ticket_id)
        if refusal := why_not(asked, caller, requester=ticket.requester.email):
            raise Forbidden(refusal)
        action = shop.parts.playbook.actions[asked.proposal.action]
        proposal = edit(asked, action, wanted.arguments, by=caller.name, epoch=ticket.reopened_count)
        made = tx.supersede(asked, proposal, as_asked(asked), reason=wanted.reason, by=caller.name, now=now)
        return Answer(status=201, body=dump(made))

    return (await once(request, shop.desk, work)).response()


def as_asked(asked: Approval) -> Verdict:
    """An edit waits for the same people as what it stands for."""
    return Verdict(
        decision=Decision.NEEDS_APPROVAL,
        rule=asked.rule,
        reason=asked.reason,
        approvers=asked.approvers,
        quorum=asked.quorum,
        change=asked.change,
    )


@router.post("/{approval_id}/review")
async def review_approval(approval_id: str, found: schemas.ReviewIn, request: Request) -> JSONResponse:
    """What somebody who did not decide it found in an emergency change afterwards."""
    shop, caller = shop_of(request), visit_of(request).caller
    now = shop.parts.clock()

    def work(tx: PostgresTransaction) -> Answer:
        return Answer(status=200, body=dump(tx.review_approval(approval_id, finding=found.finding, by=caller.name, now=now)))

    return (await once(request, shop.desk, work)).response()


@router.post("/{approval_id}/links", status_code=201)
async def make_link(approval_id: str, wanted: schemas.LinkIn, request: Request) -> JSONResponse:
    """A signed address for one person: it shows this frozen action and decides it once. Looking at it decides nothing."""
    shop, caller = shop_of(request), visit_of(request).caller
    expires_at = shop.parts.clock() + timedelta(minutes=wanted.minutes)
    # The address is a secret and is never stored, so it cannot be answered again: whatever the Idempotency-Key, each call makes a new one.
    body = await shop.desk.run(lambda tx: _linked(tx, shop, approval_id, wanted, caller, expires_at))
    return JSONResponse(body, status_code=201)


def _linked(
    tx: PostgresTransaction, shop: Shop, approval_id: str, wanted: schemas.LinkIn, caller: Principal, expires_at: datetime
) -> dict[str, Any]:
    asked = tx.approval(approval_id)
    person = Principal(name=wanted.to, role=wanted.role, kind="link")
    if asked.status is not ApprovalStatus.WAITING:
        raise Conflict(f"{asked.id} is {asked.status}; there is nothing to decide.", hint="No link was made.")
    if refusal := why_not(asked, person, requester=tx.ticket(asked.ticket_id).requester.email):
        raise Forbidden(refusal)
    nonce, until = links.new_nonce(), min(expires_at, asked.expires_at)
    tx.approval_links.add(asked, nonce=nonce, person=wanted.to, role=wanted.role, expires_at=until, by=caller.name)
    text = links.token(
        shop.parts.console_secret,
        nonce=nonce,
        approval=asked.id,
        digest=asked.proposal.digest,
        person=wanted.to,
        role=wanted.role,
        expires_at=until,
    )
    return {"path": f"/console/approvals/link/{text}", "to": wanted.to, "role": wanted.role, "expires_at": instant(until)}
