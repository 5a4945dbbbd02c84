"""Read tickets from JSONL or CSV files with renamed fields. Knows files and fields; knows no database and no HTTP.

Fields: `id, subject, description` and, where known, `category, group, priority, created_at, requester, resolution`.
Every complaint names the file, the line and what to do; all complaints of a file come at once.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import BadInput

FIELDS = ("id", "subject", "description", "category", "group", "priority", "created_at", "requester", "resolution")
MAX_COMPLAINTS = 20
Numbered = tuple[int, Mapping[str, Any]]  # line, record


@dataclass(frozen=True, kw_only=True)
class TicketRow:
    """One line of a file. `id` defaults to the row's number; `extra` keeps what has no field of its own."""

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
    numbered: bool = False  # the file gave no id
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
    """All tickets of a .jsonl, .json (also one array), .csv file (also .gz). Raises BadInput with every complaint found."""
    text = _text(path)
    name = path.name.lower().removesuffix(".gz")
    complaints: list[str] = []
    if name.endswith(".csv"):
        found = _csv(text, path, mapping or {}, complaints)
    elif name.endswith(".json") and text.lstrip().startswith("["):
        found = _array(text, path)
    else:
        found = _jsonl(text, path, complaints)
    records = list(found)
    complaints += _never_seen(records, mapping or {}, path)
    rows: list[TicketRow] = []
    seen: dict[str, int] = {}
    for number, (line, record) in enumerate(records, start=1):
        row = _row(record, number, line, mapping or {}, path, complaints)
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


def _never_seen(records: Sequence[Numbered], mapping: Mapping[str, str], path: Path) -> list[str]:
    """Fields that --map names and no record has: a typing error, not a gap in the data."""
    known = {name for _, record in records for name in record}
    return [
        f"{path}: no field {source!r}, which --map {target}={source} names; there are {', '.join(sorted(known))}."
        for target, source in mapping.items()
        if records and source not in known
    ]


def _text(path: Path) -> str:
    """The file unpacked and decoded. Raises BadInput where it cannot be."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise BadInput(f"There is no file {path}.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}).") from error
    if path.suffix.lower() == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise BadInput(f"{path} is not a whole gzip file ({error}).") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadInput(f"{path}:{line}: not UTF-8 (byte {raw[error.start]:#04x}).", hint="Convert the file to UTF-8.") from error


def _jsonl(text: str, path: Path, complaints: list[str]) -> Iterator[Numbered]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            record = _parsed(content)
        except BadInput as error:
            complaints.append(f"{path}:{line}: {error}")
            continue
        if not isinstance(record, dict):
            complaints.append(f"{path}:{line}: a {type(record).__name__} where an object with subject and description is needed.")
            continue
        yield line, record


def _array(text: str, path: Path) -> Iterator[Numbered]:
    """One array of objects; its items count as lines."""
    try:
        records = _parsed(text)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise BadInput(f"{path}:{number}: a {type(record).__name__} where an object with subject and description is needed.")
        yield number, record


def _parsed(content: str) -> Any:
    """Strict JSON. Raises BadInput without the place."""
    try:
        return json.loads(content, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise BadInput(f"not JSON ({error.msg} at column {error.colno}).") from error
    except RecursionError as error:
        raise BadInput("nested too deep.") from error
    except ValueError as error:  # NaN, 1e999, a number of thousands of digits
        raise BadInput(f"a number that cannot be held ({str(error)[:80]}).") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large")
    return value


def _csv(text: str, path: Path, mapping: Mapping[str, str], complaints: list[str]) -> Iterator[Numbered]:
    """Line numbers are those on which a record ends: a quoted field may hold line breaks."""
    if "\x00" in text:
        line = text[: text.index("\x00")].count("\n") + 1
        raise BadInput(f"{path}:{line}: a NUL byte; that is no CSV text file.")
    csv.field_size_limit(16 * 1024 * 1024)
    header_line = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header_line.count), strict=True)
    try:
        header = reader.fieldnames or []
        _check_header(header, path, mapping)
        for record in reader:
            if None in record or None in record.values():
                count = len(header) + len(record.get(None) or []) if None in record else sum(v is not None for v in record.values())
                complaints.append(f"{path}:{reader.line_num}: {count} fields where the header has {len(header)}.")
                continue
            yield reader.line_num, record
    except csv.Error as error:
        raise BadInput(f"{path}:{reader.line_num}: not CSV ({error}).") from error


def _check_header(header: Sequence[str], path: Path, mapping: Mapping[str, str]) -> None:
    columns = ", ".join(header) or "no column at all"
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise BadInput(f"{path}:1: the header has {', '.join(map(repr, twice))} more than once.", hint="Rename one of them.")
    if missing := [source for source in mapping.values() if source not in header]:
        raise BadInput(f"{path}:1: no column {', '.join(map(repr, missing))}; the header has {columns}.")
    if not {mapping.get("subject", "subject"), mapping.get("description", "description")} & set(header):
        raise BadInput(
            f"{path}:1: neither a subject nor a description column; the header has {columns}.",
            hint="Rename with --map subject=COLUMN; columns are separated by comma, semicolon or tab.",
        )


def mended(value: Any) -> Any:
    """The same without NUL and lone surrogates, which neither the wire nor the database can hold."""
    if isinstance(value, str):
        return value if value.isascii() and "\x00" not in value else "".join(map(_storable, value))
    if isinstance(value, dict):
        return {mended(key): mended(item) for key, item in value.items()}
    if isinstance(value, list):
        return [mended(item) for item in value]
    return value


def _storable(char: str) -> str:
    return "\ufffd" if char == "\x00" or "\ud800" <= char <= "\udfff" else char


def _row(
    record: Mapping[str, Any], number: int, line: int, mapping: Mapping[str, str], path: Path, complaints: list[str]
) -> TicketRow | None:
    place = f"{path}:{line}"

    def text(target: str) -> str | None:
        value = record.get(mapping.get(target, target))
        if isinstance(value, dict) and target == "requester":
            value = value.get("email")
        if value is None or value == "":
            return None
        if isinstance(value, dict | list | bool):
            complaints.append(f"{place}: {target} is a {type(value).__name__}, not text.")
            return None
        return str(mended(value))

    if not {mapping.get("subject", "subject"), mapping.get("description", "description")} & record.keys():
        complaints.append(f"{place}: neither subject nor description; the fields are {', '.join(map(str, record)) or 'none'}.")
        return None
    used = {mapping.get(name, name) for name in FIELDS}
    return TicketRow(
        id=text("id") or str(number),
        subject=text("subject") or "",
        description=text("description") or "",
        category=text("category"),
        group=text("group"),
        priority=text("priority"),
        created_at=_instant(text("created_at"), place, complaints),
        requester=text("requester"),
        resolution=text("resolution"),
        line=line,
        numbered=text("id") is None,
        extra={mended(key): mended(value) for key, value in record.items() if key not in used},
    )


def _instant(value: str | None, place: str, complaints: list[str]) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value.replace("Z", "+00:00"))
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        if 1970 <= found.year < 2200:  # no time at which a ticket came in lies beyond
            return found
    except (ValueError, OverflowError):
        pass
    complaints.append(f"{place}: created_at {value!r} is not an ISO 8601 time such as 2026-11-18T09:30:00Z.")
    return None
