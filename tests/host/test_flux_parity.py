"""Our Flux against the host's own class on the same state dict."""

from __future__ import annotations

import comfy.ops
import pytest
import torch
from comfy.ldm.flux.model import Flux as HostFlux
from tiny_flux_model import tiny_text_to_image
from tokencache_pack.nodes.host.small_flux import SmallFluxConfig

from tokencache_core.flux.config import FluxConfig

CLOSE = 1e-4


def host_flux(config: FluxConfig) -> HostFlux:
    settings = SmallFluxConfig(config).unet_config
    return HostFlux(**settings, operations=comfy.ops.disable_weight_init)


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
