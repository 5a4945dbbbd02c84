"""A small house for tests of triage: services, sites, people, one moment."""

from datetime import UTC, datetime, timedelta

from orchestrator.domain.directory import Alert, Colleague, Deployment, Directory, Profile, Service, Site
from orchestrator.domain.tickets import State
from orchestrator.domain.triage import Entities, Sentiment, Signals
from orchestrator.ports import Similar
from orchestrator.triage.entities import find_entities
from orchestrator.triage.link import Subject

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
HOUSE = Directory(
    services=(
        Service(
            name="sso", title="Single sign-on", aliases=("sign-in page",), tier=0, owner_group="Identity", symptoms=("certificate",)
        ),
        Service(
            name="erp",
            aliases=("Warenwirtschaft",),
            tier=1,
            owner_group="Applications",
            depends_on=("sso",),
            symptoms=("posting failed",),
        ),
        Service(
            name="mobile-app", aliases=("the app", "die App"), tier=1, owner_group="Applications", symptoms=("crash", "stürzt")
        ),
        Service(name="tills", aliases=("Kassen",), tier=2, owner_group="Sites", sites=("Graz", "Bristol")),
        Service(name="wiki", tier=3, owner_group="Collaboration"),
    ),
    sites=(
        Site(name="Graz", aliases=("GRZ",), region="Europe"),
        Site(name="Bristol", region="Europe"),
        Site(name="Halifax", region="Americas"),
    ),
    staff=(
        Colleague(email="ada@desk.example", name="Ada", group="Service Desk", skills=("vpn",), languages=("en",), open_tickets=4),
        Colleague(
            email="bo@desk.example", name="Bo", group="Service Desk", skills=("vpn", "password_reset"), languages=("en", "de")
        ),
        Colleague(email="cy@desk.example", name="Cy", group="Service Desk", skills=("vpn", "password_reset"), available=False),
        Colleague(email="di@desk.example", name="Di", group="Identity", skills=("SSO",), languages=("en",)),
    ),
)


def alert(
    service: str,
    kind: str = "down",
    *,
    id: str = "al-1",
    site: str | None = None,
    region: str | None = None,
    hours: float = 1,
    detail: str = "",
    firing: bool = True,
) -> Alert:
    return Alert(
        id=id,
        service=service,
        kind=kind,
        since=NOW - timedelta(hours=hours),
        site=site,
        region=region,
        detail=detail,
        firing=firing,
    )


def house(*alerts: Alert, deployments: tuple[Deployment, ...] = ()) -> Directory:
    return Directory(services=HOUSE.services, sites=HOUSE.sites, staff=HOUSE.staff, alerts=alerts, deployments=deployments)


def entities(text: str) -> Entities:
    return find_entities(text, HOUSE)


def subject(text: str, category: str | None = "application_error", *, requester: str = "new@b.example") -> Subject:
    return Subject(
        ticket_id="T-99", text=text, requester_email=requester, category=category, entities=entities(text), created_at=NOW
    )


def similar(
    number: int,
    text: str,
    cosine: float,
    *,
    category: str | None = "application_error",
    requester: str | None = None,
    incident: str | None = None,
    minutes: int = 30,
) -> Similar:
    head, _, rest = text.partition("\n")
    return Similar(
        ticket_id=f"T-{number}",
        cosine=cosine,
        subject=head,
        description=rest,
        requester_email=f"user{number}@b.example" if requester is None else requester,
        category=category,
        entities=entities(text),
        incident_id=incident,
        created_at=NOW - timedelta(minutes=minutes),
        state=State.ACTIVE,
    )


def background(count: int = 10, cosine: float = 0.35) -> list[Similar]:
    """Tickets of other matters, less and less near."""
    return [similar(500 + n, f"Something else altogether number {n}", cosine - n / 1000, category="how_to") for n in range(count)]


def signals(**changed: object) -> Signals:
    return Signals(**{"sentiment": Sentiment.NEUTRAL, "urgency": 4, **changed})  # type: ignore[arg-type]


def profile(**changed: object) -> Profile:
    return Profile(**{"email": "new@b.example", "known": True, **changed})  # type: ignore[arg-type]
