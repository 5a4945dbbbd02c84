"""A day's folder: read, checked whole, moved to now."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.errors import BadInput
from serving.demo.company import BUNDLED_DAY
from serving.demo.day import read_day

TICKET = {
    "id": "d-1",
    "subject": "VPN",
    "created_at": "2026-11-18T09:00:00Z",
    "requester": {"email": "ada@b.example"},
    "channel": "portal",
}
TRUTH = {"id": "d-1", "category": "vpn", "outcome": ["resolved"]}
Write = Callable[..., Path]


@pytest.fixture
def day(tmp_path: Path) -> Write:
    def write(tickets: Any = (TICKET,), truth: Any = (TRUTH,), world: Any = None, about: Any = None) -> Path:
        for name, value in (("tickets.jsonl", tickets), ("truth.jsonl", truth), ("world.json", world or {}), ("day.json", about)):
            if value is None:
                continue
            if isinstance(value, bytes):
                (tmp_path / name).write_bytes(value)
            else:
                rows = value if isinstance(value, list | tuple) else [value]
                (tmp_path / name).write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
        return tmp_path

    return write


def complaint(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_day(folder)
    return str(caught.value)


def test_the_bundled_day_reads() -> None:
    day = read_day(BUNDLED_DAY)
    assert len(day.tickets) >= 150 and set(day.truth) == {ticket["id"] for ticket in day.tickets}


def test_a_day_ends_where_its_file_says_but_never_before_its_last_ticket(day: Write) -> None:
    assert read_day(day()).now == datetime(2026, 11, 18, 9, tzinfo=UTC)
    assert read_day(day(about={"now": "2026-11-18T17:00:00Z"})).now == datetime(2026, 11, 18, 17, tzinfo=UTC)
    assert read_day(day(about={"now": "2026-11-01T00:00:00Z"})).now == datetime(2026, 11, 18, 9, tzinfo=UTC)
    assert read_day(day(about={"title": "x"}, world={"now": "2026-11-18T12:00:00Z"})).now == datetime(2026, 11, 18, 12, tzinfo=UTC)


def test_tickets_come_in_the_order_of_their_instants_whatever_their_zone(day: Write) -> None:
    early = {**TICKET, "id": "d-2", "created_at": "2026-11-18T09:30:00+02:00"}
    folder = day(tickets=(TICKET, early), truth=(TRUTH, {**TRUTH, "id": "d-2"}))
    assert [ticket["id"] for ticket in read_day(folder).tickets] == ["d-2", "d-1"]


def test_ids_may_be_numbers(day: Write) -> None:
    read = read_day(day(tickets=({**TICKET, "id": 7},), truth=({**TRUTH, "id": 7},)))
    assert read.tickets[0]["id"] == "7" and "7" in read.truth


def test_a_requester_may_be_a_plain_address(day: Write) -> None:
    assert read_day(day(tickets=({**TICKET, "requester": "ada@b.example"},))).tickets[0]["requester"] == {"email": "ada@b.example"}


def test_a_day_without_truth_can_be_replayed_too(day: Write) -> None:
    assert read_day(day(truth=None)).truth == {}


def test_every_instant_moves_and_texts_stay(day: Write) -> None:
    world = {
        "alerts": [{"since": "2026-11-18T08:00:00Z"}],
        "subscriptions": [{"renews_on": "2026-12-01", "minimum_term_ends_on": None}],
        "invoices": [{"issued_on": "2026-10-31", "period": "2026-10"}],
        "note": "since 2026-11-18T08:00:00Z it is down",
    }
    ticket = {**TICKET, "description": "2026-11-18T08:00:00Z ERROR tunnel closed"}
    moved = read_day(day(tickets=(ticket,), world=world)).shifted(datetime(2027, 1, 1, 9, tzinfo=UTC))
    by = timedelta(days=44)
    assert moved.now == datetime(2027, 1, 1, 9, tzinfo=UTC)
    assert moved.tickets[0]["created_at"] == "2027-01-01T09:00:00Z"
    assert moved.tickets[0]["description"] == ticket["description"]
    assert moved.world["alerts"] == [{"since": (datetime(2026, 11, 18, 8, tzinfo=UTC) + by).isoformat().replace("+00:00", "Z")}]
    assert moved.world["subscriptions"] == [{"renews_on": "2027-01-14", "minimum_term_ends_on": None}]
    assert moved.world["invoices"] == world["invoices"] and moved.world["note"] == world["note"]


def test_to_move_a_day_leaves_the_one_that_was_read_alone(day: Write) -> None:
    read = read_day(day(world={"alerts": [{"since": "2026-11-18T08:00:00Z"}]}))
    read.shifted(datetime(2027, 1, 1, tzinfo=UTC))
    assert read.world["alerts"][0]["since"] == "2026-11-18T08:00:00Z"


def test_missing_files_are_named_together(tmp_path: Path) -> None:
    said = complaint(tmp_path)
    assert "tickets.jsonl" in said and "world.json" in said


def test_everything_that_is_wrong_is_said_at_once(day: Write) -> None:
    tickets = (
        TICKET,
        TICKET,
        "{\n",
        "[]\n",
        {**TICKET, "id": "d-3", "created_at": "noon"},
        {**TICKET, "id": "d-4", "requester": {}},
    )
    said = complaint(day(tickets=tickets, truth=(TRUTH, {**TRUTH, "id": "d-3", "outcome": ["solved"]}), about={"now": "today"}))
    for what in (
        "id 'd-1' stands twice",
        "tickets.jsonl:3: not JSON",
        "tickets.jsonl:4: an object with an id",
        "ticket 'd-3' needs created_at",
        "ticket 'd-4' needs requester.email",
        "no truth for d-4",
        "outcome 'solved' is none of resolved, linked",
        "now is 'today'",
    ):
        assert what in said, said


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b"[]"])
def test_a_world_that_is_none_is_named(day: Write, content: bytes) -> None:
    assert "world.json" in complaint(day(world=content))


def test_a_day_without_tickets_is_none(day: Write) -> None:
    assert "has no tickets" in complaint(day(tickets=("\n",), truth=None))
