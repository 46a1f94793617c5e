"""What changes a MODEL's weights, its time, or how it is computed: LoRA, shift, precision, memory, compiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from unittest.mock import patch

import comfy.hooks
import comfy.model_management
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_hooks import ConditioningSetProperties, CreateHookKeyframe, SetHookKeyframes
from comfy_extras.nodes_model_advanced import (
    ModelComputeDtype,
    ModelSamplingAuraFlow,
    ModelSamplingContinuousEDM,
    ModelSamplingDiscrete,
    ModelSamplingFlux,
    ModelSamplingSD3,
)
from comfy_extras.nodes_model_merging import ModelMergeSimple
from comfy_extras.nodes_rope import ScaleROPE
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.families import family_of
from torch import Tensor

from .cell import Apply, cell, patched

SUBJECT = "weights and time"
MODELS = ("DiT", "Flux 1")


def _lora(model: ModelPatcher, seed: int) -> dict[str, Tensor]:
    """A LoRA file's tensors, of rank 2, for the linear layers of the blocks."""
    random, tensors = torch.Generator().manual_seed(seed), {}
    network = model.model.diffusion_model
    for path, (block, _) in zip(family_of(network).block_paths(network), family_of(network).blocks(network)):
        for name, layer in block.named_modules():
            if hasattr(layer, "in_features"):
                key = f"diffusion_model.{path}.{name}"
                width, out = layer.in_features, layer.out_features
                tensors[f"{key}.lora_A.weight"] = 0.1 * torch.randn(2, width, generator=random)
                tensors[f"{key}.lora_B.weight"] = 0.1 * torch.randn(out, 2, generator=random)
    return tensors


def with_lora(model: ModelPatcher, seed: int = 1, strength: float = 0.7) -> ModelPatcher:
    loaded, _ = comfy.sd.load_lora_for_models(model, None, _lora(model, seed), strength, 0.0)
    assert len(loaded.patches) > len(model.patches) or seed > 1
    return loaded


patched(SUBJECT, "LoRA", with_lora, *MODELS)
patched(SUBJECT, "three LoRAs", lambda model: with_lora(with_lora(with_lora(model), 2, -0.3), 3, 1.2), *MODELS)


