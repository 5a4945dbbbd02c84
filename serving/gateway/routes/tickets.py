"""Tickets: in, out, messages, and what people say about them. Knows HTTP and the store's verbs; decides nothing about a ticket."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from orchestrator.domain.errors import BadInput
from orchestrator.domain.tickets import Assurance, Author, IncomingTicket, Message, Requester, State
from orchestrator.intake.accept import accept, mended_note
from orchestrator.storage import console
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import schemas
from serving.gateway.aliases import served_types
from serving.gateway.door import visit_of
from serving.gateway.keys import Principal
from serving.gateway.once import Answer, once
from serving.gateway.parts import Parts
from serving.gateway.problems import Refusal
from serving.gateway.roles import SERVICE
from serving.gateway.shop import Shop, shop_of

router = APIRouter(prefix="/v1/tickets", tags=["tickets"])


@router.post(
    "",
    status_code=202,
    responses={
        200: {"model": schemas.TicketRecord, "description": "Known already (id and state), or, with `wait`, the whole ticket"},
        202: {"model": schemas.TicketAccepted},
    },
)
async def submit_ticket(ticket: schemas.TicketIn, query: Annotated[schemas.WaitQuery, Query()], request: Request) -> JSONResponse:
    """Take a ticket in. 202 with its id; the same source + external_id again 200 with the same id.

    `?wait=SECONDS` answers 200 with the whole ticket as soon as it has an outcome, 202 when the time is up.
    """
    shop, visit = shop_of(request), visit_of(request)
    await shop.intake.check()
    now = shop.parts.clock()
    incoming = _incoming(ticket, visit.caller)
    notes = (mended_note(visit.body.mended),) if visit.body and visit.body.mended else ()

    def take(tx: PostgresTransaction) -> Answer:
        (accepted,) = accept(tx, [incoming], now=now, notes=notes)
        body = {"id": accepted.ticket_id, "state": accepted.state.value}
        return Answer(status=202 if accepted.created else 200, body=body)

    answer = await once(request, shop.desk, take)
    ticket_id = answer.body["id"]
    located = Answer(
        status=answer.status, body=answer.body, headers={"Location": f"/v1/tickets/{ticket_id}"}, replayed=answer.replayed
    )
    if query.wait is None:
        return located.response()
    return await _waited(shop, ticket_id, query.wait, located)


def _incoming(ticket: schemas.TicketIn, caller: Principal) -> IncomingTicket:
    who = ticket.requester
    return IncomingTicket(
        subject=ticket.subject,
        description=ticket.description,
        requester=Requester(email=who.email, name=who.name, account=who.account, assurance=caller.assurance),
        source=ticket.source,
        external_id=ticket.external_id,
        channel=ticket.channel,
        created_at=ticket.created_at,
        context=ticket.context,
    )


async def _waited(shop: Shop, ticket_id: str, wait_s: float, accepted: Answer) -> JSONResponse:
    done = await shop.outcomes.wait(ticket_id, min(wait_s, shop.parts.settings.http.max_wait_s))
    record = await shop.desk.run(lambda tx: tx.ticket_record(ticket_id)) if done else None
    if record is None:
        body = {**accepted.body, "state": State.ACTIVE.value}
        return Answer(status=202, body=body, headers=accepted.headers, replayed=accepted.replayed).response()
    return Answer(status=200, body=record, headers=accepted.headers, replayed=accepted.replayed).response()


@router.get("", responses={200: {"model": schemas.TicketPage}})
async def list_tickets(filters: Annotated[schemas.TicketFilters, Query()], request: Request) -> JSONResponse:
    """Newest first. `q` finds words of subject and description, or an id."""
    asked = filters.model_dump()
    items, cursor = await shop_of(request).desk.run(lambda tx: tx.list_tickets(**asked))
    return JSONResponse({"items": items, "next_cursor": cursor})


@router.get("/{ticket_id}", responses={200: {"model": schemas.TicketRecord}})
async def get_ticket(ticket_id: str, request: Request) -> JSONResponse:
    """The whole record with its reasons, evidence, actions and timeline."""
    return JSONResponse(await shop_of(request).desk.run(lambda tx: tx.ticket_record(ticket_id)))


@router.post("/{ticket_id}/messages", status_code=202, responses={202: {"model": schemas.TicketAccepted}})
async def add_message(ticket_id: str, message: schemas.MessageIn, request: Request) -> JSONResponse:
    """The requester answers: a pending ticket becomes active again. On a resolved one the message is kept; /reopen reopens it."""
    shop, caller = shop_of(request), visit_of(request).caller
    author = Author(message.author)
    if author is not Author.REQUESTER and caller.role == SERVICE:
        raise Refusal(403, f"A message of the author {author} is for people of the desk; this key has the role service.")
    words = Message(author=author, body=message.body, at=shop.parts.clock(), by=caller.name)
    return (await once(request, shop.desk, lambda tx: _say(tx, ticket_id, words, caller))).response()


def _say(tx: PostgresTransaction, ticket_id: str, words: Message, caller: Principal) -> Answer:
    state = tx.ticket(ticket_id).state
    wakes = words.author is Author.REQUESTER and state in (State.ACTIVE, State.PENDING)
    if wakes:
        tx.wake([ticket_id])  # first: the job's row is locked before the ticket's
        if caller.assurance is Assurance.CLAIMED:  # who signed in at the portal may be somebody else than who says this
            tx.doubt_identity(ticket_id, [Assurance.AUTHENTICATED], by=words.by)
    tx.add_message(ticket_id, words)
    if wakes:
        tx.set_state(ticket_id, State.ACTIVE, reason="the requester answered", by=words.by)
        state = State.ACTIVE
    return Answer(status=202, body={"id": ticket_id, "state": state.value})


@router.post("/{ticket_id}/override", responses={200: {"model": schemas.TicketRecord}})
async def override(ticket_id: str, change: schemas.OverrideIn, request: Request) -> JSONResponse:
    """A person corrects category, group or priority, with a reason. It takes effect, and becomes training data."""
    shop, caller = shop_of(request), visit_of(request).caller
    body = change.model_dump(exclude_none=True)
    return (await once(request, shop.desk, lambda tx: overridden(tx, ticket_id, body, caller.name, shop.parts))).response()


def overridden(tx: PostgresTransaction, ticket_id: str, body: dict[str, Any], by: str, parts: Parts) -> Answer:
    """Raises BadInput for a category or a group that this desk does not have."""
    check_category(tx, parts, body.get("category"))
    group = body.get("group")
    if group is not None and group not in (known := known_groups(tx, parts)):
        raise BadInput(f"There is no assignment group {group!r}.", hint=f"Take one of {', '.join(known)}.")
    tx.record_feedback(ticket_id, "override", body, by=by)
    return Answer(status=200, body=tx.ticket_record(ticket_id))


def check_category(tx: PostgresTransaction, parts: Parts, category: str | None) -> None:
    """Raises BadInput for a category that neither this company nor a model that decides its tickets has."""
    if category is not None and category not in parts.categories and category not in (served := served_types(tx)[0]):
        raise BadInput(
            f"There is no category {category!r}.", hint=f"Take one of {', '.join(sorted({*parts.categories, *served}))}."
        )


def known_groups(tx: PostgresTransaction, parts: Parts) -> list[str]:
    """Of the taxonomy, and those that own services: they have, or had, tickets."""
    return sorted({*parts.groups, *served_types(tx)[1], *console.groups(tx)})


@router.post("/{ticket_id}/reopen", responses={200: {"model": schemas.TicketAccepted}})
async def reopen(ticket_id: str, why: schemas.ReasonIn, request: Request) -> JSONResponse:
    """Back to active, counted. Raises 409 when it is active already."""
    shop, caller = shop_of(request), visit_of(request).caller
    at = shop.parts.clock()
    return (await once(request, shop.desk, lambda tx: reopened(tx, ticket_id, why.reason, caller, at))).response()


def reopened(tx: PostgresTransaction, ticket_id: str, reason: str, caller: Principal, at: datetime) -> Answer:
    """The reason is kept as the requester's words where the requester's channel brings it, as a note where the desk does."""
    tx.reopen(ticket_id, reason=reason, by=caller.name)
    author = Author.REQUESTER if caller.role == SERVICE else Author.NOTE
    if author is Author.REQUESTER and caller.assurance is Assurance.CLAIMED:  # a new round needs a proof of its own
        tx.doubt_identity(ticket_id, [Assurance.AUTHENTICATED, Assurance.PROVEN], by=caller.name)
    tx.add_message(ticket_id, Message(author=author, body=reason, at=at, by=caller.name))
    return Answer(status=200, body={"id": ticket_id, "state": State.ACTIVE.value})


@router.post("/{ticket_id}/erase")
async def erase(ticket_id: str, why: schemas.ReasonIn, request: Request) -> JSONResponse:
    """Data protection: every text of a resolved or closed ticket goes, for good; the proofs of its events stay.

    `{ticket_id, events}`: how many events lost their text. The reason stays in the log: name nobody in it. Raises 409 while it is in work.
    """
    shop, caller = shop_of(request), visit_of(request).caller

    def gone(tx: PostgresTransaction) -> Answer:
        return Answer(status=200, body=tx.erase(ticket_id, reason=why.reason, by=caller.name))

    return (await once(request, shop.desk, gone)).response()


@router.post("/{ticket_id}/feedback", status_code=201, responses={201: {"model": schemas.TicketAccepted}})
async def feedback(ticket_id: str, said: schemas.FeedbackIn, request: Request) -> JSONResponse:
    """What a person thinks of the result. Changes nothing on the ticket; becomes training data."""
    shop, caller = shop_of(request), visit_of(request).caller
    body = said.model_dump(exclude_none=True)

    def record(tx: PostgresTransaction) -> Answer:
        check_category(tx, shop.parts, said.category)
        state = tx.ticket(ticket_id).state
        tx.record_feedback(ticket_id, "feedback", body, by=caller.name)
        return Answer(status=201, body={"id": ticket_id, "state": state.value})

    return (await once(request, shop.desk, record)).response()
