"""Fingerprints of models: which model a trained cache or a preset was made for. The architecture must be the same, and
the weights should be.

The architecture is a readable line of text. The weights are represented by a sample of their values in bfloat16 instead
of a hash, so that the fingerprint stays the same whether a host loads the model as float32, float16 or bfloat16.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from .strict_json import Record

SAMPLES = 256
# Share of equal values from which two samples are casts of the same weights. float32 rounded to float16 and then to
# bfloat16 differs from float32 rounded to bfloat16 in 1 of 16 values; a quantised copy or a fine-tune differs in most.
LEAST_AGREEMENT = 0.8
FLOAT16_STEP = 2.0**-24  # the smallest difference that float16 can represent
# Parameters that quantisation adds to a layer. They do not change the architecture.
QUANTISATION_SCALES = {
    "input_scale",
    "pre_quant_scale",
    "weight_scale",
    "weight_scale_2",
    "scale_weight",
    "scale_input",
}


class ArchitectureError(ValueError):
    """A trained cache does not fit the model. The message names both architectures and the remedy."""


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of a model: two lines of text.

    architecture: blocks and sizes, with a hash of all shapes.
    weights: hexadecimal bfloat16 values, 4 digits each.
    """

    architecture: str
    weights: str

    def compare(self, model: Fingerprint, what: str = "predictor trained") -> str:
        """Compare with the fingerprint of a model: "same", or "other weights" of the same architecture.

        ArchitectureError if the architecture is different. what: names the owner of this fingerprint in the message.
        """
        if self.architecture != model.architecture:
            raise ArchitectureError(
                f"this is a {what} for another model: load that model, or a {what} for this one. "
                f"It is for {self.architecture}; the model is {model.architecture}"
            )
        return "same" if _agree(self.weights, model.weights) else "other weights"


def fingerprint_of(
    name: str, blocks: Sequence[nn.Module], original: Callable[[Tensor], Tensor] = lambda parameter: parameter
) -> Fingerprint:
    """The fingerprint of a model, on any device and in any dtype.

    name: the model's name, such as "DiT".
    blocks: all its blocks, in order.
    original: from a parameter to its value in the model's file, if a host has temporarily changed it.
    """
    return Fingerprint(_architecture(name, blocks), _weights([blocks[0], blocks[-1]] if len(blocks) else [], original))


def _parameters(block: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A block's parameters, sorted by name, since quantised layers register theirs in another order."""
    for name, parameter in sorted(block.named_parameters()):
        if name.rpartition(".")[2] not in QUANTISATION_SCALES:
            yield name, parameter


def _architecture(name: str, blocks: Sequence[nn.Module]) -> str:
    """The architecture as text: "DiT: 12 x DiTBlock of 1,774,464 parameters (layout 0123456789ab)"."""
    kinds: list[tuple[str, int]] = []
    layout = hashlib.sha256()
    for index, block in enumerate(blocks):
        shapes = [(key, tuple(parameter.shape)) for key, parameter in _parameters(block)]
        for key, shape in shapes:
            layout.update(f"{index} {key} {shape}\n".encode())
        kinds.append((type(block).__name__, sum(torch.Size(shape).numel() for _, shape in shapes)))
    alike = [f"{len(list(group))} x {kind} of {count:,} parameters" for (kind, count), group in groupby(kinds)]
    return f"{name}: {' + '.join(alike) or 'no blocks'} (layout {layout.hexdigest()[:12]})"


def _weights(blocks: Sequence[nn.Module], original: Callable[[Tensor], Tensor]) -> str:
    """Hexadecimal bfloat16 values, spread evenly over all parameters of `blocks`."""
    parameters = [original(parameter) for block in blocks for _, parameter in _parameters(block)]
    total = sum(parameter.shape.numel() for parameter in parameters)
    count = min(SAMPLES, total)
    places = torch.tensor([(2 * i + 1) * total // (2 * count) for i in range(count)], dtype=torch.long)
    values: list[Tensor] = []
    start = 0
    for parameter in parameters:
        end = start + parameter.shape.numel()
        values.append(_values(parameter, places[(places >= start) & (places < end)] - start))
        start = end
    bits = torch.cat(values).bfloat16().view(torch.int16).tolist() if values else []
    return "".join(f"{value & 0xFFFF:04x}" for value in bits)


def _values(parameter: Tensor, places: Tensor) -> Tensor:
    """The values at the flat indices `places` (n,), as float32 on the CPU."""
    if not len(places):
        return torch.empty(0)
    tensor = parameter.detach()
    if type(tensor) is not Tensor:  # a quantised layout, which cannot be indexed
        tensor = tensor.dequantize()
    return tensor.reshape(-1)[places.to(tensor.device)].float().cpu()


def _agree(weights: str, others: str) -> bool:
    if weights == others:
        return True
    if len(weights) != len(others) or not all(re.fullmatch("([0-9a-f]{4})+", text) for text in (weights, others)):
        return False
    ours, theirs = _from_hex(weights), _from_hex(others)
    agrees = (ours - theirs).abs() <= FLOAT16_STEP
    return agrees.float().mean().item() >= LEAST_AGREEMENT


def _from_hex(text: str) -> Tensor:
    """Hexadecimal bfloat16 values as a float64 tensor (n,)."""
    bits = [int(text[i : i + 4], 16) for i in range(0, len(text), 4)]
    return torch.tensor(bits, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).double()


def read_fingerprint(value: Any) -> Fingerprint:
    """The fingerprint in a file's parsed JSON; ValueError if there is none."""
    record = Record(value, "fingerprint", ("architecture", "weights"))
    for key in ("architecture", "weights"):
        if not record.text(key).isprintable():  # it is quoted in error messages
            raise ValueError(f"the fingerprint's {key} is not a line of text")
    return Fingerprint(record.text("architecture"), record.text("weights"))
