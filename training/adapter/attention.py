"""Attention of many requests behind one shared prefix. Knows queries, keys and values; knows nothing of models or tickets.

A pack is one row of tokens: `prefix` shared tokens, then `count` requests of `length` tokens each (shorter ones are padded
behind their end). The prefix attends to itself; a request attends to the prefix and to itself, never to another request.
A mask over the whole row computes all pairs and throws most of them away; here only the needed ones are computed.

Two ways that give the same numbers up to rounding: `exact` through torch's own kernels (scores in float32, flash attention
on CUDA), `quick` with plain matrix products, which is two to three times faster on CPUs and rounds scores to the models' dtype.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch.nn.attention.bias import causal_lower_right

NAME = "cloister_packed"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where what stands in a pack, in tokens."""

    prefix: int
    count: int
    length: int  # of every request, padding included

    @property
    def tokens(self) -> int:
        return self.prefix + self.count * self.length


class Blocks(torch.autograd.Function):
    """Causal attention of `count` blocks to themselves and to a shared head of keys, softmax over both together.

    q [kv_heads, count, group * length, d], scaled; k, v [kv_heads, count, length, d]; head k, v [kv_heads, prefix, d] (prefix may
    be 0). Gives [kv_heads, count, group * length, d]. Gradient: dS = P * (dP - sum(dP * P)), as of any softmax.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, head_k: torch.Tensor, head_v: torch.Tensor
    ) -> torch.Tensor:
        heads, count, rows, width = q.shape
        length, prefix = k.shape[2], head_k.shape[1]
        scores = q.new_empty(heads * count, rows, prefix + length)
        torch.bmm(q.view(-1, rows, width), k.view(-1, length, width).transpose(1, 2), out=scores[..., prefix:])
        later = torch.full((length, length), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
        scores.view(heads * count, -1, length, prefix + length)[..., prefix:] += later
        if prefix:
            whole = scores.view(heads, count * rows, prefix + length)
            torch.bmm(q.view(heads, -1, width), head_k.transpose(1, 2), out=whole[..., :prefix])
        shares = torch.softmax(scores, -1)
        out = torch.bmm(shares[..., prefix:], v.view(-1, length, width))
        if prefix:
            out.view(heads, -1, width).baddbmm_(shares.view(heads, count * rows, -1)[..., :prefix], head_v)
        ctx.save_for_backward(q, k, v, head_k, head_v, shares)
        return out.view(q.shape)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
        q, k, v, head_k, head_v, shares = ctx.saved_tensors
        heads, count, rows, width = q.shape
        length, prefix = k.shape[2], head_k.shape[1]
        grad = grad.contiguous()
        each, flat = (-1, rows, width), (heads, -1, width)
        grads = torch.empty_like(shares)
        torch.bmm(grad.view(each), v.view(-1, length, width).transpose(1, 2), out=grads[..., prefix:])
        if prefix:
            torch.bmm(grad.view(flat), head_v.transpose(1, 2), out=grads.view(heads, count * rows, -1)[..., :prefix])
        grads = torch._softmax_backward_data(grads, shares, -1, shares.dtype)
        own_grads, own_shares = grads[..., prefix:], shares[..., prefix:]
        dq = torch.bmm(own_grads, k.view(-1, length, width))
        dk = torch.bmm(own_grads.transpose(1, 2), q.view(each)).view(k.shape)
        dv = torch.bmm(own_shares.transpose(1, 2), grad.view(each)).view(v.shape)
        if not prefix:
            return dq.view(q.shape), dk, dv, torch.zeros_like(head_k), torch.zeros_like(head_v)
        head_grads = grads.view(heads, count * rows, -1)[..., :prefix]
        head_shares = shares.view(heads, count * rows, -1)[..., :prefix]
        dq.view(flat).baddbmm_(head_grads, head_k)
        dhead_k = torch.bmm(head_grads.transpose(1, 2), q.view(flat))
        dhead_v = torch.bmm(head_shares.transpose(1, 2), grad.view(flat))
        return dq.view(q.shape), dk, dv, dhead_k, dhead_v


def quick(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, scale: float) -> torch.Tensor:
    """q [1, heads, tokens, d]; k, v [1, kv_heads, tokens, d]. Gives [1, tokens, heads, d]."""
    prefix, count, length = layout.prefix, layout.count, layout.length
    kv_heads, width = k.shape[1], q.shape[3]
    grouped = (q[0] * scale).view(kv_heads, -1, layout.tokens, width)
    k, v = k[0], v[0]
    none = k.new_empty(kv_heads, 0, width)
    head_k, head_v = k[:, :prefix].contiguous(), v[:, :prefix].contiguous()

    def blocks(first: int, count: int, length: int, head_k: torch.Tensor, head_v: torch.Tensor) -> torch.Tensor:
        there = slice(first, first + count * length)
        queries = grouped[:, :, there].reshape(kv_heads, -1, count, length, width).transpose(1, 2)
        own = (kv_heads, count, length, width)
        packed = queries.reshape(kv_heads, count, -1, width).contiguous()
        out = Blocks.apply(packed, k[:, there].reshape(own).contiguous(), v[:, there].reshape(own).contiguous(), head_k, head_v)
        out = out.view(kv_heads, count, -1, length, width).permute(1, 3, 0, 2, 4)
        return out.reshape(count * length, -1, width)

    parts = [blocks(0, 1, prefix, none, none)] if prefix else []
    parts.append(blocks(prefix, count, length, head_k, head_v))
    return torch.cat(parts)[None]


def exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout, scale: float) -> torch.Tensor:
    """As `quick`, through `scaled_dot_product_attention`: the prefix's keys stand before each request's own."""
    prefix, count, length = layout.prefix, layout.count, layout.length

    def blocks(rows: torch.Tensor) -> torch.Tensor:  # [count, heads, length, d]
        return rows[0, :, prefix:].reshape(rows.shape[1], count, length, -1).transpose(0, 1)

    def behind(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows[:, :, :prefix].expand(count, -1, -1, -1), blocks(rows)], 2)

    grouped = q.shape[1] != k.shape[1]
    bias: Any = causal_lower_right(length, prefix + length)
    own = F.scaled_dot_product_attention(blocks(q), behind(k), behind(v), attn_mask=bias, scale=scale, enable_gqa=grouped)
    parts = [own.permute(0, 2, 1, 3).reshape(1, count * length, q.shape[1], -1)]
    if prefix:
        head = F.scaled_dot_product_attention(
            q[:, :, :prefix], k[:, :, :prefix], v[:, :, :prefix], is_causal=True, scale=scale, enable_gqa=grouped
        )
        parts.insert(0, head.transpose(1, 2))
    return torch.cat(parts, 1)


WAYS: dict[str, Callable[..., torch.Tensor]] = {"quick": quick, "exact": exact}


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    pack_layout: Layout | None = None,
    pack_way: str = "exact",
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer; `pack_layout` and `pack_way` are passed to the model's forward."""
    if pack_layout is None:
        raise ValueError("packed attention was called without its layout: pass pack_layout to the model's forward")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return WAYS[pack_way](query, key, value, pack_layout, scale), None


def register() -> None:
    """Make the name known to transformers, with no mask of its own."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
