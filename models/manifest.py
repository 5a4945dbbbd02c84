"""What a model is: a folder of named files with their digests, under a name made from its content.

Knows files, digests and what may lie in a model's folder; knows nothing of torch, engines or tickets. A manifest's digest
covers every field and, through the files' digests, every byte; `name@sha256-...` is therefore never used for other bytes.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

MANIFEST_FILE = "manifest.json"
ALLOWED_SUFFIXES = frozenset({".safetensors", ".json", ".txt"})  # data that a reader cannot be made to run
FORBIDDEN_KEYS = frozenset({"auto_map", "custom_pipelines"})  # would name code to load
ADAPTER_REFUSALS: Mapping[str, tuple[Any, ...]] = {  # what the engine cannot serve, with the values that are fine
    "modules_to_save": (None, []),
    "use_dora": (None, False),
    "bias": (None, "none"),
}
MAX_HEADER_BYTES = 16 * 2**20


class ModelRefused(Exception):
    """A model's folder is not what its manifest says, or holds what must not be there. Lists every problem found."""


class Kind(StrEnum):
    BASE = "base"
    ADAPTER = "adapter"
    HEAD = "head"
    EMBEDDER = "embedder"


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    name: str
    kind: Kind
    files: Mapping[str, FileEntry]
    base: str | None = None  # the base's full name, for an adapter or a head that was fitted beside one
    license: str = ""
    data: tuple[str, ...] = ()  # the sets it was trained on, each with its licence
    made: Mapping[str, Any] = field(default_factory=dict)  # seeds, minutes, figures, versions

    @property
    def digest(self) -> str:
        """64 hexadecimal digits over every field."""
        return hashlib.sha256(canonical(as_record(self))).hexdigest()

    @property
    def full_name(self) -> str:
        """`name@sha256-<64 digits>`: what the engine, the log and the records call it."""
        return f"{self.name}@sha256-{self.digest}"


def canonical(record: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and no spaces: the same record always gives the same bytes."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def as_record(manifest: Manifest) -> dict[str, Any]:
    return asdict(manifest) | {"kind": str(manifest.kind), "data": list(manifest.data)}


def from_record(record: Mapping[str, Any]) -> Manifest:
    """Raises ModelRefused when a field is missing, unknown or of the wrong type."""
    try:
        files = {str(name): FileEntry(**entry) for name, entry in record["files"].items()}
        rest = {key: value for key, value in record.items() if key not in ("kind", "files", "data")}
        return Manifest(kind=Kind(record["kind"]), files=files, data=tuple(record.get("data", ())), **rest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelRefused(f"manifest is not readable: {error!r}. Write it again with models.manifest.write.") from error


def file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write(folder: Path, *, name: str, kind: Kind, **fields: Any) -> Manifest:
    """Take stock of a folder and write its manifest. Whatever may not lie in a model's folder is refused here already."""
    problems = [problem for path in sorted(folder.iterdir()) if path.name != MANIFEST_FILE for problem in _unfit(path)]
    if problems:
        raise ModelRefused(f"{folder} cannot become a model: {'; '.join(problems)}")
    files = {
        path.name: FileEntry(sha256=file_sha256(path), size_bytes=path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_FILE
    }
    manifest = Manifest(name=name, kind=kind, files=files, **fields)
    (folder / MANIFEST_FILE).write_text(
        json.dumps(as_record(manifest), indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return manifest


def read(folder: Path) -> Manifest:
    """The manifest of a folder, its files not looked at."""
    path = folder / MANIFEST_FILE
    if path.is_symlink() or not path.is_file():
        raise ModelRefused(f"{folder} has no {MANIFEST_FILE}. A model is imported with its manifest.")
    try:
        return from_record(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{path} is not JSON: {error}") from error


def verify(folder: Path, *, expect: str | None = None) -> Manifest:
    """The manifest, once every file is there, unaltered, of an allowed kind, and nothing else is. `expect`: a full name.

    Raises ModelRefused with every problem found.
    """
    manifest = read(folder)
    problems = []
    if expect is not None and manifest.full_name != expect:
        problems.append(f"it is {manifest.full_name}, not {expect}")
    present = {path.name: path for path in folder.iterdir() if path.name != MANIFEST_FILE}
    problems += [f"{name} is missing" for name in manifest.files if name not in present]
    problems += [f"{name} is not in the manifest" for name in present if name not in manifest.files]
    for name, path in sorted(present.items()):
        unfit = _unfit(path)
        problems += unfit
        if not unfit and name in manifest.files and file_sha256(path) != manifest.files[name].sha256:
            problems.append(f"{name} was altered: its sha256 is not the manifest's")
    if problems:
        raise ModelRefused(f"{folder} is refused: {'; '.join(problems)}. Import the model again from where it came.")
    return manifest


def _unfit(path: Path) -> list[str]:
    """Why a file may not lie in a model's folder; empty when it may."""
    if path.is_symlink():
        return [f"{path.name} is a symbolic link"]
    if not path.is_file():
        return [f"{path.name} is not a plain file"]
    if path.suffix not in ALLOWED_SUFFIXES:
        return [f"{path.name} is neither safetensors nor JSON nor text"]
    if path.suffix == ".safetensors":
        return _unfit_safetensors(path)
    return _unfit_json(path) if path.suffix == ".json" else []


def _unfit_safetensors(path: Path) -> list[str]:
    """The header must be JSON whose tensors fill the file exactly."""
    size = path.stat().st_size
    try:
        with path.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > min(MAX_HEADER_BYTES, size):
                return [f"{path.name} has a header of {length} bytes"]
            header = json.loads(handle.read(length))
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        return [f"{path.name} is not a safetensors file"]
    return [] if 8 + length + end == size else [f"{path.name} is cut short or has bytes that no tensor owns"]


def _unfit_json(path: Path) -> list[str]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return [f"{path.name} is not JSON"]
    if not isinstance(record, dict):
        return []
    problems = [f"{path.name} names code to run ({key})" for key in sorted(FORBIDDEN_KEYS & record.keys())]
    if path.name == "adapter_config.json":
        problems += [
            f"{path.name}: {key}={record[key]!r} cannot be served"
            for key, fine in ADAPTER_REFUSALS.items()
            if key in record and record[key] not in fine
        ]
    return problems
