"""EasyCache and LazyCache, run by their nodes in the real ComfyUI, in this process, on a host MODEL that shares our
DiT's weights.

They are compared with the host's own plain run, `full-host`. The host is imported at the first run, because it chooses
its device on import.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tokencache_core.bench.workload import Workload

from .peer import Peer, Settings
from .wrapped_dit import BlockCount

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


def import_host(device: torch.device) -> ModuleType:
    """The pack's `nodes.host.dit_model`, with ComfyUI importable; RuntimeError if the host uses another device."""
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
    return importlib.import_module(f"{PACK}.nodes.host.dit_model")


def host_model(workload: Workload) -> tuple[Any, BlockCount]:
    """The workload's DiT as a MODEL of the host with the same weights, and the count of the blocks that it computes."""
    dit_model = import_host(workload.device)
    from comfy.model_patcher import ModelPatcher

    model = workload.model
    config = dit_model.DiTModelConfig(model.config, model.use_sincos_grid)
    config.set_inference_dtype(model.dtype, None)
    host = dit_model.DiTModel(config, None, torch.device("meta"))
    host.load_model_weights(dict(model.state_dict()), assign=True)
    host.device = workload.device
    count = BlockCount()

    def computed(block: torch.nn.Module, inputs: tuple) -> None:
        count.rows += inputs[0].shape[0]

    for block in host.diffusion_model.blocks:
        block.register_forward_pre_hook(computed)
    return ModelPatcher(host, load_device=workload.device, offload_device=workload.device), count


@torch.no_grad()
def sample_on_host(
    workload: Workload, node: str | None = None, settings: Settings | None = None
) -> tuple[Tensor, float]:
    """The pictures (B, C, H, W) by the host's KSampler, and the compute share.

    node, settings: of `comfy_extras.nodes_easycache`, applied to the model before.
    """
    model, count = host_model(workload)
    import comfy.sample

    dit_model = sys.modules[f"{PACK}.nodes.host.dit_model"]
    labels = ", ".join(map(str, workload.labels.tolist()))
    positive, negative = (dit_model.class_label_conditioning(model, text) for text in (labels, ""))
    if node is not None:
        nodes = importlib.import_module("comfy_extras.nodes_easycache")
        (model,) = getattr(nodes, node).execute(model, **(settings or {}), verbose=False).result
    protocol = workload.protocol
    sigmas = workload.sigmas()
    noise = workload.noise / (1 + sigmas[0] ** 2).sqrt()  # the host scales it itself
    latent = comfy.sample.sample(
        model,
        noise,
        protocol.steps,
        protocol.cfg,
        protocol.solver,
        "simple",
        positive,
        negative,
        torch.zeros_like(noise),
        sigmas=sigmas,
        disable_pbar=True,
        seed=protocol.seed,
    )
    return model.model.process_latent_in(latent).to(workload.device), count.share(workload)


def full_host(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    return sample_on_host(workload)


def easycache(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    return sample_on_host(workload, "EasyCacheNode", settings)


def lazycache(workload: Workload, settings: Settings) -> tuple[Tensor, float]:
    return sample_on_host(workload, "LazyCacheNode", settings)


THRESHOLDS = (0.0, *(round(0.005 * 400 ** (i / 22), 4) for i in range(23)))
PEERS: tuple[Peer, ...] = (
    Peer(name="full-host", source="ComfyUI", run=full_host, knob="cache", knobs=("none",), baseline="full-host"),
    Peer(
        name="easycache",
        source="arXiv 2507.02860, ComfyUI EasyCache",
        run=easycache,
        baseline="full-host",
        knob="reuse_threshold",
        knobs=THRESHOLDS,
        variants=({"start_percent": 0.0, "end_percent": 0.95}, {"start_percent": 0.05, "end_percent": 0.95}),
    ),
    Peer(
        name="lazycache",
        source="ComfyUI LazyCache",
        run=lazycache,
        baseline="full-host",
        knob="reuse_threshold",
        knobs=THRESHOLDS,
        variants=({"start_percent": 0.0, "end_percent": 0.95},),
    ),
)
