"""Decide whether a ticket belongs to an earlier one: the same matter again, or one incident with many reports.

Similarity of texts proposes; what the tickets name (service, site, region, error code, version, host) and what the
monitoring reports decides. Look-alike texts about different things stay apart. Knows no database and no model.

The score is a sum of the weights in `WEIGHTS` through a logistic function; every term is kept as evidence.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.domain.directory import Alert, Deployment, Directory
from orchestrator.domain.triage import Entities, Evidence, Link, LinkKind
from orchestrator.ports import Similar

INCIDENT_CATEGORIES = frozenset({"sign_in_failure", "service_outage", "application_error", "network", "vpn", "email"})
"""Matters that many people can report for one cause. All others are personal: only the same requester can repeat them."""

DUPLICATE_COSINE = 0.87  # the mission's default; recalibrated per embedding model
LINK_AT = 0.5  # score from which tickets are joined

WEIGHTS: Mapping[str, float] = {
    "bias": -6.2,
    "cosine": 7.0,  # times the cosine
    "words": 3.0,  # times the idf-weighted overlap of words, 0..1
    "same_category": 0.6,
    "same_alert": 3.2,  # the monitoring reports one alert that explains both
    "same_service": 1.6,
    "related_service": 0.8,  # one depends on the other
    "same_error_code": 2.0,
    "same_version": 1.2,
    "same_site": 0.8,
    "same_region": 0.3,
    "same_deployment": 1.0,  # both after the same release of the service
    "other_error_code": -1.5,
    "other_version": -1.5,
}
VETOES = {
    "other_site": "names another site",
    "other_service": "names another, unrelated service",
    "other_thing": "names another machine or numbered thing",
    "other_number": "is about another order or invoice",
}
ALERT_LEAD = timedelta(minutes=30)  # people may notice before the monitoring does


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The ticket to be linked, with what triage already knows."""

    ticket_id: str
    text: str
    requester_email: str
    category: str | None
    entities: Entities
    created_at: datetime


def explaining_alerts(
    entities: Entities, category: str | None, text: str, created_at: datetime, directory: Directory
) -> list[Alert]:
    """Firing alerts that account for the ticket: its service (or one that it depends on), its site and region, and the time.

    A ticket that names no service is explained only where its words are symptoms of the alert's service.
    """
    if category not in INCIDENT_CATEGORIES:
        return []
    reach = frozenset().union(*(directory.upstream(name) for name in entities.services)) if entities.services else frozenset()
    return [alert for alert in directory.alerts if alert.firing and _explains(alert, reach, entities, text, created_at, directory)]


def _explains(
    alert: Alert, reach: frozenset[str], entities: Entities, text: str, created_at: datetime, directory: Directory
) -> bool:
    if alert.since and created_at < alert.since - ALERT_LEAD:
        return False
    if alert.site and entities.sites and alert.site.lower() not in entities.sites:
        return False
    if alert.region and not alert.site and entities.regions and alert.region.lower() not in entities.regions:
        return False
    named = alert.service in reach
    symptomatic = _has_symptom(text, alert, directory)
    if alert.site and alert.site.lower() in entities.sites and (named or symptomatic):
        return True
    if alert.site and not entities.sites:
        return False  # a site's alert explains only what names the site
    return symptomatic or (named and not _says_otherwise(text, alert, directory))


def _has_symptom(text: str, alert: Alert, directory: Directory) -> bool:
    service = directory.service(alert.service)
    lowered = text.lower()
    return bool(service) and any(symptom.lower() in lowered for symptom in service.symptoms if len(symptom) > 2)


def _says_otherwise(text: str, alert: Alert, directory: Directory) -> bool:
    """The service has symptoms on record and the ticket shows none of them."""
    service = directory.service(alert.service)
    return bool(service and service.symptoms) and not _has_symptom(text, alert, directory)


def _words(text: str) -> Counter[str]:
    return Counter(word for word in re.findall(r"[^\W_]{3,}", text.lower()))


