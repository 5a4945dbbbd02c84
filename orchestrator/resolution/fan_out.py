"""A parent request in parts: each part becomes a ticket of its own, with its runbook, its approvals and its probe.

The parent waits, is woken when a part ends, opens what had to wait for it, and is resolved only when every part is verified. A part
that failed hands the parent over with what is done and what is not. Knows the effects; opens and wakes nothing itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.domain.resolution import AwaitingChildren, Child, ChildOrder
from orchestrator.domain.tickets import Assurance, Requester, State
from orchestrator.domain.triage import Assignment, Triage
from orchestrator.resolution import conditions
from orchestrator.resolution.case import Case, Stop, Wait
from orchestrator.resolution.effects import OpenChildren, Way
from orchestrator.resolution.look import arguments_from, worded
from orchestrator.resolution.replies import fill
from orchestrator.resolution.runbooks import PARTS, FanOut, Part, Runbook
from orchestrator.resolution.verify import told_names

UNDER_WAY = frozenset({State.ACTIVE, State.PENDING})


def work(case: Case, runbook: Runbook) -> Way:
    """Open what can be opened; go on only when every part is verified, else wait or stop with what is done and what is not."""
    fan_out = runbook.fan_out
    assert fan_out is not None
    wanted = [part for part in fan_out.parts if conditions.all_hold(part.when, case.facts.get)]
    if case.shadow:
        case.would_resolve = True
        raise Stop(f"Shadow: {len(wanted)} tickets would have been opened ({', '.join(part.key for part in wanted)}).")
    told_before = bool(case.memory.children)
    children = {child.key: child for child in case.memory.children}
    if told_before and case.epoch:
        raise Stop(f"It came back after its parts had been opened. {_account(wanted, children)}")
    if ready := _ready(wanted, children):
        orders = tuple((_order(case, part), _triage(case, part)) for part in ready)
        opened = yield OpenChildren(orders=orders, opened_by=runbook.ref, requester=_speaker(case))
        children = {child.key: child for child in opened}
    _note_done(case, wanted, children)
    open_ids = tuple(child.ticket_id for child in children.values() if child.state in UNDER_WAY)
    if open_ids:
        raise Wait(AwaitingChildren(children=open_ids, reply="" if told_before else _told(case, fan_out)))
    if not all(part.key in children and children[part.key].verified for part in wanted):
        raise Stop(_account(wanted, children))
    found = {key: {"ticket_id": child.ticket_id, "confirmation": child.confirmation} for key, child in children.items()}
    case.facts = case.facts.with_fact(PARTS, found, source="record", detail="the parts' own probes")


def _ready(wanted: Sequence[Part], children: Mapping[str, Child]) -> list[Part]:
    """The parts not opened yet whose forerunners are verified."""
    done = {key for key, child in children.items() if child.verified}
    return [part for part in wanted if part.key not in children and set(part.after) <= done]


def _order(case: Case, part: Part) -> ChildOrder:
    subject = worded(part.subject, case.facts)
    return ChildOrder(
        key=part.key,
        runbook=part.runbook,
        category=part.category,
        subject=subject,
        description=f"{subject}. Part `{part.key}` of {case.ticket.id}.",
        facts=arguments_from(part.facts, case.facts),
    )


def _speaker(case: Case) -> Requester:
    """The parent's requester, as far as they have proven who they are."""
    known = case.ticket.requester
    proven = case.proven and known.assurance is Assurance.CLAIMED
    return replace(known, assurance=Assurance.PROVEN) if proven else known


def _triage(case: Case, part: Part) -> Triage:
    """A part is what its parent's runbook says; nothing is guessed, and no model is asked."""
    classified = replace(case.triage.classification, category=part.category, confidence=1.0, abstained=False)
    return replace(
        case.triage,
        classification=replace(classified, alternatives=((part.category, 1.0),), neighbors=(), settled_by=case.ticket.id),
        link=None,
        causes=(),
        assignment=Assignment(group=case.playbook.groups[part.category], assignee=None, reasons=(f"part of {case.ticket.id}",)),
        explanation=(f"Part `{part.key}` of {case.ticket.id}, opened by its runbook.",),
    )


def _note_done(case: Case, wanted: Sequence[Part], children: Mapping[str, Child]) -> None:
    for part in wanted:
        child = children.get(part.key)
        if child and child.verified:
            case.actions.append(
                f"{part.key.replace('_', ' ')} ({child.ticket_id}): verified, {child.confirmation or 'no id given'}"
            )


def _account(wanted: Sequence[Part], children: Mapping[str, Child]) -> str:
    done = [f"{part.key} ({children[part.key].ticket_id})" for part in wanted if (c := children.get(part.key)) and c.verified]
    missing = [_missing(part.key, children.get(part.key)) for part in wanted if not ((c := children.get(part.key)) and c.verified)]
    said = f"{len(done)} of {len(wanted)} parts are done{': ' + ', '.join(done) if done else ''}."
    return f"{said} Not done: {'; '.join(missing)}." if missing else said


def _missing(key: str, child: Child | None) -> str:
    return f"{key} ({child.ticket_id}, {child.state}: {child.why.rstrip('.')})" if child else f"{key} (never begun)"


def _told(case: Case, fan_out: FanOut) -> str:
    return fill(fan_out.told, case.language, told_names(case))
