"""LoRA on the CPU: one matrix product per adapter present in the batch. Knows vLLM's punica interface; knows nothing of requests.

vLLM's own CPU operations gather a copy of the adapter's weights for every token, and index them by adapter slot, so that the slot
-1 of a base token reads the *last* adapter. Here the rows of one adapter are multiplied together and the base's are not touched.
Imported in the engine's worker processes only (it needs vLLM).
"""

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

Rows = slice | torch.Tensor
Groups = list[tuple[int, Rows]]


def group_rows(slots: torch.Tensor) -> Groups:
    """The rows of each adapter slot that occurs: a slice where they lie together, their positions otherwise. -1 is left out."""
    groups: Groups = []
    for slot in torch.unique(slots).tolist():
        if slot < 0:
            continue
        rows = torch.nonzero(slots == slot).flatten()
        first, last = int(rows[0]), int(rows[-1])
        together = last - first + 1 == rows.numel()
        groups.append((slot, slice(first, last + 1) if together else rows))
    return groups


def _matrix(stacked: torch.Tensor, slot: int) -> torch.Tensor:
    """[out, in] of one slot; vLLM stacks as [slots, 1, out, in] or [slots, out, in]."""
    weight = stacked[slot]
    return weight[0] if weight.dim() == 3 else weight


def _add_rows(y: torch.Tensor, rows: Rows, values: torch.Tensor) -> None:
    if isinstance(rows, slice):
        y[rows] += values
    else:
        y.index_add_(0, rows, values)


class GroupedPunicaWrapper(PunicaWrapperCPU):
    """Drop-in for `PunicaWrapperCPU`; groups rows once per step, in `update_metadata`."""

    token_groups: Groups = []  # noqa: RUF012 - replaced, never changed
    sampler_groups: Groups = []  # noqa: RUF012

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        self.token_groups = group_rows(self.token_lora_indices)
        self.sampler_groups = group_rows(self.sampler_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """y[rows, slice] += (x[rows] @ A.T) @ B.T * scale, for the rows of each adapter."""
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for slot, rows in self.token_groups:
            selected = x[rows]
            offset = 0
            for a_stacked, b_stacked, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                shrunk = selected @ _matrix(a_stacked, slot).T
                if scale != 1.0:
                    shrunk *= scale
                _add_rows(y[:, offset : offset + width], rows, shrunk @ _matrix(b_stacked, slot).T)
                offset += width

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for slot, rows in self.sampler_groups:
            grown = (x[rows] @ _matrix(lora_a_stacked, slot).T * scale) @ _matrix(lora_b_stacked, slot).T
            width = min(y.shape[1], grown.shape[1])  # adapter and model pad the vocabulary differently
            _add_rows(y[:, :width], rows, grown[:, :width].to(y.dtype))

    def add_lora_embedding(
        self, y: torch.Tensor, x: torch.Tensor, lora_b_stacked: torch.Tensor, add_inputs: bool = True, **kwargs: Any
    ) -> None:
        for slot, rows in self.token_groups:
            _add_rows(y, rows, x[rows] @ _matrix(lora_b_stacked, slot).T)

    # The two halves, called on their own by layers that are sharded over several processes.

    def _apply_shrink(self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, scale: float) -> None:
        y = y.view(-1, y.shape[-1])
        for slot, rows in self.token_groups:
            y[rows] = (x[rows] @ _matrix(w_t_all, slot).T).to(y.dtype) * scale

    def _apply_expand(
        self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, y_offset: int, y_slice_size: int, add_inputs: bool = True
    ) -> None:
        target = y[:, y_offset : y_offset + y_slice_size]
        for slot, rows in self.token_groups:
            grown = x[rows].to(w_t_all.dtype) @ _matrix(w_t_all, slot).T
            if add_inputs:
                _add_rows(target, rows, grown.to(y.dtype))
            else:
                target[rows] = grown.to(y.dtype)
