"""Volume: how many labeled tickets, over what time, how many a week. Reads labels and times; no texts."""

from collections import Counter
from datetime import datetime, timedelta

from training.readiness.export import Export
from training.readiness.limits import found, unknown
from training.readiness.records import Measure

DAYS_A_MONTH = 30.44
NO_TIMES = "No ticket has a creation time, so nothing can be said about it."
MAP_TIMES = "Export the creation time and name its column: --map created_at=COLUMN (ISO 8601)."


def measure_volume(export: Export) -> list[Measure]:
    """Four measures: labeled tickets, tickets a week, months covered, share with a time."""
    times = sorted(row.created_at for row in export.rows if row.created_at)
    return [_labeled(export), *_over_time(times), _dated(export, len(times))]


def _labeled(export: Export) -> Measure:
    count = len(export.labeled)
    return found(
        "labeled_tickets", count,
        f"{count:,} of {len(export):,} tickets have a label.",
        "Export more closed tickets with their final category: 10,000 over 18 to 24 months is the reference.",
        affected=max(0.0, 1 - count / 10_000),
        details={"tickets": len(export), "labeled": count},
    )  # fmt: skip


def _over_time(times: list[datetime]) -> list[Measure]:
    if not times:
        return [unknown("tickets_per_week", NO_TIMES, MAP_TIMES), unknown("months_covered", NO_TIMES, MAP_TIMES)]
    days = max((times[-1] - times[0]) / timedelta(days=1), 7.0)
    weekly, months = len(times) / days * 7, days / DAYS_A_MONTH
    weeks = _by_week(times)
    return [
        found(
            "tickets_per_week", weekly,
            f"{weekly:,.1f} tickets a week on average over {days / 7:,.0f} weeks."
            + (" Under 50 a week is too few." if weekly < 50 else ""),
            "Take in further groups or channels, or leave this queue to people: under 50 tickets a week is too few to pay back.",
            affected=max(0.0, 1 - weekly / 50),
            details={"weeks": weeks},
        ),
        found(
            "months_covered", months,
            f"The tickets run from {times[0]:%Y-%m-%d} to {times[-1]:%Y-%m-%d}, {months:.1f} months."
            + (" Beyond 24 months tickets tend to speak of systems that are gone." if months > 30 else ""),
            "Export 18 to 24 months, so that every season and every yearly task is in it.",
            affected=max(0.0, 1 - months / 18),
            details={"first": times[0].isoformat(), "last": times[-1].isoformat()},
        ),
    ]  # fmt: skip


def _by_week(times: list[datetime]) -> list[list[str | int]]:
    """[[Monday, tickets], ...], weeks without a ticket too."""
    counts = Counter((time - timedelta(days=time.weekday())).date() for time in times)
    week, last = min(counts), max(counts)
    rows: list[list[str | int]] = []
    while week <= last:
        rows.append([week.isoformat(), counts[week]])
        week += timedelta(days=7)
    return rows


def _dated(export: Export, dated: int) -> Measure:
    share = dated / len(export)
    return found(
        "dated", share,
        f"{dated:,} of {len(export):,} tickets say when they were created.", MAP_TIMES, affected=1 - share,
        details={"dated": dated},
    )  # fmt: skip
