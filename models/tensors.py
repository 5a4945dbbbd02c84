"""Safetensors files by their bytes: is the header true, are the numbers finite. Knows the format; knows nothing of what tensors mean.

Format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes, one behind the other without gap or overlap
(the rules of the `safetensors` README, read again here because a reader of ours must not depend on another's leniency).
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from models import strict_json
from models.strict_json import Malformed

MAX_HEADER_BYTES = 16 * 2**20
CHUNK_BYTES = 64 * 2**20
PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"(dp", b"(lp")
BITS: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 8,
        "U8": 8,
        "I8": 8,
        "U16": 16,
        "I16": 16,
        "U32": 32,
        "I32": 32,
        "U64": 64,
        "I64": 64,
        "F16": 16,
        "BF16": 16,
        "F32": 32,
        "F64": 64,
        "F8_E4M3": 8,
        "F8_E5M2": 8,
        "F8_E8M0": 8,
    }
)
NOT_FINITE: Mapping[str, tuple[str, int, int]] = MappingProxyType(  # dtype -> (numpy type, mask, masked bits of NaN or infinity)
    {
        "F16": ("<u2", 0x7C00, 0x7C00),
        "BF16": ("<u2", 0x7F80, 0x7F80),
        "F32": ("<u4", 0x7F800000, 0x7F800000),
        "F64": ("<u8", 0x7FF0000000000000, 0x7FF0000000000000),
        "F8_E4M3": ("<u1", 0x7F, 0x7F),  # the "fn" kind: no infinity, one NaN
        "F8_E5M2": ("<u1", 0x7C, 0x7C),
        "F8_E8M0": ("<u1", 0xFF, 0xFF),
    }
)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    dtype: str
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the file
    end: int


def read_header(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a safetensors file whose tensors fill it exactly. Raises Malformed."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        start = handle.read(8)
        if start.startswith(PICKLE_MAGIC):
            raise Malformed("is a pickle (or an archive of one) under another name")
        if len(start) < 8:
            raise Malformed("is not a safetensors file: it is cut short")
        (length,) = struct.unpack("<Q", start)
        if length > MAX_HEADER_BYTES:
            raise Malformed(f"claims a header of {length} bytes; more than {MAX_HEADER_BYTES} is not believed")
        if 8 + length > size:
            raise Malformed(f"has a header of {length} bytes in a file of {size}: it is cut short")
        content = handle.read(length)
    if not content.startswith(b"{"):
        raise Malformed("is not a safetensors file: its header is not a JSON object")
    try:
        header = strict_json.loads(content)
    except Malformed as error:
        raise Malformed(f"has a header that {error}") from None
    _check_metadata(header.pop("__metadata__", {}))
    tensors = {name: _tensor(name, entry, base=8 + length) for name, entry in header.items()}
    _check_layout(tensors, start=8 + length, size=size)
    return tensors


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Malformed("has metadata that is not text by name")


def _tensor(name: str, entry: Any, *, base: int) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise Malformed(f"describes the tensor {name!r} with other fields than dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise Malformed(f"gives the tensor {name!r} the unknown dtype {dtype!r}")
    if not _are_counts(shape):
        raise Malformed(f"gives the tensor {name!r} the impossible shape {shape!r}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise Malformed(f"gives the tensor {name!r} the impossible data offsets {offsets!r}")
    needed, owned = math.prod(shape) * BITS[dtype] // 8, offsets[1] - offsets[0]
    if needed != owned:
        raise Malformed(f"gives the tensor {name!r} {owned} bytes, but {dtype} {shape} needs {needed}")
    return Tensor(dtype=dtype, shape=tuple(shape), begin=base + offsets[0], end=base + offsets[1])


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_layout(tensors: Mapping[str, Tensor], *, start: int, size: int) -> None:
    """Bytes beyond the end, owned twice or by nobody are refused."""
    at = start
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.end > size:
            raise Malformed(f"is cut short: the tensor {name!r} ends at byte {tensor.end} of {size}")
        if tensor.begin < at:
            raise Malformed(f"has tensors that overlap: {name!r} starts inside the one before")
        if tensor.begin > at:
            raise Malformed(f"has {tensor.begin - at} bytes that no tensor owns before {name!r}")
        at = tensor.end
    if at != size:
        raise Malformed(f"has {size - at} bytes that no tensor owns at its end")


def not_finite(path: Path, tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or an infinity. Reads every byte, 64 MiB at a time, by bit patterns."""
    with path.open("rb") as handle:
        return [name for name, tensor in tensors.items() if tensor.dtype in NOT_FINITE and _has_not_finite(handle, tensor)]


def _has_not_finite(handle: Any, tensor: Tensor) -> bool:
    kind, mask, bad = NOT_FINITE[tensor.dtype]
    handle.seek(tensor.begin)
    left = tensor.end - tensor.begin
    while left:
        content = handle.read(min(left, CHUNK_BYTES))
        if not content:
            return True  # shorter than its header says
        bits = np.frombuffer(content, dtype=kind)
        if bool(((bits & bits.dtype.type(mask)) == bad).any()):
            return True
        left -= len(content)
    return False
