"""The condition language: what holds, what a missing value means, how it reads, which mistakes are found at load."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.resolution import conditions
from orchestrator.resolution.conditions import OPERATORS, holds, mentions, said

FACTS: dict[str, Any] = {
    "order": {"status": "Delivered", "total": 12.5, "tags": ["a", "B"], "when": "2026-11-01", "none": None},
    "limit": 12.5,
    "now": datetime(2026, 11, 20, tzinfo=UTC).isoformat(),
    "words": "Bitte kündigen Sie mein Abo, ich stornierte nichts.",
}


def lookup(path: str) -> Any:
    value: Any = FACTS
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"value": "$order.status", "is": "delivered"}, True),
        ({"value": "$order.status", "is_not": "lost"}, True),
        ({"value": "$order.status", "in": ["lost", "DELIVERED"]}, True),
        ({"value": "$order.total", "at_most": "$limit"}, True),
        ({"value": "$order.total", "more_than": 12.49}, True),
        ({"value": "$order.total", "at_least": "12"}, False),  # text is no number
        ({"value": "$order.tags", "has": "b"}, True),
        ({"value": "$order.tags", "size_is": 2}, True),
        ({"value": "$order.when", "before": "$now"}, True),
        ({"value": "$order.when", "after": "$now"}, False),
        ({"value": "$words", "mentions": ["kündig"]}, True),
        ({"value": "$words", "mentions": ["ornier"]}, False),  # only at the start of a word
        ({"any": [{"value": "$order.status", "is": "lost"}, {"value": "$order.tags", "has": "a"}]}, True),
        ({"all": [{"value": "$order.status", "is": "lost"}, {"value": "$order.tags", "has": "a"}]}, False),
        ({"not": {"value": "$order.status", "is": "lost"}}, True),
        ({"value": "$order.none", "exists": False}, True),
        ({"value": "$order.status", "exists": True}, True),
    ],
)
def test_conditions_hold_as_they_read(condition: dict[str, Any], expected: bool) -> None:
    assert holds(condition, lookup) is expected


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_a_missing_value_satisfies_no_operator(operator: str) -> None:
    for operand in ("x", 1, ["x"], "2026-01-01"):
        assert not holds({"value": "$order.none", operator: operand}, lookup)
        assert not holds({"value": "$nobody.home", operator: operand}, lookup)


@given(
    st.sampled_from(sorted(OPERATORS)),
    st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.booleans(), st.lists(st.text())),
)
def test_no_value_breaks_a_comparison(operator: str, value: Any) -> None:
    for operand in ("x", 1, ["x"], "2026-01-01", True):
        assert holds({"value": "$v", operator: operand}, lambda _: value) in (True, False)


def test_a_condition_says_what_it_wants_and_what_it_found() -> None:
    assert said({"value": "$order.status", "is": "lost"}, lookup) == "order status is lost (found: Delivered)"
    assert said({"any": [{"value": "$order.total", "at_most": 5}, {"value": "$order.none", "exists": False}]}) == (
        "order total is at most 5 or order none is absent"
    )


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ("order is delivered", "is a mapping"),
        ({"value": "$order.status"}, "exactly one operator"),
        ({"value": "$order.status", "is": 1, "in": [1]}, "exactly one operator"),
        ({"value": "$order.status", "equals": 1}, "unknown operator `equals`"),
        ({"value": "order.status", "is": 1}, "is a reference"),
        ({"value": "$nobody.home", "is": 1}, "nothing provides $nobody.home"),
        ({"value": "$order.status", "in": "lost"}, "needs a list"),
        ({"value": "$order.total", "at_most": "many"}, "needs a number"),
        ({"value": "$order.when", "before": "soon"}, "needs an ISO date"),
        ({"value": "$order.none", "exists": "no"}, "needs true or false"),
        ({"any": []}, "holds a list"),
        ({"not": {"value": "$order.status", "was": 1}}, "unknown operator"),
    ],
)
def test_mistakes_are_found_when_a_file_is_loaded(condition: Any, complaint: str) -> None:
    assert any(complaint in problem for problem in conditions.problems(condition, lambda path: path.split(".")[0] in FACTS))


def test_words_are_found_across_line_breaks_and_case() -> None:
    assert mentions("please CHANGE\n  the address", ["change the address"]) == "change the address"
    assert mentions("exchange the address", ["change the address"]) is None
