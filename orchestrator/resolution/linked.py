"""What those hear whose ticket belongs to another one, and how they are resolved with it. Never repeats another person's words."""

from collections.abc import Mapping, Sequence

from orchestrator.domain.resolution import Resolved, Verification
from orchestrator.domain.tickets import Ticket
from orchestrator.domain.triage import LinkKind, Triage
from orchestrator.resolution.case import Case
from orchestrator.resolution.playbook import Playbook


def linked_reply(case: Case) -> str:
    link = case.triage.link
    assert link is not None
    macros = case.playbook.macros
    if link.kind is LinkKind.DUPLICATE:
        return macros.say("linked_duplicate", case.language, name=case.name, ticket_id=case.ticket.id, other_id=link.ticket_id)
    return macros.say(
        "linked_incident",
        case.language,
        name=case.name,
        ticket_id=case.ticket.id,
        incident_id=link.incident_id or link.ticket_id,
        matter=macros.matter(case.triage.classification.category, case.language),
        places=places(case.triage),
    )


def places(triage: Triage) -> list[str]:
    """The services and sites that the ticket itself names, as people write them."""
    named = [*triage.entities.services, *triage.entities.sites]
    return [name if name[:1].isupper() or "-" in name else name.title() for name in named][:3]


def resolve_linked(
    lead: Ticket,
    verification: Verification,
    answer: str,
    linked: Sequence[tuple[Ticket, Triage]],
    playbook: Playbook,
    *,
    names: Mapping[str, str] | None = None,
) -> dict[str, Resolved]:
    """The outcomes of the tickets that waited for `lead`, now that it is resolved and verified.

    `answer`: what the lead's requester was told, repeated to nobody else. `names`: e-mail to the name on record.
    """
    if not verification.confirmed:
        return {}
    outcomes: dict[str, Resolved] = {}
    for ticket, triage in linked:
        link = triage.link
        if link is None or ticket.id == lead.id:
            continue
        name = (names or {}).get(ticket.requester.email.lower(), "")
        same_person = ticket.requester.email.lower() == lead.requester.email.lower()
        if link.kind is LinkKind.DUPLICATE and same_person:
            reply = playbook.macros.say(
                "duplicate_resolved", triage.signals.language, name=name, ticket_id=ticket.id, other_id=lead.id, answer=answer
            )
            code = "duplicate_resolved"
        else:
            reply = playbook.macros.say(
                "linked_resolved",
                triage.signals.language,
                name=name,
                ticket_id=ticket.id,
                incident_id=link.incident_id or lead.id,
                matter=playbook.macros.matter(triage.classification.category, triage.signals.language),
                places=places(triage),
            )
            code = "incident_resolved"
        outcomes[ticket.id] = Resolved(
            reply=reply,
            verification=verification,
            resolution_code=code,
            internal_note=f"Resolved with {link.incident_id or lead.id} (lead {lead.id}): {verification.observed}.",
        )
    return outcomes
