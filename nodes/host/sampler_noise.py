"""Whether a sampler adds noise of its own on every step, which no cache can forecast."""

from __future__ import annotations

import inspect
from typing import Any

from comfy.k_diffusion import sampling

_TAKE_BUT_DO_NOT_USE_IT = (sampling.sample_res_multistep, sampling.sample_res_multistep_cfg_pp)


def adds_noise(sampler: Any) -> bool | None:
    """Of a SAMPLER; None where it is none of the host's own."""
    function = getattr(sampler, "sampler_function", None)
    if not getattr(function, "__module__", "").startswith("comfy."):
        return None
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    options = defaults | sampler.extra_options
    if options.get("s_noise") == 0 or function in _TAKE_BUT_DO_NOT_USE_IT:
        return False
    if "s_churn" in options:
        return options["s_churn"] > 0
    if "eta" in options:
        return options["eta"] > 0
    return "noise_sampler" in options
