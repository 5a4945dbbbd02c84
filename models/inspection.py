"""What may lie in a model's folder. Tables of names, fields and bounds; gives problems as clauses and refuses nothing itself.

Knows files by kind of model; knows nothing of manifests, signatures or registries. Nothing is loaded or run.
"""

import math
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models import lora, strict_json
from models.strict_json import Malformed
from models.tensors import Tensor, not_finite, read_header

ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".txt"})  # data that a reader cannot be made to run
CHAT_TEMPLATE = "chat_template.jinja"  # a base may have it; the engine renders it in a sandbox
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
FULL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}@sha256-[0-9a-f]{64}")
FORBIDDEN_KEYS = frozenset({"auto_map", "custom_pipelines", "trust_remote_code"})  # would name code to load, or allow it
FORBIDDEN_MODES = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
NOT_OF_THE_HOUSE = re.compile(  # the base's matters, which an adapter or a head must not change
    r"(?:tokenizer|chat_template|special_tokens_map|added_tokens|vocab|merges|new_embeddings|generation_config|(?:pre)?processor"
    r"|config\.json|model[.-])"
)
BETWEEN_0_AND_1 = frozenset({"sure", "act", "threshold", "scores", "rights"})  # fields of cascade.json
MAX_TEXT_BYTES = 64 * 2**20


class Kind(StrEnum):
    BASE = "base"
    ADAPTER = "adapter"
    HEAD = "head"
    EMBEDDER = "embedder"
    RERANKER = "reranker"  # a cross-encoder: question and passage together


