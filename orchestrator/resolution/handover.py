"""Write what a colleague needs to go on without asking anything twice. Built from facts only; knows no model."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from orchestrator.domain.resolution import HandedOver, Handover, Observation, ObservationStatus
from orchestrator.domain.tickets import Assurance, Author
from orchestrator.domain.triage import OTHERS, LinkKind
from orchestrator.resolution import codes
from orchestrator.resolution.case import Case, Stop
from orchestrator.resolution.replies import fill_line

_ASSURANCE = {
    Assurance.CLAIMED: "not verified",
    Assurance.AUTHENTICATED: "signed in at the portal",
    Assurance.PROVEN: "verified by a one-time code",
}
_TELLING = (
    "tier",
    "status",
    "state",
    "amount",
    "total",
    "currency",
    "product",
    "plan",
    "kind",
    "service",
    "site",
    "region",
    "expires_at",
    "expected_on",
    "delivered_at",
    "carrier",
    "minimum_term_ends_on",
    "duplicate_of",
    "detail",
    "version",
)
REFERENCE_LISTS = ("List the service catalogue", "List the windows")  # long, and the same for every ticket
QUOTE_CHARS = 200


def hand_over(case: Case, stop: Stop) -> HandedOver:
    """The packet for the colleague and the reply for the requester."""
    told = "" if case.shadow else _told(case)
    packet = Handover(
        summary=" ".join(_summary(case)),
        why_stopped=stop.why,
        checked=tuple(case.checked),
        actions=tuple(_done(case)),
        policies=tuple(_policies(case, stop)),
        suggested_next_action=_suggestion(case),
        draft_reply=_draft(case),
        urgency=_urgency(case),
        asked=tuple(_asked(case)),
        told=tuple(_informed(case, told)),
    )
    return HandedOver(packet=packet, reply=told)


def _asked(case: Case) -> Iterable[str]:
    """Each question of the desk that was answered, with the answer; a one-time code in it is not repeated."""
    code = codes.code_for(case.secret, case.ticket.id, case.epoch, str(case.facts.get("user.email") or ""))
    messages = [message for message in case.ticket.messages if message.author in {Author.DESK, Author.REQUESTER}]
    for before, after in pairwise(messages):
        if before.author is Author.DESK and after.author is Author.REQUESTER:
            yield f"{_at(before.at)}: {_quoted(before.body)} Answered {_at(after.at)}: {_quoted(codes.without(after.body, code))}"


def _informed(case: Case, told: str) -> Iterable[str]:
    """Who was told what: the requester in this conversation, and by the reply that goes out with this packet."""
    for message in case.desk_messages():
        yield f"The requester, {_at(message.at)}: {_quoted(message.body)}"
    if told:
        yield f"The requester, with this hand-over: {_quoted(told)}"


def _summary(case: Case) -> Iterable[str]:
    ticket, triage = case.ticket, case.triage
    yield f"{_who(case)} writes: {_quoted(ticket.text)}"
    classification = triage.classification
    if case.category == OTHERS:
        best = ", ".join(f"{name} {share:.0%}" for name, share in classification.alternatives[:3])
        yield f"No ticket type is certain enough to act on{f' (nearest: {best})' if best else ''}."
    else:
        yield f"It is taken as {case.category.replace('_', ' ')} ({classification.confidence:.0%} sure)."
    if triage.link:
        what = (
            f"incident {triage.link.incident_id}"
            if triage.link.kind is LinkKind.INCIDENT
            else "an earlier ticket of the same requester"
        )
        yield f"It belongs to {what} ({triage.link.ticket_id})."
    found = _found(case)
    if found:
        yield f"On record: {found}."
    if done := _done(case):
        yield f"Done so far: {'; '.join(done)}."
    else:
        yield "Nothing has been changed so far."


def _done(case: Case) -> list[str]:
    """What was changed in this round of the ticket, earlier runs included; an act without an answer may have happened."""
    if case.actions:
        return case.actions
    lines = []
    for step in case.memory.steps:
        if step.writes and step.epoch == case.epoch:
            title = case.playbook.actions[step.action].title if step.action in case.playbook.actions else step.action
            if step.observation is None or step.observation.status is ObservationStatus.UNKNOWN:
                lines.append(f"{title}: begun, no answer known; it may have happened")
            elif step.observation.status is ObservationStatus.OK:
                lines.append(f"{title}: done at {step.observation.at:%H:%M:%S} UTC")
            else:
                lines.append(f"{title}: {refusal(step.observation)}")
    return lines


def _who(case: Case) -> str:
    user, account = case.facts.get("user"), case.facts.get("account")
    email = case.ticket.requester.email or "somebody without an address"
    if not user:
        return f"{email} (not in the directory, {_ASSURANCE[case.ticket.requester.assurance]})"
    details = [email, str(user.get("kind") or "")]
    if account:
        details.append(f"{account.get('name')}, {account.get('tier')} tier{', VIP' if account.get('vip') else ''}")
    if user.get("vip"):
        details.append("VIP")
    details.append(
        _ASSURANCE[
            Assurance.PROVEN
            if case.proven and case.ticket.requester.assurance is Assurance.CLAIMED
            else case.ticket.requester.assurance
        ]
    )
    return f"{user.get('name') or email} ({', '.join(part for part in details if part)})"


def _quoted(text: str) -> str:
    flat = " ".join(text.split())
    if not flat:
        return "(no text)"
    return f"“{flat if len(flat) <= QUOTE_CHARS else flat[: QUOTE_CHARS - 1].rstrip() + '…'}”"


def _found(case: Case) -> str:
    """The facts that the runbook's own steps established, in words."""
    base = {"now", "ticket", "requester", "entities", "signals", "contact", "desk", "user", "account"}
    parts = []
    user = case.facts.get("user")
    if user and user.get("status"):
        parts.append(f"user {user['status']}")
    for name, value in case.facts.records().items():
        if name in base:
            continue
        if isinstance(value, Mapping):
            parts.append(describe(value))
        elif name == "behind" and isinstance(value, list):
            parts += [f"alert {describe(row)}" for row in value[:3]]
    return "; ".join(part for part in parts if part)


