"""The MODEL that is trained on: it shares the user's weights, which stay as they are, however they were loaded."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy_aimdo.control
import comfy_aimdo.host_buffer
import folder_paths
import psutil
import pytest
import torch
from comfy.ldm.flux.model import Flux
from tiny_families import TINY
from tiny_families.tiny_model import TinyModel, from_state_dict, text
from tokencache_pack.nodes.host import train_predictor as train_predictor_module
from tokencache_pack.nodes.host.training_copy import training_copy
from tokencache_pack.nodes.predictor import FOLDER, TrainCachePredictor
from tokencache_pack.tokencache_core.predictor.shared_weights import weight_bytes

CHOICES = {
    "save_as": "tiny",
    "minutes": 0.01,
    "steps": 4,
    "cfg": 1.0,
    "sampler_name": "euler",
    "scheduler": "simple",
    "interval": 3,
    "last_blocks": 1,
    "cache_ratio": 1.0,
    "forecast_order": 1,
    "rank": 4,
    "predictor": "none",
    "forecast_hidden": 8,
    "loss": "run",
    "every_step": False,
    "learning_rate": 1e-3,
    "checkpointing": False,
    "seed": 0,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(folder_paths.folder_names_and_paths, FOLDER, ([str(tmp_path)], {".safetensors"}))


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trainings take one iteration, and leave here the memory of this process when it is done."""
    found: list[int] = []

    def one_step(training: Any, minutes: float) -> None:
        training.step()
        found.append(resident())

    monkeypatch.setattr(train_predictor_module, "_train", one_step)
    return found


def resident() -> int:
    return psutil.Process().memory_info().rss


def tiny_flux() -> TinyModel:
    return TINY["Flux 1"]()


def flux_of_200_mb() -> TinyModel:
    model = from_state_dict(
        Flux,
        std=0.02,
        guidance_embed=True,
        in_channels=16,
        out_channels=16,
        patch_size=2,
        vec_in_dim=32,
        context_in_dim=24,
        hidden_size=768,
        mlp_ratio=4.0,
        num_heads=6,
        depth=2,
        depth_single_blocks=2,
        axes_dim=[16, 56, 56],
        theta=10000,
        qkv_bias=True,
        txt_ids_dims=[],
    )
    return TinyModel("Flux", model, text(24, 1, guidance=3.5), text(24, 2, guidance=3.5), (16, 8, 8))


def train(tiny: TinyModel, **changes: Any) -> Any:
    with torch.inference_mode():
        latent = {"samples": torch.zeros(1, *tiny.latent)}
        return TrainCachePredictor.execute(
            tiny.model, tiny.positive, tiny.negative, latent, **{**CHOICES, **changes}
        ).result[0]


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.model.state_dict().items()}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name].float(), theirs[name].float()) for name in ours)


def test_training_does_not_hold_the_weights_twice(watched: list[int]):
    tiny = flux_of_200_mb()
    tiny.sample(steps=2)
    size, before = tiny.model.model_size(), resident()
    assert 150e6 < size < 350e6
    trained = train(tiny)
    assert watched[0] - before < 0.3 * size
    assert (
        f"the {size / 1e9:.2f} GB of weights are shared" in trained.notes["memory"]
        and "about" in trained.notes["memory"]
    )


def test_the_models_own_weights_and_modules_stay_as_they_are(watched: list[int]):
    tiny = tiny_flux()
    before, modules, plain = weights_of(tiny.model), set(tiny.model.model.modules()), tiny.sample()
    train(tiny)
    assert same(weights_of(tiny.model), before) and set(tiny.model.model.modules()) == modules
    assert torch.equal(tiny.sample(), plain)


