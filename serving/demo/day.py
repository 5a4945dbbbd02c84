"""Read a day from its folder and shift it to now. Knows the files' formats; knows no stack."""

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import BadInput

OUTCOMES = ("resolved", "linked", "awaiting_approval", "awaiting_requester", "awaiting_children", "handed_over")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")


@dataclass(frozen=True, kw_only=True)
class Day:
    title: str
    tickets: tuple[Mapping[str, Any], ...]
    truth: Mapping[str, Mapping[str, Any]]  # by ticket id; may be empty
    world: Mapping[str, Any]
    approvals: tuple[Mapping[str, Any], ...]
    now: datetime

    def shifted(self, real_now: datetime) -> "Day":
        """The same day with every instant moved so that its `now` is `real_now`; dates that lie ahead or behind move by whole days."""
        by = real_now - self.now
        return Day(
            title=self.title,
            tickets=tuple(_shift(ticket, by) for ticket in self.tickets),
            truth=self.truth,
            world=_shift(self.world, by),
            approvals=self.approvals,
            now=real_now,
        )


def _shift(value: Any, by: timedelta) -> Any:
    if isinstance(value, Mapping):
        return {key: _moved_date(key, item, by) or _shift(item, by) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shift(item, by) for item in value]
    if isinstance(value, str) and _INSTANT.match(value):
        try:
            moved = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return value
        return ((moved if moved.tzinfo else moved.replace(tzinfo=UTC)) + by).isoformat().replace("+00:00", "Z")
    return copy.deepcopy(value)


def _moved_date(key: str, value: Any, by: timedelta) -> str | None:
    """`renews_on`, `expected_on` ...: held against the day's now. `issued_on` stays: requesters call an invoice by its month."""
    if not key.endswith("_on") or key == "issued_on" or not isinstance(value, str):
        return None
    try:
        return (date.fromisoformat(value) + timedelta(days=round(by / timedelta(days=1)))).isoformat()
    except ValueError:
        return None


def read_day(folder: Path) -> Day:
    """All four files, checked; raises BadInput with every complaint and its line."""
    complaints: list[str] = []
    for name in ("tickets.jsonl", "world.json"):
        if not (folder / name).exists():
            complaints.append(f"{folder} has no {name}; a day is tickets.jsonl, truth.jsonl, world.json and day.json (optional).")
    if complaints:
        raise BadInput("\n".join(complaints))
    tickets = _lines(folder / "tickets.jsonl", complaints)
    truth_path = folder / "truth.jsonl"
    truth = {row["id"]: row for row in _lines(truth_path, complaints)} if truth_path.exists() else {}
    world = _object(folder / "world.json", complaints)
    about = _object(folder / "day.json", complaints) if (folder / "day.json").exists() else {}
    _check(tickets, truth, folder, complaints)
    now = about.get("now") or world.get("now")
    if now is not None and _time(now) is None:
        complaints.append(f"{folder}: now is {now!r}, not ISO 8601.")
    if not tickets:
        complaints.append(f"{folder}/tickets.jsonl has no tickets.")
    if complaints:
        raise BadInput("\n".join(complaints[:20]))
    tickets.sort(key=lambda ticket: _instant(ticket["created_at"]))
    latest = _instant(tickets[-1]["created_at"])
    return Day(
        title=str(about.get("title") or folder.name),
        tickets=tuple(tickets),
        truth=truth,
        world=world,
        approvals=tuple(about.get("approvals") or ()),
        now=max(_instant(str(now)), latest) if now else latest,
    )


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _time(text: Any) -> datetime | None:
    try:
        return _instant(str(text))
    except ValueError:
        return None


def _read(path: Path, complaints: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        complaints.append(f"{path} cannot be read: {error}.")
        return ""


def _lines(path: Path, complaints: list[str]) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(_read(path, complaints).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            complaints.append(f"{path}:{number}: not JSON ({error.msg}).")
            continue
        if not isinstance(row, dict) or "id" not in row:
            complaints.append(f"{path}:{number}: an object with an id is needed.")
            continue
        rows.append({**row, "id": str(row["id"])})
    return rows


def _object(path: Path, complaints: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(_read(path, complaints) or "{}")
    except json.JSONDecodeError as error:
        complaints.append(f"{path}:{error.lineno}: not JSON ({error.msg}).")
        return {}
    if not isinstance(value, dict):
        complaints.append(f"{path}: an object is needed.")
        return {}
    return value


def _check(tickets: list[dict[str, Any]], truth: Mapping[str, Mapping[str, Any]], folder: Path, complaints: list[str]) -> None:
    seen: set[str] = set()
    for ticket in tickets:
        if ticket["id"] in seen:
            complaints.append(f"{folder}/tickets.jsonl: id {ticket['id']!r} stands twice.")
        seen.add(ticket["id"])
        if _time(ticket.get("created_at")) is None:
            complaints.append(f"{folder}/tickets.jsonl: ticket {ticket['id']!r} needs created_at as ISO 8601.")
        requester = ticket.get("requester")
        if isinstance(requester, str):
            ticket["requester"] = {"email": requester}
        elif not isinstance(requester, Mapping) or not requester.get("email"):
            complaints.append(f"{folder}/tickets.jsonl: ticket {ticket['id']!r} needs requester.email.")
    if truth and (missing := sorted(seen - truth.keys())):
        complaints.append(f"{folder}/truth.jsonl: no truth for {', '.join(missing[:5])}.")
    for row in truth.values():
        wrong = [outcome for outcome in _listed(row.get("outcome")) if outcome not in OUTCOMES]
        if wrong:
            complaints.append(f"{folder}/truth.jsonl: ticket {row['id']!r}: outcome {wrong[0]!r} is none of {', '.join(OUTCOMES)}.")


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
