"""The cascade: who decides, who abstains, what is recorded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from orchestrator.domain.errors import AdapterMissing, ModelUnavailable
from orchestrator.domain.triage import OTHERS
from orchestrator.ports import ScoreRequest, ScoreResult
from orchestrator.triage.classify import Cascade, Thresholds, combine, load_cascade
from orchestrator.triage.head import Head

TEXTS = ("I forgot my password, please reset it", "it's broken", "Where is my order? The parcel should have come last week.")


@dataclass
class OneCode:
    """A language model that is always certain of one code; remembers what it was asked."""

    code: str
    asked: list[Sequence[ScoreRequest]] = field(default_factory=list)

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        self.asked.append(requests)
        return [
            ScoreResult(logprobs=tuple(-0.01 if option == self.code else -8.0 for option in r.options), model=f"{model}@sha256-0")
            for r in requests
        ]


@dataclass
class Down:
    error: ModelUnavailable

    def score(self, requests: Sequence[ScoreRequest], *, model: str) -> list[ScoreResult]:
        raise self.error


@pytest.fixture(scope="module")
def cascade() -> Cascade:
    return load_cascade(None)


@pytest.fixture(scope="module")
def vectors(cascade: Cascade) -> np.ndarray:
    return cascade.head.neighbor_vectors[: len(TEXTS)]


def with_thresholds(cascade: Cascade, model: object, **changes: float) -> Cascade:
    return replace(cascade, thresholds=replace(cascade.thresholds, **changes), language_model=model)


def test_what_the_head_is_sure_of_never_reaches_the_model(cascade: Cascade, vectors: np.ndarray) -> None:
    model = OneCode("A")
    found = with_thresholds(cascade, model, sure=0.0).classify(TEXTS, vectors)
    assert model.asked == [] and {c.stage for c in found} == {"head"}


def test_all_unsure_tickets_of_a_batch_are_scored_in_one_call(cascade: Cascade, vectors: np.ndarray) -> None:
    model = OneCode("A")
    found = with_thresholds(cascade, model, sure=1.1).classify(TEXTS, vectors)
    assert [len(requests) for requests in model.asked] == [len(TEXTS)]
    assert {c.stage for c in found} == {"model"}
    prefix = cascade.taxonomy.prefix()
    assert all(r.prompt.startswith(prefix) and r.options == cascade.taxonomy.codes for r in model.asked[0])


def test_a_model_decision_records_prompt_scores_and_adapter(cascade: Cascade, vectors: np.ndarray) -> None:
    (first, *_) = with_thresholds(cascade, OneCode("F"), sure=1.1).classify(TEXTS, vectors)
    assert first.model == f"{cascade.model}@sha256-0" and len(first.prompt_sha256) == 64
    assert cascade.model.startswith("triage@sha256-")  # by its full name: an alias could move between head and model
    assert max(first.option_logprobs, key=first.option_logprobs.__getitem__) == "vpn"
    assert len(first.neighbors) == 3


@pytest.mark.parametrize("error", [ModelUnavailable("engine is starting"), AdapterMissing("live is not served")])
def test_without_a_model_the_head_alone_decides(cascade: Cascade, vectors: np.ndarray, error: ModelUnavailable) -> None:
    found = with_thresholds(cascade, Down(error), sure=1.1).classify(TEXTS, vectors)
    assert found == with_thresholds(cascade, None).classify(TEXTS, vectors)
    assert {c.stage for c in found} == {"head"}


def test_below_the_threshold_and_for_others_nothing_is_acted_on(cascade: Cascade, vectors: np.ndarray) -> None:
    assert all(c.abstained for c in with_thresholds(cascade, None, act=1.01).classify(TEXTS, vectors))
    for c in with_thresholds(cascade, None, act=0.0).classify(TEXTS, vectors):
        assert c.abstained == (c.category == OTHERS)


def test_alternatives_begin_with_the_winner_and_sum_to_at_most_one(cascade: Cascade) -> None:
    everything = cascade.head.neighbor_texts[:200]
    for stage in (0.0, 1.1):
        for c in with_thresholds(cascade, OneCode("S"), sure=stage).classify(everything, cascade.head.neighbor_vectors[:200]):
            assert c.alternatives[0][0] == c.category
            assert sum(share for _, share in c.alternatives) <= 1.0
            assert all(0 <= share <= 1 for _, share in c.alternatives)
            assert 0 <= c.confidence <= 1


def test_an_empty_batch_asks_nobody(cascade: Cascade) -> None:
    assert with_thresholds(cascade, Down(ModelUnavailable("never asked"))).classify([], np.zeros((0, 384), np.float32)) == []


def test_combining_ignores_what_the_model_gave_to_tokens_outside_the_options() -> None:
    heads = np.array([[0.5, 0.5]])
    inside = np.log(np.array([[0.8, 0.2]]))
    assert np.allclose(
        combine(heads, inside, head_weight=1, model_weight=1), combine(heads, inside - 3.0, head_weight=1, model_weight=1)
    )
    assert combine(heads, inside, head_weight=1, model_weight=1)[0, 0] == pytest.approx(0.8)


def test_a_calibrated_confidence_rises_with_the_score(cascade: Cascade) -> None:
    thresholds: Thresholds = cascade.thresholds
    for confidence in (thresholds.head_confidence, thresholds.both_confidence):
        rights = confidence({name: np.linspace(-9, 9, 101) for name in confidence.weights})
        assert (np.diff(rights) >= 0).all() and rights[0] >= 0 and rights[-1] <= 1


def test_the_bundled_head_knows_plain_cases_in_four_languages(cascade: Cascade) -> None:
    """Words alone (a zero embedding says nothing): the letters and concepts must carry these."""
    head: Head = cascade.head
    plain = {
        "I forgot my password and need a reset": "password_reset",
        "VPN Verbindung bricht ständig ab": "vpn",
        "Je veux être remboursé, j'ai été débité deux fois": "refund",
        "¿Dónde está mi pedido? Quiero el seguimiento del envío": "order_status",
    }
    p = head.probabilities(list(plain), np.zeros((len(plain), 384), np.float32))
    assert [head.classes[i] for i in p.argmax(1)] == list(plain.values())
    assert math.isclose(float(p.sum()), len(plain), rel_tol=1e-4)
