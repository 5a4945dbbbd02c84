"""Models in one file, for a machine without a network. Knows the registry and tar; knows nothing of what is served.

`index.json` comes first and names every file with its size and sha256; then `models/<full name>/<file>`. An adapter brings its
tuned embedder and, where asked, its base. Models that it needs and that are not inside are named under `needs`.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from models import strict_json, tar
from models.inspection import FILE_NAME, FULL_NAME
from models.manifest import BESIDE, MANIFEST_FILE, Kind, Manifest, ModelRefused, file_sha256, read
from models.registry import Entry, NotInRegistry, Progress, Registry
from models.signing import Judgement
from models.strict_json import Malformed

FORMAT = "cloister-bundle-1"
INDEX = "index.json"
MAX_INDEX_BYTES = 4 * 2**20
MAX_FILES = 4096
MAX_RATIO = 200  # bytes unpacked per byte of the file; weights hardly compress
SMALL_BYTES = 32 * 2**20  # below it the ratio does not matter
SUFFIXES = (".tar", ".tar.gz", ".tgz")
ORDER: Mapping[Kind, int] = {Kind.BASE: 0, Kind.EMBEDDER: 1, Kind.RERANKER: 1, Kind.HEAD: 2, Kind.ADAPTER: 3}


@dataclass(frozen=True, kw_only=True)
class Unpacked:
    """A bundle in a staging folder, every byte as its index says; nothing of it is believed yet."""

    main: str
    needs: tuple[str, ...]
    folders: Mapping[str, Path]


@dataclass(frozen=True, kw_only=True)
class Checked:
    main: str
    needs: tuple[str, ...]
    models: tuple[tuple[Manifest, Judgement], ...]


def is_bundle(path: Path) -> bool:
    return path.is_file() and path.name.endswith(SUFFIXES)


def write_bundle(registry: Registry, name: str, out: Path, *, with_base: bool = False) -> tuple[str, ...]:
    """Write a model and what it needs into one `.tar`; gives the full names that it needs and that are not inside.

    The same models give the same bytes. Raises ModelRefused when a model is not whole; `out` is only there once it is complete.
    """
    entries, needs = _belonging(registry, name, with_base=with_base)
    for entry in entries:
        registry.verify(entry.full_name, deep=False)
    files = {
        f"models/{entry.full_name}/{file}": entry.folder / file
        for entry in entries
        for file in sorted([*entry.manifest.files, *(one for one in BESIDE if (entry.folder / one).exists())])
    }
    listed = {path: {"sha256": file_sha256(file), "size_bytes": file.stat().st_size} for path, file in files.items()}
    index = {"format": FORMAT, "main": entries[-1].full_name, "needs": list(needs), "files": listed}
    content = (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()
    partial = out.with_name(f".{out.name}.partial")
    try:
        with partial.open("wb") as writing:
            tar.write_member(writing, INDEX, io.BytesIO(content), len(content))
            for path, file in sorted(files.items()):
                with file.open("rb") as reading:
                    tar.write_member(writing, path, reading, listed[path]["size_bytes"])  # type: ignore[arg-type]
            tar.write_end(writing)
            writing.flush()
            os.fsync(writing.fileno())
        partial.replace(out)
    except Malformed as error:
        raise ModelRefused(f"{out} could not be written: it {error}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return needs


def import_bundle(registry: Registry, path: Path, *, progress: Progress | None = None, **asked: Any) -> Checked:
    """Unpack, check every model, then place them, the main one last. `asked`: see `Registry.check`.

    Raises ModelRefused; nothing is left behind then.
    """
    with _checked(registry, path, progress=progress, **asked) as (unpacked, checked):
        for manifest, _ in sorted(checked.models, key=lambda one: one[0].full_name == checked.main):
            registry.place(unpacked.folders[manifest.full_name], manifest)
        return checked


def check_bundle(registry: Registry, path: Path, *, progress: Progress | None = None, **asked: Any) -> Checked:
    """Everything that `import_bundle` does, but for placing. Raises ModelRefused."""
    with _checked(registry, path, progress=progress, **asked) as (_, checked):
        return checked


@contextmanager
def _checked(registry: Registry, path: Path, *, progress: Progress | None, **asked: Any) -> Iterator[tuple[Unpacked, Checked]]:
    with registry.staging() as staging:
        try:
            unpacked = _unpack(path, staging, progress=progress)
        except Malformed as error:
            raise ModelRefused(f"{path} is refused: it {error}.") from error
        models = []
        for name, folder in sorted(unpacked.folders.items(), key=lambda item: ORDER[read(item[1]).kind]):
            wanted = read(folder)
            inside = unpacked.folders.get(str(wanted.base)) if wanted.kind is Kind.ADAPTER else None
            given = {"base": inside} if inside else {}
            models.append(registry.check(folder, shown=path / name, **{**asked, **given, "expect": name}))
        yield unpacked, Checked(main=unpacked.main, needs=unpacked.needs, models=tuple(models))


def _belonging(registry: Registry, name: str, *, with_base: bool) -> tuple[list[Entry], tuple[str, ...]]:
    """The model, last, behind what it needs; and the names of what is not there or not asked for."""
    main = registry.find(name)
    wanted = [embedder for embedder in _embedders(main.folder) if FULL_NAME.fullmatch(embedder)]
    needs = []
    entries = []
    for embedder in wanted:
        try:
            entries.append(registry.find(embedder))
        except NotInRegistry:
            needs.append(embedder)
    if main.manifest.base and with_base:
        entries.insert(0, registry.find(main.manifest.base))
    elif main.manifest.base:
        needs.append(main.manifest.base)
    return [*entries, main], tuple(needs)


def _embedders(folder: Path) -> list[str]:
    path = folder / "head.json"
    record = strict_json.loads(path.read_bytes()) if path.is_file() else {}
    return [str(one) for one in record.get("embedders", ())]


def _unpack(path: Path, staging: Path, *, progress: Progress | None) -> Unpacked:
    """Write the files of a bundle below `staging`. Raises Malformed; sizes are believed only within the index and the file's size."""
    with _opened(path) as archive:
        listing = tar.members(archive)
        first, content = next(listing, (None, iter(())))
        if first is None or first.path != INDEX or first.size_bytes > MAX_INDEX_BYTES:
            raise Malformed(f"does not begin with {INDEX}")
        index = strict_json.loads(b"".join(content))
        files = _files_of(index, packed_bytes=path.stat().st_size, free_bytes=shutil.disk_usage(staging).free)
        for member, content in listing:
            if member.path not in files:
                raise Malformed(f"holds {member.path!r}, which its index does not name")
            _write_file(staging / member.path, content, member, files.pop(member.path), progress)
    if files:
        raise Malformed(f"lacks {sorted(files)[0]!r}, which its index names")
    names = {file.parent.name for file in (staging / "models").glob(f"*/{MANIFEST_FILE}")}
    if index["main"] not in names or names != {folder.name for folder in (staging / "models").iterdir()}:
        raise Malformed("has a model without a manifest")
    return Unpacked(main=index["main"], needs=tuple(index["needs"]), folders={name: staging / "models" / name for name in names})


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as raw:
        if raw.read(2) != b"\x1f\x8b":
            raw.seek(0)
            yield raw
            return
        raw.seek(0)
        with gzip.open(raw) as unzipped:
            yield cast(BinaryIO, unzipped)


