"""Which change or failure lies behind a wave of tickets: joins releases, certificates that ran out and alerts with the tickets, in time
and along the services that depend on one another, and says it in sentences. Pure: knows records, no database, no model; it ranks and
suggests, and never acts.

The change point of one candidate is a likelihood ratio of two Poisson rates, before and after it, with an exact bound on how likely the
rise is chance (conditional binomial test; Przyborowski and Wilenski 1940). Candidates are compared by that, by how near their service
is to what the tickets speak of, and by the tickets' own words.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.domain.directory import Alert, Certificate, Deployment, Directory, Service

LOOK_BACK = timedelta(hours=24)  # before the first report: older changes are no candidates
BEFORE = timedelta(hours=1)  # the quiet that is compared with, where the wave itself is shorter
GRACE = timedelta(minutes=2)  # clocks differ: a report this much earlier than a change may still come from it
NEARNESS = 0.6  # per step along depends_on
WORDS = 3.0  # nats for a ticket wave that names the very version
FAMILY = {"release": 1.0, "certificate": 1.2, "alert": 0.7}  # an alert is seldom the cause itself, but what a cause looks like
CHANCE = 0.01  # above it a rise counts for nothing


@dataclass(frozen=True, kw_only=True)
class Report:
    """One ticket or one error line: when, about which services, in which words."""

    at: datetime
    services: frozenset[str] = frozenset()
    versions: frozenset[str] = frozenset()
    region: str | None = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """Something that could be behind it, and since when."""

    kind: str  # "release", "certificate", "alert"
    id: str
    service: str
    at: datetime
    label: str  # "release 2.1.7 of checkout"
    undo: str = ""  # what a person may decide to do about it
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A change with what speaks for it, ready to be stored and shown."""

    kind: str
    id: str
    service: str
    at: datetime
    score: float  # nats; only to rank with
    before: int  # reports in the hour before (or as long as the wave lasts)
    after: int
    chance: float  # bound on the probability that so uneven a split is chance
    sentence: str
    evidence: tuple[str, ...]
    suggestion: str


def correlate(
    reports: Sequence[Report], directory: Directory, certificates: Iterable[Certificate] = (), *, now: datetime
) -> list[Cause]:
    """The candidates that the reports support, the best first; empty where nothing was reported or nothing changed."""
    if not reports:
        return []
    first = min(report.at for report in reports)
    found = [
        cause
        for change in changes(directory, certificates, since=first - LOOK_BACK, until=now)
        if (cause := _judge(change, reports, directory, now))
    ]
    return sorted(found, key=lambda cause: (-cause.score, -cause.at.timestamp(), cause.id))


def changes(directory: Directory, certificates: Iterable[Certificate], *, since: datetime, until: datetime) -> Iterator[Change]:
    """Live releases, certificates that ran out and firing alerts between two instants."""
    for deployment in directory.deployments:
        if deployment.live and deployment.at and since <= deployment.at <= until:
            yield _release(deployment)
    for certificate in certificates:
        if certificate.expires_at and since <= certificate.expires_at <= until:
            yield Change(
                kind="certificate",
                id=certificate.id,
                service=certificate.service,
                at=certificate.expires_at,
                label=f"the certificate of {certificate.service} ran out",
                undo=f"Propose to rotate {certificate.id}.",
            )
    for alert in directory.alerts:
        if alert.firing and alert.since and since <= alert.since <= until:
            yield _alert(alert)


def _release(deployment: Deployment) -> Change:
    return Change(
        kind="release",
        id=deployment.id,
        service=deployment.service,
        at=deployment.at or datetime.min,
        label=f"release {deployment.version} of {deployment.service}",
        undo=f"Propose to roll {deployment.id} back; a person approves it.",
        version=deployment.version,
    )


def _alert(alert: Alert) -> Change:
    place = f" at {alert.site or alert.region}" if alert.site or alert.region else ""
    cure = {
        "restart": f"Restart {alert.service}{place}.",
        "rotate": "Look at the certificate.",
        "rollback": "Look at the last release.",
    }
    return Change(
        kind="alert",
        id=alert.id,
        service=alert.service,
        at=alert.since or datetime.min,
        label=f"{alert.kind.replace('_', ' ')} of {alert.service}{place}",
        undo=cure.get(alert.cleared_by or "", f"Look at {alert.service}; monitoring knows no cure."),
    )


