"""Several things at once on one MODEL: other caches, context windows, two Apply nodes, two models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.context_windows
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_tomesd import TomePatchModel
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.tokencache_core.predictor.file import read_trained_cache
from tokencache_pack.tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_pack.tokencache_core.settings import CacheSettings
from torch import Tensor

from .cell import Apply, cell, patched
from .guided import guided, sigmas_of
from .models import REFERENCE
from .models import model as tiny_model
from .weights import with_lora

SUBJECT = "other caches and patches"
PREDICTOR = Path(__file__).resolve().parents[3] / "reference" / "emoji-predictor.safetensors"
_CACHE = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}

for _what, _node in {"EasyCache": EasyCacheNode, "LazyCache": LazyCacheNode}.items():
    patched(
        SUBJECT, _what, lambda model, node=_node: node.execute(model, **_CACHE).result[0], REFERENCE, "Flux 1", "SD3"
    )
patched(SUBJECT, "HyperTile", lambda model: HyperTile.execute(model, 256, 2, 0, False)[0], "DiT", "Flux 1")
patched(SUBJECT, "ToMe", lambda model: TomePatchModel.execute(model, 0.3).result[0], "DiT", "Flux 1")


@cell(SUBJECT, "Apply TokenCache twice", "DiT", "Flux 1")
def twice(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [tiny.sample(apply(apply(tiny.model)), steps=steps)]


@cell(SUBJECT, "two branches of one model, each with Apply", "DiT", "Flux 1")
def branches(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    models = [apply(tiny.model), apply(tiny.model)]
    return [tiny.sample(models[run % 2], steps=steps, seed=run) for run in range(4)]


@cell(SUBJECT, "two models in turns", "DiT", "Flux 1")
def two_models(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    other = tiny_model("PixArt sigma")
    models = [(tiny, apply(tiny.model)), (other, apply(other.model))]
    return [one.sample(model, steps=steps) for one, model in models * 2]


@cell(SUBJECT, "the high steps of one model and the low ones of another, as with Wan 2.2", "Wan 2.1 T2V")
def two_experts(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    high, low = apply(tiny.model), apply(with_lora(tiny.model, strength=0.2))
    sigmas, middle = sigmas_of(high, steps), steps // 2
    first = guided(tiny, high, sigmas[: middle + 1])
    return [guided(tiny, low, sigmas[middle:], latent=first, noise=torch.zeros_like(first))]


def _refused(subject: str, what: str, model: str, refuses: str, **inputs: Any) -> None:
    """What Apply TokenCache refuses to do at all."""

    def run(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
        if apply(tiny.model) is not tiny.model:
            apply_tokencache(tiny.model, **{"settings": CacheSettings(), "schedule": AutomaticSchedule(), **inputs})
        return [tiny.sample(steps=steps)]

    cell(subject, what, model, refuses=refuses)(run)


_refused(
    SUBJECT,
    "a predictor that was trained for another architecture",
    "Flux 1",
    "load the model that it belongs to",
    trained=read_trained_cache(PREDICTOR),
)
_refused(SUBJECT, "more last blocks than the model has", "DiT", "has only", settings=CacheSettings(last_blocks=99))

WINDOWS = "context windows"


def _windows(schedule: str, fuse: str = comfy.context_windows.ContextFuseMethods.PYRAMID, **more: object) -> Callable:
    inputs = {
        "context_length": 4,
        "context_overlap": 1,
        "context_schedule": schedule,
        "context_stride": 1,
        "closed_loop": False,
        "fuse_method": fuse,
        "dim": 2,
        "freenoise": False,
    }
    return lambda model: ContextWindowsManualNode.execute(model, **{**inputs, **more}).result[0]


def _longer(tiny: TinyModel, model: ModelPatcher, steps: int) -> Tensor:
    channels, _, height, width = tiny.latent
    return replace(tiny, latent=(channels, 9, height, width)).sample(model, steps=steps)


_SCHEDULES = comfy.context_windows.ContextSchedules
for _what, _windowed in {
    "static": _windows(_SCHEDULES.STATIC_STANDARD),
    "static, overlapped linearly": _windows(
        _SCHEDULES.STATIC_STANDARD, comfy.context_windows.ContextFuseMethods.OVERLAP_LINEAR
    ),
    "static, FreeNoise": _windows(_SCHEDULES.STATIC_STANDARD, freenoise=True),
    "batched": _windows(_SCHEDULES.BATCHED),
    "uniform, which move at every step": _windows(_SCHEDULES.UNIFORM_STANDARD),
    "uniform and looped, which move at every step": _windows(_SCHEDULES.UNIFORM_LOOPED, closed_loop=True),
}.items():
    patched(WINDOWS, _what, _windowed, "Wan 2.1 T2V", how=_longer)