def _files_of(index: Any, *, packed_bytes: int, free_bytes: int) -> dict[str, dict[str, Any]]:
    """The index's files by path, once it makes sense and there is room for them. Raises Malformed."""
    if not isinstance(index, dict) or index.get("format") != FORMAT or index.keys() != {"format", "main", "needs", "files"}:
        raise Malformed(f"has an index that is not of the format {FORMAT}")
    files, needs = index["files"], index["needs"]
    if not isinstance(index["main"], str) or not isinstance(needs, list) or not all(isinstance(one, str) for one in needs):
        raise Malformed("has an index whose main and needs are not names")
    if not isinstance(files, dict) or not 1 <= len(files) <= MAX_FILES:
        raise Malformed("has an index without files, or with too many")
    for path, entry in files.items():
        _check_entry(path, entry)
    total = sum(entry["size_bytes"] for entry in files.values())
    if total > max(SMALL_BYTES, MAX_RATIO * packed_bytes):
        raise Malformed(f"claims to unpack to {total} bytes from {packed_bytes}: that is not believed")
    if total > free_bytes:
        raise Malformed(f"needs {total} bytes, {free_bytes} are free")
    return dict(files)


def _check_entry(path: str, entry: Any) -> None:
    parts = path.split("/")
    if len(parts) != 3 or parts[0] != "models" or not FULL_NAME.fullmatch(parts[1]) or not FILE_NAME.fullmatch(parts[2]):
        raise Malformed(f"has an index that names the path {path!a}; paths are models/<full name>/<file>")
    if not isinstance(entry, dict) or entry.keys() != {"sha256", "size_bytes"}:
        raise Malformed(f"has an index whose entry of {path!r} is not sha256 and size_bytes")
    if type(entry["size_bytes"]) is not int or entry["size_bytes"] < 0:
        raise Malformed(f"has an index that gives {path!r} the size {entry['size_bytes']!r}")


def _write_file(
    target: Path, content: Iterator[bytes], member: tar.Member, entry: Mapping[str, Any], progress: Progress | None
) -> None:
    if member.size_bytes != entry["size_bytes"]:
        raise Malformed(f"holds {member.path!r} with {member.size_bytes} bytes, its index says {entry['size_bytes']}")
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as writing:
        for chunk in content:
            digest.update(chunk)
            writing.write(chunk)
            if progress:
                progress(len(chunk))
        writing.flush()
        os.fsync(writing.fileno())
    target.chmod(0o444)
    if digest.hexdigest() != entry["sha256"]:
        raise Malformed(f"holds {member.path!r} with other bytes than its index says: its sha256 differs")