def _overlap(left: Counter[str], right: Counter[str], rarity: Mapping[str, float]) -> float:
    """Cosine of the two bags of words with inverse document frequencies; 0..1."""

    def norm(bag: Counter[str]) -> float:
        return math.sqrt(sum(rarity.get(word, 1.0) ** 2 for word in bag))

    shared = sum(rarity.get(word, 1.0) ** 2 for word in left.keys() & right.keys())
    return shared / (norm(left) * norm(right)) if shared else 0.0


def _rarity(bags: Sequence[Counter[str]]) -> dict[str, float]:
    """ln((N + 1) / (df + 0.5)): smoothed inverse document frequency over the candidates."""
    df = Counter(word for bag in bags for word in bag)
    return {word: math.log((len(bags) + 1) / (count + 0.5)) for word, count in df.items()}


def _things(entities: Entities) -> frozenset[str]:
    return frozenset(entities.hosts)


def _veto(mine: Entities, theirs: Entities, directory: Directory, shared_alert: bool) -> str | None:
    if mine.sites and theirs.sites and not set(mine.sites) & set(theirs.sites) and not shared_alert:
        return "other_site"
    my_numbers, their_numbers = {*mine.order_numbers, *mine.invoice_numbers}, {*theirs.order_numbers, *theirs.invoice_numbers}
    if my_numbers and their_numbers and not my_numbers & their_numbers:
        return "other_number"
    if mine.services and theirs.services and not shared_alert and not _related(mine, theirs, directory):
        return "other_service"
    if _things(mine) and _things(theirs) and not _things(mine) & _things(theirs) and not shared_alert:
        return "other_thing"
    return None


def _related(mine: Entities, theirs: Entities, directory: Directory) -> bool:
    if set(mine.services) & set(theirs.services):
        return True
    reach = {name: directory.upstream(name) for name in (*mine.services, *theirs.services)}
    return any(b in reach[a] or a in reach[b] for a in mine.services for b in theirs.services)


def _release(subject: Entities, created_at: datetime, directory: Directory) -> Deployment | None:
    """The newest live deployment of a named service within three days before the ticket."""
    recent = [
        d
        for d in directory.deployments
        if d.live and d.at and d.service in subject.services and timedelta(0) <= created_at - d.at <= timedelta(days=3)
    ]
    return max(recent, key=lambda d: d.at or created_at, default=None)


def weigh(
    subject: Subject, other: Similar, directory: Directory, *, words: float, alerts: Sequence[Alert], other_alerts: Sequence[Alert]
) -> tuple[float, tuple[Evidence, ...]]:
    """Score 0..1 that the two are one matter, with the evidence. A veto scores 0 and is the only evidence."""
    mine, theirs = subject.entities, other.entities
    common = [alert for alert in alerts if alert.id in {a.id for a in other_alerts}]
    if veto := _veto(mine, theirs, directory, bool(common)):
        return 0.0, (Evidence(kind=veto, detail=VETOES[veto], weight=-9.0),)
    found: list[Evidence] = []

    def add(kind: str, detail: str, factor: float = 1.0) -> None:
        found.append(Evidence(kind=kind, detail=detail, weight=round(WEIGHTS[kind] * factor, 3)))

    add("cosine", f"texts are {other.cosine:.2f} similar", other.cosine)
    add("words", f"rare words shared: {words:.2f}", words)
    if subject.category and subject.category == other.category:
        add("same_category", f"both {subject.category}")
    if common:
        add(
            "same_alert",
            f"both explained by {common[0].kind} on {common[0].service} since {common[0].since:%H:%M}"
            if common[0].since
            else common[0].id,
        )
    _compare(add, mine, theirs, directory)
    release = _release(mine, subject.created_at, directory)
    if release and release == _release(theirs, other.created_at, directory):
        add("same_deployment", f"both after {release.service} {release.version}")
    score = 1 / (1 + math.exp(-(WEIGHTS["bias"] + sum(e.weight for e in found))))
    return score, tuple(found)


