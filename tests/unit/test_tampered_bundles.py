"""Every way we could think of to slip something past the registry, each refused with the reason; and the whole model accepted."""

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import signing
from models.bundle import import_bundle, write_bundle
from models.manifest import FileEntry, ModelRefused, read, verify
from models.registry import Registry
from tests.unit.model_bench import (
    BASE,
    edit_json,
    edit_tensors,
    entry_of,
    join_safetensors,
    make_model,
    reseal,
    split_safetensors,
)

ADAPTER = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
FIRST = "base_model.model.model.layers.0.self_attn.q_proj"
Tamper = Callable[[Path], None]
FOLDERS: dict[str, tuple[Tamper, str, bool]] = {}
BUNDLES: dict[str, tuple[Callable[[Path, Path], None], str]] = {}


def forged(reason: str, *, resealed: bool = True) -> Callable[[Tamper], Tamper]:
    """A change to the folder. `resealed`: the manifest is written again to fit, so that digests alone do not tell."""

    def register(tamper: Tamper) -> Tamper:
        FOLDERS[tamper.__name__] = (tamper, reason, resealed)
        return tamper

    return register


def repacked(reason: str) -> Callable[[Callable[[Path, Path], None]], None]:
    """A change to the bundle: (good bundle, where the bad one goes)."""

    def register(tamper: Callable[[Path, Path], None]) -> None:
        BUNDLES[tamper.__name__] = (tamper, reason)

    return register


# --- bytes that are not the manifest's --------------------------------------------------------------------------------


@forged("adapter_model.safetensors was altered", resealed=False)
def one_bit_of_a_weight(folder: Path) -> None:
    content = bytearray((folder / ADAPTER).read_bytes())
    content[-1] ^= 1
    (folder / ADAPTER).write_bytes(content)


@forged("taxonomy.json was altered: it has", resealed=False)
def a_longer_taxonomy(folder: Path) -> None:
    edit_json(folder / "taxonomy.json", more=[1, 2, 3])


@forged("neighbors.json is missing", resealed=False)
def a_missing_file(folder: Path) -> None:
    (folder / "neighbors.json").unlink()


@forged("notes.txt is not in the manifest", resealed=False)
def an_extra_file(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")


@forged("the size|was altered: it has", resealed=False)
def a_wrong_size_in_the_manifest(folder: Path) -> None:
    change_manifest(folder, lambda record: record["files"]["head.json"].update(size_bytes=1))


@forged("its sha256 is not the manifest's", resealed=False)
def a_wrong_digest_in_the_manifest(folder: Path) -> None:
    change_manifest(folder, lambda record: record["files"]["head.json"].update(sha256="0" * 64))


@forged("not a sha256 of 64 digits", resealed=False)
def a_digest_that_is_none(folder: Path) -> None:
    change_manifest(folder, lambda record: record["files"]["head.json"].update(sha256="md5"))


# --- the manifest ----------------------------------------------------------------------------------------------------


def change_manifest(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def rename_in_manifest(folder: Path, name: str) -> None:
    change_manifest(folder, lambda record: record["files"].update({name: record["files"].pop("taxonomy.json")}))


@forged(r"'\.\./taxonomy\.json' is no plain name", resealed=False)
def a_path_upwards(folder: Path) -> None:
    (folder / "taxonomy.json").rename(folder.parent / "taxonomy.json")
    rename_in_manifest(folder, "../taxonomy.json")


@forged("'/etc/hostname' is no plain name", resealed=False)
def an_absolute_path(folder: Path) -> None:
    rename_in_manifest(folder, "/etc/hostname")


@forged(r"'a\\\\\\\\b.json' is no plain name|is no plain name", resealed=False)
def a_backslash_in_a_name(folder: Path) -> None:
    rename_in_manifest(folder, "..\\taxonomy.json")


@forged("is no plain name", resealed=False)
def a_zero_byte_in_a_name(folder: Path) -> None:
    rename_in_manifest(folder, "taxonomy.json\0.txt")


@forged(r"'t\\u0430xonomy.json' is not a plain file name", resealed=False)
def a_cyrillic_letter_in_a_name(folder: Path) -> None:
    name = "t\u0430xonomy.json"
    (folder / "taxonomy.json").rename(folder / name)
    rename_in_manifest(folder, name)


@forged("is no plain name", resealed=False)
def a_name_that_reads_backwards(folder: Path) -> None:
    rename_in_manifest(folder, "taxonomy\u202enosj.txt")


@forged("is no plain name", resealed=False)
def a_folder_in_a_name(folder: Path) -> None:
    rename_in_manifest(folder, "sub/taxonomy.json")


@forged("differ in upper and lower case only")
def names_that_differ_in_case_only(folder: Path) -> None:
    shutil.copy(folder / "taxonomy.json", folder / "Taxonomy.json")


@forged("lists signature.json", resealed=False)
def a_signature_that_is_part_of_the_model(folder: Path) -> None:
    change_manifest(folder, lambda record: record["files"].update({"signature.json": record["files"]["head.json"]}))


@forged("names 'license' twice", resealed=False)
def a_field_given_twice(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("{\n", '{\n  "license": "MIT",\n', 1))


@forged("not written the one way", resealed=False)
def a_number_written_otherwise(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 7.0e0'))


@forged("not written the one way", resealed=False)
def another_layout_of_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))


@forged("manifest is not readable", resealed=False)
def an_unknown_field(folder: Path) -> None:
    change_manifest(folder, lambda record: record.update(post_install="run.sh"))


@forged("holds NaN", resealed=False)
def a_manifest_with_nan(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 7', '"seed": NaN'))


@forged("is not JSON", resealed=False)
def a_manifest_cut_short(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:-20])


@forged("nested too deep", resealed=False)
def a_bottomless_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 200_000 + "]" * 200_000)


