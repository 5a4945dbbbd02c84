"""Priority from impact x urgency, moved by what the ticket and the account say. Rules are tables; every move has a reason."""

from datetime import datetime, timedelta

from orchestrator.domain.directory import Alert, Directory, Profile
from orchestrator.domain.triage import Link, LinkKind, Priority, PriorityLevel, Sentiment, Signals

MATRIX = (  # rows: impact 1..4, columns: urgency 1..4
    (1, 1, 2, 2),
    (1, 2, 2, 3),
    (2, 2, 3, 3),
    (2, 3, 4, 4),
)
"""ITIL's impact x urgency matrix, four by four."""

SLA_HOURS = {  # first figure: resolution for standard accounts, second: business, third: enterprise
    PriorityLevel.P1: (4, 2, 1),
    PriorityLevel.P2: (8, 6, 4),
    PriorityLevel.P3: (24, 16, 8),
    PriorityLevel.P4: (72, 48, 24),
}
TIER_COLUMN = {"standard": 0, "business": 1, "enterprise": 2}
VALUABLE = 50_000.0  # annual value from which an account's matter weighs more


def prioritize(
    *,
    base_impact: int,
    base_urgency: int = 4,
    signals: Signals,
    profile: Profile,
    link: Link | None,
    alerts: tuple[Alert, ...],
    directory: Directory,
    created_at: datetime,
) -> Priority:
    """Impact from the matter and its evidence, urgency from the wording and the account, then the matrix and the SLA clock."""
    reasons: list[str] = [f"impact {base_impact}: usual for this type"]
    impact = _impact(base_impact, signals, link, alerts, directory, reasons)
    urgency = _urgency(base_urgency, signals, profile, reasons)
    level = MATRIX[impact - 1][urgency - 1]
    reasons.append(f"impact {impact} x urgency {urgency} gives P{level}")
    if signals.losing_money and level > 1:
        level = 1
        reasons.append("says that money is being lost now: P1")
    tier = profile.account_tier if profile.account_tier in TIER_COLUMN else "standard"
    due_at = created_at + timedelta(hours=SLA_HOURS[PriorityLevel(level)][TIER_COLUMN[tier]])
    reasons.append(f"SLA {tier}: due {due_at:%Y-%m-%d %H:%M} UTC")
    return Priority(level=PriorityLevel(level), impact=impact, urgency=urgency, sla_due_at=due_at, reasons=tuple(reasons))


def _impact(
    impact: int,
    signals: Signals,
    link: Link | None,
    alerts: tuple[Alert, ...],
    directory: Directory,
    reasons: list[str],
) -> int:
    if alerts:
        impact = min(impact, 2)
        reasons.append(f"impact {impact}: {alerts[0].kind} is firing on {alerts[0].service}")
        tier_0 = next((a.service for a in alerts if (service := directory.service(a.service)) and service.tier == 0), None)
        if tier_0:
            impact = 1
            reasons.append(f"impact 1: {tier_0} is Tier 0, the house stands still without it")
    if link and link.kind is LinkKind.INCIDENT and impact > 2:
        impact = 2
        reasons.append("impact 2: reported by several people")
    if signals.distress:
        impact = 1
        reasons.append("impact 1: a person may be at risk")
    return impact


def _urgency(base: int, signals: Signals, profile: Profile, reasons: list[str]) -> int:
    urgency = signals.urgency
    reasons.append(f"urgency {urgency}: {', '.join(signals.cues) or 'nothing in the wording presses'}")
    if base < urgency:
        urgency = base
        reasons.append(f"urgency {urgency}: this type never waits longer")
    moves = (
        (profile.vip or profile.account_vip, "the requester is a VIP"),
        (profile.annual_value >= VALUABLE, f"the account is worth {profile.annual_value:,.0f} a year"),
        (profile.health == "risk", "the account is at risk of leaving"),
        (signals.repeat_contact, "this is a repeated contact"),
        (signals.sentiment is Sentiment.FURIOUS, "the requester is furious"),
    )
    for applies, why in moves:
        if applies and urgency > 2:
            urgency -= 1
            reasons.append(f"urgency {urgency}: {why}")
    return urgency
