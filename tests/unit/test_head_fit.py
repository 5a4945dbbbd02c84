"""Fitting the head: the solver, what is served of it, the weight of a tuned encoder."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from orchestrator.domain.errors import BadInput
from orchestrator.domain.triage import OTHERS
from orchestrator.triage.head import load_head, softmax
from training.head.fit_head import TunedPart, fit_head, save_head
from training.head.linear import NEVER_SEEN, Features, LinearSettings, as_head, fit_softmax

WORDS = {"vpn": "vpn tunnel drops remote", "mail": "mailbox calendar outlook full", "print": "printer paper toner jam"}
CLASSES = (*WORDS, OTHERS)
SMALL = LinearSettings(buckets=512, concept_buckets=128, iterations=60)


@pytest.fixture(scope="module")
def desk() -> tuple[list[str], np.ndarray, np.ndarray]:
    """(texts, targets, vectors) of 240 tickets: three types, and a few tickets of nothing."""
    chance = np.random.default_rng(3)
    texts, targets = [], []
    directions = np.linalg.qr(chance.standard_normal((16, 16)))[0][: len(CLASSES)]
    for number in range(240):
        kind = number % 8 % 4 if number % 8 < 7 else 3
        words = [*WORDS.values(), "weather joke pizza song"][kind].split()
        texts.append(" ".join(chance.choice(words, 3)) + f" case {number}")
        targets.append(kind)
    vectors = directions[targets] * 0.8 + chance.standard_normal((240, 16)) * 0.25
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return texts, np.array(targets), vectors.astype(np.float32)


def test_the_solver_finds_the_optimum_that_sklearn_finds(desk) -> None:
    _, targets, vectors = desk
    from scipy import sparse

    words = sparse.random(240, 50, density=0.1, random_state=1, format="csr", dtype=np.float32)
    ours = fit_softmax(vectors * 4, words, targets, 4, strength=0.5, iterations=200)
    both = np.hstack([vectors * 4, words.toarray()])
    theirs = LogisticRegression(C=0.5, max_iter=2000, tol=1e-6).fit(both, targets)
    assert np.allclose(softmax(both @ ours[:-1] + ours[-1]), theirs.predict_proba(both), atol=5e-3)


def test_what_is_served_says_what_was_fitted(desk) -> None:
    texts, targets, vectors = desk
    features = Features(texts, vectors, SMALL)
    weights = features.fit(np.arange(200), targets[:200], len(CLASSES))
    head = as_head(weights, classes=CLASSES, embedder="e")
    rest = np.arange(200, 240)
    assert np.allclose(head.logits([texts[i] for i in rest], vectors[rest]), features.logits(weights, rest), atol=1e-3)
    assert np.mean(features.logits(weights, rest).argmax(1) == targets[rest]) > 0.95


def test_a_type_without_tickets_is_never_chosen(desk) -> None:
    texts, targets, vectors = desk
    features, known = Features(texts, vectors, SMALL), np.flatnonzero(targets < 3)
    weights = features.fit(known, targets[known], len(CLASSES))
    assert weights["bias"][3] == NEVER_SEEN
    assert (features.logits(weights, np.arange(240)).argmax(1) < 3).all()


def test_near_copies_are_judged_by_weights_that_saw_neither(desk) -> None:
    """Labels without any sense: who is judged by a copy of himself is right, who is not is right by chance."""
    texts, _, vectors = desk
    texts, vectors = [t for t in texts[:60] for _ in range(2)], np.repeat(vectors[:60], 2, axis=0)
    nonsense = np.repeat(np.random.default_rng(0).integers(0, 4, 60), 2)
    features, every = Features(texts, vectors, SMALL), np.arange(120)
    together = features.out_of_fold(every, nonsense, 4, np.repeat(np.arange(60), 2))
    apart = features.out_of_fold(every, nonsense, 4, every)
    assert np.mean(together.argmax(1) == nonsense) < 0.5 < np.mean(apart.argmax(1) == nonsense)


def test_a_ticket_of_an_unseen_type_is_less_probable_than_one_of_a_seen_type(desk) -> None:
    texts, targets, vectors = desk
    features, train, judged = Features(texts, vectors, SMALL), np.arange(160), np.flatnonzero(targets < 3)
    unseen = softmax(features.without_their_class(train, judged, targets, 4))
    seen = softmax(features.logits(features.fit(train, targets[train], 4), judged))
    assert unseen.argmax(1).tolist() != targets[judged].tolist()
    assert unseen[:, :3].max(1).mean() < seen[:, :3].max(1).mean()


def tuned_part(targets: np.ndarray, *, noise: float) -> TunedPart:
    chance = np.random.default_rng(9)
    centers = np.linalg.qr(chance.standard_normal((8, 8)))[0][:3]
    vectors = np.vstack([centers, np.zeros((1, 8))])[targets] + noise * chance.standard_normal((len(targets), 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return TunedPart(
        embedder="t@sha256-0", vectors=vectors.astype(np.float32), class_vectors=centers.astype(np.float32), scale=20.0
    )


def test_a_tuned_encoder_counts_as_much_as_it_is_worth(desk) -> None:
    texts, targets, vectors = desk
    rows = {"train": np.arange(140), "validation": np.arange(140, 240)}
    hazy = vectors + np.random.default_rng(1).standard_normal(vectors.shape).astype(np.float32)
    plain = ["ticket"] * len(texts)
    for noise, worth in ((0.05, True), (50.0, False)):
        found = fit_head(
            plain, targets, hazy, classes=CLASSES, embedder="e", tuned=tuned_part(targets, noise=noise), settings=SMALL, **rows
        )
        assert (found.blend.tuned > 0.2) == worth
        assert found.record["accuracy"] >= found.record["linear_accuracy"] - 0.03


def test_a_head_is_the_same_after_it_was_saved(desk, tmp_path: Path) -> None:
    texts, targets, vectors = desk
    part = tuned_part(targets, noise=0.3)
    found = fit_head(
        texts, targets, vectors, classes=CLASSES, embedder="e@sha256-0", tuned=part, settings=SMALL, neighbors_per_class=5,
        train=np.arange(140), validation=np.arange(140, 240), refit=False,
    )  # fmt: skip
    save_head(found.head, tmp_path)
    loaded, rest = load_head(tmp_path), np.arange(140, 240)
    assert loaded.embedders == ("e@sha256-0", "t@sha256-0") and len(loaded.neighbor_labels) == 20
    given = [texts[i] for i in rest], vectors[rest], part.vectors[rest]
    assert np.allclose(loaded.logits(*given), found.logits, atol=0.1)  # judged on validation is what is served
    assert np.allclose(loaded.probabilities(*given), found.probabilities, atol=0.01)


def test_data_that_teaches_nothing_is_refused(desk) -> None:
    texts, _, vectors = desk
    rows = {"train": np.arange(140), "validation": np.arange(140, 240)}
    with pytest.raises(BadInput, match="fewer than two types"):
        fit_head(texts, np.zeros(240, int), vectors, classes=CLASSES, embedder="e", **rows)
    with pytest.raises(BadInput, match=f"not {OTHERS}"):
        fit_head(texts, np.zeros(240, int), vectors, classes=("a", "b"), embedder="e", **rows)
