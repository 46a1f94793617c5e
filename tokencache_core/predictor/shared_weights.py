"""Copies of modules that share the originals' frozen weights: trained parts go into the copy, and no weight is held in
memory twice.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

# Attributes of ComfyUI's dynamic loading: handles of memory that it frees, and would free twice if they were copied.
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

T = TypeVar("T")


def ordinary(tensor: Tensor) -> Tensor:
    """An ordinary tensor over the same memory, without gradient.

    Tensors made in inference mode cannot be kept for a backward pass; the result can. TypeError for tensor classes
    whose memory cannot be shared.
    """
    tensor = tensor.detach()
    if type(tensor) in (Tensor, nn.Parameter):
        if tensor.is_meta:
            return torch.empty_like(tensor)
        view = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return view.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    if not hasattr(tensor, "__tensor_flatten__"):
        raise TypeError(f"weights of type {type(tensor).__name__} cannot be shared")
    quantised: Any = tensor  # a tensor subclass made of several inner tensors
    names, context = quantised.__tensor_flatten__()
    parts = {name: ordinary(getattr(quantised, name)) for name in names}
    return type(quantised).__tensor_unflatten__(parts, context, tensor.shape, tensor.stride())


def ordinary_tensors(value: Any) -> Any:
    """`value` with every tensor in its lists, tuples and dictionaries replaced by an ordinary one (see `ordinary`)."""
    if isinstance(value, Tensor):
        return ordinary(value)
    if type(value) in (list, tuple):
        return type(value)(map(ordinary_tensors, value))
    return {name: ordinary_tensors(part) for name, part in value.items()} if type(value) is dict else value


def sharing_copy(what: T, modules: Iterable[nn.Module], kept: Iterable[Any] = ()) -> T:
    """A deep copy of `what` that shares the memory of its weights and buffers.

    The copy's weights are frozen, ordinary tensors (see `ordinary`).

    what: the object to copy.
    modules: the modules in it whose weights are shared; they and their submodules are new objects in the copy.
    kept: objects that the copy refers to instead of copying them.
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
    """A deep copy with weights of its own, in ordinary memory even where a host manages the original's."""
    copied = sharing_copy(module, [module])
    for weight in copied.parameters():
        weight.data = weight.data.clone()
    for part in copied.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.clone()
    return copied


def weight_bytes(module: nn.Module, other: nn.Module) -> tuple[int, int]:
    """The bytes of `module`'s weights that share memory with `other`'s, and the bytes that do not."""
    theirs, own = _bytes_by_address(other), _bytes_by_address(module)
    shared = sum(size for address, size in own.items() if address in theirs)
    return shared, sum(own.values()) - shared


def _bytes_by_address(module: nn.Module) -> dict[tuple[torch.device, int], int]:
    return {(weight.device, weight.data_ptr()): weight.nbytes for weight in module.parameters()}
