"""What the monitoring makes of a ticket: the alerts that explain it, the type where its wording alone leaves that open, and the
incident of one cause. Knows telemetry and triage records; knows no database and no model.

One alert is one incident: tickets that the same alert explains belong together whatever language or words they use.
"""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.domain.directory import Alert, Directory, Profile
from orchestrator.domain.triage import Classification, Entities, Evidence, Link, LinkKind
from orchestrator.ports import Similar
from orchestrator.triage.link import INCIDENT_CATEGORIES, Subject, explaining_alerts

SETTLE_AT = 0.02  # share that the wording must give a type before monitoring can settle on it
OUTAGE = "service_outage"
CAUSED_ELSEWHERE = frozenset({"network", "email"})  # where a service that can be cured is down, that is the matter


def cause_of(alert: Alert) -> str:
    """The same trouble of one service is one cause, in several regions perhaps; at two sites it is two."""
    return "/".join((alert.service, alert.kind, alert.site or ""))


def at_home(entities: Entities, profile: Profile) -> Entities:
    """Where a ticket names no place, the requester's own is meant: good enough for asking which alert explains it."""
    if entities.sites or entities.regions:
        return entities
    site, region = profile.site, profile.region
    return replace(entities, sites=(site.lower(),) if site else (), regions=(region.lower(),) if region else ())


def explain_by_alerts(
    subject: Subject, classification: Classification, profile: Profile, directory: Directory
) -> tuple[Classification, tuple[Alert, ...]]:
    """The alerts behind a ticket. Where triage would abstain and an alert explains one of the types it considered, that type it is."""
    placed = at_home(subject.entities, profile)

    def alerts_for(category: str) -> tuple[Alert, ...]:
        found = explaining_alerts(placed, category, subject.text, subject.created_at, directory)
        return tuple(sorted(found, key=lambda alert: _nearness(alert, placed)))

    for category in _open_types(classification):
        if not (alerts := alerts_for(category)):
            continue
        if category in CAUSED_ELSEWHERE and _considers(classification, OUTAGE) and any(alert.cleared_by for alert in alerts):
            category = OUTAGE
        if category == classification.category and not classification.abstained:
            return classification, alerts
        return replace(classification, category=category, abstained=False, settled_by=alerts[0].id), alerts
    return classification, ()


def _open_types(classification: Classification) -> list[str]:
    """The type that triage is sure of, else those that the wording suggests and that monitoring can settle."""
    if not classification.abstained:
        return [classification.category]
    return [name for name, share in classification.alternatives if name in INCIDENT_CATEGORIES and share >= SETTLE_AT]


def _considers(classification: Classification, category: str) -> bool:
    return any(name == category and share >= SETTLE_AT for name, share in classification.alternatives)


def _nearness(alert: Alert, placed: Entities) -> tuple[bool, bool, str]:
    """The alert of the ticket's own site first, then of its region, then the others."""
    return alert.site is None, not (alert.region and alert.region.lower() in placed.regions), alert.id


def link_by_cause(subject: Subject, first: Similar, alert: Alert) -> Link:
    """A link to the first open ticket that the same alert explains."""
    since = f" since {alert.since:%H:%M}" if alert.since else ""
    place = f" at {alert.site}" if alert.site else ""
    return Link(
        kind=LinkKind.INCIDENT,
        ticket_id=first.ticket_id,
        incident_id=first.incident_id,
        similarity=round(first.cosine, 4),
        score=1.0,
        evidence=(
            Evidence(kind="same_alert", detail=f"both explained by {alert.kind} on {alert.service}{place}{since}", weight=7.0),
            Evidence(kind="cosine", detail=f"texts are {first.cosine:.2f} similar", weight=0.0),
        ),
    )


def shared_cause(causes: Sequence[str], alerts: Sequence[Alert]) -> Alert | None:
    """The nearest alert whose cause is among these."""
    return next((alert for alert in alerts if cause_of(alert) in causes), None)
