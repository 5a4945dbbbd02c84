"""The bundled day through resolution with perfect triage: every ticket ends as its truth allows, and nothing else is changed."""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import serving.demo
from orchestrator.domain.directory import Alert, Directory, Service, Site
from orchestrator.domain.resolution import AwaitingRequester, HandedOver, Outcome, Resolved
from orchestrator.domain.tickets import Assurance, Author, IncomingTicket, Message, Requester, State, Ticket
from orchestrator.domain.triage import Link, LinkKind
from orchestrator.resolution.replay import replay
from orchestrator.storage.serialize import outcome_kind
from orchestrator.storage.store import PostgresStore
from serving.demo.day import Day, read_day
from tests.integration import resolution_world
from tests.integration.people import decide
from tests.integration.resolution_world import House, clock, open_desk, triage_of

BUNDLED = Path(serving.demo.__file__).parent / "day"
NOT_HERE = {"how_to"}  # answers need the real embedder, which is no part of this test


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def open_tickets(house: House, day: Day) -> dict[str, str]:
    """Post the day with the truth's category and links; day id -> ticket id. The first of a matter leads it."""
    ids: dict[str, str] = {}
    leads: dict[str, tuple[str, str]] = {}
    for row in day.tickets:
        truth, email = day.truth[row["id"]], row["requester"]["email"]
        assurance = Assurance.AUTHENTICATED if row.get("channel") == "portal" else Assurance.CLAIMED
        text = "\n".join(part for part in (row.get("subject"), row.get("description")) if part)
        incoming = IncomingTicket(
            subject=row.get("subject", ""),
            description=row.get("description", ""),
            requester=Requester(email=email, assurance=assurance),
            created_at=datetime.fromisoformat(row["created_at"].replace("Z", "+00:00")),
        )
        with house.store.transaction() as tx:
            ticket_id = tx.accept([incoming], now=clock())[0].ticket_id
            link = None
            if (matter := truth.get("incident")) in leads:
                lead, who = leads[matter]
                kind = LinkKind.DUPLICATE if who == email else LinkKind.INCIDENT
                incident = tx.join_incident(ticket_id, lead, title=str(matter), now=clock()) if kind is LinkKind.INCIDENT else None
                link = Link(kind=kind, ticket_id=lead, incident_id=incident, similarity=0.9, score=0.9, evidence=())
            elif matter:
                leads[matter] = (ticket_id, email)
            tx.save_triage({ticket_id: triage_of(listed(truth["category"])[0], text, link=link)}, now=clock())
        ids[row["id"]] = ticket_id
    return ids


def work(house: House, outcomes: dict[str, Outcome]) -> None:
    """Until nothing is left to do. On a day without an attacker no text for a requester is withheld."""
    while True:
        driven, claims = house.drive_only()
        if not claims:
            return
        assert not driven.retry and not driven.lost, (driven.retry, driven.lost)
        withheld = {ticket_id: notes["withheld"] for ticket_id, notes in driven.notes.items() if "withheld" in notes}
        assert not withheld, withheld
        house.write(driven, claims)
        outcomes |= driven.outcomes


def answer_all(house: House, day: Day, ids: Mapping[str, str], outcomes: Mapping[str, Outcome], given: Counter[str]) -> bool:
    """Every requester who was asked says the next thing that they have to say."""
    said = False
    for row in day.tickets:
        ticket_id, answers = ids[row["id"]], row.get("answers") or []
        if not isinstance(outcomes[ticket_id], AwaitingRequester) or given[ticket_id] >= len(answers):
            continue
        answer = answers[given[ticket_id]]
        given[ticket_id] += 1
        code = house.code(row["requester"]["email"]) if answer.get("code") else ""
        body = {"mailbox": code, "wrong": f"{(int(code or 0) + 7) % 10**6:06d}"}.get(answer.get("code"), answer.get("body"))
        with house.store.transaction() as tx:
            tx.add_message(ticket_id, Message(author=Author.REQUESTER, body=body, at=clock()))
            tx.set_state(ticket_id, State.ACTIVE, reason="answered")
            tx.wake([ticket_id])
        said = True
    return said


