"""The cross-encoder out of a verified folder: a tiny one with random weights, through the real way of loading and ranking."""

import shutil
from pathlib import Path

import pytest

import models.manifest
from models.manifest import Kind
from orchestrator.domain.errors import ConfigurationError
from orchestrator.ports import Passage
from orchestrator.resolution.knowing import reranked
from serving.embedding import bundled
from serving.reranker import CrossEncoderReranker, open_reranker
from serving.settings import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    made = tmp_path_factory.mktemp("reranker")
    torch.manual_seed(7)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "num_labels": 1}
    model = BertForSequenceClassification(BertConfig(vocab_size=30522, initializer_range=0.5, **sizes))
    model.save_pretrained(made)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(bundled().path / name, made / name)
    models.manifest.write(made, name="tiny-reranker", kind=Kind.RERANKER, license="Apache-2.0", made={"random": True})
    return made


TEXTS = ["Press Export to get the list.", "Refunds take ten days.", "A mailbox holds 50 GB.", "Ask the owner of the list."]


def test_texts_get_the_same_worth_alone_and_in_company(folder: Path) -> None:
    reranker = CrossEncoderReranker(folder)
    together = reranker.rank("how do I export", TEXTS)
    alone = [reranker.rank("how do I export", [text])[0] for text in TEXTS]
    assert together == pytest.approx(alone, abs=0.02) and len(set(together)) == len(TEXTS)
    assert reranker.name.startswith("tiny-reranker@sha256-") and reranker.rank("anything", []) == []


def test_question_and_passage_are_read_together(folder: Path) -> None:
    reranker = CrossEncoderReranker(folder)
    assert reranker.rank("how do I export", TEXTS) != pytest.approx(reranker.rank("mailbox", TEXTS), abs=1e-3)


def test_a_folder_whose_bytes_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    altered = shutil.copytree(folder, tmp_path / "altered")
    weights = altered / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ConfigurationError, match="refused"):
        CrossEncoderReranker(altered)


def test_a_model_of_another_kind_and_a_bare_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "manifest.json").unlink()
    with pytest.raises(ConfigurationError, match="refused"):
        CrossEncoderReranker(other)
    models.manifest.write(other, name="words", kind=Kind.EMBEDDER)
    with pytest.raises(ConfigurationError, match="not a reranker"):
        CrossEncoderReranker(other)


def test_it_is_off_unless_a_folder_is_named() -> None:
    assert Settings().models.reranker is None and open_reranker(None) is None


class _ByLength:
    name = "by-length"

    def rank(self, question: str, texts: list[str]) -> list[float]:
        return [-float(len(text)) for text in texts]


def test_what_is_reranked_keeps_a_policy_two_places_ahead() -> None:
    def passage(place: int, authority: str) -> Passage:
        about = {"source": "s", "effective_on": None, "reviewed_on": None, "score": 0.5, "heading": "", "title": ""}
        return Passage(document_id=str(place), passage_id=place, text="x" * place, authority=authority, **about)

    found = [passage(4, "policy"), passage(3, "article"), passage(2, "article"), passage(1, "article")]
    assert [each.document_id for each in reranked(_ByLength(), "q", found)] == ["1", "4", "2", "3"]
    assert [each.document_id for each in reranked(None, "q", found)] == ["4", "3", "2", "1"]
