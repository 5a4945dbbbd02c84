"""Triage of a micro-batch: one embed call, one score call, one linking transaction. Joins the triage verbs; decides nothing."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from orchestrator.domain.directory import Alert, Directory, Profile
from orchestrator.domain.tickets import Stage, State, Ticket
from orchestrator.domain.triage import OTHERS, Classification, Entities, Link, LinkKind, Signals, Triage
from orchestrator.pipeline.house import House
from orchestrator.pipeline.models import Models, TriageModels
from orchestrator.ports import Claim, Clock, Similar, Store, Transaction
from orchestrator.privacy.pseudonyms import hidden
from orchestrator.triage.cause import cause_of, explain_by_alerts, link_by_cause, shared_cause
from orchestrator.triage.entities import find_entities
from orchestrator.triage.explain import explain
from orchestrator.triage.link import Subject, is_personal, link
from orchestrator.triage.prioritize import prioritize
from orchestrator.triage.route import route
from orchestrator.triage.signals import read_signals
from orchestrator.triage.taxonomy import Taxonomy

LINK_WINDOW = timedelta(hours=24)
CONTACT_WINDOW = timedelta(days=14)
CANDIDATE_COSINE = 0.3  # what is less similar than this is linked by a common cause only
CANDIDATES = 40
OPEN = frozenset({State.ACTIVE, State.PENDING, State.ESCALATED})

Timer = Callable[[str], AbstractContextManager[None]]


def _untimed(stage: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One ticket of the batch with what was found out before linking."""

    ticket: Ticket
    subject: Subject
    classification: Classification
    taxonomy: Taxonomy  # of the model that classified it
    alerts: tuple[Alert, ...]  # that explain it, the nearest first
    profile: Profile

    @property
    def entities(self) -> Entities:
        return self.subject.entities


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What was embedded and classified together, for whoever wants to look at it once more."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: np.ndarray
    models: TriageModels


@dataclass(frozen=True, kw_only=True)
class Triager:
    store: Store
    models: Models
    house: House
    clock: Clock
    link_window: timedelta = LINK_WINDOW
    after: Callable[[Batch], None] | None = None  # told each batch once it is written; must return at once

    def triage(self, tickets: Sequence[Ticket], stage: Timer = _untimed, *, claims: Sequence[Claim] = ()) -> dict[str, Triage]:
        """Classify, link, prioritize and route these tickets, and write it all in one transaction, fenced by the claims."""
        if not tickets:
            return {}
        models = self.models()
        ids, texts = [ticket.id for ticket in tickets], [hidden(ticket).words_of_requester for ticket in tickets]
        with stage("embed"):
            vectors = models.embedder.embed(texts)
        with stage("classify"):
            classified = models.classify(ids, texts, vectors)
        with stage("look up"):
            directory = self.house.directory()
            profiles = self.house.profiles(ticket.requester.email for ticket in tickets)
        with stage("explain"):
            seen = [
                _see(ticket, classification, served.taxonomy, profiles, directory)
                for ticket, (classification, served) in zip(tickets, classified, strict=True)
            ]
        with stage("link"):
            triages = self.store.run(lambda tx: self._write(tx, seen, vectors, models, directory, claims, self.clock()))
        if self.after:
            self.after(Batch(ids=tuple(ids), texts=tuple(texts), vectors=vectors, models=models))
        return triages

    def _write(
        self,
        tx: Transaction,
        seen: Sequence[Seen],
        vectors: np.ndarray,
        models: TriageModels,
        directory: Directory,
        claims: Sequence[Claim],
        now: datetime,
    ) -> dict[str, Triage]:
        tx.hold(claims)
        contacts = tx.contacts(
            [one.subject.requester_email for one in seen if one.subject.requester_email], since=now - CONTACT_WINDOW
        )
        links = self._link(tx, seen, vectors, models, directory, now)
        load = tx.open_load()
        triages = {}
        for one in seen:
            signals = read_signals(one.subject.text, earlier_contacts=_same_matter(one, contacts))
            triages[one.ticket.id] = self._finish(one, signals, links.get(one.ticket.id), directory, load)
        tx.save_triage(triages, now=now)
        return triages

    def _link(
        self,
        tx: Transaction,
        seen: Sequence[Seen],
        vectors: np.ndarray,
        models: TriageModels,
        directory: Directory,
        now: datetime,
    ) -> dict[str, Link]:
        """Oldest first, so that a ticket can join the incident that an earlier one of the same batch opened."""
        tx.linking_lock()
        tx.save_embeddings(
            models.embedder.name, [(one.ticket.id, vector, one.entities) for one, vector in zip(seen, vectors, strict=True)]
        )
        candidates = tx.similar(
            models.embedder.name,
            [one.ticket.id for one in seen],
            window_s=self.link_window.total_seconds(),
            at_least=CANDIDATE_COSINE,
            limit=CANDIDATES,
            own_only={one.ticket.id for one in seen if is_personal(one.subject)},
        )
        causes = sorted({cause_of(alert) for one in seen for alert in one.alerts})
        first = tx.first_of_causes(causes, since=now - self.link_window) if causes else {}
        of_batch = {one.ticket.id: one for one in seen}
        links: dict[str, Link] = {}
        incidents: dict[str, str] = {}  # of this batch: ticket -> incident, the lead's too
        for one in sorted(seen, key=lambda one: (one.ticket.created_at, one.ticket.number)):
            near = candidates.get(one.ticket.id, [])
            earlier = [_fresh(c, of_batch, incidents) for c in near if c.state in OPEN]
            found = link(one.subject, earlier, directory, duplicate_cosine=models.duplicate_cosine)
            new = one.ticket.stage is Stage.ACCEPTED  # whom a person took out of an incident is not put back into it
            if new and (found is None or found.kind is LinkKind.INCIDENT):
                found = _by_cause(one, first, near) or found
            if found and found.kind is LinkKind.INCIDENT:
                incident_id = tx.join_incident(one.ticket.id, found.ticket_id, title=_title(one.ticket), now=now)
                incidents |= {one.ticket.id: incident_id, found.ticket_id: incident_id}
                found = replace(found, incident_id=incident_id)
            if found:
                links[one.ticket.id] = found
            for alert in one.alerts:
                first.setdefault(cause_of(alert), _as_similar(one, found))
        return links

    def _finish(self, one: Seen, signals: Signals, found: Link | None, directory: Directory, load: dict[str, int]) -> Triage:
        kind = one.taxonomy.category(OTHERS if one.classification.abstained else one.classification.category)
        priority = prioritize(
            base_impact=kind.impact,
            base_urgency=kind.urgency,
            signals=signals,
            profile=one.profile,
            link=found,
            alerts=one.alerts,
            directory=directory,
            created_at=one.ticket.created_at,
        )
        assignment = route(
            category=kind.name,
            default_group=kind.group,
            entities=one.entities,
            signals=signals,
            alerts=one.alerts,
            directory=directory,
            load=load,
        )
        if assignment.assignee:
            load[assignment.assignee] = load.get(assignment.assignee, 0) + 1
        triage = Triage(
            classification=one.classification,
            entities=one.entities,
            signals=signals,
            link=found,
            priority=priority,
            assignment=assignment,
            explanation=(),
            causes=tuple(dict.fromkeys(cause_of(alert) for alert in one.alerts)),
        )
        return replace(triage, explanation=explain(triage, one.alerts))


