"""The one way out: every text for a requester is screened here once its outcome is final. Knows the case; privacy knows the rules.

A text with a finding is never sent. In its place stands a reviewed text that says nothing but the ticket's number, and a colleague gets
the ticket with the reason. Notes and packets are for colleagues and never leave; the draft inside a packet is meant for the requester
and is screened as well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from orchestrator.domain.resolution import AwaitingRequester, HandedOver, Handover, Outcome, Resolved
from orchestrator.domain.tickets import Assurance, Ticket
from orchestrator.domain.triage import LinkKind, Triage
from orchestrator.privacy.outgoing import Finding, Guard, Reader, screen, shingles
from orchestrator.resolution.case import Case, Stop
from orchestrator.resolution.handover import hand_over
from orchestrator.resolution.playbook import Playbook

WITHHELD = "withheld"


def release(case: Case, outcome: Outcome) -> Outcome:
    """The outcome as it may be told; what was withheld stands in `case.withheld`."""
    reader = reader_of(case)
    found = _screened(_text(outcome), reader, case.guard, "reply")
    draft = _screened(outcome.packet.draft_reply, reader, case.guard, "draft_reply") if isinstance(outcome, HandedOver) else []
    case.withheld += [*found, *draft]
    if not found and not draft:
        return outcome
    if isinstance(outcome, HandedOver):
        packet = (
            replace(outcome.packet, draft_reply=_neutral(case.playbook, case.language, reader, case.guard))
            if draft
            else outcome.packet
        )
        return HandedOver(packet=packet, reply=_instead(case, reader) if found else outcome.reply)
    stop = Stop(why_withheld(found))
    case.reasons.append(stop.why)
    handed = hand_over(case, stop)
    return HandedOver(packet=_with_draft(handed.packet, case, reader), reply=_instead(case, reader))


def release_linked(
    outcomes: Mapping[str, Resolved],
    linked: Mapping[str, tuple[Ticket, Triage]],
    lead: Case,
    names: Mapping[str, str],
) -> tuple[dict[str, Outcome], dict[str, list[dict[str, Any]]]]:
    """(the outcomes of those who waited for `lead` as they may be told, what was withheld of each)."""
    released: dict[str, Outcome] = {}
    withheld: dict[str, list[dict[str, Any]]] = {}
    for ticket_id, outcome in outcomes.items():
        ticket, triage = linked[ticket_id]
        reader = _follower(ticket, triage, lead, names.get(ticket.requester.email.lower(), ""))
        found = _screened(outcome.reply, reader, lead.guard, "reply")
        if found:
            withheld[ticket_id] = found
            released[ticket_id] = _handed(outcome, found, reader, lead, triage)
        else:
            released[ticket_id] = outcome
    return released, withheld


def reader_of(case: Case) -> Reader:
    """The requester as the directory knows them, with everything that was looked at."""
    user, account = case.facts.get("user"), case.facts.get("account")
    user, account = user if isinstance(user, Mapping) else {}, account if isinstance(account, Mapping) else {}
    link = case.triage.link
    named = {case.ticket.id, *((link.incident_id,) if link and link.incident_id else ())}
    if link and (link.kind is LinkKind.DUPLICATE or not link.incident_id):
        named.add(link.ticket_id)
    return Reader(
        email=case.ticket.requester.email,
        user_id=str(user.get("id") or ""),
        account=str(account.get("id") or user.get("account") or ""),
        name=case.name,
        verified=case.proven,
        said=case.words,
        ids=frozenset(named),
        records=[*(seen.body for seen in case.observed.values()), *case.facts.records().values()],
        passages=tuple(_open_passages(case)),
    )


def why_withheld(found: list[dict[str, Any]]) -> str:
    """For the colleague: what kind of thing stood where, never the thing itself."""
    kinds = ", ".join(dict.fromkeys(f"{row['why'].replace('_', ' ')} ({row['what']})" for row in found))
    return f"The reply was withheld because it held what this requester must not get: {kinds}."


def _text(outcome: Outcome) -> str:
    return outcome.question if isinstance(outcome, AwaitingRequester) else outcome.reply


def _screened(text: str, reader: Reader, guard: Guard, field: str) -> list[dict[str, Any]]:
    return [_row(finding, field) for finding in screen(text, reader, guard).findings]


def _row(finding: Finding, field: str) -> dict[str, Any]:
    return {"why": str(finding.why), "what": finding.what, "field": field, "start": finding.start, "end": finding.end}


def _open_passages(case: Case) -> Iterator[str]:
    """Passages that the reply may repeat: those for requesters. One that quotes a document for colleagues is not taken for one."""
    for name in case.facts:
        fact = case.facts.find(name)
        if fact and fact.provenance.source == "knowledge" and isinstance(fact.value, list):
            for row in fact.value:
                text = f"{row.get('title', '')}\n{row.get('heading', '')}\n{row.get('text', '')}"
                if not shingles([text]) & case.guard.internal:
                    yield text


def _instead(case: Case, reader: Reader) -> str:
    """What the requester reads in place of a withheld text; nothing in a shadow run."""
    return "" if case.shadow else _neutral(case.playbook, case.language, reader, case.guard)


def _neutral(playbook: Playbook, language: str, reader: Reader, guard: Guard) -> str:
    """A reviewed text with the ticket's number alone; screened too, so that not even a macro is trusted blindly."""
    text = playbook.macros.say("withheld", language, ticket_id=min(reader.ids, key=lambda each: not each.startswith("T-")))
    return text if screen(text, reader, guard).allowed else ""


def _with_draft(packet: Handover, case: Case, reader: Reader) -> Handover:
    clean = screen(packet.draft_reply, reader, case.guard).allowed
    return packet if clean else replace(packet, draft_reply=_neutral(case.playbook, case.language, reader, case.guard))


def _follower(ticket: Ticket, triage: Triage, lead: Case, name: str) -> Reader:
    """The same person's duplicate may hear what the lead's requester heard; anybody else hears of the incident alone."""
    link = triage.link
    ids = frozenset({ticket.id, *((link.incident_id,) if link and link.incident_id else ())})
    verified = ticket.requester.assurance is not Assurance.CLAIMED
    if ticket.requester.email.lower() == lead.ticket.requester.email.lower():
        own = reader_of(lead)
        return replace(own, verified=verified, said=ticket.words_of_requester, ids=ids | {lead.ticket.id})
    whole = ids if link and link.incident_id else ids | {lead.ticket.id}
    return Reader(email=ticket.requester.email, name=name, verified=verified, said=ticket.words_of_requester, ids=whole)


def _handed(outcome: Resolved, found: list[dict[str, Any]], reader: Reader, lead: Case, triage: Triage) -> HandedOver:
    neutral = _neutral(lead.playbook, triage.signals.language, replace(reader, ids=reader.ids - {lead.ticket.id}), lead.guard)
    packet = Handover(
        summary=outcome.internal_note,
        why_stopped=why_withheld(found),
        suggested_next_action=f"Tell the requester in your own words that {lead.ticket.id} is resolved.",
        draft_reply=neutral,
    )
    return HandedOver(packet=packet, reply=neutral)
