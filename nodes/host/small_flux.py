"""A small text-to-image flow model as a ComfyUI MODEL: the host's own Flux network, on pixels, with sizes and words of
the file.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import torch
from torch import Tensor

from ...tokencache_core.flux.config import FluxConfig
from ...tokencache_core.flux.file import network_and_prompts
from ...tokencache_core.flux.prompts import PromptTable
from .own_model import in_patcher

SHIFT = 3.0  # of the sampling schedule, until a node sets another


class SmallFluxConfig(comfy.supported_models.FluxSchnell):
    """The host's settings for Flux without embedded guidance, for any sizes."""

    sampling_settings = {"multiplier": 1.0, "shift": SHIFT}
    latent_format = comfy.latent_formats.ChromaRadiance  # pictures in [-1, 1] as they are

    def __init__(self, config: FluxConfig) -> None:
        sizes = asdict(config)
        del sizes["input_size"]
        super().__init__(
            {
                **sizes,
                "image_model": "flux",
                "axes_dim": list(config.axes_dim),
                "out_channels": config.in_channels,
                "qkv_bias": True,
                "guidance_embed": False,
                "txt_ids_dims": [],
            }
        )
        # The host expects 10,486 numbers per input pixel times this; Flux holds about 16 * width per patch.
        self.memory_usage_factor = 16 * config.hidden_size / config.patch_size**2 / 10_486


class SmallFluxModel(comfy.model_base.Flux):
    """The host's Flux with a table of words in the place of text encoders."""

    def __init__(self, model_config: SmallFluxConfig, prompts: PromptTable, device: torch.device) -> None:
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device)
        self.prompts = prompts

    def extra_conds(self, **kwargs: Any) -> dict:
        self._check_latent(kwargs["noise"])
        text, pooled = kwargs.get("cross_attn"), kwargs.get("pooled_output")
        if text is None or pooled is None or text.shape[-1] != self.prompts.width:
            raise ValueError(
                "this model has words of its own, and its conditioning was made by another model's text encoder: "
                "connect Small Flux Prompt"
            )
        if not text.any():  # after Conditioning Zero Out
            kwargs["cross_attn"], kwargs["pooled_output"] = encoded(self.prompts, [""])
        return super().extra_conds(**kwargs)

    def _check_latent(self, noise: Tensor) -> None:
        patch, channels = (self.model_config.unet_config[name] for name in ("patch_size", "out_channels"))
        if noise.ndim != 4 or noise.shape[1] != channels:
            raise ValueError(
                f"this model samples pictures of shape (batch, {channels}, height, width), but was given one of shape "
                f"{tuple(noise.shape)}: use Empty Chroma Radiance Latent Image, or VAE Encode with the pixel_space VAE"
            )
        if noise.shape[2] % patch or noise.shape[3] % patch:
            raise ValueError(
                f"this model samples pictures whose sides are multiples of {patch}, not {noise.shape[3]}x"
                f"{noise.shape[2]}: change width or height"
            )


def load_small_flux(
    path: str, dtype: torch.dtype | None = None, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """The model of a file as a MODEL, its weights in `dtype`; None: in the dtype that the host picks for the device."""
    state_dict, config, prompts = network_and_prompts(path)
    model_config = SmallFluxConfig(config)
    patcher = in_patcher(
        state_dict,
        model_config,
        lambda device: SmallFluxModel(model_config, prompts, device),
        dtype=dtype,
        disable_dynamic=disable_dynamic,
    )
    patcher.cached_patcher_init = (load_small_flux, (path, patcher.model.get_dtype()))
    return patcher


def prompt_conditioning(model: comfy.model_patcher.ModelPatcher, text: str) -> list:
    """CONDITIONING of the prompts in `text`, one a line, for a MODEL that was loaded as a small Flux."""
    if not isinstance(model.model, SmallFluxModel):
        raise ValueError(
            f"Small Flux Prompt needs a model with words of its own, but this MODEL is a {type(model.model).__name__}: "
            "connect the MODEL output of Load Small Flux, or use your model's own text encoder"
        )
    prompts = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    tokens, pooled = encoded(model.model.prompts, prompts)
    return [[tokens, {"pooled_output": pooled}]]


def encoded(table: PromptTable, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Text tokens (B, M, width) and pooled text (B, width), on the CPU as the host keeps conditionings."""
    with torch.no_grad():
        tokens, pooled = table.encode(prompts)
    return tokens.cpu(), pooled.cpu()
