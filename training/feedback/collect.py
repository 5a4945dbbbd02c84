"""Training rows and decisions of a desk: from its HTTP API or from a JSONL file of the same rows. Knows HTTP through the local stack's
client and the rows' fields; which row may be learned from was decided by the desk (`orchestrator.triage.eligibility`).

    rows = collect_feedback(since=..., file=None)     # a running stack, else --feedback FILE
    rows.tickets                                      # list[LabeledTicket], personal data replaced, origin "who: why"
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.connectors.local_stack import Client
from orchestrator.domain.errors import BadInput
from orchestrator.domain.feedback import RowKind
from orchestrator.privacy.redact import redact_fields
from training.records import LabeledTicket

SOURCE = "feedback"
PAGE_TICKETS = 500
MAX_COMPLAINTS = 20
NEEDED = ("id", "category", "decided_at", "who", "why", "kind", "eligible")
TYPES: Mapping[str, Any] = {  # of the fields that a file may tell wrongly
    "category": str | None,
    "corrected_to": str | None,
    "confidence": float | int | None,
    "alternatives": list | None,
    "was": dict | None,
    "weight": float | int,
    "ineligible_because": dict | None,
}
WEAK = "verified_only"  # why a row of the system of record alone is left out unless asked for
Progress = Callable[[str, int], None]  # (what, done so far): how many there are is known at the end


@dataclass(frozen=True, kw_only=True)
class FeedbackRow:
    """One label that people gave, ready to train on."""

    ticket: LabeledTicket
    kind: RowKind
    weight: float
    by_person: bool
    decided_at: datetime
    was: Mapping[str, Any]  # what the desk had decided: category, confidence, stage, model
    text_keys: frozenset[str]  # of the text as written and as redacted: the same ticket in an export is found by either
    external_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What feedback gives. `refused` counts rows by the first rule that refused them."""

    rows: tuple[FeedbackRow, ...]
    given: int  # rows that the desk had, refused ones included
    refused: Mapping[str, int]
    redactions: Mapping[str, int] = field(default_factory=dict)  # values of personal data replaced, by kind
    origin: str = ""  # where the rows came from, in words

    @property
    def tickets(self) -> list[LabeledTicket]:
        return [row.ticket for row in self.rows]


def collect_feedback(
    *, since: datetime | None = None, file: Path | None = None, weak: bool = False, progress: Progress | None = None
) -> Collected:
    """Rows that may be learned from. `weak`: those too that no person spoke about (verified and not reopened).

    Raises ModelUnavailable without a stack, Forbidden for a key that may not, BadInput for a file with every complaint found.
    """
    records, origin = _records("/v1/training/rows", since, file, progress, needed=NEEDED)
    if since is not None and file is not None:
        records = [record for record in records if _instant(record["decided_at"]) >= since]
    return rows_from(records, weak=weak, origin=origin)


def collect_decisions(
    *, since: datetime | None = None, file: Path | None = None, progress: Progress | None = None
) -> list[Mapping[str, Any]]:
    """What triage decided and what became of it, as `GET /v1/training/decisions` gives it, or a JSONL file of the same."""
    needed = ("id", "category", "confidence", "abstained", "stage", "triaged_at")
    records, _ = _records("/v1/training/decisions", since, file, progress, needed=needed)
    kept = [record for record in records if not record.get("shadow")]
    return [record for record in kept if since is None or _instant(record["triaged_at"]) >= since]


def rows_from(records: Iterable[Mapping[str, Any]], *, weak: bool = False, origin: str = "") -> Collected:
    """Of raw rows: the eligible ones with their texts redacted, the others counted by reason."""
    rows: list[FeedbackRow] = []
    refused: Counter[str] = Counter()
    redactions: Counter[str] = Counter()
    given = 0
    for record in records:
        given += 1
        if (reason := _refusal(record, weak=weak)) is not None:
            refused[reason] += 1
            continue
        row, counts = _row(record)
        rows.append(row)
        redactions.update(counts)
    return Collected(rows=tuple(rows), given=given, refused=dict(refused), redactions=dict(redactions), origin=origin)


