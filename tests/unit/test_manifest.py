"""What may lie in a model's folder, and that an altered model is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.local import installed, open_verified
from models.manifest import Kind, Manifest, ModelRefused, read, verify, write
from training.nano.random_adapter import write_random_adapter


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "small"
    folder.mkdir()
    save_file({"w": np.ones((2, 3), np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"hidden_size": 3}')
    write(folder, name="small", kind=Kind.BASE, license="Apache-2.0", data=("house (Apache-2.0)",), made={"seed": 1})
    return folder


def test_an_unaltered_model_is_accepted_under_its_full_name(model: Path) -> None:
    manifest = verify(model)
    assert manifest.full_name.startswith("small@sha256-")
    assert verify(model, expect=manifest.full_name) == read(model)


def test_one_flipped_bit_is_refused(model: Path) -> None:
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelRefused, match="altered"):
        verify(model)


def test_a_missing_file_and_an_extra_file_are_both_named(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "notes.txt").write_text("hello")
    with pytest.raises(ModelRefused, match=r"config.json is missing.*notes.txt is not in the manifest"):
        verify(model)


def test_a_symbolic_link_is_refused_even_to_the_same_bytes(model: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.json"
    (model / "config.json").rename(real)
    (model / "config.json").symlink_to(real)
    with pytest.raises(ModelRefused, match="symbolic link"):
        verify(model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tokenizer.model", "modeling_x.py", "evil.pth", "weights.pkl"])
def test_only_safetensors_json_and_text_may_lie_in_a_model(model: Path, name: str) -> None:
    (model / name).write_bytes(b"x")
    with pytest.raises(ModelRefused, match="neither safetensors nor JSON nor text"):
        write(model, name="small", kind=Kind.BASE)


def test_a_configuration_that_names_code_is_refused(model: Path) -> None:
    (model / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(ModelRefused, match="code to run"):
        write(model, name="small", kind=Kind.BASE)


def test_bytes_behind_the_last_tensor_are_refused(model: Path) -> None:
    with (model / "model.safetensors").open("ab") as handle:
        handle.write(b"hidden")
    with pytest.raises(ModelRefused, match="no tensor owns"):
        write(model, name="small", kind=Kind.BASE)


def test_a_folder_without_manifest_or_with_a_broken_one_is_refused(model: Path) -> None:
    (model / "manifest.json").write_text("{")
    with pytest.raises(ModelRefused, match="not JSON"):
        verify(model)
    (model / "manifest.json").unlink()
    with pytest.raises(ModelRefused, match="no manifest"):
        verify(model)


def test_every_field_counts_for_the_name(model: Path) -> None:
    first = read(model)
    record = json.loads((model / "manifest.json").read_text())
    (model / "manifest.json").write_text(json.dumps(record | {"license": "MIT"}))
    assert read(model).full_name != first.full_name
    with pytest.raises(ModelRefused, match="not small@sha256-"):
        verify(model, expect=first.full_name)


def test_an_adapter_that_the_engine_cannot_serve_is_refused(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"r": 8, "modules_to_save": ["lm_head"], "use_dora": true}')
    with pytest.raises(ModelRefused, match=r"modules_to_save.*use_dora"):
        write(model, name="small", kind=Kind.ADAPTER)


def test_the_bundled_models_are_whole() -> None:
    for manifest in installed():
        folder, verified = open_verified(manifest.full_name)
        assert isinstance(verified, Manifest) and folder.is_dir()
    assert {m.name for m in installed()} >= {"cloister-nano", "triage"}


@pytest.mark.parametrize("name", ["", "..", "../store/triage", "no-such-model", "triage@sha256-00"])
def test_an_unknown_model_is_refused(name: str) -> None:
    with pytest.raises(ModelRefused):
        open_verified(name)


def test_a_random_adapter_belongs_to_its_base_and_differs_by_seed(tmp_path: Path) -> None:
    base, manifest = open_verified("cloister-nano")
    first = write_random_adapter(base, tmp_path / "a", name="triage-b", seed=1)
    second = write_random_adapter(base, tmp_path / "b", name="triage-b", seed=2)
    assert first.base == manifest.full_name and first.digest != second.digest
    assert verify(tmp_path / "a").kind is Kind.ADAPTER
