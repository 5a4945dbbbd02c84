"""Confidence and thresholds: what they promise, and that they keep it on tickets that come later."""

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.triage.classify import NEVER, Mode, load_thresholds, thresholds_record
from orchestrator.triage.confidence import FEATURES, Neighborhood, decision_features
from training.head.calibrate import CalibrationSettings, ModelAnswers, act_threshold, calibrate, fit_confidence
from training.metrics import ece, ece_band

TYPES = 6


def head_of(count: int, seed: int, *, strength: float = 1.5) -> tuple[np.ndarray, np.ndarray, Neighborhood]:
    """(logits, targets, neighbors) of a boastful head: its probabilities should be those of half its logits."""
    chance = np.random.default_rng(seed)
    honest = chance.standard_normal((count, TYPES)) * strength
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    targets = np.array([chance.choice(TYPES, p=p) for p in shares])
    near = Neighborhood(labels=chance.integers(0, TYPES, (count, 4)), similarities=np.sort(chance.random((count, 4)))[:, ::-1])
    return honest * 2, targets, near


def shares(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_a_boastful_head_becomes_honest_on_tickets_that_come_later() -> None:
    logits, targets, near = head_of(1200, 1)
    found = calibrate(logits, shares(logits), near, targets, taxonomy_sha256="0")
    later, truth, theirs = head_of(3000, 2)
    p = shares(later)
    confidence = found.thresholds.head_confidence(decision_features(p, logits=later, near=theirs))
    right = p[:, :-1].argmax(1) == truth
    assert ece(p[:, :-1].max(1), right) > 0.1 and ece(confidence, right) < 0.035
    assert found.record["ece"] <= ece_band(found.confidence).high * 1.3


def test_the_promised_precision_is_kept_in_nineteen_of_twenty_desks() -> None:
    """Of the tickets above c, 0.9 + 0.1 c are right: 95 % from c = 0.5 on."""
    chance, broken, acted = np.random.default_rng(0), 0, 0
    for desk in range(200):
        confidence = chance.random(1500)
        right = chance.random(1500) < 0.8 + 0.2 * confidence
        found = act_threshold(confidence, np.ones(1500, bool), right, target=0.95, seed=desk)
        acted += found.threshold < NEVER
        broken += found.threshold < 0.5
    assert broken <= 0.05 * 200 and acted > 100


def test_a_desk_whose_best_tickets_are_not_good_enough_never_acts() -> None:
    chance = np.random.default_rng(1)
    found = act_threshold(chance.random(800), np.ones(800, bool), chance.random(800) < 0.9, target=0.95)
    assert found.threshold == NEVER and "Never acts by itself" in found.sentence


def test_few_tickets_promise_nothing_and_near_copies_count_once() -> None:
    everything = np.ones(400, bool)
    assert act_threshold(np.linspace(0, 1, 50), everything[:50], everything[:50]).threshold == NEVER
    assert act_threshold(np.linspace(0, 1, 400), everything, everything).threshold < 0.01
    copies = np.repeat(np.arange(20), 20)
    assert act_threshold(np.linspace(0, 1, 400), everything, everything, clusters=copies).threshold == NEVER


def test_a_decision_that_is_better_in_every_respect_never_gets_less_confidence() -> None:
    logits, targets, near = head_of(900, 3)
    features = decision_features(shares(logits), logits=logits, near=near)
    right = shares(logits)[:, :-1].argmax(1) == targets
    confidence = fit_confidence(features, right).confidence
    assert all(weight >= 0 for weight in confidence.weights.values())
    worse, better = ({name: np.quantile(values, q) + 0 * values[:1] for name, values in features.items()} for q in (0.3, 0.8))
    assert confidence(better) >= confidence(worse)


def test_features_of_no_tickets_and_of_no_neighbors_are_there() -> None:
    none = Neighborhood(labels=np.zeros((2, 0), int), similarities=np.zeros((2, 0)))
    found = decision_features(np.full((2, 3), 1 / 3), logits=np.zeros((2, 3)), near=none)
    assert found.keys() == FEATURES.keys() and all(np.isfinite(values).all() for values in found.values())


def answers(targets: np.ndarray, *, knows: float, seed: int = 5) -> ModelAnswers:
    """A model that gives the right type so many units of log-probability more than the others."""
    chance = np.random.default_rng(seed)
    raw = chance.standard_normal((len(targets), TYPES))
    raw[np.arange(len(targets)), targets] += knows
    chosen = np.broadcast_to(np.arange(TYPES), raw.shape)
    return ModelAnswers(rows=np.arange(len(targets)), chosen=chosen, logprobs=np.log(shares(raw)))


def test_a_model_that_knows_something_is_asked_and_one_that_does_not_is_not() -> None:
    logits, targets, near = head_of(900, 4)
    settings = CalibrationSettings(model_share=0.3)
    given = {"taxonomy_sha256": "0", "adapter_sha256": "1", "mode": Mode.OPTIONS, "settings": settings}
    knowing = calibrate(logits, shares(logits), near, targets, answers=answers(targets, knows=3.0), **given)
    assert 0.25 < knowing.asked.mean() < 0.35 and knowing.thresholds.model_weight > 0.2
    assert knowing.record["cascade_accuracy"] > knowing.record["head_accuracy"] + 0.05
    ignorant = calibrate(logits, shares(logits), near, targets, answers=answers(targets, knows=0.0), **given)
    assert not ignorant.asked.any() and ignorant.thresholds.sure == ignorant.thresholds.model_weight == 0
    assert "it is not asked" in ignorant.thresholds.bounds


def test_what_is_far_from_everything_gets_little_confidence_where_no_ticket_was_out_of_scope() -> None:
    """The type was held out of the fit: such tickets look sure to the head alone."""
    logits, targets, _ = head_of(900, 6)
    targets = np.minimum(targets, TYPES - 2)  # nothing is out of scope
    chance = np.random.default_rng(1)
    labels = np.column_stack([targets, targets, (targets + 1) % (TYPES - 1)])
    close = Neighborhood(labels=labels, similarities=np.array([0.9, 0.8, 0.3]) + 0.05 * chance.random((900, 3)))
    unseen = chance.permutation(logits)
    settings = CalibrationSettings(unseen_share=0.2)
    found = calibrate(logits, shares(logits), close, targets, taxonomy_sha256="0", unseen_logits=unseen, settings=settings)
    far = Neighborhood(labels=labels[:, 2:], similarities=close.similarities[:, 2:])
    here, there = (
        found.thresholds.head_confidence(decision_features(shares(logits), logits=logits, near=one)).mean() for one in (close, far)
    )
    assert there < here - 0.2


@pytest.mark.parametrize("never", [False, True])
def test_thresholds_are_the_same_after_they_were_written(tmp_path: Path, never: bool) -> None:
    logits, targets, near = head_of(700, 7, strength=0.3 if never else 4.0)
    found = calibrate(logits, shares(logits), near, targets, taxonomy_sha256="0").thresholds
    assert (found.act == NEVER) == never
    path = tmp_path / "cascade.json"
    path.write_text(json.dumps(thresholds_record(found)))
    assert load_thresholds(path) == found