def _compare(note: Callable[[str, str], None], mine: Entities, theirs: Entities, directory: Directory) -> None:
    shared = sorted(set(mine.services) & set(theirs.services))
    if shared:
        note("same_service", f"both name {shared[0]}")
    elif mine.services and theirs.services and _related(mine, theirs, directory):
        note("related_service", f"{mine.services[0]} and {theirs.services[0]} depend on each other")
    for kind, left, right in (
        ("error_code", mine.error_codes, theirs.error_codes),
        ("version", mine.versions, theirs.versions),
        ("site", mine.sites, theirs.sites),
        ("region", mine.regions, theirs.regions),
    ):
        both = sorted(set(left) & set(right))
        if both:
            note(f"same_{kind}", f"both name {both[0]}")
        elif left and right and f"other_{kind}" in WEIGHTS:
            note(f"other_{kind}", f"{left[0]} against {right[0]}")


def _is_duplicate(subject: Subject, other: Similar, words: float) -> bool:
    """The same requester's same matter: near-equal text, or the same number named again in like words."""
    if subject.requester_email.lower() != other.requester_email.lower() or not subject.requester_email:
        return False
    numbers = set(subject.entities.order_numbers + subject.entities.invoice_numbers)
    same_number = bool(numbers & set(other.entities.order_numbers + other.entities.invoice_numbers))
    if _veto(subject.entities, other.entities, Directory(), False) in {"other_number", "other_thing"}:
        return False
    same_matter = other.category is None or other.category == subject.category
    return other.cosine >= DUPLICATE_COSINE or (same_matter and (other.cosine >= 0.72 or (same_number and other.cosine >= 0.5)))


def link(subject: Subject, candidates: Sequence[Similar], directory: Directory, *, personal_only: bool = False) -> Link | None:
    """The best link of `subject` to an earlier ticket, or None. Candidates are earlier and within the time window."""
    if not candidates:
        return None
    bags = [_words(f"{c.subject} {c.description}") for c in candidates]
    own = _words(subject.text)
    rarity = _rarity([*bags, own])
    overlaps = [_overlap(own, bag, rarity) for bag in bags]
    for other, words in zip(candidates, overlaps, strict=True):
        if _is_duplicate(subject, other, words):
            return _duplicate(subject, other, words)
    if personal_only or subject.category not in INCIDENT_CATEGORIES:
        return None
    alerts = explaining_alerts(subject.entities, subject.category, subject.text, subject.created_at, directory)
    best: tuple[float, Similar, tuple[Evidence, ...]] | None = None
    for other, words in zip(candidates, overlaps, strict=True):
        if other.category not in INCIDENT_CATEGORIES:
            continue
        other_alerts = explaining_alerts(
            other.entities, other.category, f"{other.subject}\n{other.description}", other.created_at, directory
        )
        score, evidence = weigh(subject, other, directory, words=words, alerts=alerts, other_alerts=other_alerts)
        if score >= LINK_AT and (best is None or score > best[0]):
            best = (score, other, evidence)
    if best is None:
        return None
    score, other, evidence = best
    return Link(
        kind=LinkKind.INCIDENT,
        ticket_id=other.ticket_id,
        incident_id=other.incident_id,
        similarity=round(other.cosine, 4),
        score=round(score, 4),
        evidence=evidence,
    )


def _duplicate(subject: Subject, other: Similar, words: float) -> Link:
    evidence = (
        Evidence(kind="same_requester", detail=f"{subject.requester_email} wrote both", weight=0.0),
        Evidence(kind="cosine", detail=f"texts are {other.cosine:.2f} similar", weight=round(other.cosine, 3)),
        Evidence(kind="words", detail=f"rare words shared: {words:.2f}", weight=round(words, 3)),
    )
    return Link(
        kind=LinkKind.DUPLICATE,
        ticket_id=other.ticket_id,
        incident_id=None,
        similarity=round(other.cosine, 4),
        score=round(min(1.0, other.cosine), 4),
        evidence=evidence,
    )
