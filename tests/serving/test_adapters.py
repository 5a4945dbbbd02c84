"""Names, aliases and places of adapters, without an engine."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import models.manifest
from models.manifest import Kind, Manifest
from orchestrator.domain.errors import AdapterMissing, BadInput, Conflict
from serving.adapters import AdapterTable, DesiredAdapter, verify_manifest
from training.nano.random_adapter import adapter_config

TRIAGE = "triage@sha256-0123456789ab"
OTHER = "triage@sha256-ba9876543210"


@pytest.fixture
def table() -> AdapterTable:
    table = AdapterTable(base="tiny", limit=2)
    adapter = table.propose(TRIAGE, Path("/a"))
    assert adapter is not None
    table.admit(adapter)
    return table


def test_only_what_was_admitted_is_answered(table: AdapterTable) -> None:
    assert table.resolve("tiny") is None
    served = table.resolve(TRIAGE)
    assert served is not None and served.number == 1
    for absent in (OTHER, "live", "triage", ""):
        with pytest.raises(AdapterMissing):
            table.resolve(absent)


def test_an_alias_points_to_something_served_or_to_nothing(table: AdapterTable) -> None:
    table.point({"live": TRIAGE})
    assert table.resolve("live") == table.resolve(TRIAGE)
    with pytest.raises(AdapterMissing):
        table.point({"live": OTHER})
    with pytest.raises(BadInput):
        table.point({"tiny": TRIAGE})
    table.withdraw(TRIAGE)
    with pytest.raises(AdapterMissing):
        table.resolve("live")


def test_a_number_is_given_once_even_after_removal(table: AdapterTable) -> None:
    table.withdraw(TRIAGE)
    again = table.propose(TRIAGE, Path("/a"))
    assert again is not None and again.number == 2


def test_the_same_name_from_elsewhere_and_one_too_many_are_refused(table: AdapterTable) -> None:
    assert table.propose(TRIAGE, Path("/a")) is None
    with pytest.raises(Conflict, match="never reused"):
        table.propose(TRIAGE, Path("/b"))
    second = table.propose(OTHER, Path("/b"))
    assert second is not None
    table.admit(second)
    with pytest.raises(Conflict, match="places are taken"):
        table.propose("third@sha256-0123456789ab", Path("/c"))


@pytest.mark.parametrize(
    "row",
    [
        {"alias": "live", "name": "triage", "path": "/a"},
        {"alias": "Live One", "name": TRIAGE, "path": "/a"},
        {"alias": "live", "name": "../x@sha256-0123456789ab", "path": "/a"},
        {"alias": "live", "name": TRIAGE, "path": None},
        {},
    ],
)
def test_a_desired_row_that_makes_no_sense_is_refused(row: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        DesiredAdapter.parse(row)


def make_base(folder: Path) -> Manifest:
    folder.mkdir()
    save_file({"model.layers.0.mlp.up_proj.weight": np.ones((3, 2), dtype=np.float32)}, folder / "model.safetensors")
    return models.manifest.write(folder, name="tiny", kind=Kind.BASE)


def make_adapter(folder: Path, base: str) -> Manifest:
    folder.mkdir()
    prefix = "base_model.model.model.layers.0.mlp.up_proj"
    tensors = {f"{prefix}.lora_A.weight": np.ones((8, 2), np.float32), f"{prefix}.lora_B.weight": np.ones((3, 8), np.float32)}
    save_file(tensors, folder / "adapter_model.safetensors")
    config = adapter_config(base, rank=8, alpha=16, modules=["up_proj"])
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return models.manifest.write(folder, name="triage", kind=Kind.ADAPTER, base=base)


def test_an_adapter_is_taken_only_whole_under_its_own_name_and_on_its_own_base(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    ours = make_adapter(tmp_path / "ours", base.full_name)
    alien = make_adapter(tmp_path / "alien", f"other@sha256-{'0123456789abcdef' * 4}")

    verify_manifest("tiny", tmp_path / "base", base=tmp_path / "base")
    verify_manifest(ours.full_name, tmp_path / "ours", base=tmp_path / "base")
    with pytest.raises(BadInput, match="was trained on other"):
        verify_manifest(alien.full_name, tmp_path / "alien", base=tmp_path / "base")
    with pytest.raises(BadInput, match="refused"):
        verify_manifest(alien.full_name, tmp_path / "ours", base=tmp_path / "base")
    with pytest.raises(BadInput, match="holds tiny"):
        verify_manifest("large", tmp_path / "base")
    (tmp_path / "ours" / "extra.json").write_text("{}")
    with pytest.raises(BadInput, match="not in the manifest"):
        verify_manifest(ours.full_name, tmp_path / "ours", base=tmp_path / "base")
