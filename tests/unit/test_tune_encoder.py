"""Tuning a sentence encoder (a tiny random one here), saving it as a model, the threshold for duplicates."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from models.manifest import Kind, read
from orchestrator.domain.errors import BadInput, ConfigurationError
from training.adapter import checkpoint
from training.adapter.interrupts import Interrupted
from training.head.duplicates import duplicate_threshold
from training.head.encoder import FILES, Encoder, encoder_folder
from training.head.tune_encoder import OUT_OF_SCOPE, TuneSettings, save_embedder, tune_encoder

TYPES = ("vpn tunnel drops", "printer jam paper", "mailbox is full")
SETTINGS = TuneSettings(epochs=6, batch=8, learning_rate=2e-3, class_learning_rate=1e-2, max_tokens=16)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundled tokenizer and a BERT of 2 x 32."""
    folder = tmp_path_factory.mktemp("tiny")
    for file in FILES:
        (folder / file).write_bytes((encoder_folder() / file).read_bytes())
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def lessons() -> tuple[list[str], np.ndarray]:
    texts = [f"{TYPES[number % 3]} case {number}" for number in range(45)] + [f"weather song {number}" for number in range(8)]
    return texts, np.array([number % 3 for number in range(45)] + [OUT_OF_SCOPE] * 8)


def separation(vectors: np.ndarray, targets: np.ndarray) -> float:
    """Mean cosine within types less that between types."""
    inside = targets >= 0
    similar, same = vectors[inside] @ vectors[inside].T, targets[inside][:, None] == targets[inside][None]
    return float(similar[same].mean() - similar[~same].mean())


def test_types_move_apart_and_the_cosines_know_them(tiny: Path, lessons) -> None:
    texts, targets = lessons
    before = separation(Encoder(tiny).encode(texts), targets)
    tuned = tune_encoder(texts, targets, settings=SETTINGS, start=Encoder(tiny))
    vectors = tuned.encoder.encode(texts)
    assert separation(vectors, targets) > before + 0.15
    cosines = vectors @ tuned.class_vectors.T
    inside = targets >= 0
    assert (cosines[inside].argmax(1) == targets[inside]).mean() > 0.95
    assert "not saved" in tuned.encoder.name  # its vectors are no longer those of the model that it came from


def test_what_is_out_of_scope_is_pushed_away_from_all_types(tiny: Path, lessons) -> None:
    """Tickets that share a word with a type, and are none of it."""
    alien = [f"vpn song {number}" for number in range(16)]
    texts, targets = lessons[0][:45] + alien, np.append(lessons[1][:45], [OUT_OF_SCOPE] * 16)
    sureness = []
    for weight in (0.0, 0.5):
        tuned = tune_encoder(texts, targets, settings=replace(SETTINGS, outliers=weight), start=Encoder(tiny))
        shares = np.exp(tuned.scale * tuned.encoder.encode(alien) @ tuned.class_vectors.T)
        sureness.append(float((shares.max(1) / shares.sum(1)).mean()))
    assert sureness[1] < 0.55 < 0.65 < sureness[0]


def test_an_interrupted_run_ends_with_the_same_weights(tiny: Path, lessons, tmp_path: Path, monkeypatch) -> None:
    texts, targets = lessons
    settings = replace(SETTINGS, epochs=2)
    whole = tune_encoder(texts, targets, settings=settings, start=Encoder(tiny))

    def stop(what: str, done: int, of: int) -> None:
        if done == of // 2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"after \d+ of 14 steps"):
        tune_encoder(texts, targets, settings=settings, start=Encoder(tiny), work=tmp_path, progress=stop)
    assert (tmp_path / checkpoint.FILE).exists()
    with pytest.raises(ConfigurationError, match="another fit"):
        tune_encoder(texts, targets, settings=replace(settings, seed=1), start=Encoder(tiny), work=tmp_path)
    resumed = tune_encoder(texts, targets, settings=settings, start=Encoder(tiny), work=tmp_path)
    assert np.array_equal(whole.encoder.encode(texts), resumed.encoder.encode(texts))
    assert np.array_equal(whole.class_vectors, resumed.class_vectors) and whole.scale == resumed.scale
    assert not (tmp_path / checkpoint.FILE).exists()


