"""A copy of a MODEL to train on: new modules that share the user's frozen weights."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import nn

from ...tokencache_core.predictor.shared_weights import sharing_copy
from .model_hooks import KEY


def training_copy(model: ModelPatcher) -> ModelPatcher:
    """A copy of `model` with modules of its own, so that training never changes the user's.

    All models are unloaded first: then the weights are those of the file, without LoRAs, in one place, and are shared.
    The copy patches and moves them as the host does with any model, which leaves the originals alone. If a custom node
    keeps something on the model that cannot be copied, the weights are read again from the file.
    """
    comfy.model_management.unload_all_models()
    model.detach()  # also if another clone of it was loaded
    try:
        copy = _sharing(model)
    except Exception as error:  # copying a custom module may raise anything
        copy = _read_again(model, error)
    copy.parent = None  # else the host would consider the parent loaded once the copy is gone
    copy.weight_inplace_update = False
    copy.remove_additional_models("multigpu")
    return copy


def load_whole(copy: ModelPatcher) -> None:
    """Load the copy completely and keep it loaded; ValueError if it does not fit.

    A model that is loaded in parts overwrites weights that a gradient needs.
    """
    comfy.model_management.load_models_gpu([copy])
    loaded, size, place = copy.loaded_size(), copy.model_size(), copy.load_device
    if copy.model.model_lowvram:
        raise ValueError(
            f"training needs the whole model on {place}, but only {loaded / 1e9:.3g} of its {size / 1e9:.3g} GB fit "
            "there: load it with weights of fewer bits (weight_dtype fp8_e4m3fn in Load Diffusion Model), or close "
            "other programs that use this memory"
        )
    copy.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, KEY)
    copy.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, _fully_loaded)


def _fully_loaded(executor: Any, *args: Any, **kwargs: Any) -> Any:
    return executor(*args, **{**kwargs, "force_full_load": True})


def _sharing(model: ModelPatcher) -> ModelPatcher:
    patches = model.object_patches
    modules = [model.model, *(patch for patch in patches.values() if isinstance(patch, nn.Module))]
    network, patches = sharing_copy((model.model, patches), modules, kept=[model.model.model_config])
    if model.is_dynamic():
        _cast(network)
    bare = ModelPatcher(network, model.load_device, model.offload_device)
    copy = model.clone(disable_dynamic=True, model_override=bare.get_clone_model_override())
    copy.object_patches = patches
    copy.hook_backup, copy.cached_hook_patches = {}, {}
    return copy


def _read_again(model: ModelPatcher, error: Exception) -> ModelPatcher:
    why = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    if model.cached_patcher_init is None:
        raise ValueError(
            f"this MODEL's weights cannot be shared with a copy to train on ({why}), and its loader does not say how "
            "to load it again: use another loader node, or remove the node that changes the model's modules"
        ) from error
    logging.warning(
        f"TokenCache training: the weights cannot be shared ({why}), so {model.model_size() / 1e9:.3g} GB are read "
        "again from the file"
    )
    return model.clone(disable_dynamic=True, force_deepcopy=True)


def _cast(network: nn.Module) -> None:
    """Cast the weights to the model's dtypes. Dynamic loading keeps them in the file's dtypes until it loads them."""
    for part in network.modules():
        for name, weight in part.named_parameters(recurse=False):
            wanted = getattr(part, f"{name}_comfy_model_dtype", None)
            if wanted is not None and type(weight) is nn.Parameter and weight.dtype != wanted:
                part.register_parameter(name, nn.Parameter(weight.detach().to(wanted), requires_grad=False))
        for name, buffer in part.named_buffers(recurse=False):
            wanted = getattr(part, f"{name}_comfy_model_dtype", None)
            if wanted is not None and type(buffer) is torch.Tensor and buffer.dtype != wanted:
                part._buffers[name] = buffer.to(wanted)
