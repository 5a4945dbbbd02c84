"""The cascade: who decides, who abstains, what is recorded."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from models.local import ADAPTER, STORE
from models.manifest import Kind, read, write
from orchestrator.domain.errors import AdapterMissing, ConfigurationError, ModelUnavailable
from orchestrator.domain.triage import OTHERS
from orchestrator.ports import ScoreRequest, ScoreResult
from orchestrator.triage.classify import Cascade, Mode, Thresholds, combine, load_cascade
from orchestrator.triage.head import Head
from orchestrator.triage.prompts import candidate
from orchestrator.triage.taxonomy import MAX_TYPES, load_taxonomy, plain_taxonomy, taxonomy_record

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


# --- the head's best types, with their nearest tickets -----------------------------------------------------------------


def by_candidates(cascade: Cascade, model: object, **changes: object) -> Cascade:
    return with_thresholds(cascade, model, sure=1.1, mode=Mode.CANDIDATES, candidates=4, examples=2, **changes)


def test_the_model_compares_the_best_types_with_their_nearest_tickets(cascade: Cascade, vectors: np.ndarray) -> None:
    model = OneCode("A")
    found = by_candidates(cascade, model).classify(TEXTS, vectors)
    heads = cascade.head.probabilities(TEXTS, vectors)
    for request, p, decided in zip(model.asked[0], heads, found, strict=True):
        best = [cascade.head.classes[i] for i in sorted(np.argsort(-p[:-1])[:4])]
        assert request.options == ("A", "B", "C", "D", "E") and list(decided.option_logprobs) == [*best, OTHERS]
        lines = request.prompt.splitlines()
        assert [line.split(":")[0] for line in lines[1:6]] == [
            f"{code} {name.replace('_', ' ')}" for code, name in zip("ABCDE", [*best, OTHERS], strict=True)
        ]
        assert lines[1].count(" | ") == 1 and lines[5] == "E Others: anything else"
    similar, (prompt,) = cascade.head.similar(vectors[:1])[0], [model.asked[0][0].prompt]
    for line, name in zip(prompt.splitlines()[1:5], list(found[0].option_logprobs), strict=False):
        own = [i for i, label in enumerate(cascade.head.neighbor_labels) if label == name]
        nearest = max(own, key=lambda i: similar[i])
        assert candidate("A", name, [cascade.head.neighbor_texts[nearest]]).means in line


def test_types_that_were_not_shown_keep_what_the_head_gave_them() -> None:
    heads, chosen = np.array([[0.4, 0.1, 0.3, 0.2]]), np.array([[0, 2]])
    both = combine(heads, np.log([[0.1, 0.9]]), head_weight=0.0, model_weight=1.0, chosen=chosen)
    assert np.allclose(both, [[0.07, 0.1, 0.63, 0.2]])


def test_out_of_scope_is_no_candidate_where_the_data_had_none(cascade: Cascade, vectors: np.ndarray) -> None:
    model = OneCode("A")
    by_candidates(cascade, model, others=False).classify(TEXTS, vectors)
    assert all(OTHERS not in request.prompt and len(request.options) == 4 for request in model.asked[0])


# --- one folder, one fit -----------------------------------------------------------------------------------------------


@dataclass
class TwoEmbedders:
    """The desk's embedder, and others by name; remembers what it was asked for."""

    name: str
    asked: list[str | None] = field(default_factory=list)
    dimensions: int = 384

    def embed(self, texts: Sequence[str], *, model: str | None = None) -> np.ndarray:
        self.asked.append(model)
        return np.full((len(texts), 8 if model == "tuned" else self.dimensions), 0.1, np.float32)


def test_vectors_of_a_tuned_encoder_are_asked_by_its_name(cascade: Cascade, vectors: np.ndarray) -> None:
    own = cascade.head.embedders[0]
    head = replace(cascade.head, embedders=(own, "tuned"), dense=(*cascade.head.dense, np.ones((8, 19), np.float32)))
    embedder = TwoEmbedders(name=own)
    replace(cascade, head=head, embedder=embedder).classify(TEXTS, vectors)
    assert embedder.asked == ["tuned"]  # the desk's own vectors are there already
    with pytest.raises(ModelUnavailable, match="needs vectors of tuned"):
        replace(cascade, head=head).classify(TEXTS, vectors)


def test_a_desk_that_moved_to_another_embedder_does_not_lend_its_vectors(cascade: Cascade, vectors: np.ndarray) -> None:
    embedder = TwoEmbedders(name="another@sha256-1")
    replace(cascade, embedder=embedder).classify(TEXTS, vectors)
    assert embedder.asked == [cascade.head.embedders[0]]


def a_copy(folder: Path, **changed: object) -> Path:
    """The bundled model with other entries in its cascade.json."""
    shutil.copytree(STORE / ADAPTER, folder)
    record = json.loads((folder / "cascade.json").read_text())
    (folder / "cascade.json").write_text(json.dumps(record | changed))
    base = read(STORE / ADAPTER).base
    (folder / "manifest.json").unlink()
    write(folder, name="triage", kind=Kind.ADAPTER, base=base)
    return folder


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"adapter_sha256": "0" * 64}, "beside (another|the) adapter"),
        ({"taxonomy_sha256": "0" * 64}, "other types"),
        ({"mode": "candidates", "candidates": 64}, "64 candidates cannot be shown"),
        ({"mode": "guess"}, "cannot be used"),
        ({"head_confidence": {"weights": {"mood": 1}, "bias": 0, "scores": [0, 1], "rights": [0, 1]}}, "cannot be used"),
    ],
)
def test_a_folder_whose_parts_are_of_two_fits_is_refused(tmp_path: Path, changed: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        load_cascade(None, folder=a_copy(tmp_path / "triage", **changed))


def test_a_model_that_never_acts_never_acts(tmp_path: Path, cascade: Cascade, vectors: np.ndarray) -> None:
    never = load_cascade(None, folder=a_copy(tmp_path / "triage", act=None))
    assert all(found.abstained for found in never.classify(TEXTS, vectors))


def test_five_hundred_types_have_no_codes_and_are_read_back(tmp_path: Path) -> None:
    names = [f"What about matter {number}?" for number in range(MAX_TYPES)]
    taxonomy = plain_taxonomy([*names, OTHERS], groups={names[0]: "Network"})
    (tmp_path / "taxonomy.json").write_text(json.dumps(taxonomy_record(taxonomy)))
    assert load_taxonomy(tmp_path / "taxonomy.json") == taxonomy and taxonomy.category(names[0]).group == "Network"
    with pytest.raises(ConfigurationError, match="501 of 501 types have no code"):
        taxonomy.prefix()
    assert plain_taxonomy(names[:63]).coded and not plain_taxonomy(names[:64]).coded