def test_duplicates_alone_move_their_pairs_together(tiny: Path) -> None:
    texts = [f"{words} {number}" for number, words in enumerate(TYPES * 6)]
    clusters = np.array([number % 3 for number in range(18)])
    before = separation(Encoder(tiny).encode(texts), clusters)
    tuned = tune_encoder(texts, None, settings=replace(SETTINGS, epochs=8), start=Encoder(tiny), duplicates=clusters)
    assert separation(tuned.encoder.encode(texts), clusters) > before + 0.2 and tuned.class_vectors.shape == (0, 32)


def test_nothing_to_learn_from_is_refused(tiny: Path) -> None:
    with pytest.raises(BadInput, match="neither two types nor duplicate pairs"):
        tune_encoder(["a", "b"], np.array([0, 0]), start=Encoder(tiny), duplicates=np.array([-1, -1]))


def test_a_saved_encoder_gives_the_same_vectors_under_its_own_name(tiny: Path, lessons, tmp_path: Path) -> None:
    texts, targets = lessons
    parent = Encoder(tiny).name
    tuned = tune_encoder(texts, targets, settings=replace(SETTINGS, epochs=1), start=Encoder(tiny)).encoder
    manifest = save_embedder(
        tuned, tmp_path / "m", name="desk-embedder", parent=parent, sample=texts, duplicate_threshold={"cosine": 0.8}
    )
    loaded = Encoder(tmp_path / "m")
    assert loaded.name == manifest.full_name == read(tmp_path / "m").full_name and manifest.kind is Kind.EMBEDDER
    assert np.abs(loaded.encode(texts) - tuned.encode(texts)).max() < 1e-2
    record = json.loads((tmp_path / "m/embedder.json").read_text())
    assert (record["pooling"], record["normalize"], record["dimensions"], record["parent"]) == ("mean", True, 32, parent)
    assert record["duplicate_threshold"] == {"cosine": 0.8}
    (tmp_path / "m/embedder.json").write_text(json.dumps(record | {"max_tokens": 8}))
    with pytest.raises(ConfigurationError, match=r"embedder\.json was altered"):
        Encoder(tmp_path / "m")


def test_the_bundled_encoder_has_the_name_that_the_desk_uses() -> None:
    from serving.embedding import MINILM_NAME

    assert Encoder().name == MINILM_NAME


def duplicates(count: int, *, spread: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(vectors, clusters): pairs of duplicates among strangers."""
    chance = np.random.default_rng(seed)
    middle = chance.standard_normal((count, 24))
    vectors = np.repeat(middle, 2, axis=0) + spread * chance.standard_normal((2 * count, 24))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.repeat(np.arange(count), 2)


def test_the_duplicate_threshold_keeps_its_promise_on_other_tickets() -> None:
    vectors, clusters = duplicates(300, spread=0.45, seed=1)
    found = duplicate_threshold(vectors, clusters, 0.9)
    assert 0.5 < found.cosine < 0.95 and found.lower >= 0.9 and found.recall > 0.5
    other, truth = duplicates(300, spread=0.45, seed=2)
    first, second = np.nonzero(np.triu(other @ other.T >= found.cosine, 1))
    assert (truth[first] == truth[second]).mean() >= 0.9


def test_where_no_cosine_is_precise_enough_nothing_is_a_duplicate() -> None:
    vectors, _ = duplicates(100, spread=0.2, seed=3)
    assert duplicate_threshold(vectors, np.random.default_rng(0).permutation(np.repeat(np.arange(100), 2)), 0.9).cosine > 1
    with pytest.raises(BadInput, match="No two tickets"):
        duplicate_threshold(vectors, np.full(200, -1))
