"""A micro-batch of claimed tickets, from claim to outcome. Joins triage and resolution; what each does, they know."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from orchestrator.domain.resolution import Resolved
from orchestrator.domain.tickets import Author, Stage, Ticket
from orchestrator.domain.triage import Triage
from orchestrator.pipeline.desk import Desk
from orchestrator.ports import Claim, Transaction
from orchestrator.resolution.drive import Driven, Work, drive
from orchestrator.resolution.linked import resolve_linked
from orchestrator.resolution.outgoing import WITHHELD, release_linked


class Stopwatch:
    """Seconds per stage, summed over batches. Thread-safe."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began)

    def add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] += seconds

    def seconds(self) -> dict[str, float]:
        with self._lock:
            return {stage: round(seconds, 3) for stage, seconds in self._seconds.items()}


def handle(desk: Desk, claims: Sequence[Claim], watch: Stopwatch) -> int:
    """Triage what is new, resolve, write all outcomes in one transaction; gives how many came to an outcome.

    Every write is fenced by the claims: raises FencedOut where a lease went to another worker, and has then written nothing.
    """
    by_ticket = {claim.ticket_id: claim for claim in claims}
    with watch.time("read"):
        tickets, triages = desk.store.run(lambda tx: (tx.tickets(list(by_ticket)), tx.triages(list(by_ticket))))
    with watch.time("triage"):
        new = [t for t in tickets.values() if _needs_triage(t, triages.get(t.id))]
        triages |= desk.triager.triage(new, watch.time, claims=[by_ticket[t.id] for t in new])
    with watch.time("resolve"):
        works = [
            Work(ticket=tickets[i], triage=triages[i], claim=by_ticket[i]) for i in sorted(tickets, key=lambda i: tickets[i].number)
        ]
        driven = drive(works, desk.resolution_now())
    with watch.time("write"):
        desk.store.run(lambda tx: _write(tx, desk, driven, tickets, by_ticket, desk.clock()))
    if any(isinstance(outcome, Resolved) for outcome in driven.outcomes.values()):
        desk.house.forget()  # something in the world may have changed
    return len(driven.outcomes)


def _needs_triage(ticket: Ticket, triage: Triage | None) -> bool:
    """New tickets, and those that were not understood and whose requester has said more since."""
    if ticket.stage is Stage.ACCEPTED or triage is None:
        return True
    said_more = any(message.author is Author.REQUESTER for message in ticket.messages)
    return triage.classification.abstained and said_more


def _write(
    tx: Transaction, desk: Desk, driven: Driven, tickets: Mapping[str, Ticket], claims: Mapping[str, Claim], now: datetime
) -> None:
    done = [claims[ticket_id] for ticket_id in driven.outcomes]
    again: dict[tuple[str, bool], list[Claim]] = defaultdict(list)
    for ticket_id, why in driven.retry.items():
        again[why, ticket_id not in driven.waits].append(claims[ticket_id])
    tx.hold([*done, *(claim for group in again.values() for claim in group)])
    if driven.outcomes:
        tx.save_outcomes(driven.outcomes, notes=driven.notes, now=now)
        _resolve_followers(tx, desk, driven, tickets, now)
    tx.finish(done)
    for (why, counted), group in again.items():
        tx.retry(group, error=why, now=now, counted=counted)


def _resolve_followers(tx: Transaction, desk: Desk, driven: Driven, tickets: Mapping[str, Ticket], now: datetime) -> None:
    """What waited for a ticket that is now resolved is resolved with it, in the same transaction."""
    resolved = {ticket_id: outcome for ticket_id, outcome in driven.outcomes.items() if isinstance(outcome, Resolved)}
    for ticket_id, waiting in tx.linked_to_any(list(resolved)).items():
        outcome, cases = resolved[ticket_id], driven.cases
        found, triages = tx.tickets(waiting), tx.triages(waiting)
        linked = [(found[i], triages[i]) for i in waiting if i in triages]
        names = desk.house.known_names(ticket.requester.email for ticket, _ in linked)
        followers = resolve_linked(
            tickets[ticket_id], outcome.verification, outcome.reply, linked, desk.resolution.playbook, names=names
        )
        if followers:
            told, withheld = release_linked(followers, {t.id: (t, triage) for t, triage in linked}, cases[ticket_id], names)
            notes = {i: {"resolved_with": ticket_id, **({WITHHELD: withheld[i]} if i in withheld else {})} for i in told}
            tx.save_outcomes(told, notes=notes, now=now)
