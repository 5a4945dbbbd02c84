"""One forward pass over a pack, and its loss. Knows the model's parts that are needed; knows nothing of steps.

Only the rows of the output layer that belong to codes are computed, only at the last token of each request.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from training.adapter.base import Base
from training.adapter.packing import Pack


def option_logits(base: Base, code_ids: Sequence[int], packed: Pack, *, way: str) -> torch.Tensor:
    """[rows, most options] float32, -inf where a row has no such option. `way`: see `attention`."""
    decoder = base.model.get_decoder()
    inside: dict[str, Any] = {"pack_layout": packed.layout, "pack_way": way} if base.packed else {}
    if base.ends_only:
        inside["pack_ends"] = packed.ends
    hidden = decoder(
        input_ids=packed.ids,
        position_ids=packed.positions,
        attention_mask=None if base.packed else packed.mask(),
        use_cache=False,
        **inside,
    ).last_hidden_state
    head = base.model.get_output_embeddings().weight[torch.as_tensor(code_ids, device=packed.ids.device)]
    ends = hidden[0] if base.ends_only else hidden[0, packed.ends]
    logits = F.linear(ends.float(), head.float())
    return logits.gather(1, packed.options).masked_fill(~packed.allowed, float("-inf"))


def loss_sum(logits: torch.Tensor, packed: Pack, *, label_smoothing: float) -> torch.Tensor:
    """Weighted sum over the rows of the cross-entropy against (1 - s) of the target and s spread over the row's options."""
    logprobs = F.log_softmax(logits, -1)
    right = logprobs.gather(1, packed.targets[:, None])[:, 0]
    spread = logprobs.masked_fill(~packed.allowed, 0).sum(-1) / packed.allowed.sum(-1)
    return -(packed.weights * ((1 - label_smoothing) * right + label_smoothing * spread)).sum()