@forged("the name '../desk' is not", resealed=False)
def a_name_with_a_path(folder: Path) -> None:
    change_manifest(folder, lambda record: record.update(name="../desk"))


@forged("must be lower case", resealed=False)
def an_adapter_name_in_capitals(folder: Path) -> None:
    change_manifest(folder, lambda record: record.update(name="DESK"))


@forged("manifest.json is a symbolic link|has no manifest.json", resealed=False)
def a_manifest_that_is_a_link(folder: Path) -> None:
    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest.json")


@forged("the manifest's evaluation digest")
def another_evaluation_than_the_manifest_says(folder: Path) -> None:
    edit_json(folder / "evaluation.json", accuracy=0.99)
    reseal(folder)
    change_manifest(folder, lambda record: record.update(evaluation="e" * 64))
    FINISHED.add(folder)


@forged("the manifest's dataset digest")
def another_dataset_than_the_manifest_says(folder: Path) -> None:
    edit_json(folder / "dataset.json", digest="sha256-other")


@forged("digest of dataset.json, which is not there")
def a_dataset_that_was_taken_out(folder: Path) -> None:
    (folder / "dataset.json").unlink()


# --- kinds of files --------------------------------------------------------------------------------------------------


class Harmless:
    def __reduce__(self) -> tuple:
        return (print, ("a pickle was run",))


@forged("weights.pkl is neither safetensors nor JSON nor text")
def a_pickle(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(pickle.dumps(Harmless()))


@forged("adapter_model.bin is neither")
def weights_as_bin(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Harmless()))


@forged("adapter.pt is neither")
def weights_as_pt(folder: Path) -> None:
    (folder / "adapter.pt").write_bytes(b"PK\x03\x04")


@forged("is a pickle")
def a_pickle_called_safetensors(folder: Path) -> None:
    (folder / ADAPTER).write_bytes(pickle.dumps({"weight": [1.0] * 64}))


@forged("is a pickle")
def a_torch_archive_called_safetensors(folder: Path) -> None:
    (folder / "head.safetensors").write_bytes(b"PK\x03\x04" + bytes(100))


@forged("evil.pth is neither")
def a_pth_file(folder: Path) -> None:
    (folder / "evil.pth").write_text("import os")


@forged("modeling.py is neither")
def python_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("print('hello')")


@forged("readme.txt is not text")
def an_executable_called_text(folder: Path) -> None:
    (folder / "readme.txt").write_bytes(b"\x7fELF\0\0\0\0")


@forged("taxonomy.json is not JSON")
def a_pickle_called_json(folder: Path) -> None:
    (folder / "taxonomy.json").write_bytes(pickle.dumps(Harmless()))


@forged("head.json is a symbolic link")
def a_symbolic_link(folder: Path) -> None:
    (folder / "head.json").rename(folder.parent / "head.json")
    (folder / "head.json").symlink_to(folder.parent / "head.json")


@forged("sub is not a plain file")
def a_folder_inside(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "x.json").write_text("{}")


@forged("taxonomy.json is not a plain file", resealed=False)
def a_pipe(folder: Path) -> None:
    (folder / "taxonomy.json").unlink()
    os.mkfifo(folder / "taxonomy.json")


@forged("head.json is executable")
def an_executable_file(folder: Path) -> None:
    (folder / "head.json").chmod(0o755)


@forged("head.json is executable or has set-id")
def a_set_id_file(folder: Path) -> None:
    (folder / "head.json").chmod(0o4644)


@forged("not a plain file name")
def a_name_with_a_line_break(folder: Path) -> None:
    (folder / "a\nb.json").write_text("{}")


@forged("not a plain file name")
def a_hidden_file(folder: Path) -> None:
    (folder / ".hidden.json").write_text("{}")


