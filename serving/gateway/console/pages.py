"""The console's pages and forms. Knows sessions, the store's verbs and templates; every text is escaped by the templates."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from orchestrator.domain.autonomy import RUNGS
from orchestrator.domain.errors import ModelUnavailable
from orchestrator.domain.tickets import Author, Message
from orchestrator.storage import console
from orchestrator.storage.transaction import PostgresTransaction
from serving.gateway import ladder
from serving.gateway.console import views
from serving.gateway.console.forms import form_of, same_origin, why
from serving.gateway.console.rendering import asset, render
from serving.gateway.console.sessions import COOKIE, SESSION_LIFETIME, Session, same
from serving.gateway.door import visit_of
from serving.gateway.json_body import mend_text
from serving.gateway.problems import Problem, Refusal
from serving.gateway.roles import ADMIN, ANALYST, APPROVER, LEAD
from serving.gateway.routes.approvals import decided, why_not
from serving.gateway.routes.incidents import parted
from serving.gateway.routes.knowledge import grouped_gaps
from serving.gateway.routes.operations import switched
from serving.gateway.routes.tickets import known_groups, overridden, reopened
from serving.gateway.shop import shop_of

router = APIRouter(include_in_schema=False)
PAGE_SIZE = 50
GAP_SPANS = (7, 30, 90)  # days
EXCERPT_CHARS = 400  # of a ticket, beside what is to be approved
NOTICES: Mapping[str, str] = {
    "noted": "Note kept.",
    "corrected": "Corrected. It counts from now on, and for the next training.",
    "reopened": "Reopened: the desk works on it again.",
    "split": "Taken out; these tickets go back to work on their own.",
    "approved": "Approved: it is executed once, exactly as shown.",
    "rejected": "Rejected: nothing was done; the ticket goes on without it.",
    "stopped": "Autonomy is stopped: nothing acts until it goes on again.",
    "resumed": "Autonomy goes on.",
}
MAY_CORRECT = frozenset({ANALYST, LEAD})
MAY_NOTE = MAY_CORRECT | {ADMIN}
MAY_DECIDE = frozenset({APPROVER, LEAD})
MAY_STOP = frozenset({LEAD, ADMIN})


# --- frame ---


def _session(request: Request) -> Session:
    session = visit_of(request).session
    if session is None:
        raise Refusal(403, "The console's pages are for people who logged in; this request came with a key.")
    return session


async def _page(
    request: Request, template: str, read: Callable[[PostgresTransaction], Mapping[str, Any]], *, status: int = 200
) -> HTMLResponse:
    """A page and what its frame shows, read in one transaction."""
    shop, session = shop_of(request), _session(request)
    now = shop.parts.clock()

    def all_of_it(tx: PostgresTransaction) -> dict[str, Any]:
        frame = {"waiting": console.waiting_approvals(tx, now=now), "switch": tx.kill_switch()}
        return {**frame, **read(tx)}

    values = await shop.desk.run(all_of_it)
    may = {
        "correct": session.principal.role in MAY_CORRECT,
        "note": session.principal.role in MAY_NOTE,
        "decide": session.principal.role in MAY_DECIDE,
        "stop": session.principal.role in MAY_STOP,
    }
    notice = {"said": NOTICES.get(request.query_params.get("said", ""), ""), "here": request.url.path}
    return HTMLResponse(
        render(template, **values, **notice, me=session.principal, csrf=session.csrf, may=may, now=now), status_code=status
    )


def problem_page(request: Request, problem: Problem) -> Response:
    """An error as a page, for people."""
    visit = visit_of(request)
    page = render(
        "problem.html",
        problem=problem,
        title=problem.document(path="", request_id=visit.id)["title"],
        request_id=visit.id,
        home=visit.session is not None,
    )
    return HTMLResponse(page, status_code=problem.status, headers=dict(problem.headers))


def _checked_form(request: Request) -> dict[str, list[str]]:
    """The form of somebody who is logged in and whose own page sent it. Raises Refusal 403."""
    session, form = _session(request), form_of(request)
    same_origin(request)
    if not same(form.get("csrf", [""])[0], session.csrf):
        raise Refusal(403, "This form is not from a page of your session. Go back, load the page again and send it once more.")
    return form


def _back(path: str, said: str) -> Response:
    """To a page that then shows this notice. Only its name travels, so that no link can put words into our mouth."""
    return RedirectResponse(f"{path}?{urlencode({'said': said})}", status_code=303)


# --- logging in and out ---


@router.get("/console/login")
async def login_form(request: Request) -> Response:
    if visit_of(request).session is not None:
        return RedirectResponse("/console", status_code=303)
    return HTMLResponse(render("login.html", wrong=False, next=_inside(request.query_params.get("next"))))


@router.post("/console/login")
async def login(request: Request) -> Response:
    """A one-time password for a session. A wrong one is told so; which part of it was wrong is not."""
    same_origin(request)
    form = form_of(request)
    target = _inside(form.get("next", [""])[0])
    session = await shop_of(request).sessions.open(form.get("password", [""])[0][:200])
    if session is None:
        return HTMLResponse(render("login.html", wrong=True, next=target), status_code=401)
    response = RedirectResponse(target, status_code=303)
    secure = request.url.scheme == "https"
    response.set_cookie(
        COOKIE,
        session.token,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/",
        httponly=True,
        samesite="strict",
        secure=secure,
    )
    return response


def _inside(target: str | None) -> str:
    """Only to our own pages."""
    return (
        target
        if target and (target == "/docs" or target.startswith("/console")) and "//" not in target and "\\" not in target
        else "/console"
    )


@router.post("/console/logout")
async def logout(request: Request) -> Response:
    _checked_form(request)
    await shop_of(request).sessions.end(_session(request))
    response = RedirectResponse("/console/login", status_code=303)
    response.delete_cookie(COOKIE, path="/")
    return response


@router.get("/console/assets/{name}")
async def assets(name: str) -> Response:
    found = asset(name)
    if found is None:
        raise Refusal(404, f"There is no asset {name[:80]!r}.")
    return Response(found[0], media_type=found[1], headers={"Cache-Control": "public, max-age=300"})


# --- the queue ---


@router.get("/console")
async def queue(request: Request) -> Response:
    """Most urgent first. Filters stand in the address, so a view can be bookmarked."""
    shop, asked = shop_of(request), request.query_params
    tab = asked.get("tab", "open") if asked.get("tab", "open") in views.TABS else "open"
    chosen = {name: mend_text(asked.get(name, "").strip())[:200] for name in ("category", "group", "priority", "q")}
    priority = int(chosen["priority"]) if chosen["priority"] in {"1", "2", "3", "4"} else None
    number = int(asked.get("page", "1")) if asked.get("page", "1").isdecimal() and len(asked.get("page", "1")) < 6 else 1
    number = max(1, number)

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        items, more = console.queue_page(
            tx,
            states=views.TABS[tab][1],
            category=chosen["category"] or None,
            group=chosen["group"] or None,
            priority=priority,
            q=chosen["q"] or None,
            offset=(number - 1) * PAGE_SIZE,
            limit=PAGE_SIZE,
        )
        return {
            "items": items,
            "more": more,
            "tabs": views.tab_counts(console.state_counts(tx)),
            "tiles": views.tiles(tx.kpis()),
            "groups": known_groups(tx, shop.parts),
        }

    def link(**changed: Any) -> str:
        kept = {**{"tab": tab, **chosen, "page": number}, **changed}
        return "/console?" + urlencode(
            {key: value for key, value in kept.items() if value not in ("", None) and (key, value) != ("page", 1)}
        )

    shown = {
        "tab": tab,
        "chosen": chosen,
        "page": number,
        "link": link,
        "categories": shop.parts.categories,
        "priorities": views.PRIORITY_WORDS,
    }
    return await _page(request, "queue.html", lambda tx: {**read(tx), **shown})


# --- one ticket ---


@router.get("/console/tickets/{ticket_id}")
async def ticket(ticket_id: str, request: Request) -> Response:
    shop, me = shop_of(request), visit_of(request).caller
    now = shop.parts.clock()

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        record = tx.ticket_record(ticket_id)
        asked = tx.approvals_of([ticket_id])[ticket_id]
        approvals = [
            views.approval(a, record, now=now, refusal=why_not(a, me, requester=record["requester"]["email"])) for a in asked
        ]
        return {
            "t": record,
            "acts": views.acts(record),
            "talk": views.talk(record),
            "timeline": views.timeline(record),
            "approvals": approvals,
            "flags": views.flags(record["signals"]),
            "entities": views.entities(record["entities"]),
            "assurance": views.ASSURANCE_WORDS.get(record["requester"].get("assurance", ""), "unknown"),
            "categories": shop.parts.categories,
            "groups": known_groups(tx, shop.parts),
            "priorities": views.PRIORITY_WORDS,
            "waiting_for_it": tx.linked_to(ticket_id),
        }

    return await _page(request, "ticket.html", read)


@router.post("/console/tickets/{ticket_id}/note")
async def add_note(ticket_id: str, request: Request) -> Response:
    form, shop, me = _checked_form(request), shop_of(request), visit_of(request).caller
    note = Message(author=Author.NOTE, body=why(form, "note"), at=shop.parts.clock(), by=me.name)
    await shop.desk.run(lambda tx: tx.add_message(ticket_id, note))
    return _back(f"/console/tickets/{ticket_id}", "noted")


@router.post("/console/tickets/{ticket_id}/override")
async def correct(ticket_id: str, request: Request) -> Response:
    form, shop, me = _checked_form(request), shop_of(request), visit_of(request).caller
    given = {name: form.get(name, [""])[0] for name in ("category", "group", "priority")}
    body: dict[str, Any] = {name: value for name, value in given.items() if value}
    if not body:
        raise Refusal(422, "Choose a category, a group or a priority to change.")
    if "priority" in body:
        if body["priority"] not in {"1", "2", "3", "4"}:
            raise Refusal(422, f"The priority {body['priority'][:20]!r} is none of 1, 2, 3, 4.")
        body["priority"] = int(body["priority"])
    body["reason"] = why(form)
    await shop.desk.run(lambda tx: overridden(tx, ticket_id, body, me.name, shop.parts))
    return _back(f"/console/tickets/{ticket_id}", "corrected")


@router.post("/console/tickets/{ticket_id}/reopen")
async def reopen(ticket_id: str, request: Request) -> Response:
    form, shop, me = _checked_form(request), shop_of(request), visit_of(request).caller
    reason, at = why(form), shop.parts.clock()
    await shop.desk.run(lambda tx: reopened(tx, ticket_id, reason, me, at))
    return _back(f"/console/tickets/{ticket_id}", "reopened")


# --- knowledge ---


@router.get("/console/knowledge")
async def knowledge_gaps(request: Request) -> Response:
    """What knowledge did not answer, grouped by meaning; without an embedder by the words alone."""
    shop, asked = shop_of(request), request.query_params.get("days", "30")
    days = min(max(int(asked), 1), 3650) if asked.isdecimal() and len(asked) < 5 else 30
    since = shop.parts.clock() - timedelta(days=days)
    try:
        model = (await shop.parts.embedder.now()).name
    except ModelUnavailable:
        model = ""

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        found, groups = grouped_gaps(tx, model, since=since, limit=PAGE_SIZE)
        return {"items": groups, "questions": len(found), "days": days, "spans": GAP_SPANS}

    return await _page(request, "knowledge.html", read)


# --- incidents ---


@router.get("/console/autonomy")
async def autonomy(request: Request) -> Response:
    """The ladder: where each type stands, and what it still has to show."""
    shop = shop_of(request)
    playbook, now = shop.parts.playbook, shop.parts.clock()

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        open_samples = [row for row in ladder.sample(tx, playbook) if not row["finding"]]
        days = [day for day in tx.ladder.chaos_days() if day.cancelled_at is None and day.ends_at > now]
        return {"types": ladder.ladder(tx, playbook, now), "samples": open_samples[:PAGE_SIZE], "days": days, "rungs": RUNGS}

    return await _page(request, "autonomy.html", read)


@router.get("/console/incidents")
async def incidents(request: Request) -> Response:
    cursor = request.query_params.get("cursor")

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        items, following = tx.incidents(cursor=cursor, limit=PAGE_SIZE)
        return {"items": items, "next_cursor": following}

    return await _page(request, "incidents.html", read)


@router.get("/console/incidents/{incident_id}")
async def incident(incident_id: str, request: Request) -> Response:
    return await _page(request, "incident.html", lambda tx: {"i": tx.incident(incident_id)})


@router.post("/console/incidents/{incident_id}/split")
async def split(incident_id: str, request: Request) -> Response:
    form, shop, me = _checked_form(request), shop_of(request), visit_of(request).caller
    ids = list(dict.fromkeys(form.get("ticket", [])))
    if not ids:
        raise Refusal(422, "Choose the tickets that do not belong here.")
    reason = why(form)
    await shop.desk.run(lambda tx: parted(tx, incident_id, ids, reason, me.name))
    return _back(f"/console/incidents/{incident_id}", "split")


# --- approvals ---


@router.get("/console/approvals")
async def approvals(request: Request) -> Response:
    shop, me = shop_of(request), visit_of(request).caller
    now, decided_too = shop.parts.clock(), request.query_params.get("show") == "all"
    cursor = request.query_params.get("cursor")

    def read(tx: PostgresTransaction) -> dict[str, Any]:
        found, following = tx.approvals(status=None if decided_too else "waiting", cursor=cursor, limit=PAGE_SIZE)
        tickets = tx.tickets([a.ticket_id for a in found])
        shown = []
        for asked in found:
            of = tickets[asked.ticket_id]
            about = {
                "id": of.id,
                "subject": of.subject or of.description[:80],
                "requester": of.requester,
                "excerpt": of.description[:EXCERPT_CHARS],
            }
            shown.append(views.approval(asked, about, now=now, refusal=why_not(asked, me, requester=of.requester.email)))
        return {"items": shown, "next_cursor": following, "decided_too": decided_too}

    return await _page(request, "approvals.html", read)


@router.post("/console/approvals/{approval_id}")
async def decide(approval_id: str, request: Request) -> Response:
    form, shop, me = _checked_form(request), shop_of(request), visit_of(request).caller
    decision = form.get("decision", [""])[0]
    if decision not in ("approve", "reject"):
        raise Refusal(422, "Choose approve or reject.")
    reason, now = why(form), shop.parts.clock()
    await shop.desk.run(lambda tx: decided(tx, approval_id, decision == "approve", reason, me, now))
    return _back("/console/approvals", "approved" if decision == "approve" else "rejected")


# --- the switch ---


@router.post("/console/kill-switch")
async def kill_switch(request: Request) -> Response:
    form, shop, me = _checked_form(request), shop_of(request), visit_of(request).caller
    wanted = form.get("stopped", [""])[0]
    if wanted not in ("true", "false"):
        raise Refusal(422, "Choose whether to stop or to go on.")
    reason = why(form)
    await shop.desk.run(lambda tx: switched(tx, wanted == "true", reason, me.name))
    return _back(_inside(form.get("back", [""])[0]), "stopped" if wanted == "true" else "resumed")
