"""A small Flux in the real ComfyUI: loaded, prompted and sampled on the CPU, and open to the host's other nodes."""

from __future__ import annotations

import comfy.sample
import folder_paths
import nodes
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_chroma_radiance import EmptyChromaRadianceLatentImage
from comfy_extras.nodes_edit_model import ReferenceLatent
from comfy_extras.nodes_model_advanced import ModelSamplingAuraFlow, ModelSamplingFlux
from tiny_flux_model import tiny_run, tiny_text_to_image
from tokencache_pack.nodes.small_flux import LoadSmallFlux, SmallFluxPrompt
from torch import Tensor

from tokencache_core.flux.file import save_flux
from tokencache_core.likeness.metrics import psnr

STEPS, CFG = 6, 3.5


@pytest.fixture(scope="module", autouse=True)
def weights(tmp_path_factory: pytest.TempPathFactory):
    """The weights of the file that the nodes list as tiny-flux.safetensors."""
    folder = tmp_path_factory.mktemp("diffusion_models")
    model = tiny_text_to_image()
    save_flux(model, folder / "tiny-flux.safetensors", licence="none", dtype=torch.float32)
    folder_paths.add_model_folder_path("diffusion_models", str(folder))
    return model


def load() -> ModelPatcher:
    return LoadSmallFlux.execute("tiny-flux.safetensors").result[0]


def prompt(model: ModelPatcher, text: str = "") -> list:
    return SmallFluxPrompt.execute(model, text).result[0]


def noise(batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def host_sample(
    model: ModelPatcher,
    positive: list,
    start: Tensor | None = None,
    *,
    sampler: str = "euler",
    negative: list | None = None,
) -> Tensor:
    start = noise() if start is None else start
    return comfy.sample.sample(
        model,
        start,
        STEPS,
        CFG,
        sampler,
        "simple",
        positive,
        prompt(model) if negative is None else negative,
        torch.zeros_like(start),
        disable_pbar=True,
        seed=0,
    )


def decibels(a: Tensor, b: Tensor) -> float:
    return float(psnr(a, b, clamp=False).mean())


@pytest.mark.parametrize("references", [0, 1])
@pytest.mark.parametrize(("solver", "sampler"), [("ddim", "euler"), ("dpmpp_2m", "dpmpp_2m")])
def test_ksampler_agrees_with_the_core(weights, solver, sampler, references):
    model, reference = load(), torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    given = [reference] * references
    ours = tiny_run(weights, ["red cat"], steps=STEPS, cfg=CFG, solver=solver, references=given)
    positive, negative = prompt(model, "red cat"), prompt(model)
    if references:
        positive, negative = (
            ReferenceLatent.execute(each, {"samples": reference}).result[0] for each in (positive, negative)
        )
    latent = host_sample(model, positive, ours.noise, sampler=sampler, negative=negative)
    assert decibels(latent, ours.sample()) >= 60
    assert decibels(host_sample(model, prompt(model, "green dog"), ours.noise, sampler=sampler), latent) < 40


def test_prompts_take_turns_over_the_batch():
    model = load()
    start = noise(1).expand(3, -1, -1, -1)
    drawn = host_sample(model, prompt(model, "red cat\n\ngreen dog\n"), start)
    alone = host_sample(model, prompt(model, "green dog"), start[:1])
    assert decibels(drawn[1:2], alone) >= 60 and decibels(drawn[2:], drawn[:1]) >= 60
    assert decibels(drawn[1:2], drawn[:1]) < 40


def test_zeroed_conditioning_is_the_empty_prompt():
    model = load()
    positive = prompt(model, "red cat")
    zeroed = nodes.ConditioningZeroOut().zero_out(positive)[0]
    assert torch.equal(host_sample(model, positive, negative=zeroed), host_sample(model, positive))


def test_shift_nodes_work_on_it():
    model = load()
    positive = prompt(model, "red cat")
    plain = host_sample(model, positive)
    by_auraflow, other = (ModelSamplingAuraFlow().patch_aura(model, shift)[0] for shift in (3.0, 1.0))
    assert decibels(host_sample(by_auraflow, positive), plain) >= 60
    assert decibels(host_sample(other, positive), plain) < 20
    by_flux = ModelSamplingFlux().patch(model, 1.0986, 1.0986, 1024, 1024)[0]  # e to the power of it is 3
    sigmas = [each.get_model_object("model_sampling").percent_to_sigma(0.5) for each in (by_flux, model)]
    assert sigmas[0] == pytest.approx(sigmas[1], rel=1e-3)
    assert decibels(host_sample(by_flux, positive), plain) > decibels(host_sample(other, positive), plain) + 5


def test_from_an_empty_latent_to_a_picture():
    model = load()
    latent = EmptyChromaRadianceLatentImage.execute(width=24, height=16, batch_size=2).result[0]
    sampled = nodes.KSampler().sample(
        model, 0, 2, CFG, "euler", "simple", prompt(model, "red cat"), prompt(model), latent
    )[0]
    vae = nodes.VAELoader().load_vae("pixel_space")[0]
    assert nodes.VAEDecode().decode(vae, sampled)[0].shape == (2, 16, 24, 3)


def test_what_does_not_fit_is_refused_in_words():
    model = load()
    positive = prompt(model, "red cat")
    with pytest.raises(ValueError, match="knows no word of the prompt 'spaceship'"):
        prompt(model, "spaceship")
    with pytest.raises(ValueError, match="connect Small Flux Prompt"):
        host_sample(model, [[torch.ones(1, 4, 768), {"pooled_output": torch.ones(1, 768)}]])
    with pytest.raises(ValueError, match="Empty Chroma Radiance Latent Image"):
        host_sample(model, positive, torch.zeros(1, 16, 8, 8))
    with pytest.raises(ValueError, match="multiples of 4, not 18x16"):
        host_sample(model, positive, torch.zeros(1, 3, 16, 18))
