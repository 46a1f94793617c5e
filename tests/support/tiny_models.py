"""Tiny models of unlike families with random weights, as ComfyUI MODELs, and conditionings that fit them."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
from tiny_families.tiny_model import TinyModel
from torch import nn

from tokencache_core.dit.checkpoint import save_dit
from tokencache_core.dit.model import DiT, DiTConfig

N_TEXT = 11
FLUX = dict(
    image_model="flux",
    guidance_embed=True,
    in_channels=16,
    out_channels=16,
    patch_size=2,
    vec_in_dim=32,
    context_in_dim=24,
    hidden_size=64,
    mlp_ratio=2.0,
    num_heads=4,
    depth=2,
    depth_single_blocks=2,
    axes_dim=[4, 6, 6],
    theta=10000,
    qkv_bias=True,
    txt_ids_dims=[],
)
_PIXART = dict(
    image_model="pixart_alpha",
    input_size=64,
    patch_size=2,
    in_channels=4,
    hidden_size=96,
    depth=3,
    num_heads=4,
    caption_channels=24,
    model_max_length=N_TEXT,
    micro_condition=False,
)


def random_weights(module: nn.Module, std: float) -> None:
    """Weights under which every block's update is a good part of its input."""
    random = torch.Generator().manual_seed(0)
    for name, tensor in module.named_parameters():
        values = torch.randn(tensor.shape, generator=random) * std
        tensor.data = values + 1 if "norm" in name and name.endswith(("weight", "scale")) else values


def tiny_patcher(config: Any, std: float = 0.15) -> Any:
    """A MODEL of the host's config for it, with random weights."""
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, device=torch.device("cpu"))
    random_weights(model.diffusion_model, std)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=cpu, offload_device=cpu)


def _text(seed: int, **extra: Any) -> list:
    random = torch.Generator().manual_seed(seed)
    context = torch.randn(1, N_TEXT, 24, generator=random)
    return [[context, {"pooled_output": torch.randn(1, 32, generator=random), **extra}]]


def tiny_flux() -> TinyModel:
    model = tiny_patcher(comfy.supported_models.Flux(dict(FLUX)))
    return TinyModel("Flux", model, _text(1, guidance=3.5), _text(2, guidance=3.5), (16, 20, 14))


def tiny_pixart() -> TinyModel:
    model = tiny_patcher(comfy.supported_models.PixArtAlpha(dict(_PIXART)))
    return TinyModel("PixArt", model, _text(1), _text(2), (4, 34, 38))


def tiny_dit_file(path: Any, **changes: Any) -> Any:
    """A small random DiT saved at `path`, which is returned."""
    config = DiTConfig(
        **{"width": 64, "depth": 4, "heads": 1, "in_channels": 4, "num_classes": 10, "input_size": 16, **changes}
    )
    model = DiT(config)
    model.initialise()
    positions = model.pos_embed.data.clone()
    random_weights(model, 0.1)
    model.pos_embed.data = positions
    save_dit(model, path, {"num_heads": str(config.heads)})
    return path


def tiny_dit(path: Any, **changes: Any) -> TinyModel:
    """`path`: where to save the file that is then loaded the pack's own way. changes: to its shape."""
    from tokencache_pack.nodes.host.dit_model import class_label_conditioning, load_dit_model

    model = load_dit_model(str(tiny_dit_file(path, **changes)))
    return TinyModel(
        "DiT", model, class_label_conditioning(model, "3"), class_label_conditioning(model, ""), (4, 16, 16)
    )
