"""Compressed copies of a DiT: its weights in bfloat16, or the linear layers of its blocks quantised or pruned.

int8 and fp8 (e4m3) weights are torchao's, with a scale for each output feature. A layer's weight is replaced and never
written to, so that a copy shares all uncompressed weights with the plain model, which does not change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .model import DiT

TORCHAO = "torchao==0.18.0"  # as in the `bench` extra
SPARSE_CAPABILITY = (8, 0)  # the first NVIDIA GPUs that multiply 2:4-sparse matrices


def compressed(model: DiT, variant: str) -> DiT:
    """A compressed copy of `model`. variant: one of VARIANTS; ValueError for others, or if torchao is missing."""
    if variant not in VARIANTS:
        raise ValueError(f"there is no variant {variant!r} of the weights: choose one of {', '.join(VARIANTS)}")
    shared = {id(weight): weight for weight in model.parameters()}
    copied = copy.deepcopy(model, shared)
    VARIANTS[variant](copied)
    return copied


def weight_bytes(model: nn.Module) -> int:
    """The bytes of the weights as they are stored."""
    return sum(_stored_bytes(weight) for weight in model.parameters())


def has_sparse_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch can multiply 2:4-sparse weights there; elsewhere they stay dense matrices with zeros."""
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return False
    return torch.cuda.get_device_capability(device) >= SPARSE_CAPABILITY


def keep_two_of_four(weight: Tensor) -> Tensor:
    """`weight` (out, in) with the smaller two of every four neighbours in a row set to zero (2:4 sparsity, Mishra et
    al., arXiv 2104.08378).
    """
    fours = weight.unflatten(1, (-1, 4))  # (out, in / 4, 4)
    smaller = fours.abs().topk(2, dim=-1, largest=False).indices  # (out, in / 4, 2)
    return fours.scatter(-1, smaller, 0.0).flatten(1)


def _to_bf16(model: DiT) -> None:
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            setattr(module, name, _parameter(weight.bfloat16()))
    model.dtype = torch.bfloat16


def _to_int8(model: DiT) -> None:
    _quantise(model, "Int8WeightOnlyConfig", lambda name: True)


def _to_int8_dynamic(model: DiT) -> None:
    """int8 weights, and int8 activations in the layers that work on tokens, with a scale for each token, found at run
    time.

    The modulation keeps its activations: it has one vector for a whole sample, whose error would affect every token.
    """
    _quantise(model, "Int8DynamicActivationInt8WeightConfig", _works_on_tokens)
    _quantise(model, "Int8WeightOnlyConfig", lambda name: not _works_on_tokens(name))


def _to_fp8(model: DiT) -> None:
    _quantise(model, "Float8WeightOnlyConfig", lambda name: True)


def _prune(model: DiT) -> None:
    """2:4 sparsity in the layers that work on tokens, which take most of the time."""
    sparse = has_sparse_kernels(model.pos_embed.device, model.dtype)
    for name, layer in model.blocks.named_modules():
        if isinstance(layer, nn.Linear) and _works_on_tokens(name):
            pruned = keep_two_of_four(layer.weight.detach())
            layer.weight = _parameter(torch.sparse.to_sparse_semi_structured(pruned) if sparse else pruned)


VARIANTS: dict[str, Callable[[DiT], None]] = {
    "bf16": _to_bf16,
    "int8": _to_int8,
    "int8-dynamic": _to_int8_dynamic,
    "fp8": _to_fp8,
    "2:4": _prune,
}


def _quantise(model: DiT, config: str, chosen: Callable[[str], bool]) -> None:
    """Quantise linear layers of the blocks.

    config: the name of a configuration of torchao's.
    chosen: whether to quantise the layer with this name ("0.attn.qkv").
    """
    try:
        from torchao import quantization  # in the `bench` extra: nothing else needs it
    except ImportError:
        raise ValueError(f"int8 and fp8 weights need torchao, which is missing: pip install {TORCHAO}") from None
    # by default torchao would also lower the precision of torch's matrix multiplications, also for the plain model
    configuration = getattr(quantization, config)(set_inductor_config=False)
    quantization.quantize_(
        model.blocks, configuration, lambda module, name: isinstance(module, nn.Linear) and chosen(name)
    )


def _works_on_tokens(name: str) -> bool:
    return "adaLN_modulation" not in name


def _parameter(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.detach(), requires_grad=False)


def _stored_bytes(tensor: Tensor) -> int:
    """The bytes of a tensor; those of a quantised one are in its inner tensors, its own size is the plain tensor's."""
    if not hasattr(tensor, "__tensor_flatten__"):
        return tensor.nbytes
    quantised: Any = tensor
    names, _ = quantised.__tensor_flatten__()
    return sum(_stored_bytes(getattr(tensor, name)) for name in names)
