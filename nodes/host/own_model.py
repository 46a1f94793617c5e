"""A network of the pack's own files as a MODEL: its weights in the host's choice of dtype, in a ModelPatcher."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor


def in_patcher(
    state_dict: dict[str, Tensor],
    model_config: comfy.supported_models_base.BASE,
    make: Callable[[torch.device], comfy.model_base.BaseModel],
    *,
    dtype: torch.dtype | None,
    disable_dynamic: bool,
) -> ModelPatcher:
    """The MODEL of a state dict.

    make: makes the host's model on a device; called once `model_config` knows the dtype.
    dtype: of the weights; None: what the host picks for the device.
    disable_dynamic: as in the host's own loaders.
    """
    management = comfy.model_management
    dtypes, load_device = model_config.supported_inference_dtypes, management.get_torch_device()
    if dtype is None:
        dtype = management.unet_dtype(
            model_params=comfy.utils.calculate_parameters(state_dict),
            supported_dtypes=dtypes,
            weight_dtype=comfy.utils.weight_dtype(state_dict),
        )
    model_config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, load_device, dtypes))
    offload_device = management.unet_offload_device()
    model = make(offload_device)
    patcher_class = ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    model.load_model_weights(state_dict, assign=patcher.is_dynamic())
    return patcher
