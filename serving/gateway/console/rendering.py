"""Templates to HTML, everything escaped. Knows Jinja2, the folder of templates and how to show times and shares; knows no route."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup, escape

FOLDER = Path(__file__).parent
STATE_WORDS = {"active": "Active", "pending": "Pending", "escalated": "Escalated", "resolved": "Resolved", "closed": "Closed"}
OUTCOME_WORDS = {
    "resolved": "Resolved and verified",
    "linked": "Linked",
    "awaiting_approval": "Awaits approval",
    "awaiting_requester": "Awaits requester",
    "awaiting_children": "Awaits its parts",
    "handed_over": "Handed over",
}


def words(value: Any) -> str:
    """`password_reset` -> `Password reset`."""
    text = str(value or "").replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def moment(value: Any) -> str:
    """2026-11-18 09:30 UTC, whatever form it comes in."""
    at = _instant(value)
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M UTC")


def exact(value: Any) -> str:
    at = _instant(value)
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M:%S")


def clock_time(value: Any) -> str:
    at = _instant(value)
    return "" if at is None else at.strftime("%H:%M:%S")


def age(value: Any, now: datetime) -> str:
    """How long ago, in the largest two units at most: `4 min`, `3 h 12 min`, `6 d`."""
    at = _instant(value)
    return "" if at is None else span((now - at).total_seconds())


def left(value: Any, now: datetime) -> str:
    """How long until then: `due in 2 h`, `overdue by 5 min`."""
    at = _instant(value)
    if at is None:
        return ""
    seconds = (at - now).total_seconds()
    return f"due in {span(seconds)}" if seconds >= 0 else f"overdue by {span(-seconds)}"


def span(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 48 * 3600:
        hours, minutes = divmod(whole // 60, 60)
        return f"{hours} h {minutes} min" if hours < 10 and minutes else f"{hours} h"
    return f"{whole // 86400} d"


def counted(number: int, noun: str) -> str:
    """`1 act`, `2 acts`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(value: Any) -> str:
    return "–" if value is None else f"{100 * float(value):.0f} %"


def plain(value: Any) -> str:
    """A JSON value as a person reads it: text as it is, the rest as JSON."""
    if value is None:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def marked(text: str) -> Markup:
    """Plain text whose `code` stands between backticks; everything else is escaped."""
    parts = [escape(part) for part in str(text).split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts))


def pretty(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _instant(value: Any) -> datetime | None:
    if not value:
        return None
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (words, moment, exact, clock_time, age, left, span, counted, percent, plain, marked, pretty)
    environment.filters.update({made.__name__: made for made in filters})
    environment.globals.update(STATE_WORDS=STATE_WORDS, OUTCOME_WORDS=OUTCOME_WORDS)
    return environment


ENVIRONMENT = _environment()


def render(template: str, **values: Any) -> str:
    return ENVIRONMENT.get_template(template).render(**values)


def asset(name: str) -> tuple[bytes, str] | None:
    """The bytes and media type of one of our own files; None for any other name."""
    kind = ASSETS.get(name)
    return None if kind is None else ((FOLDER / "assets" / name).read_bytes(), kind)


ASSETS: Mapping[str, str] = {"console.css": "text/css; charset=utf-8", "mark.svg": "image/svg+xml"}
