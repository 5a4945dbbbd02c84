"""Names, aliases and places of adapters, without an engine."""

from pathlib import Path

import pytest

from orchestrator.domain.errors import AdapterMissing, BadInput, Conflict
from serving.adapters import AdapterTable, DesiredAdapter

TRIAGE = "triage@sha256-0123456789ab"
OTHER = "triage@sha256-ba9876543210"


@pytest.fixture
def table() -> AdapterTable:
    table = AdapterTable(base="tiny", limit=2)
    adapter = table.propose(TRIAGE, Path("/a"))
    assert adapter is not None
    table.admit(adapter)
    return table


def test_only_what_was_admitted_is_answered(table: AdapterTable) -> None:
    assert table.resolve("tiny") is None
    served = table.resolve(TRIAGE)
    assert served is not None and served.number == 1
    for absent in (OTHER, "live", "triage", ""):
        with pytest.raises(AdapterMissing):
            table.resolve(absent)


def test_an_alias_points_to_something_served_or_to_nothing(table: AdapterTable) -> None:
    table.point({"live": TRIAGE})
    assert table.resolve("live") == table.resolve(TRIAGE)
    with pytest.raises(AdapterMissing):
        table.point({"live": OTHER})
    with pytest.raises(BadInput):
        table.point({"tiny": TRIAGE})
    table.withdraw(TRIAGE)
    with pytest.raises(AdapterMissing):
        table.resolve("live")


def test_a_number_is_given_once_even_after_removal(table: AdapterTable) -> None:
    table.withdraw(TRIAGE)
    again = table.propose(TRIAGE, Path("/a"))
    assert again is not None and again.number == 2


def test_the_same_name_from_elsewhere_and_one_too_many_are_refused(table: AdapterTable) -> None:
    assert table.propose(TRIAGE, Path("/a")) is None
    with pytest.raises(Conflict, match="never reused"):
        table.propose(TRIAGE, Path("/b"))
    second = table.propose(OTHER, Path("/b"))
    assert second is not None
    table.admit(second)
    with pytest.raises(Conflict, match="places are taken"):
        table.propose("third@sha256-0123456789ab", Path("/c"))


@pytest.mark.parametrize(
    "row",
    [
        {"alias": "live", "name": "triage", "path": "/a"},
        {"alias": "Live One", "name": TRIAGE, "path": "/a"},
        {"alias": "live", "name": "../x@sha256-0123456789ab", "path": "/a"},
        {"alias": "live", "name": TRIAGE, "path": None},
        {},
    ],
)
def test_a_desired_row_that_makes_no_sense_is_refused(row: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        DesiredAdapter.parse(row)