def _refusal(record: Mapping[str, Any], *, weak: bool) -> str | None:
    if not record["eligible"]:
        return next(iter(record.get("ineligible_because") or {}), "not_eligible")
    if not record["category"]:
        return "names_no_type"
    return None if weak or record.get("by_person", True) else WEAK


def _row(record: Mapping[str, Any]) -> tuple[FeedbackRow, Mapping[str, int]]:
    subject, description = str(record.get("subject") or ""), str(record.get("description") or "")
    (clean_subject, clean_description, why), counts = redact_fields((subject, description, str(record["why"] or "")))
    ticket = LabeledTicket(
        id=str(record["id"]),
        subject=clean_subject,
        description=clean_description,
        category=str(record["category"]),
        group=record.get("group"),
        language=record.get("language") or "en",
        created_at=_instant(record["created_at"]) if record.get("created_at") else None,
        source=SOURCE,
        origin=f"{record['who']}: {why}",
    )
    raw = LabeledTicket(id="", subject=subject, description=description, category="")
    row = FeedbackRow(
        ticket=ticket,
        kind=RowKind(record["kind"]),
        weight=float(record.get("weight", 1.0)),
        by_person=bool(record.get("by_person", True)),
        decided_at=_instant(record["decided_at"]),
        was=record.get("was") or {},
        text_keys=frozenset({text_key(raw.text), text_key(ticket.text)}),
        external_id=record.get("external_id"),
    )
    return row, counts


def text_key(text: str) -> str:
    """The same for texts that differ in case, spacing and punctuation alone."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
    return hashlib.sha256(" ".join(words).encode("utf-8", "replace")).hexdigest()


# --- where the rows are ---------------------------------------------------------------------------------------------------


def _records(
    path: str, since: datetime | None, file: Path | None, progress: Progress | None, *, needed: Sequence[str]
) -> tuple[list[Mapping[str, Any]], str]:
    if file is not None:
        return read_records(file, needed), file.name
    client, found = Client(role="ml-engineer"), []
    try:
        for items in client.pages(path, since=since.isoformat() if since else None, limit=PAGE_TICKETS):
            found += items
            if progress:
                progress("rows read", len(found))
        return found, client.url
    finally:
        client.close()


def read_records(path: Path, needed: Sequence[str]) -> list[Mapping[str, Any]]:
    """The objects of a JSONL file; each must have the needed fields. Raises BadInput with every complaint found."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} cannot be read: {error}.", hint="Give a JSONL file as GET /v1/training/rows gives its items."
        ) from error
    complaints: list[str] = []
    records = [
        record for number, line in enumerate(lines, 1) if line.strip() and (record := _record(line, number, needed, complaints))
    ]
    if complaints:
        more = f" and {len(complaints) - MAX_COMPLAINTS} more" if len(complaints) > MAX_COMPLAINTS else ""
        raise BadInput(
            f"{path}: {'; '.join(complaints[:MAX_COMPLAINTS])}{more}.", hint="Every line is one item of the desk's list."
        )
    return records


def _record(line: str, number: int, needed: Sequence[str], complaints: list[str]) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        complaints.append(f"line {number} is not JSON")
        return None
    missing = [name for name in needed if name not in record] if isinstance(record, dict) else list(needed)
    if missing:
        complaints.append(f"line {number} has no {', '.join(missing)}")
        return None
    return _checked(record, number, complaints)


def _checked(record: Mapping[str, Any], number: int, complaints: list[str]) -> Mapping[str, Any] | None:
    for name in ("decided_at", "created_at", "triaged_at"):
        try:
            if record.get(name):
                _instant(record[name])
        except (ValueError, TypeError):
            complaints.append(f"line {number}: {name} {record[name]!r} is not a time with an offset")
            return None
    wrong = [name for name, kinds in TYPES.items() if name in record and not isinstance(record[name], kinds)]
    if wrong:
        complaints.append(f"line {number}: {wrong[0]} {str(record[wrong[0]])[:40]!r} is of the wrong type")
        return None
    if "kind" in record and record["kind"] not in [kind.value for kind in RowKind]:
        complaints.append(f"line {number}: kind {record['kind']!r} is none of {', '.join(RowKind)}")
        return None
    return record


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text} has no offset")
    return found
