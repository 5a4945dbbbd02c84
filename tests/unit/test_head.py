"""The linear head and its features."""

from pathlib import Path

import numpy as np
import pytest

from models.local import ADAPTER, STORE
from orchestrator.domain.errors import ConfigurationError
from orchestrator.triage.concepts import concepts
from orchestrator.triage.head import load_head, named, nearest, normalize, pieces
from orchestrator.triage.taxonomy import load_taxonomy


@pytest.fixture(scope="module")
def head():
    return load_head(STORE / ADAPTER)


def test_a_concept_is_the_same_in_four_languages() -> None:
    for text in ("I forgot my password", "Passwort vergessen", "j'ai oublié mon mot de passe", "olvidé mi contraseña"):
        assert {"password", "forget"} <= set(concepts(text)), text
    for text in ("copy of the invoice", "Rechnungskopie", "copie de la facture", "copia de la factura"):
        assert {"invoice", "copycopy"} <= set(concepts(text)), text


def test_accents_that_another_keyboard_left_out_do_not_matter() -> None:
    assert concepts("Rückerstattung") == concepts("Rueckerstattung") == concepts("RUCKERSTATTUNG")


def test_numbers_are_not_learned() -> None:
    assert normalize("Order 4711-X") == normalize("order 90210 x")


def test_features_of_hostile_text_are_finite_and_in_range() -> None:
    for text in ("", " ", "\x00\ud800", "a" * 100_000, "💥" * 50, "漢字 только"):
        for ids, values in (pieces(text, 1024), named(text, 1024)):
            assert np.isfinite(values).all() and (not len(ids) or (ids.min() >= 0 and ids.max() < 1024))


def test_probabilities_are_of_the_taxonomy_and_sum_to_one(head) -> None:
    assert head.classes == load_taxonomy().names
    vectors = np.random.default_rng(0).standard_normal((3, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    p = head.probabilities(["VPN drops", "", "où est ma commande"], vectors)
    assert p.shape == (3, len(head.classes)) and np.allclose(p.sum(1), 1, atol=1e-5)


def test_vectors_of_another_embedder_are_refused(head) -> None:
    with pytest.raises(ConfigurationError, match="fitted to all-MiniLM-L6-v2"):
        head.probabilities(["x"], np.zeros((1, 768), np.float32))


def test_the_nearest_labeled_ticket_of_a_kept_one_is_itself(head) -> None:
    similar = head.similar(head.neighbor_vectors[5:6])
    found = similar[0, nearest(similar, 3)[0]]
    assert nearest(similar, 3)[0, 0] == 5 and found[0] > 0.99
    assert found.tolist() == sorted(similar[0].tolist(), reverse=True)[:3]


def test_a_taxonomy_that_contradicts_itself_is_refused_with_every_problem(tmp_path: Path) -> None:
    row = "{name: vpn, code: A, group: G, impact: 4, means: m}"
    path = tmp_path / "taxonomy.yaml"
    path.write_text(f"categories: [{row}, {row}]\nothers: {{name: Rest, code: B, group: G, impact: 4, means: m}}\n")
    with pytest.raises(ConfigurationError, match=r"name 'vpn' stands twice; code 'A' stands twice; .*Rest"):
        load_taxonomy(path)
