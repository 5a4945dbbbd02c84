"""A small, whole model folder to tamper with: a random adapter on the bundled base with everything that a fit writes beside it."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from models import manifest as manifests
from models.local import STORE
from models.manifest import BESIDE, MANIFEST_FILE, FileEntry, Kind, Manifest
from training.nano.random_adapter import write_random_adapter

BASE = STORE / "cloister-nano"
EMBEDDER = f"all-MiniLM-L6-v2@sha256-{'5' * 64}"


def make_model(folder: Path, *, name: str = "desk", seed: int = 7, parent: str | None = None) -> Manifest:
    """A model folder as `train fit` leaves it, weights random, with its manifest."""
    write_random_adapter(BASE, folder, name=name, rank=8, seed=seed)
    generator = np.random.default_rng(seed)
    dense = generator.standard_normal((3, 384)).astype(np.float16)
    save_file({"dense": dense, "bias": np.zeros(3, np.float16)}, folder / "head.safetensors")
    records: dict[str, Any] = {
        "head.json": {"classes": ["vpn", "email", "Others"], "embedders": [EMBEDDER], "temperature": 0.9},
        "neighbors.json": [{"category": "vpn", "text": "the tunnel is down"}],
        "cascade.json": {"sure": 0.9, "act": 0.7, "head_calibration": {"scores": [0.0, 0.5, 1.0], "rights": [0.1, 0.5, 0.9]}},
        "taxonomy.json": {"types": [{"code": "vpn", "name": "VPN"}, {"code": "email", "name": "Mail"}]},
        "dataset.json": {"digest": f"sha256-{'d' * 64}", "rows": 1234},
        "evaluation.json": {"accuracy": 0.91, "seed": seed},
    }
    for file, record in records.items():
        (folder / file).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    base = manifests.read(BASE).full_name
    return manifests.write(
        folder, name=name, kind=Kind.ADAPTER, base=base, license="Apache-2.0", parent=parent, made={"seed": seed}
    )


def reseal(folder: Path, **changed: Any) -> None:
    """Write a manifest that fits the files, asking nothing: what a forger with our own tools would do. The signature goes."""
    record = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    fields = {key: value for key, value in record.items() if key not in ("files", "kind", "data")}
    files = {path.name: entry_of(path) for path in sorted(folder.iterdir()) if path.name not in BESIDE and path.is_file()}
    if "evaluation.json" in files:
        fields["evaluation"] = files["evaluation.json"].sha256
    sealed = Manifest(**{"kind": Kind(record["kind"]), "files": files, "data": tuple(record["data"]), **fields, **changed})
    (folder / "signature.json").unlink(missing_ok=True)
    (folder / MANIFEST_FILE).write_bytes(manifests.render(sealed))


def entry_of(path: Path) -> FileEntry:
    return FileEntry(sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size_bytes=path.stat().st_size)


def edit_json(path: Path, **changed: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed, indent=1), encoding="utf-8")


def edit_tensors(path: Path, changed: Mapping[str, np.ndarray | None]) -> None:
    """Replace, add or (None) remove tensors."""
    tensors = load_file(path) | dict(changed)
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def split_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """(header, the tensors' bytes)."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join_safetensors(path: Path, header: Mapping[str, Any] | bytes, data: bytes, *, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
