"""Which rows go through the model together. Knows tokens and padding; knows nothing of models and losses.

A step is made of packs, a pack of rows that share a prefix. Rows are shuffled by seed, sorted by length inside a stretch of
some steps, so that little padding is computed, and the steps are shuffled again.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from training.adapter.attention import Layout
from training.adapter.rows import TokenRow

STRETCH_STEPS = 16
ROUND_TO = 4  # request lengths are padded to a multiple of this


@dataclass(frozen=True, kw_only=True)
class Pack:
    """`ids`, `positions` [1, tokens]; `ends` [rows]: column of each row's last token; `options` [rows, most options]: columns
    of the code table, 0 where `allowed` is False; `targets`, `weights` [rows]; `own_tokens`: padding not counted."""

    layout: Layout
    ids: torch.Tensor
    positions: torch.Tensor
    ends: torch.Tensor
    options: torch.Tensor
    allowed: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    own_tokens: int

    def to(self, device: torch.device) -> "Pack":
        if device.type == "cpu":
            return self
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return Pack(**(vars(self) | moved))

    def mask(self) -> torch.Tensor:
        """[1, 1, tokens, tokens], True where a token may look: for models that cannot take our attention."""
        layout = self.layout
        behind = torch.arange(layout.tokens - layout.prefix, device=self.ids.device) // layout.length + 1
        segment = torch.cat([behind.new_zeros(layout.prefix), behind])
        same = (segment[:, None] == segment[None]) | (segment[None] == 0)
        return (same & torch.ones_like(same).tril())[None, None]


def pack(rows: Sequence[TokenRow], *, pad_id: int) -> Pack:
    """Rows of one prefix, in order, as one row of tokens."""
    prefix = rows[0].prefix
    longest = max(len(row.suffix) for row in rows)
    layout = Layout(prefix=len(prefix), count=len(rows), length=-(-longest // ROUND_TO) * ROUND_TO)
    ids, ends = list(prefix), []
    for row in rows:
        ends.append(len(ids) + len(row.suffix) - 1)
        ids += row.suffix
        ids += [pad_id] * (layout.length - len(row.suffix))
    own = torch.arange(len(prefix), len(prefix) + layout.length).repeat(len(rows))
    most = max(len(row.options) for row in rows)
    options = torch.tensor([[*row.options, *[-1] * (most - len(row.options))] for row in rows])
    return Pack(
        layout=layout,
        ids=torch.tensor([ids]),
        positions=torch.cat([torch.arange(len(prefix)), own])[None],
        ends=torch.tensor(ends),
        options=options.clamp_min(0),
        allowed=options >= 0,
        targets=torch.tensor([row.target for row in rows]),
        weights=torch.tensor([row.weight for row in rows], dtype=torch.float32),
        own_tokens=len(prefix) + sum(len(row.suffix) for row in rows),
    )


def order_steps(rows: Sequence[TokenRow], *, batch_rows: int, seed: str) -> list[list[int]]:
    """Positions of the rows of each step, for one pass; every row once."""
    choose = random.Random(seed)
    shuffled = choose.sample(range(len(rows)), len(rows))
    stretch = batch_rows * STRETCH_STEPS
    ordered: list[int] = []
    for start in range(0, len(shuffled), stretch):
        ordered += _by_prefix_and_length(rows, shuffled[start : start + stretch])
    steps = [ordered[start : start + batch_rows] for start in range(0, len(ordered), batch_rows)]
    choose.shuffle(steps)
    return steps


def split_packs(rows: Sequence[TokenRow], *, batch_tokens: int) -> Iterator[list[int]]:
    """Positions of rows that share a prefix, the shortest first, as many as `batch_tokens` allow; always at least one."""
    current: list[int] = []
    for index in _by_prefix_and_length(rows, range(len(rows))):
        row = rows[index]
        full = len(row.prefix) + (len(current) + 1) * (len(row.suffix) + ROUND_TO - 1) > batch_tokens
        if current and (full or rows[current[0]].prefix != row.prefix):
            yield current
            current = []
        current.append(index)
    if current:
        yield current


def _by_prefix_and_length(rows: Sequence[TokenRow], indices: Sequence[int]) -> list[int]:
    """Prefixes in order of appearance, so that long ones are hashed once per row and never compared."""
    numbers: dict[tuple[int, ...], int] = {}
    keys = {index: (numbers.setdefault(rows[index].prefix, len(numbers)), len(rows[index].suffix)) for index in indices}
    return sorted(indices, key=keys.__getitem__)
