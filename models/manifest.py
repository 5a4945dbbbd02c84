"""What a model is: a folder of named files with their digests, under a name made from its content.

Knows files, digests and records; knows nothing of torch, engines or tickets. A manifest's digest covers every field and, through
the files' digests, every byte; `name@sha256-...` is therefore never used for other bytes. What may lie in a folder of which kind
is told by `models.inspection`; a signature lies beside the manifest and is not part of the model.
"""

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models import strict_json
from models.inspection import ALLOWED_SUFFIXES, FILE_NAME, FULL_NAME, MODEL_NAME, Kind, folder_problems
from models.strict_json import Malformed

__all__ = [
    "ALLOWED_SUFFIXES",
    "MANIFEST_FILE",
    "SIGNATURE_FILE",
    "FileEntry",
    "Kind",
    "Manifest",
    "ModelRefused",
    "as_record",
    "canonical",
    "file_sha256",
    "from_record",
    "read",
    "render",
    "shown",
    "verify",
    "write",
]

MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "signature.json"
BESIDE = frozenset({MANIFEST_FILE, SIGNATURE_FILE})  # not listed in the manifest
MAX_MANIFEST_BYTES = 4 * 2**20
OPTIONAL = ("dataset", "evaluation", "parent")  # absent from the record where they are not known: older names stay as they are


class ModelRefused(Exception):
    """A model's folder is not what its manifest says, or holds what must not be there. Lists every problem found."""


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
    dataset: str | None = None  # digest that dataset.json tells
    evaluation: str | None = None  # sha256 of evaluation.json
    parent: str | None = None  # full name of the model that it was made from, or that was live when it was made

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
    record = asdict(manifest) | {"kind": str(manifest.kind), "data": list(manifest.data)}
    return {key: value for key, value in record.items() if key not in OPTIONAL or value is not None}


