"""Triage of a micro-batch: one embed call, one score call, one linking transaction. Joins the triage verbs; decides nothing itself."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np

from orchestrator.domain.directory import Directory, Profile
from orchestrator.domain.tickets import State, Ticket
from orchestrator.domain.triage import Classification, Entities, Link, LinkKind, Signals, Triage
from orchestrator.pipeline.house import House
from orchestrator.ports import Clock, Embedder, Similar, Store, Transaction
from orchestrator.triage.entities import find_entities
from orchestrator.triage.explain import explain
from orchestrator.triage.link import Subject, explaining_alerts, link
from orchestrator.triage.prioritize import prioritize
from orchestrator.triage.route import route
from orchestrator.triage.signals import read_signals
from orchestrator.triage.taxonomy import Taxonomy

LINK_WINDOW = timedelta(hours=24)
CONTACT_WINDOW = timedelta(days=14)
CANDIDATE_COSINE = 0.3  # what is less similar than this is never linked
CANDIDATES = 40
OPEN = frozenset({State.ACTIVE, State.PENDING, State.ESCALATED})


Timer = Callable[[str], AbstractContextManager[None]]


def _untimed(stage: str) -> AbstractContextManager[None]:
    return nullcontext()


class Classifier(Protocol):
    def classify(self, texts: Sequence[str], vectors: np.ndarray) -> list[Classification]: ...


@dataclass(frozen=True, kw_only=True)
class Triager:
    store: Store
    embedder: Embedder
    classifier: Classifier
    taxonomy: Taxonomy
    house: House
    clock: Clock
    link_window: timedelta = LINK_WINDOW

    def triage(self, tickets: Sequence[Ticket], stage: Timer = _untimed) -> dict[str, Triage]:
        """Classify, link, prioritize and route these tickets, and write it all in one transaction."""
        if not tickets:
            return {}
        texts = [ticket.words_of_requester for ticket in tickets]
        with stage("embed"):
            vectors = self.embedder.embed(texts)
        with stage("classify"):
            classifications = dict(zip((t.id for t in tickets), self.classifier.classify(texts, vectors), strict=True))
        with stage("look up"):
            directory = self.house.directory()
            profiles = self.house.profiles(ticket.requester.email for ticket in tickets)
        entities = {ticket.id: find_entities(ticket.words_of_requester, directory) for ticket in tickets}
        now = self.clock()

        def write(tx: Transaction) -> dict[str, Triage]:
            contacts = tx.contacts([t.requester.email for t in tickets], since=now - CONTACT_WINDOW)
            signals = {
                t.id: read_signals(t.words_of_requester, earlier_contacts=_same_matter(t, classifications[t.id], contacts)) for t in tickets
            }
            links = self._link(tx, tickets, vectors, classifications, entities, directory, now)
            load = tx.open_load()
            triages = {
                t.id: self._finish(
                    t, classifications[t.id], entities[t.id], signals[t.id], links.get(t.id), profiles, directory, load
                )
                for t in tickets
            }
            tx.save_triage(triages, now=now)
            return triages

        with stage("link"):
            return self.store.run(write)

    def _link(
        self,
        tx: Transaction,
        tickets: Sequence[Ticket],
        vectors: np.ndarray,
        classifications: Mapping[str, Classification],
        entities: Mapping[str, Entities],
        directory: Directory,
        now: datetime,
    ) -> dict[str, Link]:
        """Oldest first, so that a ticket can join the incident that an earlier one of the same batch opened."""
        tx.linking_lock()
        tx.save_embeddings(self.embedder.name, [(t.id, vector, entities[t.id]) for t, vector in zip(tickets, vectors, strict=True)])
        candidates = tx.similar(
            self.embedder.name,
            [t.id for t in tickets],
            window_s=self.link_window.total_seconds(),
            at_least=CANDIDATE_COSINE,
            limit=CANDIDATES,
        )
        links: dict[str, Link] = {}
        for ticket in sorted(tickets, key=lambda t: (t.created_at, t.number)):
            subject = Subject(
                ticket_id=ticket.id,
                text=ticket.text,
                requester_email=ticket.requester.email,
                category=classifications[ticket.id].category,
                entities=entities[ticket.id],
                created_at=ticket.created_at,
            )
            earlier = [_fresh(c, classifications, links) for c in candidates.get(ticket.id, []) if c.state in OPEN]
            found = link(subject, earlier, directory)
            if found and found.kind is LinkKind.INCIDENT:
                incident_id = tx.join_incident(ticket.id, found.ticket_id, title=_title(ticket), now=now)
                found = replace(found, incident_id=incident_id)
            if found:
                links[ticket.id] = found
        return links

    def _finish(
        self,
        ticket: Ticket,
        classification: Classification,
        entities: Entities,
        signals: Signals,
        found: Link | None,
        profiles: Mapping[str, Profile],
        directory: Directory,
        load: dict[str, int],
    ) -> Triage:
        kind = self.taxonomy.category(classification.category if not classification.abstained else "Others")
        profile = profiles[ticket.requester.email.lower()] if ticket.requester.email else Profile(email="")
        alerts = tuple(explaining_alerts(entities, kind.name, ticket.text, ticket.created_at, directory))
        priority = prioritize(
            base_impact=kind.impact,
            signals=signals,
            profile=profile,
            entities=entities,
            link=found,
            alerts=alerts,
            directory=directory,
            created_at=ticket.created_at,
        )
        assignment = route(
            category=kind.name,
            default_group=kind.group,
            entities=entities,
            signals=signals,
            alerts=alerts,
            directory=directory,
            load=load,
        )
        if assignment.assignee:
            load[assignment.assignee] = load.get(assignment.assignee, 0) + 1
        triage = Triage(
            classification=classification,
            entities=entities,
            signals=signals,
            link=found,
            priority=priority,
            assignment=assignment,
            explanation=(),
        )
        return replace(triage, explanation=explain(triage, alerts))


def _fresh(candidate: Similar, classifications: Mapping[str, Classification], links: Mapping[str, Link]) -> Similar:
    """A candidate of the same batch has no stored triage yet: take what this batch has found out."""
    classification = classifications.get(candidate.ticket_id)
    if classification is None:
        return candidate
    found = links.get(candidate.ticket_id)
    return replace(candidate, category=classification.category, incident_id=found.incident_id if found else candidate.incident_id)


def _same_matter(ticket: Ticket, classification: Classification, contacts: Mapping[str, list[dict]]) -> list[str]:
    return [
        row["id"]
        for row in contacts.get(ticket.requester.email.lower(), [])
        if row["id"] != ticket.id and row.get("category") == classification.category and row["created_at"] <= ticket.created_at
    ]


def _title(ticket: Ticket) -> str:
    return (ticket.subject or ticket.description)[:120]
