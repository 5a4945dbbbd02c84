"""Figures of merit, against figures worked out by hand or by another library."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from training.metrics import (
    accuracy,
    aurc,
    auroc,
    bootstrap,
    coverage_at,
    ece,
    ece_band,
    lower_bound,
    macro_f1,
    mcnemar,
    reliability,
    upper_bound,
    wilson,
)

RANDOM = np.random.default_rng(5)
TARGETS, CHOSEN = RANDOM.integers(0, 6, 400), RANDOM.integers(0, 7, 400)


def test_rates_are_those_of_sklearn() -> None:
    assert macro_f1(TARGETS, CHOSEN) == pytest.approx(f1_score(TARGETS, CHOSEN, average="macro", zero_division=0))
    score, positive = np.round(RANDOM.random(300), 1), RANDOM.random(300) < 0.3
    assert auroc(score, positive) == pytest.approx(roc_auc_score(positive, score))
    assert accuracy(np.array([1, 2, 3]), np.array([1, 2, 4])) == pytest.approx(2 / 3)


def test_nothing_to_judge_gives_no_error() -> None:
    none = np.zeros(0)
    assert accuracy(none, none) == macro_f1(none, none) == ece(none, none) == 0 and auroc(none, none) == 0.5
    assert coverage_at(none, none, 0.95).share == 0 and wilson(0, 0).high == 1


def test_bounds_are_the_exact_ones_of_the_textbook() -> None:
    assert lower_bound(59, 59) == pytest.approx(0.05 ** (1 / 59))  # 59 of 59 promise 95 %, 58 of 58 do not
    assert lower_bound(59, 59) > 0.95 > lower_bound(58, 58)
    assert upper_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert (wilson(8, 10).low, wilson(8, 10).high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_calibration_error_of_two_bins_by_hand() -> None:
    confidence, right = np.array([0.95, 0.95, 0.95, 0.95, 0.15, 0.15]), np.array([1, 1, 1, 0, 0, 1])
    assert ece(confidence, right) == pytest.approx((4 * abs(0.95 - 0.75) + 2 * abs(0.15 - 0.5)) / 6)
    assert [bar.count for bar in reliability(confidence, right)] == [2, 4]
    assert sum(bar.count for bar in reliability(confidence, right, equal_mass=True, bins=3)) == 6


def test_a_calibrated_classifier_is_inside_its_band_and_a_boastful_one_is_not() -> None:
    confidence = RANDOM.random(800)
    band = ece_band(confidence, draws=400)
    inside = sum(ece(confidence, RANDOM.random(800) < confidence) <= band.high for _ in range(200))
    assert 180 <= inside <= 199
    assert ece(np.minimum(1, confidence + 0.1), RANDOM.random(800) < confidence) > band.high


def test_an_order_that_puts_the_right_ones_first_has_less_area_at_risk() -> None:
    right = np.array([True] * 8 + [False] * 2)
    good, bad = np.linspace(1, 0.1, 10), np.linspace(0.1, 1, 10)
    assert aurc(good, right) < aurc(np.full(10, 0.5), right) < aurc(bad, right)
    assert aurc(np.full(10, 0.5), right) == pytest.approx(0.2)


def test_coverage_takes_tied_tickets_together() -> None:
    confidence = np.array([0.9, 0.9, 0.8, 0.8, 0.5])
    right = np.array([True, True, True, False, True])
    found = coverage_at(confidence, right, 0.95)
    assert (found.share, found.count, found.threshold, found.precision) == (0.4, 2, 0.9, 1.0)
    assert coverage_at(confidence, ~right, 0.95).threshold > 1


def test_a_paired_difference_is_found_where_one_is_and_not_where_none_is() -> None:
    first = np.arange(500) % 10 != 0
    second = np.arange(500) % 20 != 0
    assert mcnemar(first, second).p_value < 0.001 and mcnemar(first, first).p_value == 1
    gain = bootstrap(lambda a, b: float(np.mean(b) - np.mean(a)), first, second, draws=300)
    assert 0.02 < gain.low < 0.05 < gain.high < 0.08


def test_near_copies_make_an_interval_wider() -> None:
    right = np.repeat(RANDOM.random(40) < 0.7, 10)
    alone = bootstrap(lambda x: float(np.mean(x)), right, draws=300)
    together = bootstrap(lambda x: float(np.mean(x)), right, draws=300, clusters=np.repeat(np.arange(40), 10))
    assert together.high - together.low > 1.8 * (alone.high - alone.low)
