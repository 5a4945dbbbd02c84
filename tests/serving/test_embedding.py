"""The embedder: unit vectors that do not depend on their neighbors in the batch, from files that were verified."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import models.manifest
from models.manifest import Kind
from orchestrator.domain.errors import AdapterMissing, ConfigurationError
from serving.embedding import (
    MINILM_DIMENSIONS,
    DesiredEmbedders,
    EmbedderConfig,
    SentenceEmbedder,
    Shelf,
    bundled,
    pack,
    tuned,
)

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


# --- tuned embedders -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house_words(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A small random encoder in the flat folder of a tuned one: its full name and folder."""
    import torch
    from transformers import BertConfig, BertModel

    folder, origin = tmp_path_factory.mktemp("embedders") / "words", bundled().path
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(origin / name, folder)
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=30522, **sizes)).save_pretrained(folder)
    settings = {"pooling": "mean", "normalize": True, "max_tokens": 64, "dimensions": 32}
    (folder / "embedder.json").write_text(json.dumps(settings))
    return models.manifest.write(folder, name="words", kind=Kind.EMBEDDER).full_name, folder


def test_a_tuned_embedder_is_the_mean_of_its_transformer_in_unit_length(house_words: tuple[str, Path]) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    name, folder = house_words
    ours = SentenceEmbedder(dataclasses.replace(tuned(folder, name), dtype="float32"))
    assert (ours.name, ours.dimensions) == (name, 32)
    tokens = AutoTokenizer.from_pretrained(folder)(TICKETS, truncation=True, max_length=64, padding=True, return_tensors="pt")
    with torch.inference_mode():
        state = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    expected = torch.nn.functional.normalize((state * mask).sum(1) / mask.sum(1), dim=1).numpy()
    assert np.allclose(ours.embed(TICKETS), expected, atol=1e-4)


def test_a_tuned_embedder_that_is_altered_or_pools_otherwise_is_refused(house_words: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = house_words
    altered = tmp_path / "altered"
    shutil.copytree(folder, altered)
    (altered / "embedder.json").write_text((folder / "embedder.json").read_text().replace("64", "65"))
    with pytest.raises(ConfigurationError, match="refused"):
        tuned(altered, name)
    (altered / "embedder.json").write_text((folder / "embedder.json").read_text().replace("mean", "cls"))
    (altered / "manifest.json").unlink()
    with pytest.raises(ConfigurationError, match="'cls'"):
        tuned(altered, models.manifest.write(altered, name="words", kind=Kind.EMBEDDER).full_name)


def test_a_replica_follows_the_desired_embedders_and_never_gives_another_ones_vectors(house_words: tuple[str, Path]) -> None:
    name, folder = house_words
    shelf = Shelf(bundled())
    with pytest.raises(AdapterMissing):
        shelf.get(name)
    shelf.follow(DesiredEmbedders(needed={name: str(folder)}))
    assert shelf.get(name).embed(["x"]).shape == (1, 32) and shelf.get(None).name == bundled().name
    assert shelf.status(DesiredEmbedders())["embedders"] == {bundled().name: MINILM_DIMENSIONS, name: 32}

    desired = DesiredEmbedders(live=(name, str(folder)))
    shelf.follow(desired)
    told = shelf.status(desired)["aliases"]["live"]
    assert (told["answers_with"], told["healthy"]) == (name, True)

    gone = DesiredEmbedders(live=(f"words@sha256-{'0' * 64}", str(folder)))
    shelf.follow(gone)
    told = shelf.status(gone)["aliases"]["live"]
    assert (told["answers_with"], told["healthy"]) == (name, False) and "refused" in told["problem"]
    assert shelf.get(bundled().name).name == bundled().name, "heads that need it find it"


def test_one_embedder_is_asked_by_its_own_name_alone(embedder: SentenceEmbedder) -> None:
    assert embedder.embed(["x"], model=embedder.name).shape == (1, MINILM_DIMENSIONS)
    with pytest.raises(AdapterMissing):
        embedder.embed(["x"], model=f"words@sha256-{'0' * 64}")
