"""The repair in the real ComfyUI: its plain LoRA file through the host's own loader, and on layers the host casts."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths
import nodes
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from safetensors.torch import save_file
from tiny_models import TinyModel, tiny_dit, tiny_dit_file, tiny_flux
from tokencache_pack.nodes.families import family_of
from tokencache_pack.nodes.host.dit_model import load_dit_model
from tokencache_pack.tokencache_core.predictor.lora import LoraPair, LoraRepair, plain_lora
from torch import Tensor, nn

RANK = 4


def network_of(model: ModelPatcher) -> nn.Module:
    return model.model.diffusion_model


def repair_for(model: ModelPatcher) -> LoraRepair:
    """Random pairs for every linear layer of every block, their norms' modulation as well."""
    random, blocks = torch.Generator().manual_seed(5), {}

    def pair(layer: nn.Module) -> LoraPair:
        shapes = (RANK, layer.in_features), (layer.out_features, RANK)
        return LoraPair(*(torch.randn(shape, generator=random) * 0.05 for shape in shapes))

    for index, (block, _) in enumerate(family_of(network_of(model)).blocks(network_of(model))):
        blocks[index] = {path: pair(layer) for path, layer in block.named_modules() if hasattr(layer, "in_features")}
    return LoraRepair(blocks, RANK, alpha=6.0)


def network_outputs(tiny: TinyModel, model: ModelPatcher, repair: LoraRepair | None = None) -> Tensor:
    """What the host's first evaluation gets from the network, the repair added to all blocks."""
    outputs, watched = [], model.clone()

    def wrapper(executor, *args, **kwargs):
        blocks = family_of(network_of(model)).blocks(network_of(model))
        opened = [] if repair is None else [repair.added_to(index, block) for index, (block, _) in enumerate(blocks)]
        for block in opened:
            block.__enter__()
        try:
            outputs.append(executor(*args, **kwargs))
        finally:
            for block in opened:
                block.__exit__(None, None, None)
        return outputs[-1]

    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", wrapper)
    tiny.sample(watched, steps=1)
    return outputs[0].float()


def through_the_hosts_loader(model: ModelPatcher, tensors: dict[str, Tensor], folder: Path) -> ModelPatcher:
    name = f"{folder.name}.safetensors"  # the host looks in the folders of earlier tests as well
    save_file(tensors, folder / name)
    folder_paths.add_model_folder_path("loras", str(folder))
    return nodes.LoraLoaderModelOnly().load_lora_model_only(model, name, 1.0)[0]


def test_the_plain_file_gives_what_the_repair_gives_on_all_blocks(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    repair = repair_for(tiny.model)
    repair.check(network_of(tiny.model).blocks)
    with caplog.at_level(logging.WARNING):
        patched = through_the_hosts_loader(tiny.model, plain_lora(repair), tmp_path)
    assert "not loaded" not in caplog.text.lower()
    assert len(patched.patches) == sum(map(len, repair.blocks.values()))
    plain, repaired, loaded = (network_outputs(tiny, *how) for how in ((tiny.model,), (tiny.model, repair), (patched,)))
    assert (loaded - repaired).abs().max() <= 1e-4 * repaired.abs().max()
    assert (repaired - plain).abs().max() > 1e-2 * plain.abs().max()


def test_the_plain_file_of_a_network_with_two_lists_of_blocks(tmp_path: Path):
    tiny = tiny_flux()
    repair, double = repair_for(tiny.model), len(network_of(tiny.model).double_blocks)

    def place(index: int) -> str:
        return f"double_blocks.{index}." if index < double else f"single_blocks.{index - double}."

    patched = through_the_hosts_loader(tiny.model, plain_lora(repair, place), tmp_path)
    plain, repaired, loaded = (network_outputs(tiny, *how) for how in ((tiny.model,), (tiny.model, repair), (patched,)))
    assert (loaded - repaired).abs().max() <= 1e-4 * repaired.abs().max()
    assert (repaired - plain).abs().max() > 1e-2 * plain.abs().max()


def test_layers_that_the_host_casts_at_every_call(tmp_path: Path):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    halves = load_dit_model(str(tiny_dit_file(tmp_path / "again.safetensors")), dtype=torch.float16)
    halves.set_model_compute_dtype(torch.float32)
    weight = network_of(halves).blocks[0].mlp.fc1.weight
    assert weight.dtype == torch.float16
    repair = repair_for(tiny.model)
    plain, repaired = (network_outputs(tiny, tiny.model, how) for how in (None, repair))
    cast = network_outputs(tiny, halves, repair)
    assert (cast - repaired).abs().max() <= 1e-2 * (repaired - plain).abs().max()
    assert torch.equal(weight, network_of(halves).blocks[0].mlp.fc1.weight)