def describe(record: Mapping[str, Any]) -> str:
    """A record in a few words: its id and the fields that tell most."""
    told = [f"{key.replace('_', ' ')} {_plain(record[key])}" for key in _TELLING if record.get(key) not in (None, "", [])]
    return (
        f"{record.get('id') or record.get('name') or 'record'} ({', '.join(told[:7])})"
        if told
        else str(record.get("id") or record.get("name") or "record")
    )


def _plain(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def looked_up(title: str, observation: Observation) -> str:
    """One line of *what was checked*: the look-up and its result."""
    if observation.status is not ObservationStatus.OK:
        return f"{title}: {refusal(observation)}"
    body = observation.body
    if isinstance(body, list):
        if not body:
            return f"{title}: none"
        if title.startswith(REFERENCE_LISTS):
            return f"{title}: {len(body)} entries"
        shown = "; ".join(describe(row) for row in body[:4] if isinstance(row, Mapping))
        return f"{title}: {len(body)} found: {shown}{'; ...' if len(body) > 4 else ''}"
    return f"{title}: {describe(body)}" if isinstance(body, Mapping) else f"{title}: {_plain(body)}"


def refusal(observation: Observation) -> str:
    """What a system of record said when it said no."""
    body = observation.body if isinstance(observation.body, Mapping) else {}
    problems = body.get("problems")
    said = (
        body.get("detail")
        or ("; ".join(map(str, problems)) if isinstance(problems, list) else None)
        or body.get("title")
        or "no reason given"
    )
    status = f" ({observation.http_status})" if observation.http_status else ""
    return f"{observation.status}{status}: {said}"


def _policies(case: Case, stop: Stop) -> Iterable[str]:
    seen: set[str] = set()
    rows = [(row["rule"], row["reason"]) for row in case.verdicts]
    if stop.verdict:
        rows.append((stop.verdict.rule, stop.verdict.reason))
    for rule, reason in rows:
        if rule not in seen and rule != "none":
            seen.add(rule)
            yield f"{rule}: {reason}"


def _suggestion(case: Case) -> str:
    names = {**case.facts.values(), "name": case.name, "ticket_id": case.ticket.id}
    if case.proposed:
        last = case.proposed[-1]
        return f"If you agree, {last['preview'][:1].lower()}{last['preview'][1:]} ({last['action']})."
    if case.runbook:
        return fill_line(case.runbook.suggested_next_action, names)
    serving = case.playbook.serving(case.category)
    if len(serving) == 1 and case.facts.get("user"):
        return fill_line(serving[0].suggested_next_action, names)
    if case.passages:
        best = case.passages[0]
        return f"Read “{best.title}” ({best.document_id}, {best.source}), the nearest article; then answer the requester."
    if case.triage.signals.vague:
        return "Call the requester or ask for the application, the exact message and since when it happens."
    return f"{case.group()}: take it from here; no runbook covers this type."


def _draft(case: Case) -> str:
    """What the colleague can send once it is done; in the requester's language where we have it."""
    macros = case.playbook.macros
    matter = macros.matter(case.category, case.language)
    return macros.say(
        "draft",
        case.language,
        name=case.name,
        ticket_id=case.ticket.id,
        group=case.group(),
        matter=matter,
        about=case.circumstances(),
    )


def _told(case: Case) -> str:
    urgent = case.triage.priority.level <= 2
    return case.playbook.macros.say(
        "handed_over_urgent" if urgent else "handed_over",
        case.language,
        name=case.name,
        ticket_id=case.ticket.id,
        group=case.group(),
        matter=case.playbook.macros.matter(case.category, case.language),
        about=case.circumstances(),
    )


def _urgency(case: Case) -> str:
    priority = case.triage.priority
    due = f", due {_at(priority.sla_due_at)}" if priority.sla_due_at else ""
    level = int(priority.level)
    reasons = list(priority.reasons)
    if case.mood.shift == "worse" and level > 1:
        level -= 1
        reasons.append(f"one step up: the tone went from {case.mood.first} to {case.mood.last}")
    why = f": {'; '.join(reasons)}" if reasons else ""
    return f"P{level}{due}{why}"


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