def told(ticket: Ticket) -> list[str]:
    return [message.body for message in ticket.messages if message.author is Author.DESK]


def asked_twice(tickets: Mapping[str, Ticket]) -> list[str]:
    return [ticket_id for ticket_id, ticket in tickets.items() if len(told(ticket)) > len(set(told(ticket)))]


def packets_of_wrong_length(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Summaries of fewer than two or more than five sentences; the requester's own words, quoted, are not counted."""
    found = {ticket_id: each.packet.summary for ticket_id, each in outcomes.items() if isinstance(each, HandedOver)}
    assert found
    own = {ticket_id: re.sub("“.*?”", "words.", summary) for ticket_id, summary in found.items()}
    return {t: text for t, text in own.items() if not 2 <= len(re.findall(r"\.(?= [A-Z]|$)", text)) <= 5}


def told_what_is_internal(tickets: Mapping[str, Ticket], outcomes: Mapping[str, Outcome]) -> list[tuple[str, str]]:
    """(ticket, what) for each rule's id, reason for stopping or policy line that stands in a text for a requester."""
    rules = [rule.id for rule in resolution_world.PLAYBOOK.policies.rules if "-" in rule.id]
    found = []
    for ticket_id, ticket in tickets.items():
        outcome = outcomes[ticket_id]
        own = [outcome.packet.why_stopped, *outcome.packet.policies] if isinstance(outcome, HandedOver) else []
        own += [outcome.internal_note] if isinstance(outcome, Resolved) and outcome.internal_note else []
        found += [(ticket_id, each) for each in [*rules, *own] for text in told(ticket) if each in text]
    return found


def test_the_bundled_day_ends_as_its_truth_says_and_nothing_else_is_changed(
    store: PostgresStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = read_day(BUNDLED).shifted(datetime.now(UTC))
    world = day.world
    directory = Directory(
        services=tuple(map(Service.read, world["services"])),
        sites=tuple(map(Site.read, world["sites"])),
        alerts=tuple(map(Alert.read, world["alerts"])),
    )
    monkeypatch.setattr(resolution_world, "DIRECTORY", directory)
    with open_desk(store, tmp_path) as house:
        house.sandbox.seed(world)
        ids, outcomes, given = open_tickets(house, day), {}, Counter()  # type: ignore[var-annotated]
        work(house, outcomes)
        while answer_all(house, day, ids, outcomes, given):
            work(house, outcomes)
        for decision in day.approvals:
            for waiting in house.store.run(lambda tx: tx.approvals(status="waiting"))[0]:
                if waiting.proposal.action == decision["action"]:
                    with house.store.transaction() as tx:
                        decide(
                            tx,
                            waiting.id,
                            approve=decision["decision"] == "approve",
                            reason="as the day says",
                            by="cab",
                            now=clock(),
                        )
        work(house, outcomes)
        changes = Counter((method, path) for method, path, _ in house.changes())
        decisions = house.store.run(lambda tx: tx.decisions(limit=10_000))[0]
        tickets = house.store.run(lambda tx: tx.tickets(list(outcomes)))
    assert asked_twice(tickets) == []
    assert packets_of_wrong_length(outcomes) == {}
    assert told_what_is_internal(tickets, outcomes) == []
    again = replay(decisions, resolution_world.PLAYBOOK.policies)
    assert len(again.rows) > len(day.tickets) and [row for row in again.rows if not row.same] == []
    allowed = {(effect["method"], effect["path"]) for truth in day.truth.values() for effect in truth.get("effects") or ()}
    assert set(changes) <= allowed, set(changes) - allowed
    wrong = {
        day_id: (outcome_kind(outcomes[ticket_id]), day.truth[day_id]["outcome"])
        for day_id, ticket_id in ids.items()
        if outcome_kind(outcomes[ticket_id]) not in listed(day.truth[day_id]["outcome"])
        and not NOT_HERE & set(listed(day.truth[day_id]["category"]))
    }
    assert not wrong, wrong
