"""The benchmark's models as MODELs of the real ComfyUI, in this process, with the same weights.

The host is imported at the first use, because it chooses its device on import.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from tokencache_core.bench.workload import SampledWorkload
from tokencache_core.dit.model import DiT
from tokencache_core.flux.edits import SampledEdits
from tokencache_core.flux.sampled import SampledFlux

ROOT = Path(__file__).resolve().parent.parent
PACK = "tokencache_pack"  # this repository's name as a package; its folder's name may not be a valid one


def _module_at(name: str, path: Path) -> ModuleType:
    """The module in a file, loaded once, under the given name."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


# raises if there is no ComfyUI
COMFYUI: Path = _module_at("comfy_location", ROOT / "scripts" / "comfy_location.py").comfyui_path()


def import_host(device: torch.device) -> None:
    """Make ComfyUI and the pack importable; RuntimeError if the host uses another device."""
    if str(COMFYUI) not in sys.path:
        sys.path.insert(0, str(COMFYUI))  # before this repository, whose `nodes` is not the host's
    import comfy.cli_args

    comfy.cli_args.args.cpu = comfy.cli_args.args.cpu or device.type == "cpu"
    import comfy.model_management

    chosen = comfy.model_management.get_torch_device()
    if chosen.type != device.type:
        raise RuntimeError(
            f"ComfyUI runs on {chosen.type} in this process, the model on {device.type}: use one process per device"
        )
    _module_at(PACK, ROOT / "__init__.py")


def host_module(name: str) -> ModuleType:
    """A module of the pack's `nodes.host`, after `import_host`."""
    return importlib.import_module(f"{PACK}.nodes.host.{name}")


def host_model(workload: SampledWorkload) -> Any:
    """The workload's model as a MODEL."""
    import_host(workload.device)
    from comfy.model_patcher import ModelPatcher

    made = _host_dit(workload) if isinstance(workload.sampled.network, DiT) else _host_flux(workload)
    made.load_model_weights(dict(workload.sampled.network.state_dict()), assign=True)
    made.device = workload.device
    return ModelPatcher(made, load_device=workload.device, offload_device=workload.device)


def host_blocks(model: Any) -> list[nn.Module]:
    """The blocks of such a MODEL's network, in order."""
    network = model.model.diffusion_model
    return list(network.blocks) if hasattr(network, "blocks") else [*network.double_blocks, *network.single_blocks]


def host_conditionings(model: Any, workload: SampledWorkload) -> tuple[list, list]:
    """The workload's positive and negative CONDITIONING."""
    conditions = workload.conditions
    if isinstance(workload.sampled.network, DiT):
        label = host_module("dit_model").class_label_conditioning
        return label(model, ", ".join(map(str, conditions))), label(model, "")
    prompt = host_module("small_flux").prompt_conditioning
    if not isinstance(workload.sampled, SampledEdits):
        return prompt(model, "\n".join(conditions)), prompt(model, "")
    references = {"reference_latents": [torch.stack([edit.reference for edit in conditions])]}
    both = prompt(model, "\n".join(edit.prompt for edit in conditions)), prompt(model, "")
    positive, negative = ([[text, {**options, **references}] for text, options in each] for each in both)
    return positive, negative


def _host_dit(workload: SampledWorkload) -> Any:
    network, dit_model = workload.sampled.network, host_module("dit_model")
    config = dit_model.DiTModelConfig(network.config, network.use_sincos_grid)
    config.set_inference_dtype(network.dtype, None)
    return dit_model.DiTModel(config, None, torch.device("meta"))


def _host_flux(workload: SampledWorkload) -> Any:
    sampled, small_flux = workload.sampled, host_module("small_flux")
    assert isinstance(sampled, SampledFlux)
    config = small_flux.SmallFluxConfig(sampled.network.config)
    config.set_inference_dtype(sampled.network.dtype, None)
    return small_flux.SmallFluxModel(config, sampled.model.prompts, torch.device("meta"))