def _see(
    ticket: Ticket, classification: Classification, taxonomy: Taxonomy, profiles: Mapping[str, Profile], directory: Directory
) -> Seen:
    email = ticket.requester.email.lower()
    profile = profiles.get(email) or Profile(email=email)
    subject = Subject(
        ticket_id=ticket.id,
        text=ticket.words_of_requester,
        requester_email=ticket.requester.email,
        category=classification.category,
        entities=find_entities(ticket.words_of_requester, directory),
        created_at=ticket.created_at,
    )
    settled, alerts = explain_by_alerts(subject, classification, profile, directory)
    return Seen(
        ticket=ticket,
        subject=replace(subject, category=settled.category),
        classification=settled,
        taxonomy=taxonomy,
        alerts=alerts,
        profile=profile,
    )


def _fresh(candidate: Similar, of_batch: Mapping[str, Seen], incidents: Mapping[str, str]) -> Similar:
    """What this batch has found out about a candidate stands in no table yet: its type, the incident that it leads or joined."""
    one, incident_id = of_batch.get(candidate.ticket_id), incidents.get(candidate.ticket_id, candidate.incident_id)
    if one is None and incident_id == candidate.incident_id:
        return candidate
    return replace(candidate, category=one.classification.category if one else candidate.category, incident_id=incident_id)


def _by_cause(one: Seen, first: Mapping[str, Similar], near: Sequence[Similar]) -> Link | None:
    """The first open ticket that the same alert explains, where it is earlier than this one."""
    alert = shared_cause(tuple(first), one.alerts)
    if alert is None:
        return None
    other = first[cause_of(alert)]
    if other.ticket_id == one.ticket.id or other.created_at > one.ticket.created_at:
        return None
    cosine = next((c.cosine for c in near if c.ticket_id == other.ticket_id), other.cosine)
    return link_by_cause(one.subject, replace(other, cosine=cosine), alert)


def _as_similar(one: Seen, found: Link | None) -> Similar:
    return Similar(
        ticket_id=one.ticket.id,
        cosine=0.0,
        subject=one.ticket.subject,
        description=one.ticket.description,
        requester_email=one.ticket.requester.email,
        category=one.classification.category,
        entities=one.entities,
        incident_id=found.incident_id if found else None,
        created_at=one.ticket.created_at,
        state=one.ticket.state,
    )


def _same_matter(one: Seen, contacts: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    return [
        row["id"]
        for row in contacts.get(one.ticket.requester.email.lower(), [])
        if row["id"] != one.ticket.id
        and row.get("category") == one.classification.category
        and row["created_at"] <= one.ticket.created_at
    ]


def _title(ticket: Ticket) -> str:
    return (ticket.subject or ticket.description)[:120]
