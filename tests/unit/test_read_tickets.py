"""Files of tickets: what is read from them, and what is said of bad ones."""

import csv
import gzip
import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.errors import BadInput
from orchestrator.intake.read_tickets import MAX_COMPLAINTS, TicketRow, parse_map, read_tickets


@pytest.fixture
def file(tmp_path: Path):
    def write(content: str | bytes, name: str = "export.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def complaint(path: Path, mapping: dict[str, str] | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        read_tickets(path, mapping)
    return str(caught.value)


# --- what is read ---------------------------------------------------------------------------------------------------


def test_a_line_is_a_ticket_with_all_its_known_fields(file) -> None:
    record = {"id": "INC-7", "subject": "VPN", "description": "hangs", "category": "vpn", "group": "Service Desk", "priority": 2}
    record |= {"created_at": "2026-11-18T09:30:00Z", "requester": "ada@northwind.example", "resolution": "reset", "site": "Graz"}
    (row,) = read_tickets(file(lines(record)))
    assert row == TicketRow(
        id="INC-7",
        subject="VPN",
        description="hangs",
        category="vpn",
        group="Service Desk",
        priority="2",
        created_at=datetime(2026, 11, 18, 9, 30, tzinfo=UTC),
        requester="ada@northwind.example",
        resolution="reset",
        line=1,
        extra={"site": "Graz"},
    )


def test_an_id_that_is_missing_is_the_number_of_the_row(file) -> None:
    path = file(lines({"subject": "one"}) + "\n" + lines({"subject": "two"}, {"id": "x", "subject": "three"}))
    assert [(row.id, row.line) for row in read_tickets(path)] == [("1", 1), ("2", 3), ("x", 4)]


def test_fields_are_renamed_by_the_map(file) -> None:
    path = file("number,short_description,opened\n7,No mail,2026-11-18 09:30\n", "export.csv")
    (row,) = read_tickets(path, parse_map(["id=number", "subject=short_description", "created_at=opened"]))
    assert (row.id, row.subject, row.description) == ("7", "No mail", "")
    assert row.created_at == datetime(2026, 11, 18, 9, 30, tzinfo=UTC)


def test_a_requester_given_as_an_object_is_its_address(file) -> None:
    path = file(
        lines({"subject": "a", "requester": {"email": "ada@northwind.example", "name": "Ada"}}, {"subject": "b", "requester": {}})
    )
    assert [row.requester for row in read_tickets(path)] == ["ada@northwind.example", None]


def test_a_packed_file_reads_as_the_plain_one(file) -> None:
    content = lines({"id": "1", "subject": "Zähler läuft"})
    assert read_tickets(file(gzip.compress(content.encode()), "e.jsonl.gz"))[0].subject == "Zähler läuft"
    assert read_tickets(file(gzip.compress(b"id,subject\n1,x\n"), "e.csv.gz"))[0].subject == "x"


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(file) -> None:
    assert read_tickets(file(b'\xef\xbb\xbf{"id": "1", "subject": "a"}\r\n{"id": "2", "subject": "b"}\r\n'))[1].subject == "b"
    assert read_tickets(file(b"\xef\xbb\xbfid,subject\r\n1,a\r\n", "e.csv"))[0].id == "1"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_may_be_separated_by_comma_semicolon_or_tab(file, separator: str) -> None:
    path = file(separator.join(["id", "subject", "description"]) + "\n" + separator.join(["1", "a", "b"]) + "\n", "e.csv")
    assert read_tickets(path)[0].description == "b"


def test_a_quoted_field_may_hold_line_breaks_and_later_complaints_name_the_right_line(file) -> None:
    path = file('id,subject\n1,"two\nlines"\n2,three,four\n', "e.csv")
    assert ":4: 3 fields where the header has 2" in complaint(path)
    assert read_tickets(file('id,subject\n1,"two\nlines"\n', "f.csv"))[0].subject == "two\nlines"


def test_an_empty_ticket_is_still_a_ticket(file) -> None:
    (row,) = read_tickets(file(lines({"id": "1", "subject": "", "description": None})))
    assert (row.subject, row.description) == ("", "")


def test_a_time_without_a_zone_is_utc_and_one_with_a_zone_keeps_its_instant(file) -> None:
    path = file(
        lines(
            {"subject": "a", "created_at": "2026-11-18T09:30"}, {"id": "b", "subject": "b", "created_at": "2026-11-18T09:30+02:00"}
        )
    )
    plain, zoned = (row.created_at for row in read_tickets(path))
    assert plain == datetime(2026, 11, 18, 9, 30, tzinfo=UTC)
    assert zoned == datetime(2026, 11, 18, 9, 30, tzinfo=timezone(timedelta(hours=2)))


def test_a_time_in_the_future_is_read_as_it_stands(file) -> None:
    (row,) = read_tickets(file(lines({"subject": "a", "created_at": "2099-01-01T00:00:00Z"})))
    assert row.created_at == datetime(2099, 1, 1, tzinfo=UTC)


def test_a_huge_field_is_read_whole(file) -> None:
    text = "x" * 2_000_000
    assert read_tickets(file(lines({"subject": text})))[0].subject == text
    assert read_tickets(file(f"subject\n{text}\n", "e.csv"))[0].subject == text


def test_zero_characters_and_half_surrogates_become_a_sign_that_every_system_can_store(file) -> None:
    (row,) = read_tickets(file('{"subject": "a\\u0000b", "description": "\\ud800"}\n'))
    assert (row.subject, row.description) == ("a�b", "�")


# --- what is said of bad files --------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "no file" in complaint(tmp_path / "nothing.jsonl")
    assert str(tmp_path) in complaint(tmp_path)


def test_an_empty_file_has_no_tickets(file) -> None:
    assert "has no tickets" in complaint(file("\n\n"))
    assert "has no tickets" in complaint(file("id,subject\n", "e.csv"))


def test_invalid_utf8_is_named_with_its_line_and_byte(file) -> None:
    assert ":2: not UTF-8 (byte 0xff)" in complaint(file(b'{"subject": "a"}\n{"subject": "\xff"}\n'))


def test_a_broken_archive_is_no_traceback(file) -> None:
    assert "not a whole gzip file" in complaint(file(b"not packed", "e.jsonl.gz"))
    assert "not a whole gzip file" in complaint(file(gzip.compress(b"x" * 9999)[:20], "f.jsonl.gz"))


def test_every_bad_line_is_named_at_once(file) -> None:
    said = complaint(file('{"subject": "a"\n[1]\n"text"\n{"subject": ["a"]}\n{"site": "Graz"}\n{"id": "z", "subject": "fine"}\n'))
    for line, what in ((1, "not JSON"), (4, "subject is a list"), (5, "neither subject nor description; the fields are site")):
        assert f":{line}: {what}" in said
    assert ":2: a list where an object" in said and ":3: a str where an object" in said and ":6:" not in said


def test_a_json_list_of_tickets_is_read_too(file) -> None:
    path = file(json.dumps([{"subject": "a"}, {"id": "x", "subject": "b"}]), "e.json")
    assert [(row.id, row.subject) for row in read_tickets(path)] == [("1", "a"), ("x", "b")]
    assert ":2: a int where an object" in complaint(file('[{"subject": "a"}, 7]', "f.json"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "9" * 9999])
def test_a_number_that_no_system_can_hold_is_named_with_its_line(file, number: str) -> None:
    assert ":1: a number that cannot be held" in complaint(file(f'{{"subject": "a", "x": {number}}}\n'))


def test_more_complaints_than_a_person_reads_are_counted(file) -> None:
    said = complaint(file("{\n" * (MAX_COMPLAINTS + 7)))
    assert said.count("not JSON") == MAX_COMPLAINTS and "and 7 more" in said


def test_a_json_line_nested_without_end_is_only_a_bad_line(file) -> None:
    said = complaint(file("{" + '"a":[' * 100_000 + "\n" + lines({"subject": "fine"})))
    assert ":1:" in said and ":2:" not in said


def test_an_id_that_stands_twice_names_both_lines(file) -> None:
    said = complaint(file(lines({"id": "7", "subject": "a"}, {"id": "8", "subject": "b"}, {"id": 7, "subject": "c"})))
    assert ":3: id '7' stood already in line 1" in said


def test_a_table_without_subject_and_description_names_line_one_and_its_columns(file) -> None:
    said = complaint(file("number,title\n1,a\n", "e.csv"))
    assert ":1: neither a subject nor a description column; the header has number, title" in said and "--map" in said


def test_a_mapped_column_that_the_table_lacks_is_named(file) -> None:
    assert ":1: no column 'short_desc'; the header has id, subject" in complaint(
        file("id,subject\n1,a\n", "e.csv"), {"description": "short_desc"}
    )


def test_a_mapped_field_that_no_line_has_is_named_but_a_gap_is_not(file) -> None:
    path = file(lines({"subject": "a", "opened": "2026-11-18"}, {"id": "b", "subject": "b"}))
    assert "no field 'opend', which --map created_at=opend names" in complaint(path, {"created_at": "opend"})
    assert [row.created_at is None for row in read_tickets(path, {"created_at": "opened"})] == [False, True]


def test_all_ragged_lines_of_a_table_are_named(file) -> None:
    said = complaint(file("id,subject\n1\n2,b\n3,c,d\n", "e.csv"))
    assert ":2: 1 fields where the header has 2" in said and ":4: 3 fields" in said


def test_a_column_that_stands_twice_is_refused(file) -> None:
    assert ":1: the header has 'subject' more than once" in complaint(file("subject,subject\na,b\n", "e.csv"))


def test_a_quote_that_never_closes_is_refused_with_its_line(file) -> None:
    assert "not CSV" in complaint(file('id,subject\n1,"never closed\n', "e.csv"))


def test_a_nul_byte_in_a_table_is_named_with_its_line(file) -> None:
    assert ":3: a NUL byte" in complaint(file(b"id,subject\n1,a\n2,\x00\n", "e.csv"))


@pytest.mark.parametrize("time", ["yesterday", "18.11.2026", "1763458200", "0001-01-01T00:00:00Z", "9999-12-31"])
def test_a_time_that_is_none_is_named_with_its_line(file, time: str) -> None:
    assert f":1: created_at {time!r}" in complaint(file(lines({"subject": "a", "created_at": time})))


@pytest.mark.parametrize("pair", ["subject", "subject=", "title=subject", "=x"])
def test_a_map_that_is_not_target_and_source_is_refused(pair: str) -> None:
    with pytest.raises(BadInput, match="is not target=source"):
        parse_map([pair])


def test_a_source_may_hold_an_equals_sign() -> None:
    assert parse_map(["subject=a=b"]) == {"subject": "a=b"}


# --- properties -----------------------------------------------------------------------------------------------------

cells = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00\r"), max_size=40)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
def test_what_a_table_writer_wrote_is_read_back(tmp_path_factory, pairs: list[tuple[str, str]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["subject", "description"])
    writer.writerows(pairs)
    path = tmp_path_factory.mktemp("csv") / "e.csv"
    path.write_bytes(out.getvalue().encode())
    assert [(row.subject, row.description) for row in read_tickets(path)] == pairs


@given(st.binary(max_size=300))
def test_any_bytes_are_tickets_or_a_sentence(tmp_path_factory, content: bytes) -> None:
    for name in ("e.jsonl", "e.csv"):
        path = tmp_path_factory.mktemp("bytes") / name
        path.write_bytes(content)
        try:
            assert all(isinstance(row, TicketRow) for row in read_tickets(path))
        except BadInput as error:
            assert str(path) in str(error)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["id", "subject", "description", "requester", "created_at", "x"]),
            st.none()
            | st.booleans()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.integers()
            | st.text()
            | st.lists(st.integers()),
        ),
        max_size=5,
    )
)
def test_any_json_objects_are_tickets_or_a_sentence(tmp_path_factory, records: list[dict]) -> None:
    path = tmp_path_factory.mktemp("json") / "e.jsonl"
    path.write_text(lines(*records))
    try:
        assert len(read_tickets(path)) == len(records)
    except BadInput as error:
        assert str(path) in str(error)