@cell(SUBJECT, "LoRA before Apply and another after it", *MODELS)
def lora_around(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    return [tiny.sample(with_lora(apply(with_lora(tiny.model)), 2), steps=steps)]


def _hook(model: ModelPatcher, strengths: Sequence[tuple[float, float]]) -> comfy.hooks.HookGroup:
    """A LoRA as a hook. strengths: (from this share of the steps on, this factor)."""
    hook = comfy.hooks.create_hook_lora(_lora(model, 1), 0.7, 0.0)
    keyframes = None
    for start, factor in strengths:
        keyframes = CreateHookKeyframe().create_hook_keyframe(factor, start, keyframes)[0]
    return hook if keyframes is None else SetHookKeyframes().set_hook_keyframes(hook, keyframes)[0]


def _hooked(strengths: Sequence[tuple[float, float]], both: bool) -> Callable[..., Sequence[Tensor]]:
    def run(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
        hook = _hook(tiny.model, strengths)
        positive, negative = (
            ConditioningSetProperties().set_properties(each, 1.0, "default", hooks=hook)[0]
            for each in (tiny.positive, tiny.negative)
        )
        hooked = replace(tiny, negative=negative if both else tiny.negative)
        return [hooked.sample(apply(tiny.model), steps=steps, positive=positive)]

    return run


cell(SUBJECT, "a hooked LoRA", *MODELS)(_hooked((), both=True))
cell(SUBJECT, "a hooked LoRA on the positive alone", *MODELS)(_hooked((), both=False))
cell(SUBJECT, "a scheduled LoRA, from the middle on", *MODELS)(_hooked(((0.0, 0.0), (0.5, 1.0)), both=True))
cell(SUBJECT, "a scheduled LoRA, of another strength at every tenth", *MODELS)(
    _hooked([(tenth / 10, 1 - tenth / 10) for tenth in range(10)], both=True)
)


@cell(SUBJECT, "two models merged", *MODELS)
def merged(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    other = with_lora(tiny.model)
    return [tiny.sample(apply(ModelMergeSimple().merge(tiny.model, other, 0.5)[0]), steps=steps)]


patched(SUBJECT, "ModelSamplingSD3", lambda model: ModelSamplingSD3().patch(model, 5.0)[0], "SD3", "Wan 2.1 T2V")
patched(SUBJECT, "ModelSamplingAuraFlow", lambda model: ModelSamplingAuraFlow().patch_aura(model, 3.0)[0], "AuraFlow")
patched(SUBJECT, "ModelSamplingFlux", lambda model: ModelSamplingFlux().patch(model, 1.15, 0.5, 512, 768)[0], "Flux 1")
patched(
    SUBJECT,
    "ModelSamplingDiscrete, eps, zsnr",
    lambda model: ModelSamplingDiscrete().patch(model, "eps", True)[0],
    "DiT",
    "PixArt sigma",
)
patched(
    SUBJECT,
    "ModelSamplingDiscrete, v_prediction, zsnr",
    lambda model: ModelSamplingDiscrete().patch(model, "v_prediction", True)[0],
    "HunyuanDiT",
)
patched(
    SUBJECT,
    "ModelSamplingContinuousEDM",
    lambda model: ModelSamplingContinuousEDM().patch(model, "v_prediction", 80.0, 0.002)[0],
    "DiT",
)
patched(
    SUBJECT,
    "ScaleROPE",
    lambda model: ScaleROPE.execute(model, 1.2, 0.0, 1.2, 0.0, 1.0, 0.0).result[0],
    "Wan 2.1 T2V",
    "Lumina 2",
)

PRECISION = "precision and memory"


@cache
def _stored_in(name: str, dtype: torch.dtype) -> ModelPatcher:
    """The tiny model of this name with its weights in another form, cast to float32 where they are used."""
    from .models import model as tiny

    model = tiny(name).model
    state = {key: tensor.to(dtype) for key, tensor in model.model.diffusion_model.state_dict().items()}
    loaded = comfy.sd.load_diffusion_model_state_dict(state, model_options={"dtype": dtype})
    assert loaded is not None
    return loaded


def _in_form(dtype: torch.dtype) -> Callable[..., Sequence[Tensor]]:
    def run(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
        return [tiny.sample(apply(_stored_in(tiny.name, dtype)), steps=steps)]

    return run


for what, dtype in {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8 e4m3": torch.float8_e4m3fn,
    "fp8 e5m2": torch.float8_e5m2,
}.items():
    cell(PRECISION, f"{what} weights", "PixArt alpha", "SD3")(_in_form(dtype))
patched(PRECISION, "ModelComputeDtype bf16", lambda model: ModelComputeDtype().patch(model, "bf16")[0], "Flux 1", "DiT")


@cell(PRECISION, "weights cast for each layer, as in the low-VRAM mode", "Flux 1", "Wan 2.1 T2V", "DiT")
def low_vram(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    """The host decides it by free memory; on a CPU it must be told to."""
    model = apply(with_lora(tiny.model))
    load = ModelPatcher.load

    def in_part(patcher: ModelPatcher, device_to: object = None, lowvram_model_memory: int = 0, **more: object) -> None:
        load(patcher, device_to, lowvram_model_memory=1, **more)

    with patch.object(ModelPatcher, "load", in_part):
        comfy.model_management.unload_all_models()
        samples = tiny.sample(model, steps=steps)
    comfy.model_management.unload_all_models()
    return [samples]


@cell(PRECISION, "the model is unloaded between two runs", "Flux 1", "DiT")
def unloaded_between(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(with_lora(tiny.model))
    first = tiny.sample(model, steps=steps)
    comfy.model_management.unload_all_models()
    return [first, tiny.sample(model, steps=steps)]


def _compiled(model: ModelPatcher) -> ModelPatcher:
    clone = model.clone()
    set_torch_compile_wrapper(clone, backend="eager")
    return clone


def _compiled_run(before: bool) -> Callable[..., Sequence[Tensor]]:
    def run(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
        torch._dynamo.reset()
        try:
            return [tiny.sample(apply(_compiled(tiny.model)) if before else _compiled(apply(tiny.model)), steps=steps)]
        finally:
            torch._dynamo.reset()

    return run


cell(PRECISION, "torch.compile (traced, run eagerly), before Apply", "DiT", counts=False)(_compiled_run(before=True))
cell(PRECISION, "torch.compile (traced, run eagerly), after Apply", "DiT", counts=False)(_compiled_run(before=False))


@cell(PRECISION, "the patched model's weights, as they are saved", *MODELS)
def saved(tiny: TinyModel, apply: Apply, steps: int) -> Sequence[Tensor]:
    model = apply(with_lora(tiny.model))
    samples = tiny.sample(model, steps=steps)
    return [samples, *(tensor.float() for _, tensor in sorted(_state_dict(model).items()) if tensor.numel() < 1e6)]


def _state_dict(model: ModelPatcher) -> dict[str, Tensor]:
    """What ModelSave writes."""
    comfy.model_management.load_models_gpu([model], force_patch_weights=True)
    return model.model.state_dict_for_saving(model.model_state_dict())
