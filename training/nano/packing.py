"""Many requests behind one shared prefix, as one row. Knows token ids and masks; knows nothing of losses.

A row is the prefix once, then the requests one after another. Each request sees the prefix and itself, and its positions
start where the prefix ends: exactly what a server with a prefix cache computes for each of them alone, at a fraction of
the work, and gradients flow through the prefix too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Pack:
    """`ids`, `positions` [rows, length]; `mask` [rows, 1, length, length], True where a token may look;
    `ends` [requests, 2]: row and column of each request's last token, where the code is foretold."""

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    ends: torch.Tensor


def pack(rows: Sequence[tuple[Sequence[int], Sequence[Sequence[int]]]], *, pad_id: int) -> Pack:
    """`rows`: (prefix ids, ids of each request behind it). Requests keep their order in `ends`."""
    lengths = [len(prefix) + sum(map(len, requests)) for prefix, requests in rows]
    ids = torch.full((len(rows), max(lengths)), pad_id)
    positions = torch.zeros_like(ids)
    segments = torch.full_like(ids, -1)
    ends: list[tuple[int, int]] = []
    for row, (prefix, requests) in enumerate(rows):
        flat, place, segment = list(prefix), list(range(len(prefix))), [0] * len(prefix)
        for number, request in enumerate(requests, start=1):
            flat += request
            place += range(len(prefix), len(prefix) + len(request))
            segment += [number] * len(request)
            ends.append((row, len(flat) - 1))
        ids[row, : len(flat)] = torch.tensor(flat)
        positions[row, : len(flat)] = torch.tensor(place)
        segments[row, : len(flat)] = torch.tensor(segment)
    same = (segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0)
    mask = same & torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    return Pack(ids=ids, positions=positions, mask=mask[:, None], ends=torch.tensor(ends))