# --- what belongs to the base ----------------------------------------------------------------------------------------


@forged("tokenizer.json belongs to a base")
def a_foreign_tokenizer(folder: Path) -> None:
    shutil.copy(BASE / "tokenizer.json", folder / "tokenizer.json")


@forged("tokenizer_config.json belongs to a base")
def a_foreign_chat_template(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')


@forged("chat_template.json belongs to a base")
def a_chat_template_file(folder: Path) -> None:
    (folder / "chat_template.json").write_text('{"chat_template": "x"}')


@forged("chat_template.jinja is neither")
def a_jinja_file(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }}")


@forged("adapter_config.json: holds a chat template")
def a_chat_template_in_the_adapter_configuration(folder: Path) -> None:
    edit_json(folder / CONFIG, chat_template="{{ x }}")


@forged("added_tokens.json belongs to a base")
def added_tokens(folder: Path) -> None:
    (folder / "added_tokens.json").write_text("{}")


@forged("new_embeddings.safetensors belongs to a base")
def new_embeddings(folder: Path) -> None:
    shutil.copy(folder / "head.safetensors", folder / "new_embeddings.safetensors")


@forged("names code to run .auto_map")
def an_auto_map(folder: Path) -> None:
    edit_json(folder / CONFIG, auto_map={"AutoModel": "evil.Model"})


@forged("names code to run .auto_map")
def an_auto_map_further_down(folder: Path) -> None:
    edit_json(folder / CONFIG, runtime_config={"deep": [{"auto_map": {}}]})


# --- the adapter's configuration --------------------------------------------------------------------------------------


@forged("its base 'other@sha256-0123456789ab' is not a full name|base 'other@")
def a_base_by_another_name(folder: Path) -> None:
    reseal(folder, base="other@sha256-0123456789ab")
    FINISHED.add(folder)


@forged("which is not|is not in this registry")
def a_base_that_is_not_here(folder: Path) -> None:
    other = f"other@sha256-{'0' * 64}"
    edit_json(folder / CONFIG, base_model_name_or_path=other)
    reseal(folder, base=other)
    FINISHED.add(folder)


@forged("adapter_config.json names the base 'Qwen/Qwen3-8B'")
def a_base_that_differs_from_the_manifest(folder: Path) -> None:
    edit_json(folder / CONFIG, base_model_name_or_path="Qwen/Qwen3-8B")


@forged("adapter_config.json names the base 'cloister-nano'")
def a_base_without_its_digest(folder: Path) -> None:
    edit_json(folder / CONFIG, base_model_name_or_path="cloister-nano")


@forged("r=12 cannot be served")
def an_odd_rank(folder: Path) -> None:
    edit_json(folder / CONFIG, r=12)


@forged(r"lora_A is \[8, 384\], not \[r=16, in\]")
def a_rank_that_the_tensors_do_not_have(folder: Path) -> None:
    edit_json(folder / CONFIG, r=16)


@forged("r=True cannot be served")
def a_rank_of_true(folder: Path) -> None:
    edit_json(folder / CONFIG, r=True)


@forged("lora_alpha=0 is not a positive number")
def no_scaling(folder: Path) -> None:
    edit_json(folder / CONFIG, lora_alpha=0)


@forged("holds 1e999")
def an_infinite_scaling(folder: Path) -> None:
    path = folder / CONFIG
    path.write_text(path.read_text().replace('"lora_alpha": 16', '"lora_alpha": 1e999'))


@forged("use_dora=True cannot be served")
def dora(folder: Path) -> None:
    edit_json(folder / CONFIG, use_dora=True)


@forged("bias='all' cannot be served")
def biases(folder: Path) -> None:
    edit_json(folder / CONFIG, bias="all")


@forged(r"modules_to_save=\['lm_head'\] cannot be served")
def modules_to_save(folder: Path) -> None:
    edit_json(folder / CONFIG, modules_to_save=["lm_head"])


@forged("rank_pattern=.* cannot be served")
def ranks_by_pattern(folder: Path) -> None:
    edit_json(folder / CONFIG, rank_pattern={"q_proj": 64})


@forged("init_lora_weights='pissa' cannot be served")
def an_init_that_changes_the_base(folder: Path) -> None:
    edit_json(folder / CONFIG, init_lora_weights="pissa")


@forged("auto_mapping=.* cannot be served")
def a_class_to_load(folder: Path) -> None:
    edit_json(folder / CONFIG, auto_mapping={"base_model_class": "Evil", "parent_library": "evil"})


@forged("peft_type='IA3' cannot be served")
def another_kind_of_adapter(folder: Path) -> None:
    edit_json(folder / CONFIG, peft_type="IA3")


@forged("target_modules='.*' is not a list of names")
def modules_by_a_pattern(folder: Path) -> None:
    edit_json(folder / CONFIG, target_modules=".*")


