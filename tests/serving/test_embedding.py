"""The embedder: unit vectors that do not depend on their neighbors in the batch, from files that were verified."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from orchestrator.domain.errors import ConfigurationError
from serving.embedding import MINILM_DIMENSIONS, EmbedderConfig, SentenceEmbedder, bundled, pack

TICKETS = [
    "My VPN session hangs after the second factor.",
    "The remote access connection freezes once I have entered the code from my phone.",
    "Please send me a copy of the invoice for October.",
    "x",
    "The firewall of our site drops every packet since the firmware update. " * 40,
    "",
]


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder(bundled())


def test_vectors_have_unit_length_and_the_promised_shape(embedder: SentenceEmbedder) -> None:
    vectors = embedder.embed(TICKETS)
    assert vectors.shape == (len(TICKETS), MINILM_DIMENSIONS) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert embedder.embed([]).shape == (0, MINILM_DIMENSIONS)


def test_a_ticket_has_the_same_vector_alone_and_among_others(embedder: SentenceEmbedder) -> None:
    together = embedder.embed(TICKETS)
    alone = np.concatenate([embedder.embed([text]) for text in TICKETS])
    assert (together * alone).sum(axis=1).min() > 0.9995


def test_two_wordings_of_one_matter_are_nearer_than_two_matters(embedder: SentenceEmbedder) -> None:
    vpn, same_vpn, invoice, *_ = embedder.embed(TICKETS)
    assert vpn @ same_vpn > vpn @ invoice + 0.3


def test_the_faster_number_format_stays_near_the_exact_one(embedder: SentenceEmbedder) -> None:
    exact = SentenceEmbedder(dataclasses.replace(bundled(), dtype="float32"))
    assert (exact.embed(TICKETS) * embedder.embed(TICKETS)).sum(axis=1).min() > 0.999


def test_an_altered_file_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    good = bundled()
    copy = tmp_path / "model"
    shutil.copytree(good.path, copy)
    (copy / "vocab.txt").write_text("altered")
    (copy / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ConfigurationError) as refused:
        SentenceEmbedder(EmbedderConfig(name=good.name, path=copy, files=good.files))
    assert "vocab.txt" in str(refused.value) and "1_Pooling/config.json" in str(refused.value)


def test_batches_keep_to_the_budget_and_lose_no_text() -> None:
    lengths = [5, 256, 7, 100, 100, 3, 256, 9000]
    batches = pack(lengths, budget=512)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or max(lengths[n] for n in batch) * len(batch) <= 512 for batch in batches)