DESK_MADE = frozenset({Kind.ADAPTER, Kind.HEAD})
NEEDED: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        Kind.ADAPTER: ("adapter_config.json", "adapter_model.safetensors"),
        Kind.RERANKER: ("config.json", "model.safetensors", "tokenizer.json"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was read of a folder: its JSON files and the headers of its tensors, where they could be read."""

    records: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Tensor]]


def folder_problems(
    folder: Path, names: list[str], *, kind: Kind, base: str | None, base_folder: Path | None, deep: bool
) -> list[str]:
    """Every reason why these files may not be a model of this kind; empty when they may.

    `base`: full name that an adapter must name. `base_folder`: where given, an adapter's matrices must fit it. `deep`: look for NaN
    and infinities in every tensor; adapters and heads are always looked through.
    """
    problems: list[str] = []
    records: dict[str, Any] = {}
    tensors: dict[str, Mapping[str, Tensor]] = {}
    scan = deep or kind in DESK_MADE
    for name in names:
        path = folder / name
        unfit = list(_outside_problems(path, kind))
        problems += unfit
        if unfit:
            continue
        try:
            if path.suffix == ".safetensors":
                tensors[name] = read_header(path)
                bad = not_finite(path, tensors[name]) if scan else []
                problems += [f"{name}: the tensor {tensor!r} holds NaN or infinity" for tensor in bad]
            elif path.suffix == ".json":
                records[name] = strict_json.loads(path.read_bytes())
            else:
                _check_text(path)
        except Malformed as error:
            problems.append(f"{name} {error}")
    found = Found(records=records, tensors=tensors)
    problems += [f"{name}: {problem}" for name, record in records.items() for problem in _record_problems(name, record, kind)]
    problems += [f"{name} is missing, but every {kind} has it" for name in NEEDED.get(kind, ()) if name not in names]
    if kind is Kind.ADAPTER:
        problems += _adapter_problems(found, base=base, base_folder=base_folder)
    return problems


def _outside_problems(path: Path, kind: Kind) -> Iterator[str]:
    """By name, type and mode, before anything is opened."""
    name = path.name
    if not FILE_NAME.fullmatch(name):
        yield f"{name!a} is not a plain file name of letters, digits, dot, dash and underscore"
    elif path.is_symlink():
        yield f"{name} is a symbolic link"
    elif not path.is_file():
        yield f"{name} is not a plain file"
    elif path.stat().st_mode & FORBIDDEN_MODES:
        yield f"{name} has mode {stat.S_IMODE(path.stat().st_mode):o}: neither executable nor set-id files are data"
    elif path.suffix not in ALLOWED_SUFFIXES and not (kind is Kind.BASE and name == CHAT_TEMPLATE):
        yield f"{name} is neither safetensors nor JSON nor text"
    elif kind in DESK_MADE and NOT_OF_THE_HOUSE.match(name):
        yield f"{name} belongs to a base; a tokenizer, chat template or configuration in a folder of kind {kind} is foreign"


def _check_text(path: Path) -> None:
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise Malformed(f"has more than {MAX_TEXT_BYTES} bytes")
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("is not text") from None
    if b"\0" in content:
        raise Malformed("is not text: it holds a zero byte")


def _record_problems(name: str, record: Any, kind: Kind) -> Iterator[str]:
    keys = set(_keys(record)) if name.endswith("config.json") else set(record) if isinstance(record, dict) else set()
    yield from (f"names code to run ({key})" for key in sorted(FORBIDDEN_KEYS & keys))
    if "chat_template" in keys and kind is not Kind.BASE:
        yield f"holds a chat template, which only a base may have, not a model of kind {kind}"
    if name in RULES:
        yield from RULES[name](record)


def _keys(record: Any) -> Iterator[str]:
    """Keys at any depth."""
    if isinstance(record, dict):
        yield from record
        for value in record.values():
            yield from _keys(value)
    elif isinstance(record, list):
        for value in record:
            yield from _keys(value)


def _adapter_problems(found: Found, *, base: str | None, base_folder: Path | None) -> list[str]:
    config, tensors = found.records.get("adapter_config.json"), found.tensors.get("adapter_model.safetensors")
    if not isinstance(config, dict):
        return []
    problems = []
    if base is None or not FULL_NAME.fullmatch(base):
        problems.append(f"its base {base!r} is not a full name (name@sha256-<64 digits>)")
    if config.get("base_model_name_or_path") != base:
        problems.append(f"adapter_config.json names the base {config.get('base_model_name_or_path')!r}, the manifest {base!r}")
    if tensors is None or lora.config_problems(config):
        return problems
    try:
        shapes = lora.base_shapes(base_folder) if base_folder else None
    except Malformed as error:
        return [*problems, f"the base cannot be compared: it {error}"]
    return problems + [f"adapter_model.safetensors: {problem}" for problem in lora.tensor_problems(config, tensors, base=shapes)]


# --- rules for single files ------------------------------------------------------------------------------------------


def _adapter_config(record: Any) -> Iterator[str]:
    yield from lora.config_problems(record) if isinstance(record, dict) else ("is not an object",)


def _head(record: Any) -> Iterator[str]:
    if not isinstance(record, dict):
        yield "is not an object"
        return
    classes = record.get("classes")
    if not isinstance(classes, list) or not all(isinstance(one, str) for one in classes) or len(set(classes)) != len(classes):
        yield "its classes are not a list of different names"
    if not _is_number(record.get("temperature", 1.0)) or record.get("temperature", 1.0) <= 0:
        yield f"its temperature {record.get('temperature')!r} is not a positive number"
    names = record.get("embedders")
    if names is not None and (not isinstance(names, list) or not 1 <= len(names) <= 2):
        yield "embedders is not a list of one or two full names"
    elif names is not None:
        bad = [one for one in names if not isinstance(one, str) or not FULL_NAME.fullmatch(one)]
        yield from (f"the embedder {one!r} is not a full name (name@sha256-<64 digits>)" for one in bad)
    elif not isinstance(record.get("embedder"), str) or not MODEL_NAME.fullmatch(record["embedder"]):
        yield f"it names no embedder that we understand (embedder={record.get('embedder')!r})"


def _cascade(record: Any) -> Iterator[str]:
    if not isinstance(record, dict):
        yield "is not an object"
        return
    for path, value in _leaves(record):
        field = next((part for part in reversed(path) if not part.isdigit()), "")
        never = field == "act" and value is None  # no confidence is enough to act
        if field in BETWEEN_0_AND_1 and not never and not (_is_number(value) and 0 <= value <= 1):
            yield f"{'.'.join(path)} is {value!r}, not a number between 0 and 1"


def _leaves(record: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(record, dict | list):
        items = record.items() if isinstance(record, dict) else enumerate(record)
        for key, value in items:
            yield from _leaves(value, (*path, str(key)))
    else:
        yield path, record


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _modules(record: Any) -> Iterator[str]:
    """The list of classes by which sentence-transformers reads a folder."""
    for entry in record if isinstance(record, list) else [record]:
        kind = entry.get("type") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or not kind.startswith("sentence_transformers."):
            yield f"names code to run ({kind!r})"


def _object_with_digest(record: Any) -> Iterator[str]:
    if not isinstance(record, dict) or not isinstance(record.get("digest"), str):
        yield "does not say its digest"


RULES: Mapping[str, Callable[[Any], Iterator[str]]] = MappingProxyType(
    {
        "adapter_config.json": _adapter_config,
        "head.json": _head,
        "cascade.json": _cascade,
        "modules.json": _modules,
        "dataset.json": _object_with_digest,
    }
)