@forged("names 'r' twice")
def a_rank_given_twice(folder: Path) -> None:
    path = folder / CONFIG
    path.write_text(path.read_text().replace('"r": 8', '"r": 8, "r": 16'))


@forged("adapter_config.json is missing, but every adapter has it")
def no_configuration(folder: Path) -> None:
    (folder / CONFIG).unlink()


# --- the adapter's tensors --------------------------------------------------------------------------------------------


def tensor(folder: Path, name: str, value: np.ndarray | None) -> None:
    edit_tensors(folder / ADAPTER, {name: value})


@forged("holds NaN or infinity")
def a_nan(folder: Path) -> None:
    weights = np.ones((8, 384), np.float32)
    weights[3, 5] = np.nan
    tensor(folder, f"{FIRST}.lora_A.weight", weights)


@forged("holds NaN or infinity")
def an_infinity_in_float16(folder: Path) -> None:
    weights = np.ones((8, 384), np.float16)
    weights[7, 383] = -np.inf
    tensor(folder, f"{FIRST}.lora_A.weight", weights)


@forged("holds NaN or infinity")
def a_nan_in_bfloat16(folder: Path) -> None:
    bits = np.zeros(24, "<u2")
    bits[17] = 0x7FC0
    header = {"dense": {"dtype": "BF16", "shape": [3, 8], "data_offsets": [0, 48]}}
    join_safetensors(folder / "head.safetensors", header, bits.tobytes())


@forged("holds NaN or infinity")
def a_nan_in_eight_bits(folder: Path) -> None:
    header = {"dense": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}
    join_safetensors(folder / "head.safetensors", header, b"\x01\x7e\xff\x00")


@forged("holds NaN or infinity")
def a_nan_in_the_head(folder: Path) -> None:
    edit_tensors(folder / "head.safetensors", {"bias": np.array([0, np.nan, 0], np.float16)})


@forged("has no lora_B")
def half_a_pair(folder: Path) -> None:
    tensor(folder, f"{FIRST}.lora_B.weight", None)


@forged("made for a matrix 384 x 100")
def another_width(folder: Path) -> None:
    tensor(folder, f"{FIRST}.lora_A.weight", np.ones((8, 100), np.float32))


@forged("made for a matrix 99 x 384")
def another_height(folder: Path) -> None:
    tensor(folder, f"{FIRST}.lora_B.weight", np.ones((99, 8), np.float32))


@forged("is an unknown module")
def a_layer_that_the_base_has_not(folder: Path) -> None:
    name = FIRST.replace("layers.0", "layers.77")
    edit_tensors(
        folder / ADAPTER,
        {f"{name}.lora_A.weight": np.ones((8, 384), np.float32), f"{name}.lora_B.weight": np.ones((384, 8), np.float32)},
    )


@forged("is not among the target modules")
def a_module_that_is_no_target(folder: Path) -> None:
    name = "base_model.model.model.layers.0.mlp.gate"
    edit_tensors(
        folder / ADAPTER,
        {f"{name}.lora_A.weight": np.ones((8, 384), np.float32), f"{name}.lora_B.weight": np.ones((384, 8), np.float32)},
    )


@forged("1 modules have no tensors, the first is model.layers.0.self_attn.q_proj")
def a_layer_left_out(folder: Path) -> None:
    edit_tensors(folder / ADAPTER, {f"{FIRST}.lora_A.weight": None, f"{FIRST}.lora_B.weight": None})


@forged("a DoRA magnitude vector")
def a_magnitude_vector(folder: Path) -> None:
    tensor(folder, f"{FIRST}.lora_magnitude_vector", np.ones(384, np.float32))


@forged("is a whole module of the base")
def a_saved_module(folder: Path) -> None:
    tensor(folder, "base_model.model.lm_head.modules_to_save.weight", np.ones((4, 4), np.float32))


@forged("is a LoRA of an embedding")
def an_embedding_lora(folder: Path) -> None:
    tensor(folder, "base_model.model.model.embed_tokens.lora_embedding_A", np.ones((8, 4), np.float32))


@forged("is a bias")
def a_bias_tensor(folder: Path) -> None:
    tensor(folder, f"{FIRST}.base_layer.bias", np.ones(4, np.float32))


@forged("is no part of a LoRA adapter")
def the_bases_own_weights(folder: Path) -> None:
    tensor(folder, "model.layers.0.self_attn.q_proj.weight", np.ones((384, 384), np.float32))


@forged("is I32; an adapter's are")
def whole_numbers_as_weights(folder: Path) -> None:
    tensor(folder, f"{FIRST}.lora_A.weight", np.ones((8, 384), np.int32))


# --- the header of a safetensors file ---------------------------------------------------------------------------------


