"""Our Flux against the host's own class on the same state dict: one call, and whole runs by the host's KSampler."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import comfy.ops
import comfy.sample
import comfy.supported_models
import pytest
import torch
from comfy.latent_formats import ChromaRadiance
from comfy.ldm.flux.model import Flux as HostFlux
from comfy.model_patcher import ModelPatcher
from tiny_flux_model import tiny_run, tiny_text_to_image

from tokencache_core.flux.config import FluxConfig
from tokencache_core.flux.text_to_image import TextToImage
from tokencache_core.likeness.metrics import psnr

CLOSE = 1e-4


def settings_of(config: FluxConfig) -> dict[str, Any]:
    """The host's configuration for the same network."""
    sizes = asdict(config)
    side = sizes.pop("input_size")
    assert side == 16
    return {
        **sizes,
        "image_model": "flux",
        "axes_dim": list(config.axes_dim),
        "out_channels": config.in_channels,
        "qkv_bias": True,
        "guidance_embed": False,
        "txt_ids_dims": [],
    }


def host_flux(config: FluxConfig) -> HostFlux:
    return HostFlux(**settings_of(config), operations=comfy.ops.disable_weight_init)


def host_model(model: TextToImage, shift: float) -> ModelPatcher:
    """A MODEL of the host that works on pictures, as its own model without guidance embedding (schnell) is made."""
    config = comfy.supported_models.FluxSchnell(settings_of(model.network.config))
    config.latent_format, config.sampling_settings = ChromaRadiance(), {"multiplier": 1.0, "shift": shift}
    config.set_inference_dtype(torch.float32, None)
    made = config.get_model({}, device=torch.device("cpu"))
    made.diffusion_model.load_state_dict(model.network.state_dict())
    cpu = torch.device("cpu")
    return ModelPatcher(made.eval(), load_device=cpu, offload_device=cpu)


@pytest.fixture(scope="module")
def both():
    ours = tiny_text_to_image().network
    hosts = host_flux(ours.config)
    hosts.load_state_dict(ours.state_dict())  # strict: the same keys and shapes
    return ours, hosts.requires_grad_(False)


@pytest.mark.parametrize("sizes", [[], [(16, 24)], [(16, 24), (24, 8), (8, 8)]], ids=["no references", "one", "three"])
def test_parity_with_the_host(both, sizes):
    ours, hosts = both
    random = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 3, 16, 24, generator=random), torch.rand(2, generator=random)
    context, y = torch.randn(2, 5, 24, generator=random), torch.randn(2, 24, generator=random)
    references = [torch.randn(2, 3, *size, generator=random) for size in sizes]
    expected = hosts(x, t, context, y, ref_latents=references or None)
    assert expected.std() > 0.3
    assert (ours(x, t, context, y, references) - expected).abs().max() <= CLOSE


def test_the_host_recognises_the_architecture(both):
    from comfy.model_detection import detect_unet_config

    config = detect_unet_config(both[0].state_dict(), "")
    assert config["image_model"] == "flux" and not config["guidance_embed"]
    assert (config["depth"], config["depth_single_blocks"], config["vec_in_dim"]) == (2, 2, 24)


@pytest.mark.parametrize("references", [0, 1])
@pytest.mark.parametrize(("solver", "sampler"), [("ddim", "euler"), ("dpmpp_2m", "dpmpp_2m")])
def test_the_host_s_ksampler_agrees_with_the_core(solver, sampler, references):
    model, steps, cfg = tiny_text_to_image(), 6, 3.5
    given = [torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))] * references
    ours = tiny_run(model, ["red cat"], steps=steps, cfg=cfg, solver=solver, references=given)
    extra = {"reference_latents": given} if references else {}
    positive, negative = (
        [[context, {"pooled_output": pooled, **extra}]]
        for context, pooled in (model.prompts.encode([prompt]) for prompt in ("red cat", ""))
    )
    latent = comfy.sample.sample(
        host_model(model, shift=3.0),
        ours.noise,
        steps,
        cfg,
        sampler,
        "simple",
        positive,
        negative,
        torch.zeros_like(ours.noise),
        disable_pbar=True,
        seed=0,
    )
    assert float(psnr(latent, ours.sample(), clamp=False).mean()) >= 60
