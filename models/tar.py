"""A strict subset of tar: plain files under plain paths, in POSIX ustar headers. Knows the format; knows nothing of models.

Read and written here because a general reader accepts links, devices, sparse files and headers of any length. What is written
opens in every `tar`; of two runs over the same files the bytes are the same (no time, owner or mode of the machine).
Format: POSIX.1-1988 ustar; a size of 8 GiB or more in GNU's base-256.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from models.strict_json import Malformed

BLOCK = 512
PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]*(?:/[A-Za-z0-9][A-Za-z0-9@._-]*){0,7}")
OCTAL_LIMIT = 8**11
COPY_BYTES = 4 * 2**20
KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder entry",
    b"6": "a pipe",
    b"7": "a contiguous file",
    b"g": "a global extended header",
    b"x": "an extended header",
    b"K": "a long link name",
    b"L": "a long name",
    b"S": "a sparse file",
}


@dataclass(frozen=True, kw_only=True)
class Member:
    path: str
    size_bytes: int


def write_member(out: BinaryIO, path: str, content: BinaryIO, size: int) -> None:
    """Header, `size` bytes of `content`, padding. Raises Malformed when the path cannot be written or the content is shorter."""
    out.write(_header(path, size))
    left = size
    while left:
        chunk = content.read(min(left, COPY_BYTES))
        if not chunk:
            raise Malformed(f"holds {path!r} with fewer bytes than were counted")
        out.write(chunk)
        left -= len(chunk)
    out.write(b"\0" * (-size % BLOCK))


def write_end(out: BinaryIO) -> None:
    out.write(b"\0" * (2 * BLOCK))


def members(archive: BinaryIO) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Each member with its content in chunks, in order; content that is not taken is skipped. Raises Malformed."""
    seen: set[str] = set()
    while True:
        header = _exactly(archive, BLOCK)
        if header == b"\0" * BLOCK:
            _check_end(archive)
            return
        member = _member(header)
        if member.path.lower() in seen:
            raise Malformed(f"holds {member.path!r} twice")
        seen.add(member.path.lower())
        content = _content(archive, member.size_bytes)
        yield member, content
        for _ in content:
            pass


def _content(archive: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        chunk = _exactly(archive, min(left, COPY_BYTES))
        left -= len(chunk)
        yield chunk
    if _exactly(archive, -size % BLOCK).strip(b"\0"):
        raise Malformed("hides bytes behind a member")


def _exactly(archive: BinaryIO, count: int) -> bytes:
    content = _read(archive, count)
    if len(content) != count:
        raise Malformed("is cut short")
    return content


def _read(archive: BinaryIO, count: int) -> bytes:
    try:
        return archive.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise Malformed(f"cannot be read ({error})") from error


def _check_end(archive: BinaryIO) -> None:
    """Behind the last member only zeros, at most 64 KiB of them."""
    rest = _read(archive, 64 * 2**10 + 1)
    if len(rest) > 64 * 2**10 or len(rest) < BLOCK or rest.strip(b"\0"):
        raise Malformed("does not end as an archive ends: there are bytes behind the last member, or too few")


def _header(path: str, size: int) -> bytes:
    prefix, name = _split(path)
    count = b"%011o\0" % size if size < OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    fields = (
        (name.encode(), 100),
        (b"0000644\0", 8),
        (b"0000000\0", 8),
        (b"0000000\0", 8),
        (count, 12),
        (b"00000000000\0", 12),
        (b" " * 8, 8),
        (b"0", 1),
        (b"", 100),
        (b"ustar\x0000", 8),
        (b"root", 32),
        (b"root", 32),
        (b"0000000\0", 8),
        (b"0000000\0", 8),
        (prefix.encode(), 155),
    )
    header = b"".join(value.ljust(width, b"\0") for value, width in fields).ljust(BLOCK, b"\0")
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _split(path: str) -> tuple[str, str]:
    """(prefix, name) as ustar wants a path."""
    _check_path(path)
    if len(path) <= 100:
        return "", path
    prefix, _, name = path.rpartition("/")
    if len(name) > 100 or len(prefix) > 155 or not prefix:
        raise Malformed(f"cannot hold the path {path!r}: it is too long")
    return prefix, name


def _member(header: bytes) -> Member:
    if header[257:265] not in (b"ustar\x0000", b"ustar  \0"):
        raise Malformed("is not a tar archive")
    stored = _octal(header[148:156])
    if stored != sum(header[:148]) + sum(b" " * 8) + sum(header[156:]):
        raise Malformed("has a member whose header does not add up")
    prefix, name = (_text(field) for field in (header[345:500], header[:100]))
    path = f"{prefix}/{name}" if prefix else name
    kind = header[156:157]
    if kind not in (b"0", b"\0"):
        raise Malformed(f"holds {KINDS.get(kind, f'a member of type {kind!r}')} ({path!r}); a bundle holds plain files only")
    _check_path(path)
    count = header[124:136]
    size = int.from_bytes(count[1:], "big") if count[0] == 0x80 else _octal(count)
    return Member(path=path, size_bytes=size)


def _check_path(path: str) -> None:
    if not PATH.fullmatch(path) or ".." in PurePosixPath(path).parts:
        raise Malformed(f"holds the path {path!a}, which is not a plain one inside the bundle")


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("latin-1")


def _octal(field: bytes) -> int:
    digits = field.strip(b"\0 ")
    if not re.fullmatch(rb"[0-7]+", digits):
        raise Malformed("has a member whose header holds no number where one must be")
    return int(digits, 8)
