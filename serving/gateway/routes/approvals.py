"""Approvals: frozen actions that wait for a person. Knows who may decide which; the store decides once and wakes the ticket."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from orchestrator.domain.errors import Forbidden
from orchestrator.domain.resolution import Approval
from orchestrator.storage.serialize import dump
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import schemas
from serving.gateway.door import visit_of
from serving.gateway.keys import Principal
from serving.gateway.once import Answer, once
from serving.gateway.roles import DECIDERS
from serving.gateway.shop import shop_of

router = APIRouter(prefix="/v1/approvals", tags=["approvals"])


@router.get("", responses={200: {"model": schemas.Page}})
async def list_approvals(filters: Annotated[schemas.ApprovalFilters, Query()], request: Request) -> JSONResponse:
    """Newest first; `?status=waiting` for those to decide."""

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        found, cursor = tx.approvals(status=filters.status, cursor=filters.cursor, limit=filters.limit)
        return {"items": [dump(approval) for approval in found], "next_cursor": cursor}

    return JSONResponse(await shop_of(request).desk.run(read))


@router.post("/{approval_id}")
async def decide_approval(approval_id: str, decision: schemas.DecisionIn, request: Request) -> JSONResponse:
    """Approve or reject the frozen action. Approved, it is executed once, exactly as shown; decided or expired before: 409."""
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
    return Answer(status=200, body=dump(tx.decide(approval_id, approve=approve, reason=reason, by=caller.name, now=now)))


def why_not(asked: Approval, caller: Principal, *, requester: str) -> str:
    """Why this caller may not decide this approval; empty when they may."""
    allowed = DECIDERS.get(asked.approvers, frozenset())
    if caller.role not in allowed:
        who = " or ".join(sorted(allowed)) or f"a role that the gateway does not know ({asked.approvers})"
        return f"{asked.id} is to be decided by the role {who}, not by {caller.role}."
    if caller.name.strip().lower() in {requester.strip().lower(), (asked.proposal.owner or "").strip().lower()}:
        return f"{asked.id} concerns {requester}'s own request; somebody else must decide it."
    return ""
