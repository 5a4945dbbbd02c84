"""The last layer of a decoder where only the last token of each request is asked for. Knows layers of the Llama family, no rows.

Keys and values are needed of all tokens; queries, the output projection and the feed-forward part of the ends alone. In a model of
few layers that is a good part of all work.
"""

from types import MethodType
from typing import Any

import torch
from torch import nn

from training.adapter.attention import Layout

KNOWN = frozenset({"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"})


def shorten(model: Any) -> bool:
    """Teach the last layer to answer for the ends alone when its call names them; False for a layer of another make."""
    layer = model.get_decoder().layers[-1]
    if type(layer).__name__ not in KNOWN:
        return False
    layer.forward = MethodType(forward_at_ends, layer)
    return True


def forward_at_ends(
    self: Any, hidden_states: torch.Tensor, *args: Any, pack_ends: torch.Tensor | None = None, **kwargs: Any
) -> torch.Tensor:
    """[1, tokens, width] to [1, requests, width]; without `pack_ends` [requests] the layer's own forward."""
    if pack_ends is None:
        whole: torch.Tensor = type(self).forward(self, hidden_states, *args, **kwargs)
        return whole
    attention: Any = self.self_attn
    normed = self.input_layernorm(hidden_states)
    cos, sin = kwargs["position_embeddings"]
    q = _heads(attention, "q", normed[:, pack_ends])
    k, v = _heads(attention, "k", normed), _heads(attention, "v", normed)
    q, k = _turn(q, cos[:, pack_ends], sin[:, pack_ends]), _turn(k, cos, sin)
    mixed = attend_from_ends(q, k, v, kwargs["pack_layout"], pack_ends, attention.scaling)
    hidden = hidden_states[:, pack_ends] + attention.o_proj(mixed)
    out: torch.Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
    return out


def _heads(attention: Any, kind: str, x: torch.Tensor) -> torch.Tensor:
    """[1, heads, tokens, d], normalized where the model does that."""
    rows = getattr(attention, f"{kind}_proj")(x).view(*x.shape[:-1], -1, attention.head_dim)
    norm: nn.Module | None = getattr(attention, f"{kind}_norm", None)
    found: torch.Tensor = (norm(rows) if norm is not None else rows).transpose(1, 2)
    return found


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: the two halves of each head are turned against each other."""
    first, second = x.chunk(2, -1)
    return x * cos[:, None] + torch.cat((-second, first), -1) * sin[:, None]


def attend_from_ends(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, ends: torch.Tensor, scale: float
) -> torch.Tensor:
    """q [1, heads, requests, d]: one query per request; k, v [1, kv_heads, tokens, d]. Gives [1, requests, heads * d]."""
    prefix, count, length = layout.prefix, layout.count, layout.length
    kv_heads, width = k.shape[1], k.shape[3]
    grouped = q.view(kv_heads, -1, count, width).transpose(1, 2) * scale  # [kv_heads, requests, group, d]
    own_k, own_v = (rows[0, :, prefix:].reshape(kv_heads, count, length, width) for rows in (k, v))
    head_k, head_v = k[0, :, :prefix], v[0, :, :prefix]
    flat = grouped.reshape(kv_heads, -1, width)
    far = (flat @ head_k.transpose(1, 2)).view(kv_heads, count, -1, prefix)
    near = grouped @ own_k.transpose(2, 3)
    places = prefix + length * torch.arange(count, device=q.device)[:, None] + torch.arange(length, device=q.device)
    near = near.masked_fill((places > ends[:, None])[None, :, None], float("-inf"))
    shares = torch.softmax(torch.cat([far, near], -1), -1, dtype=torch.float32).to(q.dtype)
    mixed = shares[..., prefix:] @ own_v
    mixed = mixed + (shares[..., :prefix].reshape(kv_heads, -1, prefix) @ head_v).view_as(mixed)
    return mixed.permute(1, 0, 2, 3).reshape(1, count, -1)