def from_record(record: Mapping[str, Any]) -> Manifest:
    """Raises ModelRefused when a field is missing, unknown or of the wrong type."""
    try:
        files = {str(name): FileEntry(**entry) for name, entry in record["files"].items()}
        rest = {key: value for key, value in record.items() if key not in ("kind", "files", "data")}
        return Manifest(kind=Kind(record["kind"]), files=files, data=tuple(record.get("data", ())), **rest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelRefused(f"manifest is not readable: {error!r}. Write it again with models.manifest.write.") from error


def render(manifest: Manifest) -> bytes:
    """The one way in which a manifest is written."""
    text = json.dumps(as_record(manifest), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def file_sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write(folder: Path, *, name: str, kind: Kind, **fields: Any) -> Manifest:
    """Take stock of a folder and write its manifest. Whatever may not lie in a folder of this kind is refused here already.

    The digests of `dataset.json` and `evaluation.json`, where they are there, enter the manifest by themselves. A signature of an
    earlier state is removed.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name not in BESIDE)
    problems = folder_problems(folder, names, kind=kind, base=fields.get("base"), base_folder=None, deep=True)
    if problems:
        raise ModelRefused(f"{folder} cannot become a model: {'; '.join(problems)}")
    files = {name: FileEntry(sha256=file_sha256(folder / name), size_bytes=(folder / name).stat().st_size) for name in names}
    manifest = Manifest(name=name, kind=kind, files=files, **(_told_by_files(folder, files) | fields))
    problems = _field_problems(manifest)
    if problems:
        raise ModelRefused(f"{folder} cannot become a model: {'; '.join(problems)}")
    (folder / SIGNATURE_FILE).unlink(missing_ok=True)
    (folder / MANIFEST_FILE).write_bytes(render(manifest))
    return manifest


def read(folder: Path) -> Manifest:
    """The manifest of a folder, its files not looked at. Raises ModelRefused where it says what no manifest may say."""
    path = folder / MANIFEST_FILE
    if path.is_symlink() or not path.is_file():
        raise ModelRefused(f"{folder} has no {MANIFEST_FILE}. A model is imported with its manifest.")
    try:
        record = strict_json.loads(path.read_bytes(), max_bytes=MAX_MANIFEST_BYTES)
    except Malformed as error:
        raise ModelRefused(f"{path} {error}") from error
    if not isinstance(record, dict):
        raise ModelRefused(f"{path} is not an object")
    manifest = from_record(record)
    problems = _field_problems(manifest)
    if problems:
        raise ModelRefused(f"{folder} is refused: {'; '.join(problems)}.")
    return manifest


def verify(folder: Path, *, expect: str | None = None, base: Path | None = None, deep: bool = False) -> Manifest:
    """The manifest, once every file is there, unaltered, of an allowed kind, and nothing else is.

    `expect`: a full name. `base`: the base's folder, that an adapter's matrices must fit. `deep`: NaN and infinities are looked for
    in bases and embedders too (in adapters and heads always). Raises ModelRefused with every problem found.
    """
    manifest = read(folder)
    try:
        problems = _problems(folder, manifest, expect=expect, base=base, deep=deep)
    except (OSError, ValueError) as error:
        raise ModelRefused(f"{folder} is refused: it cannot be read ({error}).") from error
    if problems:
        raise ModelRefused(f"{folder} is refused: {'; '.join(problems)}. Import the model again from where it came.")
    return manifest


def _problems(folder: Path, manifest: Manifest, *, expect: str | None, base: Path | None, deep: bool) -> list[str]:
    problems = _manifest_file_problems(folder, manifest)
    if expect is not None and manifest.full_name != expect:
        problems.append(f"it is {manifest.full_name}, not {expect}: its manifest was altered or it is another model")
    present = sorted(path.name for path in folder.iterdir() if path.name not in BESIDE)
    problems += [f"{name} is missing" for name in manifest.files if name not in present]
    problems += [f"{shown(name)} is not in the manifest" for name in present if name not in manifest.files]
    problems += folder_problems(folder, present, kind=manifest.kind, base=manifest.base, base_folder=base, deep=deep)
    for name in present:
        if name in manifest.files and (folder / name).is_file() and not (folder / name).is_symlink():
            problems += _byte_problems(folder / name, manifest.files[name])
    told = _told_by_files(folder, manifest.files) if not problems else {}
    problems += [
        f"the manifest's {key} digest is {getattr(manifest, key)}, but {key}.json is {value}"
        for key, value in told.items()
        if getattr(manifest, key) != value
    ]
    problems += _calibration_problems(folder, manifest.files) if not problems else []
    problems += [
        f"the manifest tells the digest of {key}.json, which is not there"
        for key in ("dataset", "evaluation")
        if getattr(manifest, key) is not None and f"{key}.json" not in manifest.files
    ]
    return problems


def shown(name: str) -> str:
    """A file's name as a message may hold it: odd characters escaped."""
    return name if FILE_NAME.fullmatch(name) else ascii(name)


def _byte_problems(path: Path, entry: FileEntry) -> list[str]:
    size = path.stat().st_size
    if size != entry.size_bytes:
        return [f"{path.name} was altered: it has {size} bytes, the manifest says {entry.size_bytes}"]
    return [] if file_sha256(path) == entry.sha256 else [f"{path.name} was altered: its sha256 is not the manifest's"]


def _manifest_file_problems(folder: Path, manifest: Manifest) -> list[str]:
    path = folder / MANIFEST_FILE
    signature = folder / SIGNATURE_FILE
    problems = [] if path.read_bytes() == render(manifest) else [f"{MANIFEST_FILE} is not written the one way in which we write it"]
    if stat.S_IMODE(path.stat().st_mode) & 0o7111:
        problems.append(f"{MANIFEST_FILE} is executable")
    if signature.is_symlink() or (signature.exists() and not signature.is_file()):
        problems.append(f"{SIGNATURE_FILE} is not a plain file")
    return problems


def _field_problems(manifest: Manifest) -> list[str]:
    """What no manifest may say, whatever the folder holds."""
    problems = []
    if not isinstance(manifest.name, str) or not MODEL_NAME.fullmatch(manifest.name):
        problems.append(f"the name {manifest.name!r} is not at most 63 letters, digits, dots, dashes and underscores")
    elif manifest.kind is Kind.ADAPTER and manifest.name != manifest.name.lower():
        problems.append(f"the name {manifest.name!r} of an adapter must be lower case")
    for key in ("base", "parent"):
        value = getattr(manifest, key)
        if value is not None and not (isinstance(value, str) and FULL_NAME.fullmatch(value)):
            problems.append(f"the manifest's {key} {value!r} is not a full name (name@sha256-<64 digits>)")
    problems += [f"the file name {name!a} is no plain name" for name in manifest.files if not FILE_NAME.fullmatch(name)]
    problems += [f"the manifest lists {name}, which lies beside the model" for name in manifest.files if name in BESIDE]
    if len({name.lower() for name in manifest.files}) != len(manifest.files):
        problems.append("two file names differ in upper and lower case only")
    problems += [
        f"the entry of {name} is not a sha256 of 64 digits and a size"
        for name, entry in manifest.files.items()
        if not _is_sha256(entry.sha256) or type(entry.size_bytes) is not int or entry.size_bytes < 0
    ]
    if not isinstance(manifest.made, Mapping) or not isinstance(manifest.license, str):
        problems.append("the manifest's fields license and made are not text and an object")
    problems += [] if all(isinstance(one, str) for one in manifest.data) else ["the manifest's data is not a list of texts"]
    return problems


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _told_by_files(folder: Path, files: Mapping[str, FileEntry]) -> dict[str, str]:
    """The digests of dataset and evaluation, by the files themselves."""
    told = {}
    if "dataset.json" in files:
        told["dataset"] = str(strict_json.loads((folder / "dataset.json").read_bytes())["digest"])
    if "evaluation.json" in files:
        told["evaluation"] = files["evaluation.json"].sha256
    return told


def _calibration_problems(folder: Path, files: Mapping[str, FileEntry]) -> list[str]:
    """A cascade was calibrated beside one adapter; with another one its probabilities mean nothing."""
    if "cascade.json" not in files:
        return []
    record = strict_json.loads((folder / "cascade.json").read_bytes())
    weights = files.get("adapter_model.safetensors")
    wanted = record.get("adapter_sha256")
    if wanted is None or (weights and weights.sha256 == wanted):
        return []
    return [f"cascade.json was calibrated beside the adapter {wanted}, which is not the one here"]
