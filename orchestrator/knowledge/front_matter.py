"""What a document says about itself: the fields of its front matter, checked. Knows YAML; reads no file and no body."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import yaml

from orchestrator.domain.errors import BadInput

AUDIENCES = ("requester", "internal")
AUTHORITIES = ("policy", "article", "runbook", "note")
LANGUAGES = ("en", "de", "fr")
REVIEW_MONTHS = 12  # between two reviews, where a document says nothing else
FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)(.*)", re.S)


@dataclass(frozen=True, kw_only=True)
class About:
    """One document's front matter. Dates are ISO days; an empty tuple of groups, regions or plans excludes nobody."""

    id: str
    title: str
    audience: str
    authority: str
    effective_on: str | None
    expires_on: str | None  # from this day on the document is not found
    reviewed_on: str | None
    review_by: str | None  # the day by which somebody has to look at it again
    owner: str
    language: str  # ISO 639-1; "" where it does not say
    version: str | None
    policy_id: str  # by which policies on refunds, cancellations and access are cited
    groups: tuple[str, ...]  # directory or assignment groups: for readers in one of them alone
    regions: tuple[str, ...]
    plans: tuple[str, ...]
    sensitive: bool  # never quoted: requesters are told `summary`
    summary: str
    supersedes: tuple[str, ...]  # ids that this document replaces from its effective date on


def split(text: str) -> tuple[str, str, int] | None:
    """(front matter, body, line on which the body begins), or None where a text has none."""
    match = FRONT.match(text)
    return None if match is None else (match[1], match[2], text[: match.start(2)].count("\n") + 1)


def read_yaml(text: str, *, source: str) -> Mapping[str, Any]:
    """The fields as they stand there. Raises BadInput."""
    try:
        about = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise BadInput(f"{source}: the front matter is not YAML: {error}.") from error
    if not isinstance(about, Mapping):
        raise BadInput(f"{source}: the front matter is no list of fields.", hint="Write one `name: value` a line.")
    return about


def read_about(fields: Mapping[str, Any], *, source: str) -> About:
    """Checked fields; raises BadInput that names every problem."""
    problems = [f"{name} is missing" for name in ("id", "title") if not fields.get(name)]
    problems += [
        f"{name} is no field of a document" for name in sorted(set(fields) - set(About.__dataclass_fields__) - {"review_every"})
    ]

    def one_of(name: str, allowed: tuple[str, ...], default: str) -> str:
        value = fields.get(name, default)
        if value not in allowed:
            problems.append(f"{name} {value!r} is none of {', '.join(each or 'nothing' for each in allowed)}")
        return str(value)

    def checked(name: str, read: Callable[[Any], Any]) -> Any:
        try:
            return read(fields.get(name))
        except ValueError as error:
            problems.append(f"{name}: {error}")
            return None

    reviewed = checked("reviewed_on", read_day)
    months = checked("review_every", _months)
    about = About(
        id=str(fields.get("id")),
        title=str(fields.get("title")),
        audience=one_of("audience", AUDIENCES, "requester"),
        authority=one_of("authority", AUTHORITIES, "article"),
        effective_on=checked("effective_on", read_day),
        expires_on=checked("expires_on", read_day),
        reviewed_on=reviewed,
        review_by=checked("review_by", read_day) or (reviewed and _months_after(reviewed, months or REVIEW_MONTHS)),
        owner=str(fields.get("owner") or ""),
        language=one_of("language", (*LANGUAGES, ""), ""),
        version=None if fields.get("version") is None else str(fields["version"]),
        policy_id=str(fields.get("policy_id") or ""),
        groups=checked("groups", _names) or (),
        regions=checked("regions", _names) or (),
        plans=checked("plans", _names) or (),
        sensitive=bool(checked("sensitive", _flag)),
        summary=str(fields.get("summary") or "").strip(),
        supersedes=checked("supersedes", _names) or (),
    )
    if about.sensitive and not about.summary:
        problems.append("it is sensitive and has no summary that may be told instead")
    if problems:
        raise BadInput(f"{source}: {'; '.join(problems)}.")
    return about


def read_day(value: Any) -> str | None:
    """An ISO day. Raises ValueError for what is none."""
    if value is None or value == "":
        return None
    try:
        return date.fromisoformat(str(value)[:10]).isoformat()
    except ValueError as error:
        raise ValueError(f"{value!r} is not a date such as 2026-03-01") from error


def _months(value: Any) -> int | None:
    match = re.fullmatch(r"(\d{1,3})(?:\s*months?)?", "" if value is None else str(value).strip())
    if value is not None and (match is None or int(match[1]) == 0):
        raise ValueError(f"{value!r} is no number of months such as 6")
    return int(match[1]) if match else None


def _months_after(day: str, months: int) -> str:
    start = date.fromisoformat(day)
    years, month = divmod(start.month - 1 + months, 12)
    return date(start.year + years, month + 1, min(start.day, 28)).isoformat()


def _names(value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value or []
    if not isinstance(given, list) or not all(isinstance(each, str | int) for each in given):
        raise ValueError(f"{value!r} is neither a name nor a list of names")
    return tuple(str(each) for each in given)


def _flag(value: Any) -> bool:
    if value not in (None, True, False):
        raise ValueError(f"{value!r} is neither true nor false")
    return bool(value)
