"""What is sampled: masks, a latent to start from, other sizes, batches, and sigmas that are no plain descent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import nodes
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion
from tiny_families.tiny_model import TinyModel
from torch import Tensor

from .cell import Apply, cell, patched
from .guided import guided, sigmas_of

SUBJECT = "latents and sigmas"
MODELS = ("DiT", "Flux 1")


def _painted(tiny: TinyModel) -> Tensor:
    """A smooth latent."""
    noise = torch.randn(1, *tiny.latent, generator=torch.Generator().manual_seed(9))
    return torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2) * 2


def _gradient(tiny: TinyModel) -> Tensor:
    return torch.linspace(0, 1, tiny.latent[-1]).expand(1, 1, *tiny.latent[-2:])


@cell(SUBJECT, "inpainting, a hard mask", *MODELS)
def hard_mask(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    mask = (_gradient(tiny) > 0.5).float()
    return [guided(tiny, model, sigmas_of(model, steps), latent=_painted(tiny), mask=mask)]


@cell(SUBJECT, "inpainting, a soft mask", *MODELS)
def soft_mask(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    return [guided(tiny, model, sigmas_of(model, steps), latent=_painted(tiny), mask=_gradient(tiny))]


def _masked(tiny: TinyModel, model: ModelPatcher, steps: int) -> Tensor:
    return guided(tiny, model, sigmas_of(model, steps), latent=_painted(tiny), mask=_gradient(tiny))


patched(
    SUBJECT,
    "DifferentialDiffusion, a gradient",
    lambda model: DifferentialDiffusion.execute(model).result[0],
    *MODELS,
    how=_masked,
)


@cell(SUBJECT, "inpainting, an empty mask", "DiT", "Flux 1")
def empty_mask(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    return [guided(tiny, model, sigmas_of(model, steps), latent=_painted(tiny), mask=0 * _gradient(tiny))]


def _ksampler(tiny: TinyModel, model: ModelPatcher, steps: int, latent: Tensor, denoise: float = 1.0) -> Tensor:
    return nodes.common_ksampler(
        model, 1, steps, 3.0, "euler", "simple", tiny.positive, tiny.negative, {"samples": latent}, denoise=denoise
    )[0]["samples"]


for _denoise in (0.3, 0.7):
    cell(SUBJECT, f"img2img, denoise {_denoise}", *MODELS)(
        lambda tiny, apply, steps, denoise=_denoise: [
            _ksampler(tiny, apply(tiny.model), steps, _painted(tiny), denoise)
        ]
    )


@cell(SUBJECT, "unsampling, and sampling again", *MODELS)
def unsampling(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    """Euler's method up the sigmas and down again, without noise, and not quite to pure noise."""
    model = apply(tiny.model)
    sigmas = sigmas_of(model, steps)
    sigmas[0] *= 0.95
    up = sigmas.flip(0).clone()
    up[0] = up[1] / 10
    none = torch.zeros(1, *tiny.latent)
    noisy = guided(tiny, model, up, latent=_painted(tiny), noise=none, cfg=1.0)
    return [noisy, guided(tiny, model, sigmas, latent=noisy, noise=none, cfg=1.0)]


@cell(SUBJECT, "split sigmas", *MODELS)
def split_sigmas(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    """The high ones, and the low ones on what these gave."""
    model = apply(tiny.model)
    sigmas = sigmas_of(model, steps)
    middle = steps // 2
    none = torch.zeros(1, *tiny.latent)
    high = guided(tiny, model, sigmas[: middle + 1])
    return [guided(tiny, model, sigmas[middle:], latent=high, noise=none)]


@cell(SUBJECT, "KSamplerAdvanced, two in a row", *MODELS)
def advanced(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model, latent, node = apply(tiny.model), {"samples": torch.zeros(1, *tiny.latent)}, nodes.KSamplerAdvanced()
    middle = steps // 2

    def sample(latent: dict, add_noise: str, start: int, end: int, leftover: str) -> dict:
        return node.sample(
            model,
            add_noise,
            1,
            steps,
            3.0,
            "euler",
            "simple",
            tiny.positive,
            tiny.negative,
            latent,
            start,
            end,
            leftover,
        )[0]

    half = sample(latent, "enable", 0, middle, "enable")
    return [sample(half, "disable", middle, 10000, "disable")["samples"]]


@cell(SUBJECT, "two passes, the second larger", *MODELS)
def two_passes(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    first = _ksampler(tiny, model, steps, torch.zeros(1, *tiny.latent))
    larger = torch.nn.functional.interpolate(first, scale_factor=1.5)
    return [_ksampler(tiny, model, steps, larger, 0.6)]


@cell(SUBJECT, "many small runs on one patched model, as tiled upscaling has them", "DiT", "Flux 1")
def many_small(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model, latent = apply(tiny.model), _painted(tiny).repeat(1, 1, 2, 2)
    height, width = tiny.latent[-2:]
    tiles = [latent[..., y : y + height, x : x + width] for y in (0, height // 2, height) for x in (0, width)]
    return [_ksampler(tiny, model, steps, tile.contiguous(), 0.5) for tile in tiles]


for _batch in (2, 4):
    cell(SUBJECT, f"batch of {_batch}", *MODELS)(
        lambda tiny, apply, steps, batch=_batch: [tiny.sample(apply(tiny.model), steps=steps, batch=batch)]
    )


@cell(SUBJECT, "batches and sizes that change from run to run", "DiT", "Flux 1")
def changing(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model, (channels, height, width) = apply(tiny.model), tiny.latent
    return [
        tiny.sample(model, steps=steps, batch=batch, latent=(channels, height + more, width))
        for batch, more in ((1, 0), (3, 0), (2, 4), (1, 4), (1, 0))
    ]


@cell(SUBJECT, "two prompts and cfgs in turns on one patched model", "DiT", "Flux 1")
def changing_prompts(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model, turned = apply(tiny.model), replace(tiny, positive=tiny.negative, negative=tiny.positive)
    return [(tiny, turned)[run % 2].sample(model, steps=steps, cfg=(3.0, 1.0)[run // 2]) for run in range(4)]


for _steps in (1, 2, 3, 5, 60):
    cell(SUBJECT, f"{_steps} {'step' if _steps == 1 else 'steps'}", "DiT", "Flux 1", steps=_steps)(
        lambda tiny, apply, steps: [tiny.sample(apply(tiny.model), steps=steps)]
    )


@cell(SUBJECT, "denoise 0", "DiT")
def denoise_0(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [_ksampler(tiny, apply(tiny.model), steps, _painted(tiny), 0.0)]


@cell(SUBJECT, "sigmas given by hand, of uneven steps", *MODELS)
def by_hand(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    """Every third step twice as long as its neighbours."""
    model = apply(tiny.model)
    sigmas = sigmas_of(model, steps + steps // 2)
    kept = [index for index in range(len(sigmas)) if index % 3 != 1 or index == 1]
    return [guided(tiny, model, sigmas[kept])]


@cell(SUBJECT, "sigmas that end above 0", *MODELS)
def ends_above_zero(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(tiny.model)
    return [guided(tiny, model, sigmas_of(model, steps + 4)[:-4])]