def test_a_lora_that_is_already_on_the_model_is_on_the_copy_alone_and_after_it_on_the_model_again(watched: list[int]):
    tiny = tiny_flux()
    before, plain = weights_of(tiny.model), tiny.sample()
    model = tiny.model.clone()
    name = "diffusion_model.single_blocks.0.linear1.weight"
    model.add_patches(
        {name: ("diff", (torch.randn(before[name].shape, generator=torch.Generator().manual_seed(1)) * 0.1,))}
    )
    patched = tiny.sample(model)  # loaded, its weights patched, when training begins
    assert not torch.equal(patched, plain)
    with torch.inference_mode(False):
        copy = training_copy(model)
        assert same(weights_of(tiny.model), before)  # unloaded
        assert torch.equal(tiny.sample(copy), patched)
        assert same(weights_of(tiny.model), before)  # the copy's patch is its own
    shared, own = weight_bytes(copy.model, tiny.model.model)
    assert 0 < own <= before[name].nbytes < shared
    train(TinyModel("Flux", model, tiny.positive, tiny.negative, tiny.latent))
    assert torch.equal(tiny.sample(model), patched) and torch.equal(tiny.sample(), plain)


def test_weights_that_were_made_in_inference_mode(watched: list[int]):
    """As the host's loaders make them: a backward pass may not keep them."""
    with torch.inference_mode():
        tiny = tiny_flux()
        assert all(weight.is_inference() for weight in tiny.model.model.parameters())
    trained = train(tiny, predictor="block", cache_ratio=0.5)
    assert "of weights are shared with it)" in trained.notes["memory"] and "copied" not in trained.notes["memory"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_weights_of_few_bits(watched: list[int], dtype: torch.dtype):
    """LoRA is learned in float32 beside them."""
    tiny = tiny_flux()
    model = comfy.sd.load_diffusion_model_state_dict(
        dict(tiny.model.model.diffusion_model.state_dict()), model_options={"dtype": dtype}
    )
    before = weights_of(model)
    assert {tensor.dtype for name, tensor in before.items() if "single_blocks" in name and "linear" in name} == {dtype}
    trained = train(
        TinyModel("Flux", model, tiny.positive, tiny.negative, tiny.latent), predictor="block", cache_ratio=0.5
    )
    assert same(weights_of(model), before)
    assert all(pair.up.dtype == torch.float32 for pairs in trained.repair.blocks.values() for pair in pairs.values())


def with_a_lock(tiny: TinyModel) -> TinyModel:
    """A custom node may keep on a module what Python cannot copy."""
    tiny.model.model.diffusion_model.lock = threading.Lock()
    return tiny


def test_what_cannot_be_copied_is_read_again_from_its_file(watched: list[int]):
    tiny = with_a_lock(tiny_flux())
    tiny.model.cached_patcher_init = (lambda disable_dynamic=False: tiny_flux().model, ())
    memory = train(tiny).notes["memory"]
    assert "for copied weights" in memory


def test_what_can_neither_be_copied_nor_read_again_is_refused(watched: list[int]):
    with pytest.raises(ValueError, match="weights cannot be shared.*use another loader node"):
        train(with_a_lock(tiny_flux()))


def test_a_model_that_the_host_loads_dynamically_is_copied_into_an_ordinary_one():
    """One not yet loaded, with handles of memory that must not be copied: loading it takes a GPU."""
    comfy_aimdo.control.init()
    importlib.reload(comfy_aimdo.host_buffer)  # it looks for its library when it is imported
    tiny = tiny_flux()
    block = tiny.model.model.diffusion_model.double_blocks[0].img_mlp[0]
    block.weight_comfy_model_dtype = torch.bfloat16  # as where the file has other types
    model = comfy.model_patcher.ModelPatcherDynamic(tiny.model.model, torch.device("cuda:0"), torch.device("cpu"))
    assert model.is_dynamic()
    copy = training_copy(model)
    assert not copy.is_dynamic() and copy.load_device == model.load_device
    assert (
        copy.model.diffusion_model.double_blocks[0].img_mlp[0].weight.dtype == torch.bfloat16
        and block.weight.dtype == torch.float32
    )
    assert weight_bytes(copy.model, model.model)[1] == block.weight.nbytes // 2
    assert not any(name.startswith("dynamic_") for name in copy.model.__dict__)
