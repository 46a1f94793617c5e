"""A copy of a module that shares its frozen weights: what is trained is put into the copy, and no weight is in memory
twice.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# What ComfyUI's dynamic loading keeps on modules: handles of memory that it frees, which would then be freed twice.
HOST_STATE = (
    "_v",
    "_v_signature",
    "_v_weight",
    "_v_bias",
    "_prefetch",
    "_pins",
    "_pin_state",
    "weight_lowvram_function",
    "bias_lowvram_function",
    "dynamic_vbars",
    "dynamic_pins",
    "dynamic_patchers",
)
_LEFT_OUT = object()


def ordinary(tensor: Tensor) -> Tensor:
    """The same memory as a tensor without gradient that a backward pass may keep, which those made in inference mode
    are not.
    """
    tensor = tensor.detach()
    if type(tensor) in (Tensor, nn.Parameter):
        if tensor.is_meta:
            return torch.empty_like(tensor)
        seen = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return seen.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    if not hasattr(tensor, "__tensor_flatten__"):
        raise TypeError(f"weights of the kind {type(tensor).__name__} cannot be shared")
    names, context = tensor.__tensor_flatten__()  # a quantised layout: some tensors in one
    parts = {name: ordinary(getattr(tensor, name)) for name in names}
    return type(tensor).__tensor_unflatten__(parts, context, tensor.shape, tensor.stride())


def ordinary_tensors(value: Any) -> Any:
    """`value` with every tensor in its lists, tuples and dictionaries an ordinary one over the same memory."""
    if isinstance(value, Tensor):
        return ordinary(value)
    if type(value) in (list, tuple):
        return type(value)(map(ordinary_tensors, value))
    return {name: ordinary_tensors(part) for name, part in value.items()} if type(value) is dict else value


def sharing_copy(what: Any, modules: Iterable[nn.Module], kept: Iterable[Any] = ()) -> Any:
    """A deep copy of `what` in which all `modules` and what they consist of are new, but their weights and buffers are
    the same memory.

    The copy's weights are frozen, and ordinary tensors (see `ordinary`). kept: objects that are not copied, but
    referred to.
    """
    memo: dict[int, Any] = {id(each): each for each in kept}
    for part in {part for module in modules for part in module.modules()}:
        memo |= {id(part.__dict__[name]): _LEFT_OUT for name in HOST_STATE if part.__dict__.get(name) is not None}
        for weight in part._parameters.values():
            if weight is not None and id(weight) not in memo:
                memo[id(weight)] = nn.Parameter(ordinary(weight), requires_grad=False)
        memo |= {
            id(buffer): ordinary(buffer)
            for buffer in part._buffers.values()
            if buffer is not None and id(buffer) not in memo
        }
    copied = copy.deepcopy(what, memo)
    for part in [new for new in memo.values() if isinstance(new, nn.Module)]:
        for name in HOST_STATE:
            part.__dict__.pop(name, None)
    return copied


def own_copy(module: nn.Module) -> nn.Module:
    """A deep copy with weights of its own, of a module that a host may be keeping in memory of its own kind."""
    copied = sharing_copy(module, [module])
    for weight in copied.parameters():
        weight.data = weight.data.clone()
    for part in copied.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.clone()
    return copied


def weight_bytes(module: nn.Module, other: nn.Module) -> tuple[int, int]:
    """Of `module`'s weights: bytes in the same memory as `other`'s, and bytes that are its own."""
    theirs, ours = _places(other), _places(module)
    shared = sum(size for place, size in ours.items() if place in theirs)
    return shared, sum(ours.values()) - shared


def _places(module: nn.Module) -> dict[tuple[torch.device, int], int]:
    """Its weights' bytes by device and address."""
    return {(weight.device, weight.data_ptr()): weight.nbytes for weight in module.parameters()}
