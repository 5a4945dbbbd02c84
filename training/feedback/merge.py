"""Feedback into the rows that a model is trained on: the latest word about a ticket replaces its older label. Knows rows only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from orchestrator.domain.triage import OTHERS
from orchestrator.intake.read_tickets import TicketRow
from training.feedback.collect import Collected, FeedbackRow, text_key
from training.records import LabeledTicket

Row = TypeVar("Row", TicketRow, LabeledTicket)


@dataclass(frozen=True, kw_only=True)
class MergeReport:
    """How many rows came from where."""

    rows_before: int
    rows_after: int
    added: int  # tickets that the data did not have
    relabeled: int  # older labels that people corrected
    confirmed: int  # rows whose label people said again
    superseded: int  # feedback about the same text that a later word contradicts
    refused: Mapping[str, int]  # rule -> rows that the desk gave as not to be learned from
    redactions: Mapping[str, int]
    moves: Mapping[str, int]  # "old -> new" -> how many, of the relabeled
    origin: str = ""

    def as_record(self) -> dict[str, Any]:
        """For dataset.json: counts alone, never a ticket's text."""
        return asdict(self)


def with_feedback(rows: Sequence[Row], feedback: Collected) -> tuple[list[Row], MergeReport]:
    """(rows with feedback merged in, report). Rows keep their order; new tickets follow, oldest first.

    A row is the same ticket when its id is the ticket's or its id in the source system (numbers that a file gave for want of an id
    count for nothing), or when its words are the same. `rows` are `TicketRow` of a file or `LabeledTicket`; new ones are of that kind,
    `TicketRow` where there are none.
    """
    latest, superseded = _latest(feedback.rows)
    by_id, by_text = _indexes(latest)
    merged: list[Row] = []
    used: set[str] = set()
    moves: Counter[str] = Counter()
    confirmed = 0
    for row in rows:
        found = _said_of(row, by_id, by_text)
        if found is None:
            merged.append(row)
            continue
        used.add(found.ticket.id)
        old = (row.category or "").strip()
        if old == found.ticket.category:
            confirmed += 1
        else:
            moves[f"{old or 'no label'} -> {found.ticket.category}"] += 1
        merged.append(_relabeled(row, found))
    new = [row for row in latest if row.ticket.id not in used]
    as_tickets = bool(rows) and isinstance(rows[0], LabeledTicket)
    merged += [row.ticket if as_tickets else ticket_row(row.ticket) for row in new]  # type: ignore[misc]
    report = MergeReport(
        rows_before=len(rows),
        rows_after=len(merged),
        added=len(new),
        relabeled=sum(moves.values()),
        confirmed=confirmed,
        superseded=superseded,
        refused=feedback.refused,
        redactions=feedback.redactions,
        moves=dict(moves.most_common()),
        origin=feedback.origin,
    )
    return merged, report


def ticket_row(ticket: LabeledTicket, *, others_label: str = OTHERS) -> TicketRow:
    """A labeled ticket as a row of a file, with `source`, `origin` and `language` in its extra fields."""
    extra = {"source": ticket.source, "origin": ticket.origin, "language": ticket.language}
    return TicketRow(
        id=ticket.id,
        subject=ticket.subject,
        description=ticket.description,
        category=others_label if ticket.category == OTHERS else ticket.category,
        group=ticket.group,
        created_at=ticket.created_at,
        extra=extra,
    )


def _latest(rows: Sequence[FeedbackRow]) -> tuple[list[FeedbackRow], int]:
    """Where people named different types for the same words, only the latest word counts; the same word stays for each ticket."""
    ordered = sorted(rows, key=lambda row: row.decided_at)
    last = {key: row.ticket.category for row in ordered for key in row.text_keys}
    kept = [row for row in ordered if all(last[key] == row.ticket.category for key in row.text_keys)]
    return list({row.ticket.id: row for row in kept}.values()), len(ordered) - len(kept)


def _indexes(rows: Sequence[FeedbackRow]) -> tuple[dict[str, FeedbackRow], dict[str, FeedbackRow]]:
    by_id = {row.external_id: row for row in rows if row.external_id} | {row.ticket.id: row for row in rows}
    return by_id, {key: row for row in rows for key in row.text_keys}


def _said_of(
    row: TicketRow | LabeledTicket, by_id: Mapping[str, FeedbackRow], by_text: Mapping[str, FeedbackRow]
) -> FeedbackRow | None:
    named = not (isinstance(row, TicketRow) and row.numbered)
    if named and row.id in by_id:
        return by_id[row.id]
    text = LabeledTicket(id="", subject=row.subject, description=row.description, category="").text
    return by_text.get(text_key(text))


def _relabeled(row: Row, found: FeedbackRow) -> Row:
    ticket = found.ticket
    if isinstance(row, LabeledTicket):
        return replace(row, category=ticket.category, group=ticket.group or row.group, source=ticket.source, origin=ticket.origin)
    extra = {**row.extra, "source": ticket.source, "origin": ticket.origin}
    return replace(row, category=ticket.category, group=ticket.group or row.group, extra=extra)
