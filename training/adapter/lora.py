"""The low-rank product beside a frozen projection, with as few passes over memory as can be. Knows matrices only.

peft makes the matrices and names them; its own forward casts, scales and adds in separate passes, which on a CPU cost as
much as the products. The masters stay float32; products run in the dtype of what comes in.
"""

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import nn

ADAPTER = "default"  # peft's name of the only adapter


class LowRank(torch.autograd.Function):
    """y + scale * (x A^T) B^T, added in place. x [tokens, in], y [tokens, out], A [rank, in], B [out, rank], dtype of x or wider."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, y: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:  # type: ignore[override]
        small = x @ a.to(x.dtype).T
        ctx.save_for_backward(x, small, a, b)
        ctx.scale = scale
        ctx.mark_dirty(y)
        return y.addmm_(small, b.to(x.dtype).T, alpha=scale)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, small, a, b = ctx.saved_tensors
        back = (grad @ b.to(grad.dtype)).mul_(ctx.scale)
        dx = back @ a.to(grad.dtype) if ctx.needs_input_grad[0] else None
        return dx, grad, (back.T @ x).to(a.dtype), (grad.T @ small).mul_(ctx.scale).to(b.dtype), None


class Projection(torch.autograd.Function):
    """x W^T + scale * (x A^T) B^T for a frozen W [out, in]; the gradient of x is accumulated in one buffer."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:  # type: ignore[override]
        small = x @ a.to(x.dtype).T
        ctx.save_for_backward(x, small, w, a, b)
        ctx.scale = scale
        return (x @ w.T).addmm_(small, b.to(x.dtype).T, alpha=scale)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x, small, w, a, b = ctx.saved_tensors
        back = (grad @ b.to(grad.dtype)).mul_(ctx.scale)
        dx = (grad @ w).addmm_(back, a.to(grad.dtype)) if ctx.needs_input_grad[0] else None
        return dx, None, (back.T @ x).to(a.dtype), (grad.T @ small).mul_(ctx.scale).to(b.dtype), None


def quick_forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """In place of `peft.tuners.lora.Linear.forward` for one adapter without dropout at this moment."""
    a, b = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
    scale: float = self.scaling[ADAPTER]
    flat = x.reshape(-1, x.shape[-1])
    dropout = self.lora_dropout[ADAPTER]
    base = self.base_layer
    if type(base) is nn.Linear and base.bias is None and not (self.training and getattr(dropout, "p", 0.0)):
        out = Projection.apply(flat, base.weight, a, b, scale)
    else:
        out = LowRank.apply(dropout(flat), base(flat), a, b, scale)
    return out.view(*x.shape[:-1], -1)


def quicken(model: nn.Module) -> int:
    """Give every LoRA layer of `model` the quick forward; how many there were."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        layer.forward = MethodType(quick_forward, layer)  # type: ignore[method-assign]
    return len(layers)