def _judge(change: Change, reports: Sequence[Report], directory: Directory, now: datetime) -> Cause | None:
    """What the reports that the change could touch say about it; None where they say nothing."""
    near = [(report, hops) for report in reports if (hops := distance(report.services, change.service, directory)) is not None]
    if not near:
        return None
    last = max(report.at for report, _ in near)
    span = max(BEFORE, last - change.at, timedelta(minutes=1))
    before = sum(change.at - span <= report.at < change.at - GRACE for report, _ in near)
    after = sum(report.at >= change.at - GRACE for report, _ in near)
    chance = binomial_tail(after, before + after, 0.5)
    if not after or (chance > CHANCE and before):
        return None
    proximity = math.fsum(NEARNESS**hops for _, hops in near) / len(near)
    named = sum(change.version in report.versions for report, _ in near) if change.version else 0
    lag = min(report.at for report, _ in near if report.at >= change.at - GRACE) - change.at
    score = FAMILY[change.kind] * proximity * rate_ratio(before, after) + (WORDS if named else 0.0) - _staleness(lag)
    return Cause(
        kind=change.kind,
        id=change.id,
        service=change.service,
        at=change.at,
        score=round(score, 4),
        before=before,
        after=after,
        chance=chance,
        sentence=_sentence(change, before, after, len(near), span),
        evidence=tuple(_evidence(change, near, named, lag, chance, directory)),
        suggestion=change.undo,
    )


def _staleness(lag: timedelta) -> float:
    """Nats lost per hour of quiet between the change and the first report."""
    return max(0.0, lag / timedelta(hours=1)) * 0.5


def distance(services: Iterable[str], changed: str, directory: Directory) -> int | None:
    """Steps along `depends_on` from what a report speaks of to the changed service. One that speaks of nothing is one step from
    everything; None: no way leads there."""
    named = [service for service in services if service]
    if not named:
        return 1
    ways = [hops for service in named if (hops := _hops(service, changed, directory)) is not None]
    return min(ways, default=None)


def _hops(start: str, goal: str, directory: Directory) -> int | None:
    seen, edge, hops = {start}, [start], 0
    while edge:
        if goal in edge:
            return hops
        found = (directory.service(name) for name in edge)
        edge = [each for service in found if service for each in service.depends_on if each not in seen]
        seen |= set(edge)
        hops += 1
    return None


def rate_ratio(before: int, after: int) -> float:
    """Log-likelihood ratio, in nats, of two Poisson rates over one rate for both spans of equal length; 0 where it did not rise."""
    total = before + after
    if after <= before or not total:
        return 0.0
    return math.fsum(count * math.log(2 * count / total) for count in (before, after) if count)


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """P(X >= successes), exact up to rounding; 1.0 for no trial."""
    if successes <= 0:
        return 1.0
    terms = (
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(chance)
        + (trials - k) * math.log1p(-chance)
        for k in range(successes, trials + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


# in words


def _sentence(change: Change, before: int, after: int, near: int, span: timedelta) -> str:
    tickets = f"{'all ' if after == near and near > 1 else ''}{after} ticket{'s' if after != 1 else ''}"
    quiet = "the hour" if span <= BEFORE else f"the {span / timedelta(hours=1):.0f} hours"
    return f"{tickets} came after {change.label} ({change.at:%H:%M}), {before or 'none'} in {quiet} before."


def _evidence(
    change: Change, near: Sequence[tuple[Report, int]], named: int, lag: timedelta, chance: float, directory: Directory
) -> Iterator[str]:
    yield f"first report {max(0, round(lag / timedelta(minutes=1)))} minutes after it"
    yield f"so uneven a split has a probability of at most {chance:.1e} by chance"
    direct = sum(hops == 0 for _, hops in near)
    if direct:
        yield f"{direct} of {len(near)} speak of {change.service} itself"
    if further := sum(hops > 0 for _, hops in near):
        yield f"{further} speak of something that depends on it, or of no service"
    if named:
        yield f"{named} name version {change.version}"
    if regions := sorted({report.region for report, _ in near if report.region}):
        yield f"from {len(regions)} region{'s' if len(regions) > 1 else ''}: {', '.join(regions)}"
    seen = [a for a in directory.alerts if a.firing and a.service == change.service and change.kind != "alert"]
    yield from (f"alert {a.id}: {a.kind.replace('_', ' ')} of {a.service} since {a.since:%H:%M}" for a in seen[:3] if a.since)


def suspects(alerting: Mapping[str, int], depends_on: Mapping[str, Iterable[str]], *, limit: int = 10) -> list[tuple[str, float]]:
    """Without times: services ranked by how many alerting ones they would explain, being one of them or what they rest on.

    A service explains an alert of one that rests on it, less with every step. What rests on an alerting service itself explains
    less: its own alert has an explanation further down.
    """
    services = tuple(alerting) + tuple(name for names in depends_on.values() for name in names) + tuple(depends_on)
    nodes = (Service(name=name, depends_on=tuple(depends_on.get(name, ()))) for name in dict.fromkeys(services))
    directory = Directory(services=tuple(nodes))
    scores = {}
    for candidate in dict.fromkeys(services):
        reached = ((weight, _hops(name, candidate, directory)) for name, weight in alerting.items())
        explained = math.fsum(weight * NEARNESS**hops for weight, hops in reached if hops is not None)
        excused = any(each in alerting for each in depends_on.get(candidate, ()))
        scores[candidate] = explained * (NEARNESS if excused else 1.0)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
