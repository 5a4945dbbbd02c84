"""Read tickets from JSONL or CSV files with renamed fields. Knows files and fields; knows no database and no HTTP.

Fields: `id, subject, description` and, where known, `category, group, priority, created_at, requester, resolution`.
Every complaint names the file, the line and what to do; all complaints of a file come at once.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import BadInput

FIELDS = ("id", "subject", "description", "category", "group", "priority", "created_at", "requester", "resolution")
MAX_COMPLAINTS = 20


@dataclass(frozen=True, kw_only=True)
class TicketRow:
    """One line of a file. `extra` keeps what has no field of its own."""

    id: str
    subject: str
    description: str
    category: str | None = None
    group: str | None = None
    priority: str | None = None
    created_at: datetime | None = None
    requester: str | None = None
    resolution: str | None = None
    line: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)


def parse_map(pairs: Sequence[str]) -> dict[str, str]:
    """`["subject=short_description"]` to `{"subject": "short_description"}`; target first."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        target, separator, source = pair.partition("=")
        if not separator or not source or target not in FIELDS:
            raise BadInput(f"--map {pair!r} is not target=source.", hint=f"Targets are {', '.join(FIELDS)}.")
        mapping[target] = source
    return mapping


def read_tickets(path: Path, mapping: Mapping[str, str] | None = None) -> list[TicketRow]:
    """All tickets of a .jsonl, .json, .csv file (also .gz). Raises BadInput with every complaint found."""
    if not path.exists():
        raise BadInput(f"There is no file {path}.")
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}:{line}: not UTF-8 (byte {raw[error.start]:#04x}).", hint="Convert the file to UTF-8.") from error
    name = path.name.removesuffix(".gz")
    complaints: list[str] = []
    records = _csv(text, path, mapping or {}) if name.endswith(".csv") else _jsonl(text, path, complaints)
    rows: list[TicketRow] = []
    seen: dict[str, int] = {}
    for line, record in records:
        row = _row(record, line, mapping or {}, path, complaints)
        if row is None:
            continue
        if row.id in seen:
            complaints.append(f"{path}:{line}: id {row.id!r} stood already in line {seen[row.id]}.")
            continue
        seen[row.id] = line
        rows.append(row)
    if complaints:
        more = f"\n... and {len(complaints) - MAX_COMPLAINTS} more" if len(complaints) > MAX_COMPLAINTS else ""
        raise BadInput("\n".join(complaints[:MAX_COMPLAINTS]) + more)
    if not rows:
        raise BadInput(f"{path} has no tickets.")
    return rows


def _jsonl(text: str, path: Path, complaints: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except json.JSONDecodeError as error:
            complaints.append(f"{path}:{line}: not JSON ({error.msg} at column {error.colno}).")
            continue
        if not isinstance(record, dict):
            complaints.append(f"{path}:{line}: a {type(record).__name__} where an object with subject and description is needed.")
            continue
        yield line, record


def _csv(text: str, path: Path, mapping: Mapping[str, str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if "\x00" in text:
        raise BadInput(f"{path}: has NUL bytes; that is no CSV text file.")
    csv.field_size_limit(16 * 1024 * 1024)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    header = reader.fieldnames or []
    missing = [source for source in mapping.values() if source not in header]
    if missing:
        raise BadInput(f"{path}:1: no column {', '.join(map(repr, missing))}; the header has {', '.join(header)}.")
    if not {mapping.get("subject", "subject"), mapping.get("description", "description")} & set(header):
        raise BadInput(
            f"{path}:1: neither a subject nor a description column; the header has {', '.join(header)}.",
            hint="Rename with --map subject=COLUMN.",
        )
    try:
        for record in reader:
            if None in record or None in record.values():
                count = len(header) + len(record.get(None) or []) if None in record else sum(v is not None for v in record.values())
                raise BadInput(f"{path}:{reader.line_num}: {count} fields where the header has {len(header)}.")
            yield reader.line_num, record
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: not CSV ({error}).") from error


def _row(record: Mapping[str, Any], line: int, mapping: Mapping[str, str], path: Path, complaints: list[str]) -> TicketRow | None:
    place = f"{path}:{line}"

    def text(target: str) -> str | None:
        value = record.get(mapping.get(target, target))
        if value is None or value == "":
            return None
        if isinstance(value, dict) and target == "requester":
            value = value.get("email") or ""
        if isinstance(value, dict | list | bool):
            complaints.append(f"{place}: {target} is a {type(value).__name__}, not text.")
            return None
        return str(value).replace("\x00", "�")

    subject, description = text("subject") or "", text("description") or ""
    absent = [source for source in mapping.values() if source not in record]
    if absent:
        complaints.append(f"{place}: no field {', '.join(map(repr, absent))}, which --map names.")
        return None
    if not {mapping.get("subject", "subject"), mapping.get("description", "description")} & record.keys():
        complaints.append(f"{place}: neither subject nor description; the fields are {', '.join(map(str, record))}.")
        return None
    used = {mapping.get(name, name) for name in FIELDS}
    return TicketRow(
        id=text("id") or str(line),
        subject=subject,
        description=description,
        category=text("category"),
        group=text("group"),
        priority=text("priority"),
        created_at=_instant(text("created_at"), place, complaints),
        requester=text("requester"),
        resolution=text("resolution"),
        line=line,
        extra={key: value for key, value in record.items() if key not in used},
    )


def _instant(value: str | None, place: str, complaints: list[str]) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        complaints.append(f"{place}: created_at {value!r} is not an ISO 8601 time such as 2026-11-18T09:30:00Z.")
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
