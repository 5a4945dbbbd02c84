"""The Merkle tree of RFC 6962 over the hashes of events. Knows hashes and positions; knows no event, no file, no signature.

leaf = sha256(0x00 || event hash)        node = sha256(0x01 || left || right)        root of no leaf = sha256("")
"""

from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256

LEVELS = 63  # of any tree that can be


class Frontier:
    """The right edge of a growing tree: the roots of its full subtrees, the largest first. Adding a leaf is O(1) amortized."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        """Raises ValueError where that many leaves have another number of full subtrees."""
        if size.bit_count() != len(peaks):
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} full subtrees, not {len(peaks)}")
        self.size = size
        self.peaks = list(peaks)

    def add(self, event_hash: bytes) -> None:
        node, size, peaks = sha256(b"\x00" + event_hash).digest(), self.size, self.peaks
        while size & 1:
            node = sha256(b"\x01" + peaks.pop() + node).digest()
            size >>= 1
        peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return sha256(b"").digest()
        node = self.peaks[-1]
        for left in reversed(self.peaks[:-1]):
            node = sha256(b"\x01" + left + node).digest()
        return node


def inclusion_proofs(event_hashes: Iterable[bytes], indexes: Collection[int]) -> tuple[bytes, dict[int, list[bytes]]]:
    """The root, and for each index (from 0) the audit path of RFC 6962, section 2.1.1. One pass; keeps only the nodes it needs.

    Raises IndexError where the tree has no such leaf.
    """
    wanted = {(level, (index >> level) ^ 1) for index in indexes for level in range(LEVELS)}
    known: dict[tuple[int, int], bytes] = {}
    peaks: list[tuple[int, int, bytes]] = []
    size = 0
    for event_hash in event_hashes:
        level, position, node = 0, size, sha256(b"\x00" + event_hash).digest()
        if (level, position) in wanted:
            known[level, position] = node
        while position & 1:
            node = sha256(b"\x01" + peaks.pop()[2] + node).digest()
            level, position = level + 1, position >> 1
            if (level, position) in wanted:
                known[level, position] = node
        peaks.append((level, position, node))
        size += 1
    known.update({(level, position): node for level, position, node in peaks})
    if any(not 0 <= index < size for index in indexes):
        raise IndexError(f"the tree has {size} leaves")
    root = _root(0, size, known) if size else sha256(b"").digest()
    return root, {index: _path(index, 0, size, known) for index in indexes}


def root_from_proof(event_hash: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to (RFC 9162, section 2.1.3.2); None where the path does not fit that place in the tree."""
    if not 0 <= index < size:
        return None
    node, place, last = sha256(b"\x00" + event_hash).digest(), index, size - 1
    for beside in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            node = sha256(b"\x01" + beside + node).digest()
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = sha256(b"\x01" + node + beside).digest()
        place, last = place >> 1, last >> 1
    return node if last == 0 else None


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _root(start: int, size: int, known: dict[tuple[int, int], bytes]) -> bytes:
    level = size.bit_length() - 1
    if size & (size - 1) == 0:
        return known[level, start >> level]
    left = _split(size)
    return sha256(b"\x01" + _root(start, left, known) + _root(start + left, size - left, known)).digest()


def _path(index: int, start: int, size: int, known: dict[tuple[int, int], bytes]) -> list[bytes]:
    if size == 1:
        return []
    left = _split(size)
    if index < start + left:
        return [*_path(index, start, left, known), _root(start + left, size - left, known)]
    return [*_path(index, start + left, size - left, known), _root(start, left, known)]
