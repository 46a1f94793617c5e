"""A DiT in the real ComfyUI: loaded, labelled and sampled on the CPU, and open to the host's other nodes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import comfy.sample
import comfy.sd
import nodes
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_chroma_radiance import EmptyChromaRadianceLatentImage
from comfy_extras.nodes_easycache import EasyCacheNode
from host_dit import CFG, SHAPES, STEPS, decibels, folder, label, load, noise_for  # noqa: F401
from tiny_dit import tiny_dit
from tokencache_pack.nodes.dit import DiTClassLabel, LoadDiT
from tokencache_pack.nodes.host.dit_model import load_dit_model
from torch import Tensor

from tokencache_core.dit.checkpoint import load_dit, save_dit
from tokencache_core.dit.sampling import sample
from tokencache_core.sampling.noise_schedule import simple_sigmas, train_sigmas


def host_sample(
    model: ModelPatcher,
    labels: str = "0, 3",
    *,
    batch: int = 2,
    size: tuple[int, int] = (8, 8),
    solver: str = "ddim",
    negative: list | None = None,
) -> Tensor:
    """What KSampler gives from an empty latent, as the network sees it."""
    noise = noise_for(model, batch, size)
    latent = comfy.sample.sample(
        model,
        noise,
        STEPS,
        CFG,
        solver,
        "simple",
        label(model, labels),
        label(model) if negative is None else negative,
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=0,
    )
    return model.model.process_latent_in(latent)


def core_sample(folder: Path, name: str, labels: list[int], *, noise: Tensor, solver: str = "ddim") -> Tensor:
    sigmas = simple_sigmas(STEPS)
    start = noise * (1 + sigmas[0] ** 2).sqrt()
    model = load_dit(folder / name)
    return sample(model, torch.tensor(labels), noise=start, sigmas=sigmas, cfg=CFG, solver=solver)


class Calls:
    """Counts and keeps what the network is called with."""

    def __init__(self, model: ModelPatcher) -> None:
        self.model, self.labels = model.clone(), []
        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", self)

    def __call__(self, executor, x, timesteps, context, y, control, transformer_options, **kwargs):
        self.labels.append(y.tolist())
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)


def test_the_nodes_load_through_the_entry_point():
    extension = asyncio.run(sys.modules["tokencache_pack"].comfy_entrypoint())
    found = {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}
    assert found["TokenCacheLoadDiT"] is LoadDiT and found["TokenCacheDiTClassLabel"] is DiTClassLabel
    schema = LoadDiT.define_schema()
    assert set(SHAPES) <= set(schema.inputs[0].options)
    for node in (LoadDiT, DiTClassLabel):
        node.GET_SCHEMA()  # the host's own validation


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
@pytest.mark.parametrize("name", ["pixels.safetensors", "latents.safetensors"])
def test_ksampler_agrees_with_the_core(folder, name, solver):
    model = load(name)
    ours = core_sample(folder, name, [0, 3], noise=noise_for(model), solver=solver)
    assert decibels(host_sample(model, solver=solver), ours) >= 60
    assert decibels(host_sample(model, "0, 1", solver=solver), ours) < 40  # labels matter


def test_the_noise_schedule_is_the_core_s():
    assert torch.allclose(load().model.model_sampling.sigmas, train_sigmas(), rtol=1e-4, atol=0)


def test_labels_take_turns_over_the_batch(folder):
    model = load()
    calls = Calls(model)
    out = host_sample(calls.model, "dog, 4, 0", batch=5)
    assert all(sorted(rows) == sorted([1, 4, 0, 1, 4] + [5] * 5) for rows in calls.labels)
    ours = core_sample(folder, "pixels.safetensors", [1, 4, 0, 1, 4], noise=noise_for(model, 5))
    assert decibels(out, ours) >= 60


def test_zeroed_conditioning_is_the_null_class():
    model = load()
    zeroed = nodes.ConditioningZeroOut().zero_out(label(model, "0, 3"))[0]
    assert torch.equal(host_sample(model, negative=zeroed), host_sample(model))
    assert not torch.equal(host_sample(model, negative=label(model, "0, 3")), host_sample(model))


def test_another_grid_and_other_channels():
    assert host_sample(load(), size=(12, 16)).shape == (2, 3, 12, 16)
    assert host_sample(load("sixteen-channels.safetensors")).shape == (2, 16, 8, 8)


def test_pixels_from_an_empty_latent_to_a_picture():
    model = load()
    latent = EmptyChromaRadianceLatentImage.execute(width=16, height=16, batch_size=2).result[0]
    sampled = nodes.KSampler().sample(model, 0, 4, CFG, "euler", "normal", label(model, "owl"), label(model), latent)[0]
    vae = nodes.VAELoader().load_vae("pixel_space")[0]
    assert nodes.VAEDecode().decode(vae, sampled)[0].shape == (2, 16, 16, 3)
    known = torch.tensor([-1.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    pixels = nodes.VAEDecode().decode(vae, {"samples": known})[0]
    assert pixels[0, 0, 0].tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_the_host_s_empty_latent_fits_itself_to_the_channels():
    model = load()
    latent = nodes.EmptyLatentImage().generate(16, 16)[0]
    sampled = nodes.KSampler().sample(model, 0, 2, CFG, "euler", "normal", label(model, "owl"), label(model), latent)[0]
    assert sampled["samples"].shape == (1, 3, 16, 16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_cast_at_use(tmp_path, dtype):
    save_dit(tiny_dit(in_channels=3, learn_sigma=False).to(dtype), tmp_path / "half.safetensors")
    model = load_dit_model(str(tmp_path / "half.safetensors"), dtype=dtype)
    assert model.model.get_dtype() == dtype and model.model.get_dtype_inference() == torch.float32
    assert next(model.model.diffusion_model.parameters()).dtype == dtype
    ours = core_sample(tmp_path, "half.safetensors", [0, 3], noise=noise_for(model))
    assert decibels(host_sample(model), ours) >= 60


def test_a_lora_is_applied_to_the_original_keys(folder):
    a, b = torch.randn(2, 64), torch.randn(192, 2) * 0.3
    key = "diffusion_model.blocks.1.attn.qkv"
    model = load()
    plain = host_sample(model)
    lora = {f"{key}.lora_A.weight": a, f"{key}.lora_B.weight": b}
    patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0)
    assert list(patched.patches) == [f"{key}.weight"]
    merged = load_dit(folder / "pixels.safetensors")
    merged.blocks[1].attn.qkv.weight.data += b @ a
    sigmas = simple_sigmas(STEPS)
    start = noise_for(model) * (1 + sigmas[0] ** 2).sqrt()
    ours = sample(merged, torch.tensor([0, 3]), noise=start, sigmas=sigmas, cfg=CFG)
    assert decibels(host_sample(patched), ours) >= 60
    assert decibels(host_sample(patched), plain) < 40
    assert torch.equal(host_sample(model), plain)


def test_block_replacements_of_other_nodes():
    model = load()
    plain, seen = host_sample(model), []

    def keep(args, extra):
        seen.append((args["transformer_options"]["block_index"], tuple(args["img"].shape), tuple(args["vec"].shape)))
        return extra["original_block"](args)

    kept, skipped = model.clone(), model.clone()
    kept.set_model_patch_replace(keep, "dit", "double_block", 1)
    skipped.set_model_patch_replace(lambda args, extra: args, "dit", "double_block", 1)
    assert torch.equal(host_sample(kept), plain)
    assert seen == [(1, (4, 16, 64), (4, 64))] * STEPS
    assert decibels(host_sample(skipped), plain) < 40


def test_an_attention_override_sees_every_block():
    model, calls = load().clone(), []

    def override(function, *args, **kwargs):
        calls.append(args[0].shape)
        return function(*args, **kwargs)

    plain = host_sample(model)
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    assert torch.equal(host_sample(model), plain)
    assert calls == [(4, 16, 64)] * 3 * STEPS


def test_easycache_works_on_it():
    calls = 0

    def count(module, inputs):
        nonlocal calls
        calls += 1

    model = load()
    handle = model.model.diffusion_model.blocks[0].register_forward_pre_hook(count)
    cached = EasyCacheNode.execute(model, 10.0, start_percent=0.0, end_percent=1.0, verbose=False).result[0]
    host_sample(cached)
    handle.remove()
    assert 0 < calls < STEPS


def test_the_host_can_load_it_again_for_itself():
    model = load()
    for copy in (model.clone(force_deepcopy=True), model.deepclone_multigpu(new_load_device=model.load_device)):
        assert copy.model is not model.model
        assert torch.equal(host_sample(copy), host_sample(model))


def refused(model: ModelPatcher, message: str, **changes) -> None:
    """Before the network is called even once."""
    calls = Calls(model)
    arguments = {"noise": noise_for(model), "positive": label(model, "1"), "negative": label(model)} | changes
    with pytest.raises(ValueError, match=message):
        comfy.sample.sample(
            calls.model,
            arguments["noise"],
            2,
            CFG,
            "euler",
            "normal",
            arguments["positive"],
            arguments["negative"],
            torch.zeros_like(arguments["noise"]),
            disable_pbar=True,
            seed=0,
        )
    assert calls.labels == []


def test_a_latent_of_other_channels_is_refused():
    refused(load(), r"\(batch, 3, height, width\).*: use Empty Chroma Radiance", noise=torch.ones(2, 4, 8, 8))
    refused(load("latents.safetensors"), "use Empty Latent Image", noise=torch.ones(2, 16, 8, 8))
    refused(load("sixteen-channels.safetensors"), "use a latent with 16 channels", noise=torch.ones(2, 4, 8, 8))
    refused(load("latents.safetensors"), r"given one of shape \(2, 4, 3, 8, 8\)", noise=torch.ones(2, 4, 3, 8, 8))


def test_a_latent_of_a_wrong_size_is_refused():
    refused(load(), "8x9 is not a multiple of 2", noise=torch.ones(2, 3, 8, 9))
    model = load()
    model.model.diffusion_model.use_sincos_grid = False
    refused(model, "learned position embedding for 8x8", noise=torch.ones(2, 3, 8, 10))


def test_conditioning_from_elsewhere_is_refused():
    from_text = [[torch.zeros(1, 77, 768), {"pooled_output": torch.zeros(1, 768)}]]
    refused(load(), "connect DiT Class Label", positive=from_text)
    refused(load(), "has 5 classes.* one with 10", negative=label(load("ten-classes.safetensors")))


def test_bad_labels_and_files_are_refused(folder):
    with pytest.raises(ValueError, match="class 5 is out of range: this DiT has classes 0 to 4"):
        label(load(), "5")
    with pytest.raises(ValueError, match="did you mean 'newt'"):
        label(load(), "newtt")
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        load("nowhere.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "pixels.safetensors").read_bytes()[:5000])
    with pytest.raises(ValueError, match="cut.safetensors: it is truncated"):
        load("cut.safetensors")


def test_a_class_label_for_another_kind_of_model():
    model = load().clone()
    other = ModelPatcher(torch.nn.Linear(1, 1), load_device=model.load_device, offload_device=model.offload_device)
    with pytest.raises(ValueError, match="this MODEL is a Linear: connect the MODEL output of Load DiT"):
        label(other, "1")