def reheader(folder: Path, change: Callable[[dict], None]) -> None:
    header, data = split_safetensors(folder / ADAPTER)
    change(header)
    join_safetensors(folder / ADAPTER, header, data)


def two(header: dict) -> list[str]:
    """Names of the first two tensors by place."""
    names = [name for name in header if name != "__metadata__"]
    return sorted(names, key=lambda name: header[name]["data_offsets"])[:2]


@forged("tensors that overlap")
def overlapping_tensors(folder: Path) -> None:
    def overlap(header: dict) -> None:
        first, second = two(header)
        width = header[second]["data_offsets"][1] - header[second]["data_offsets"][0]
        header[second]["data_offsets"] = [header[first]["data_offsets"][1] - 4, header[first]["data_offsets"][1] - 4 + width]

    reheader(folder, overlap)


@forged("bytes that no tensor owns before")
def a_hole_between_tensors(folder: Path) -> None:
    reheader(folder, lambda header: header.pop(two(header)[0]))


@forged("is cut short: the tensor")
def a_tensor_beyond_the_end(folder: Path) -> None:
    def beyond(header: dict) -> None:
        last = max((header[name] for name in header if name != "__metadata__"), key=lambda entry: entry["data_offsets"])
        begin, end = last["data_offsets"]
        last["shape"] = [2 * last["shape"][0], last["shape"][1]]
        last["data_offsets"] = [begin, 2 * end - begin]

    reheader(folder, beyond)


@forged("impossible data offsets")
def offsets_below_zero(folder: Path) -> None:
    reheader(folder, lambda header: header[two(header)[0]].update(data_offsets=[-8, 8]))


@forged("impossible data offsets")
def offsets_backwards(folder: Path) -> None:
    reheader(folder, lambda header: header[two(header)[0]]["data_offsets"].reverse())


@forged("needs")
def a_shape_larger_than_its_bytes(folder: Path) -> None:
    reheader(folder, lambda header: header[two(header)[0]].update(shape=[10**9, 10**9]))


@forged("needs")
def a_dtype_wider_than_its_bytes(folder: Path) -> None:
    reheader(folder, lambda header: header[two(header)[0]].update(dtype="F64"))


@forged("unknown dtype 'PY_OBJECT'")
def a_dtype_that_is_none(folder: Path) -> None:
    reheader(folder, lambda header: header[two(header)[0]].update(dtype="PY_OBJECT"))


@forged("impossible shape")
def a_shape_below_zero(folder: Path) -> None:
    reheader(folder, lambda header: header[two(header)[0]].update(shape=[-8, -384]))


@forged("with other fields than dtype")
def a_field_that_the_format_has_not(folder: Path) -> None:
    reheader(folder, lambda header: header[two(header)[0]].update(hook="os.system"))


@forged("metadata that is not text")
def metadata_that_is_no_text(folder: Path) -> None:
    reheader(folder, lambda header: header.update(__metadata__={"format": {"nested": 1}}))


@forged("has a header that names .* twice")
def a_tensor_named_twice(folder: Path) -> None:
    header, data = split_safetensors(folder / ADAPTER)
    name = two(header)[0]
    text = json.dumps(header).replace("{", "{" + f"{json.dumps(name)}: {json.dumps(header[name])}, ", 1)
    join_safetensors(folder / ADAPTER, text.encode(), data)


@forged("is cut short")
def a_truncated_file(folder: Path) -> None:
    content = (folder / ADAPTER).read_bytes()
    (folder / ADAPTER).write_bytes(content[:-100])


@forged("is cut short")
def a_file_of_seven_bytes(folder: Path) -> None:
    (folder / ADAPTER).write_bytes(b"1234567")


@forged("bytes that no tensor owns at its end")
def bytes_behind_the_last_tensor(folder: Path) -> None:
    with (folder / ADAPTER).open("ab") as handle:
        handle.write(b"hidden")


@forged("claims a header of")
def an_enormous_header(folder: Path) -> None:
    header, data = split_safetensors(folder / ADAPTER)
    join_safetensors(folder / ADAPTER, header, data, length=2**62)


@forged("in a file of .*: it is cut short")
def a_header_longer_than_the_file(folder: Path) -> None:
    (folder / "head.safetensors").write_bytes(struct.pack("<Q", 5000) + b"{}")


@forged("header is not a JSON object")
def a_header_that_is_no_object(folder: Path) -> None:
    join_safetensors(folder / ADAPTER, b"[1]", b"")


@forged("has a header that is not JSON")
def a_header_that_is_no_json(folder: Path) -> None:
    join_safetensors(folder / ADAPTER, b'{"a":', b"")


# --- head and cascade --------------------------------------------------------------------------------------------------


