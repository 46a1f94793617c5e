"""Conditionings: areas, masks, ranges, several prompts, prompts of other lengths, ControlNet, and memory that splits
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import comfy.controlnet
import comfy.ldm.flux.controlnet
import comfy.ops
import nodes
import torch
from comfy_extras.nodes_flux import FluxDisableGuidance, FluxGuidance
from node_helpers import conditioning_set_values
from tiny_families.tiny_model import TinyModel, random_weights
from tiny_models import FLUX
from torch import Tensor

from .cell import Apply, cell
from .guided import guided, sigmas_of

SUBJECT = "conditionings"
MODELS = ("DiT", "Flux 1")


def _other(tiny: TinyModel, scale: float = 0.8) -> list:
    """Another prompt."""
    from tokencache_pack.nodes.dit import DiTClassLabel

    if tiny.name.endswith("DiT"):
        return DiTClassLabel.execute(tiny.model, "5").result[0]
    return [[scale * tensor.flip(1), options] for tensor, options in tiny.positive]


def _areas(tiny: TinyModel) -> list:
    """The left three quarters and the right three quarters, which overlap, over a prompt for all."""
    left, right = ((0.0, tiny.positive), (0.25, _other(tiny)))
    parts = [
        conditioning_set_values(prompt, {"area": ("percentage", 1.0, 0.75, 0.0, x), "strength": 1.0})
        for x, prompt in (left, right)
    ]
    return [*parts[0], *parts[1]]


@cell(SUBJECT, "two areas", *MODELS)
def areas(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [tiny.sample(apply(tiny.model), steps=steps, positive=_areas(tiny))]


@cell(SUBJECT, "an area over a whole prompt", *MODELS)
def area_over_whole(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    positive = [*tiny.positive, *_areas(tiny)[1:]]
    return [tiny.sample(apply(tiny.model), steps=steps, positive=positive)]


@cell(SUBJECT, "two masks", *MODELS)
def masks(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    height, width = (side * 8 for side in tiny.latent[-2:])
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2] = 1
    positive = [
        *nodes.ConditioningSetMask().append(tiny.positive, mask, "default", 1.0)[0],
        *nodes.ConditioningSetMask().append(_other(tiny), 1 - mask, "default", 1.0)[0],
    ]
    return [tiny.sample(apply(tiny.model), steps=steps, positive=positive)]


@cell(SUBJECT, "two masks that set the area to their bounds", *MODELS)
def mask_bounds(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    height, width = (side * 8 for side in tiny.latent[-2:])
    mask = torch.zeros(1, height, width)
    mask[..., : width // 2] = 1
    positive = [
        *nodes.ConditioningSetMask().append(tiny.positive, mask, "mask bounds", 1.0)[0],
        *nodes.ConditioningSetMask().append(_other(tiny), 1 - mask, "mask bounds", 1.0)[0],
    ]
    return [tiny.sample(apply(tiny.model), steps=steps, positive=positive)]


@cell(SUBJECT, "two prompts combined", *MODELS)
def combined(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [tiny.sample(apply(tiny.model), steps=steps, positive=[*tiny.positive, *_other(tiny)])]


@cell(SUBJECT, "a prompt that is used twice", *MODELS)
def twice(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [tiny.sample(apply(tiny.model), steps=steps, positive=[*tiny.positive, *tiny.positive])]


def _ranges(tiny: TinyModel, at: float) -> list:
    return [
        *nodes.ConditioningSetTimestepRange().set_range(tiny.positive, 0.0, at)[0],
        *nodes.ConditioningSetTimestepRange().set_range(_other(tiny), at, 1.0)[0],
    ]


@cell(SUBJECT, "another prompt from the middle on", *MODELS)
def ranged(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [tiny.sample(apply(tiny.model), steps=steps, positive=_ranges(tiny, 0.5))]


@cell(SUBJECT, "three ranges that overlap", *MODELS)
def overlapping_ranges(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    positive = [*_ranges(tiny, 0.35), *nodes.ConditioningSetTimestepRange().set_range(_other(tiny, 0.5), 0.3, 0.7)[0]]
    return [tiny.sample(apply(tiny.model), steps=steps, positive=positive)]


@cell(SUBJECT, "a prompt longer than the negative one", "Flux 1", "PixArt sigma")
def longer_prompt(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    positive = [[torch.cat([tensor, 0.5 * tensor], dim=1)[:, :-3], options] for tensor, options in tiny.positive]
    return [tiny.sample(apply(tiny.model), steps=steps, positive=positive)]


@cell(SUBJECT, "as many prompts as images", "Flux 1", "PixArt sigma")
def prompts_of_a_batch(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    positive = [[torch.cat([tensor, tensor.flip(1)]), options] for tensor, options in tiny.positive]
    return [tiny.sample(apply(tiny.model), steps=steps, positive=positive, batch=2)]


@cell(SUBJECT, "FluxGuidance", "Flux 1")
def flux_guidance(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    positive = FluxGuidance.execute(tiny.positive, 2.0).result[0]
    return [tiny.sample(apply(tiny.model), steps=steps, positive=positive)]


@cell(SUBJECT, "FluxDisableGuidance", "Flux 1")
def flux_without_guidance(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    positive = FluxDisableGuidance.execute(tiny.positive).result[0]
    return [tiny.sample(apply(tiny.model), steps=steps, positive=positive)]


def _split(how: str) -> Any:
    """Memory so short that the host calls the model for each conditioning apart: always, or at every other step."""
    calls: list[int] = []

    def memory_required(*_: Any, **__: Any) -> float:
        calls.append(1)
        return 1e18 if how == "always" or len(calls) % 4 < 2 else 0.0

    return memory_required


@cell(SUBJECT, "split by short memory", *MODELS)
def split(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    with patch.object(tiny.model.model, "memory_required", _split("always")):
        return [tiny.sample(apply(tiny.model), steps=steps, batch=2)]


@cell(SUBJECT, "split now and then", *MODELS)
def split_now_and_then(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    with patch.object(tiny.model.model, "memory_required", _split("now and then")):
        return [tiny.sample(apply(tiny.model), steps=steps, batch=2)]


def _controlnet() -> Any:
    network = comfy.ldm.flux.controlnet.ControlNetFlux(
        **FLUX, dtype=torch.float32, device="cpu", operations=comfy.ops.disable_weight_init
    )
    random_weights(network, 0.06)
    return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"), extra_conds=["y", "guidance"])


@cell(SUBJECT, "ControlNet", "Flux 1")
def controlnet(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [_controlled(tiny, apply, steps)]


@cell(SUBJECT, "ControlNet on the first half of the steps", "Flux 1")
def controlnet_range(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [_controlled(tiny, apply, steps, end_percent=0.5)]


@cell(SUBJECT, "two ControlNets", "Flux 1")
def two_controlnets(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [_controlled(tiny, apply, steps, count=2)]


def _controlled(tiny: TinyModel, apply: Apply, steps: int, end_percent: float = 1.0, count: int = 1) -> Tensor:
    image = torch.rand(1, tiny.latent[1] * 8, tiny.latent[2] * 8, 3, generator=torch.Generator().manual_seed(3))
    positive, negative = tiny.positive, tiny.negative
    for _ in range(count):
        positive, negative = nodes.ControlNetApplyAdvanced().apply_controlnet(
            positive, negative, _controlnet(), image, 0.7, 0.0, end_percent
        )
    model = apply(tiny.model)
    return guided(tiny, model, sigmas_of(model, steps), positive=positive, negative=negative)
