"""Feedback rows read from a file, redacted, and merged into the data of a training run."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.errors import BadInput
from orchestrator.intake.read_tickets import TicketRow
from training.feedback.collect import collect_feedback, rows_from
from training.feedback.merge import with_feedback
from training.records import LabeledTicket


def raw(number: int, category: str | None = "vpn", *, day: int = 1, **changed: Any) -> dict[str, Any]:
    plain = {
        "id": f"T-{number}",
        "subject": "Tunnel drops",
        "description": f"The tunnel drops at site {number}.",
        "category": category,
        "was": {"category": "network", "confidence": 0.6, "stage": "head", "model": ""},
        "group": "Service Desk",
        "language": "en",
        "created_at": "2026-05-01T08:00:00Z",
        "decided_at": f"2026-05-{day:02d}T10:00:00Z",
        "who": "lena",
        "why": "it is the tunnel client",
        "kind": "override",
        "weight": 1.0,
        "by_person": True,
        "eligible": True,
        "ineligible_because": {},
    }
    return plain | changed


def file_of(folder: Path, *records: Any) -> Path:
    path = folder / "feedback.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n")
    return path


def test_a_row_says_who_and_why_and_holds_no_personal_data(tmp_path: Path) -> None:
    told = raw(
        1, description="Mail me at ada.lovelace@example.com, the tunnel drops.", why="ada.lovelace@example.com uses the tunnel"
    )
    found = collect_feedback(file=file_of(tmp_path, told))
    (ticket,) = found.tickets
    assert "ada" not in ticket.description and "<EMAIL_1>" in ticket.description and ticket.source == "feedback"
    assert ticket.origin == "lena: <EMAIL_1> uses the tunnel"
    assert found.redactions["EMAIL"] == 2


def test_rows_that_may_not_be_learned_from_are_counted_by_their_reason() -> None:
    bad = raw(2, eligible=False, ineligible_because={"burst": "one of many", "text_vague": "too little"})
    quiet = raw(3, by_person=False, kind="confirmed", weight=0.3, who="cloister")
    found = rows_from([raw(1), bad, quiet])
    assert (found.given, len(found.rows), found.refused) == (3, 1, {"burst": 1, "verified_only": 1})
    assert len(rows_from([raw(1), quiet], weak=True).rows) == 2


def test_every_complaint_about_a_file_is_told_at_once(tmp_path: Path) -> None:
    path = file_of(tmp_path, raw(1), "{", {"id": "T-2"}, raw(3, decided_at="yesterday"), raw(4, kind="guess"))
    with pytest.raises(BadInput) as told:
        collect_feedback(file=path)
    for words in ("line 2 is not JSON", "line 3 has no category", "line 4: decided_at 'yesterday'", "line 5: kind 'guess'"):
        assert words in str(told.value)


def test_since_leaves_out_what_was_decided_before(tmp_path: Path) -> None:
    path = file_of(tmp_path, raw(1, day=1), raw(2, day=9))
    assert [t.id for t in collect_feedback(file=path, since=datetime(2026, 5, 5, tzinfo=UTC)).tickets] == ["T-2"]


def export(identity: str, description: str, category: str, *, numbered: bool = False) -> TicketRow:
    return TicketRow(id=identity, subject="Tunnel drops", description=description, category=category, numbered=numbered)


def test_feedback_replaces_older_labels_by_id_by_the_source_s_id_and_by_the_same_words() -> None:
    rows = [
        export("T-1", "Quite another wording.", "network"),
        export("INC0042", "Wording of the source.", "network"),
        export("x", "THE TUNNEL drops,  at site 3", "network"),
        export("y", "Something else.", "network"),
    ]
    feedback = rows_from([raw(1), raw(2, external_id="INC0042"), raw(3), raw(4)])
    merged, report = with_feedback(rows, feedback)
    assert [row.category for row in merged] == ["vpn", "vpn", "vpn", "network", "vpn"]
    assert (report.relabeled, report.added, report.confirmed, report.moves) == (3, 1, 0, {"network -> vpn": 3})
    assert merged[0].extra["origin"] == "lena: it is the tunnel client" and merged[-1].extra["source"] == "feedback"


def test_a_row_s_mere_number_is_not_the_id_of_a_ticket() -> None:
    rows = [export("42", "Wording of the source.", "network", numbered=True)]
    merged, report = with_feedback(rows, rows_from([raw(2, external_id="42")]))
    assert merged[0].category == "network" and report.added == 1


def test_of_contradicting_words_about_the_same_text_the_latest_counts() -> None:
    same = {"description": "Nothing prints."}
    feedback = rows_from([raw(1, "hardware", day=3, **same), raw(2, "vpn", day=1, **same), raw(3, "hardware", day=2, **same)])
    merged, report = with_feedback([], feedback)
    assert [(row.id, row.category) for row in merged] == [("T-3", "hardware"), ("T-1", "hardware")]
    assert report.superseded == 1 and all(isinstance(row, TicketRow) for row in merged)


def test_labeled_tickets_stay_labeled_tickets_and_an_equal_label_is_a_confirmation() -> None:
    rows = [LabeledTicket(id="T-1", subject="s", description="d", category="vpn")]
    merged, report = with_feedback(rows, rows_from([raw(1), raw(2)]))
    assert [type(row) for row in merged] == [LabeledTicket, LabeledTicket]
    assert (report.confirmed, report.added, merged[0].source) == (1, 1, "feedback")
    assert "text" not in json.dumps(report.as_record()) and report.as_record()["rows_after"] == 2


def test_redacted_words_still_find_the_export_s_row() -> None:
    told = raw(9, subject="", description="Call me under ada.lovelace@example.com please, tunnel down")
    rows = [
        TicketRow(id="z", subject="", description="call me under ada.lovelace@example.com please: tunnel down", category="email")
    ]
    assert with_feedback(rows, rows_from([told]))[0][0].category == "vpn"
