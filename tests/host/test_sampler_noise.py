"""Which of ComfyUI's samplers add noise of their own: what is said of each is what two seeds of that noise show."""

from __future__ import annotations

import comfy.k_diffusion.sampling as k_diffusion
import comfy.sample
import comfy.samplers
import pytest
import torch
from tiny_models import tiny_dit
from tokencache_pack.nodes.host.sampler_kind import sampler_name
from tokencache_pack.nodes.host.sampler_noise import adds_noise


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_dit(tmp_path_factory.mktemp("noise") / "dit.safetensors", depth=1)


@pytest.mark.parametrize("name", comfy.samplers.KSampler.SAMPLERS)
def test_two_seeds_of_the_samplers_own_noise_agree(tiny, name):
    shape = (1, *tiny.latent)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    samples = [
        comfy.sample.sample(
            tiny.model,
            noise,
            6,
            1.0,
            name,
            "karras",
            tiny.positive,
            tiny.negative,
            torch.zeros(shape),
            disable_pbar=True,
            seed=seed,
        )
        for seed in (1, 2)
    ]
    assert adds_noise(comfy.samplers.sampler_object(name)) is (not torch.equal(*samples))


@pytest.mark.parametrize(
    ("name", "options", "noise"),
    [
        ("euler", {"s_churn": 1.0}, True),
        ("euler_ancestral", {"eta": 0.0}, False),
        ("euler_ancestral", {"s_noise": 0.0}, False),
    ],
)
def test_options_count(name, options, noise):
    assert adds_noise(comfy.samplers.ksampler(name, options)) is noise


def test_nothing_is_said_of_a_sampler_from_elsewhere():
    def sample_new(model, x, sigmas, extra_args=None, callback=None, disable=None):
        return x

    sampler = comfy.samplers.KSAMPLER(sample_new)
    assert adds_noise(sampler) is None and sampler_name(sampler) == "new"
    assert (
        sampler_name(comfy.samplers.KSAMPLER(k_diffusion.sample_heun)) == "heun" and sampler_name(object()) == "object"
    )