@forged("the embedder 'all-MiniLM-L6-v2' is not a full name")
def an_embedder_without_digest(folder: Path) -> None:
    edit_json(folder / "head.json", embedders=["all-MiniLM-L6-v2"])


@forged("is not a full name")
def an_embedder_by_path(folder: Path) -> None:
    edit_json(folder / "head.json", embedders=["../../elsewhere"])


@forged("one or two full names")
def no_embedder(folder: Path) -> None:
    edit_json(folder / "head.json", embedders=[])


@forged("not a list of different names")
def a_class_named_twice(folder: Path) -> None:
    edit_json(folder / "head.json", classes=["vpn", "vpn", "Others"])


@forged("temperature 0 is not a positive number")
def a_temperature_of_zero(folder: Path) -> None:
    edit_json(folder / "head.json", temperature=0)


@forged("cascade.json holds NaN")
def a_cascade_with_nan(folder: Path) -> None:
    edit_json(folder / "cascade.json", sure=float("nan"))


@forged("act is -0.1, not a number between 0 and 1")
def a_threshold_that_acts_on_everything(folder: Path) -> None:
    edit_json(folder / "cascade.json", act=-0.1)


@forged("head_calibration.rights.1 is 1.5, not a number between 0 and 1")
def a_calibration_beyond_one(folder: Path) -> None:
    edit_json(folder / "cascade.json", head_calibration={"scores": [0, 1], "rights": [0, 1.5]})


@forged("calibrated beside the adapter")
def a_calibration_of_another_adapter(folder: Path) -> None:
    edit_json(folder / "cascade.json", adapter_sha256="a" * 64)


# --- signatures ---------------------------------------------------------------------------------------------------------


def change_signature(folder: Path, change: Callable[[dict], None]) -> None:
    record = json.loads((folder / "signature.json").read_text())
    change(record)
    (folder / "signature.json").write_text(json.dumps(record))


@forged("does not fit the key", resealed=False)
def a_signature_with_one_bit_changed(folder: Path) -> None:
    def flip(record: dict) -> None:
        signature = record["signatures"][0]["sig"]
        record["signatures"][0]["sig"] = ("B" if signature[0] == "A" else "A") + signature[1:]

    change_signature(folder, flip)


@forged("signature of something else", resealed=False)
def the_signature_of_another_model(folder: Path) -> None:
    make_model(folder.parent / "other", name="other", seed=8)
    signing.sign(folder.parent / "other", folder.parent / "keys" / signing.PRIVATE_FILE)
    shutil.copy(folder.parent / "other" / "signature.json", folder / "signature.json")


@forged("payload type 'text/plain'", resealed=False)
def another_payload_type(folder: Path) -> None:
    change_signature(folder, lambda record: record.update(payloadType="text/plain"))


@forged("holds what is not base64", resealed=False)
def a_payload_that_is_not_base64(folder: Path) -> None:
    change_signature(folder, lambda record: record.update(payload="%%%"))


@forged("no list of 1 to", resealed=False)
def an_envelope_without_signatures(folder: Path) -> None:
    change_signature(folder, lambda record: record.update(signatures=[]))


@forged("names a key twice", resealed=False)
def a_key_named_twice(folder: Path) -> None:
    change_signature(folder, lambda record: record["signatures"].append(record["signatures"][0]))


# --- the tests ----------------------------------------------------------------------------------------------------------

