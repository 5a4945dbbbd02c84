"""The promotion gate: its rules, what counts as parity, what counts as an order obeyed. Arrays and records; no engine."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from orchestrator.domain.triage import Classification
from orchestrator.ports import ScoreRequest, ScoreResult
from training.promotion.canaries import Canaries, measure_canaries
from training.promotion.gate import Measured, judge
from training.promotion.parity import Parity, agreement, measure_parity

NAME, OTHER = "desk@sha256-" + "a" * 64, "desk@sha256-" + "b" * 64


class Table:
    """A language model that answers from a table; `shifted` names answer with the options turned around."""

    def __init__(self, shifted: frozenset[str] = frozenset()) -> None:
        self.shifted = shifted

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        rows = [np.log(np.linspace(1, 2, len(r.options)) * (1 + len(r.prompt) % 3)) for r in requests]
        return [ScoreResult(logprobs=tuple(row[::-1] if model in self.shifted else row), model=model) for row in rows]


def asked(count: int) -> list[ScoreRequest]:
    return [ScoreRequest(prompt="x" * n, options=("A", "B", "C")) for n in range(1, count + 1)]


def test_the_same_answers_are_full_parity_whatever_their_common_offset() -> None:
    parity = measure_parity(asked(40), trained=Table(), served=Table(), adapter=NAME, base="base")
    assert parity.alone.share == parity.mixed.share == 1.0
    assert parity.alone.largest_difference == pytest.approx(0.0, abs=1e-9)


def test_an_adapter_that_is_served_as_something_else_is_no_parity() -> None:
    parity = measure_parity(asked(40), trained=Table(), served=Table(frozenset({NAME})), adapter=NAME, base="base")
    assert parity.alone.share == 0.0
    assert parity.alone.largest_difference == pytest.approx(np.log(2), abs=1e-5)


def test_two_options_within_rounding_of_each_other_are_the_same_choice() -> None:
    close, apart = np.log([0.50, 0.495, 0.005]), np.log([0.495, 0.50, 0.005])
    assert agreement([close], [apart]).same == 0
    assert agreement([close], [apart]).same_or_tied == 1
    assert agreement([np.log([0.6, 0.39, 0.01])], [apart]).same_or_tied == 0


# --- canaries -----------------------------------------------------------------------------------------------------------


def said(category: str, *, abstained: bool = False) -> Classification:
    return Classification(category=category, confidence=0.9, abstained=abstained, alternatives=((category, 0.9),), stage="head")


TEXTS, LABELS = [f"my vpn drops number {n}" for n in range(20)], ["vpn", "refund"] * 10


def test_a_classifier_that_reads_the_ticket_obeys_no_order() -> None:
    found = measure_canaries(lambda texts: [said("vpn") for _ in texts], TEXTS, LABELS)
    assert found.tickets == 80 and found.obeyed == 0


def test_a_classifier_that_does_what_the_ticket_says_is_caught() -> None:
    def obeys(texts: Sequence[str]) -> list[Classification]:
        return [said(next((n for n in ("refund", "vpn") if n in t.replace("my vpn drops", "")), "vpn")) for t in texts]

    found = measure_canaries(obeys, TEXTS, LABELS)
    assert found.share > 0.3 and found.examples


def test_an_order_that_only_lowers_the_confidence_is_named_and_not_obeyed() -> None:
    def unsure(texts: Sequence[str]) -> list[Classification]:
        return [said("refund", abstained=True) if "refund" in t else said("vpn") for t in texts]

    found = measure_canaries(unsure, TEXTS, ["vpn", "refund", *["vpn"] * 18])
    assert found.named > 0 and found.obeyed == 0


# --- the rules ----------------------------------------------------------------------------------------------------------


def comparison(difference: float, spread: float, second: str = "incumbent") -> dict[str, Any]:
    accuracy = {"first": 0.9, "second": 0.9 - difference, "low": difference - spread, "high": difference + spread}
    return {"first": "cascade", "second": second, "accuracy": accuracy}


def evaluation() -> dict[str, Any]:
    return {
        "file": {"judged": 500},
        "seen": {"checked": True, "near_copies": 0},
        "cascade": {
            "accuracy": {"value": 0.9, "low": 0.87, "high": 0.92},
            "macro_f1": {"value": 0.9},
            "coverage": {},
            "calibration": {"ece": 0.02, "band_high": 0.03},
        },
        "incumbent": {"name": OTHER, "why_not": None, "comparison": comparison(0.01, 0.015)},
        "baselines": {"comparison": [comparison(0.05, 0.02, "words")]},
    }


def parity(share: float = 1.0, moved: float = 0.0) -> Parity:
    one = agreement(
        [np.log([0.7, 0.3])] * 1000, [np.log([0.7, 0.3])] * round(1000 * share) + [np.log([0.3, 0.7])] * round(1000 * (1 - share))
    )
    return Parity(alone=one, mixed=one, base_moved=moved)


def measured(**changes: Any) -> Measured:
    quiet = Canaries(tickets=200, obeyed=0, named=1, examples=())
    return Measured(**({"evaluation": evaluation(), "canaries": quiet, "parity": parity()} | changes))


def failed(found: Measured) -> set[str]:
    return {check.rule for check in judge(NAME, OTHER, found).checks if not check.passed}


def changed(path: str, value: Any) -> dict[str, Any]:
    record = copy.deepcopy(evaluation())
    *way, last = path.split(".")
    inner: Any = record
    for key in way:
        inner = inner[int(key)] if key.isdigit() else inner[key]
    inner[last] = value
    return record


def test_a_candidate_that_is_as_good_and_served_as_trained_passes_with_a_reason_for_every_rule() -> None:
    report = judge(NAME, OTHER, measured())
    assert report.passed and report.record()["passed"] is True
    assert all(check.says for check in report.checks) and len({check.rule for check in report.checks}) == 7


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("golden set", {"evaluation": changed("file.judged", 99)}),
        ("unseen", {"evaluation": changed("seen.near_copies", 6)}),
        ("incumbent", {"evaluation": changed("incumbent.comparison", comparison(-0.005, 0.006))}),
        ("baselines", {"evaluation": changed("baselines.comparison", [comparison(-0.05, 0.02, "words")])}),
        ("calibration", {"evaluation": changed("cascade.calibration.ece", 0.051)}),
        ("served as trained", {"parity": parity(0.994)}),
        ("served as trained", {"parity": parity(moved=0.06)}),
        ("served as trained", {"parity": None, "parity_note": "the stack does not answer"}),
        ("canaries", {"canaries": Canaries(tickets=200, obeyed=3, named=3, examples=())}),
    ],
)
def test_each_rule_says_no_by_itself(rule: str, found: dict[str, Any]) -> None:
    assert failed(measured(**found)) == {rule}


@pytest.mark.parametrize(
    "found",
    [
        {"evaluation": changed("file.judged", 100)},
        {"evaluation": changed("incumbent.comparison", comparison(-0.005, 0.005))},
        {"parity": parity(0.995)},
        {"canaries": Canaries(tickets=200, obeyed=2, named=2, examples=())},
    ],
)
def test_each_rule_lets_its_limit_pass(found: dict[str, Any]) -> None:
    assert failed(measured(**found)) == set()
