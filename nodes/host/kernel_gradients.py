"""Gradients for the host's fused kernels that have none, from the plain PyTorch versions that come with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from comfy_kitchen.backends.eager import rope
from torch import Tensor

_KERNELS = (
    "apply_rope",
    "apply_rope1",
    "apply_rope_split_half",
    "apply_rope_split_half1",
    "rms_rope",
    "rms_rope1",
    "rms_rope_split_half",
    "rms_rope_split_half1",
)


@cache
def give_kernels_gradients() -> None:
    """Register the gradients, once per process. The forward passes of the kernels do not change."""
    for name in _KERNELS:
        if hasattr(rope, name) and hasattr(torch.ops.comfy_kitchen, name):
            torch.library.register_autograd(
                f"comfy_kitchen::{name}", _backward(getattr(rope, name)), setup_context=_save_inputs
            )


def _save_inputs(ctx: Any, inputs: tuple, output: Any) -> None:
    ctx.save_for_backward(*[value for value in inputs if isinstance(value, Tensor)])
    ctx.others = [None if isinstance(value, Tensor) else (value,) for value in inputs]  # None: the next saved tensor


def _backward(plain: Callable[..., Any]) -> Callable[..., Any]:
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        tensors = iter(ctx.saved_tensors)
        inputs = [next(tensors).detach() if other is None else other[0] for other in ctx.others]
        wanted = [index for index, needed in enumerate(ctx.needs_input_grad) if needed]
        with torch.enable_grad():
            for index in wanted:
                inputs[index].requires_grad_(True)
            outputs = plain(*inputs)
        found = torch.autograd.grad(outputs, [inputs[index] for index in wanted], gradients)
        by_input: dict[int, Tensor] = dict(zip(wanted, found))
        return tuple(by_input.get(index) for index in range(len(inputs)))

    return backward