FINISHED: set[Path] = set()  # folders that a tamper has resealed itself


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed model, its bundle and the keys beside it."""
    place = tmp_path_factory.mktemp("whole")
    make_model(place / "desk")
    signing.keygen(place / "keys")
    signing.sign(place / "desk", place / "keys" / signing.PRIVATE_FILE)
    registry = registry_of(place, place / "models")
    name = registry.add(place / "desk")
    write_bundle(registry, name, place / "desk.tar", with_base=True)
    return place


def registry_of(whole: Path, root: Path) -> Registry:
    trusted = root / "trusted"
    trusted.mkdir(parents=True)
    shutil.copy(whole / "keys" / signing.PUBLIC_FILE, trusted / "ci.pub.pem")
    return Registry(root)


def left_behind(registry: Registry) -> list[str]:
    return sorted(path.name for path in registry.root.iterdir() if path.name not in ("trusted", ".import.lock", ".history.lock"))


def test_the_whole_model_is_accepted_as_signed(whole: Path, tmp_path: Path) -> None:
    registry = registry_of(whole, tmp_path / "models")
    name = registry.add(whole / "desk", require_signature=True)
    assert name == read(whole / "desk").full_name
    entry, judgement = registry.verify(name)
    assert judgement.standing is signing.Standing.SIGNED and "signed by ed25519-" in str(judgement)
    assert left_behind(registry) == [name] and entry.folder == registry.root / name


@pytest.mark.parametrize("packed", [False, True], ids=["tar", "tar.gz"])
def test_the_whole_bundle_comes_through(whole: Path, tmp_path: Path, packed: bool) -> None:
    registry = registry_of(whole, tmp_path / "models")
    path = tmp_path / ("desk.tar.gz" if packed else "desk.tar")
    small = tmp_path / "small.tar"
    pack(small, without_base(files_of(whole / "desk.tar")))
    path.write_bytes(gzip.compress(small.read_bytes(), 1) if packed else (whole / "desk.tar").read_bytes())
    checked = import_bundle(registry, path, require_signature=True)
    assert left_behind(registry) == [checked.main]  # the base came with the installation
    folder = registry.find(checked.main).folder
    assert {p.name: entry_of(p) for p in folder.iterdir()} == {p.name: entry_of(p) for p in (whole / "desk").iterdir()}
    assert checked.needs == (f"all-MiniLM-L6-v2@sha256-{'5' * 64}",)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_tampered_model_is_refused_with_the_reason(whole: Path, tmp_path: Path, name: str) -> None:
    tamper, reason, resealed = FOLDERS[name]
    registry = registry_of(whole, tmp_path / "models")
    shutil.copytree(whole / "desk", tmp_path / "desk")
    shutil.copytree(whole / "keys", tmp_path / "keys")
    folder = tmp_path / "desk"
    tamper(folder)
    if resealed and folder not in FINISHED:
        reseal(folder)
    with pytest.raises(ModelRefused, match=reason):
        registry.add(folder)
    assert left_behind(registry) == []
    with pytest.raises(ModelRefused):  # nor does the folder pass where it lies
        verify(folder, base=BASE)
        registry.check(folder)


def test_there_are_well_over_fifty_ways() -> None:
    assert len(FOLDERS) + len(BUNDLES) >= 100


# --- bundles ---------------------------------------------------------------------------------------------------------------


def files_of(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def pack(out: Path, files: dict[str, bytes], *more: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.USTAR_FORMAT) -> None:
    with tarfile.open(out, "w", format=kind) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info, content in more:
            archive.addfile(info, io.BytesIO(content))


def odd(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def put(name: str, content: bytes = b"{}") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info, content


def reindex(files: dict[str, bytes], change: Callable[[dict], None]) -> dict[str, bytes]:
    index = json.loads(files["index.json"])
    change(index)
    return files | {"index.json": json.dumps(index).encode()}


def inside(files: dict[str, bytes], ending: str) -> str:
    return next(name for name in files if "desk@" in name and name.endswith(ending))


@repacked(r"the path '\.\./\.\./escaped\.json'")
def a_member_upwards(good: Path, bad: Path) -> None:
    pack(bad, files_of(good), put("../../escaped.json"))


@repacked("the path '/tmp_escaped.json'")
def an_absolute_member(good: Path, bad: Path) -> None:
    pack(bad, files_of(good), put("/tmp_escaped.json"))


@repacked("a symbolic link")
def a_link_in_a_bundle(good: Path, bad: Path) -> None:
    pack(bad, files_of(good), odd("models/x", tarfile.SYMTYPE, "/etc"))


@repacked("a hard link")
def a_hard_link_in_a_bundle(good: Path, bad: Path) -> None:
    pack(bad, files_of(good), odd("models/x", tarfile.LNKTYPE, "index.json"))


@repacked("a character device")
def a_device_in_a_bundle(good: Path, bad: Path) -> None:
    pack(bad, files_of(good), odd("models/x", tarfile.CHRTYPE))


@repacked("a pipe")
def a_pipe_in_a_bundle(good: Path, bad: Path) -> None:
    pack(bad, files_of(good), odd("models/x", tarfile.FIFOTYPE))


@repacked("a sparse file")
def a_sparse_file_in_a_bundle(good: Path, bad: Path) -> None:
    pack(bad, files_of(good), odd("models/x", tarfile.GNUTYPE_SPARSE))


@repacked("an extended header")
def an_extended_header(good: Path, bad: Path) -> None:
    pack(bad, files_of(good), put(f"models/{'x' * 300}.json"), kind=tarfile.PAX_FORMAT)


@repacked("twice")
def a_member_twice(good: Path, bad: Path) -> None:
    files = files_of(good)
    name = inside(files, "head.json")
    pack(bad, files, put(name, files[name]))


@repacked("which its index does not name")
def a_member_that_the_index_does_not_name(good: Path, bad: Path) -> None:
    files = files_of(good)
    pack(bad, files, put(inside(files, "head.json").replace("head.json", "more.json")))


@repacked("lacks .*head.json")
def a_member_left_out(good: Path, bad: Path) -> None:
    files = files_of(good)
    files.pop(inside(files, "head.json"))
    pack(bad, files)


@repacked("its sha256 differs")
def other_bytes_than_the_index_says(good: Path, bad: Path) -> None:
    files = files_of(good)
    name = inside(files, "head.json")
    pack(bad, files | {name: files[name].replace(b"vpn", b"VPN")})


@repacked("head.json was altered")
def an_index_that_fits_altered_bytes(good: Path, bad: Path) -> None:
    files = files_of(good)
    name = inside(files, "head.json")
    files[name] = files[name].replace(b"vpn", b"VPN")
    digest = hashlib.sha256(files[name]).hexdigest()
    pack(bad, reindex(files, lambda index: index["files"][name].update(sha256=digest)))


@repacked("not desk@sha256")
def a_model_under_another_models_name(good: Path, bad: Path) -> None:
    files = files_of(good)
    other = f"desk@sha256-{'0' * 64}"
    ours = inside(files, "manifest.json").split("/")[1]
    renamed = {name.replace(ours, other): content for name, content in files.items()}
    renamed["index.json"] = files["index.json"].replace(ours.encode(), other.encode())
    pack(bad, renamed)


@repacked("does not begin with index.json")
def an_index_that_does_not_come_first(good: Path, bad: Path) -> None:
    files = files_of(good)
    index = files.pop("index.json")
    pack(bad, files | {"index.json": index})


@repacked("that is not believed")
def a_bomb(good: Path, bad: Path) -> None:
    files = files_of(good)
    name = inside(files, "head.json")
    pack(bad, reindex(files, lambda index: index["files"][name].update(size_bytes=10**15)))


@repacked("an index that names the path")
def an_index_with_a_path_upwards(good: Path, bad: Path) -> None:
    entry = {"sha256": "0" * 64, "size_bytes": 1}
    pack(bad, reindex(files_of(good), lambda index: index["files"].update({"models/../x.json": entry})))


@repacked("not of the format")
def another_format_of_the_index(good: Path, bad: Path) -> None:
    pack(bad, reindex(files_of(good), lambda index: index.update(format="cloister-bundle-9")))


@repacked("names 'format' twice")
def an_index_with_a_field_twice(good: Path, bad: Path) -> None:
    files = files_of(good)
    pack(bad, files | {"index.json": files["index.json"].replace(b"{", b'{"format": "x",', 1)})


@repacked("is cut short")
def a_bundle_cut_short(good: Path, bad: Path) -> None:
    bad.write_bytes(good.read_bytes()[:-20_000])


@repacked("bytes behind the last member")
def bytes_behind_the_archive(good: Path, bad: Path) -> None:
    bad.write_bytes(good.read_bytes() + b"hidden")


@repacked("does not add up")
def a_header_that_does_not_add_up(good: Path, bad: Path) -> None:
    content = bytearray(good.read_bytes())
    content[100] ^= 1
    bad.write_bytes(content)


@repacked("hides bytes behind a member")
def bytes_in_the_padding(good: Path, bad: Path) -> None:
    content = bytearray(good.read_bytes())
    size = int(content[124:135], 8)
    content[512 + size] = 1
    bad.write_bytes(content)


@repacked("is not a tar archive")
def a_zip_called_tar(good: Path, bad: Path) -> None:
    bad.write_bytes(b"PK\x03\x04" + bytes(4096))


@repacked("cannot be read")
def a_damaged_gzip(good: Path, bad: Path) -> None:
    packed = bytearray(gzip.compress(good.read_bytes(), 1))
    packed[-8] ^= 0xFF  # the checksum at the end
    bad.write_bytes(packed)


@pytest.mark.parametrize("name", BUNDLES)
def test_a_tampered_bundle_is_refused_with_the_reason(whole: Path, tmp_path: Path, name: str) -> None:
    tamper, reason = BUNDLES[name]
    registry = registry_of(whole, tmp_path / "models")
    small = tmp_path / "good.tar"
    pack(small, without_base(files_of(whole / "desk.tar")))
    tamper(small, tmp_path / "bad.tar")
    with pytest.raises(ModelRefused, match=reason):
        import_bundle(registry, tmp_path / "bad.tar")
    assert left_behind(registry) == []
    assert not list(tmp_path.rglob("*escaped*"))


def without_base(files: dict[str, bytes]) -> dict[str, bytes]:
    """The bundle without its 22 MB of base, which is here anyway."""
    kept = {name: content for name, content in files.items() if "cloister-nano@" not in name}

    def drop(index: dict) -> None:
        index["files"] = {name: entry for name, entry in index["files"].items() if name in kept}

    return reindex(kept, drop)


def test_the_manifest_entry_is_what_the_file_is(whole: Path) -> None:
    manifest = read(whole / "desk")
    assert manifest.files["head.json"] == entry_of(whole / "desk" / "head.json")
    assert isinstance(manifest.files["head.json"], FileEntry)
