"""Whether a sampler adds noise of its own on every step, which no cache can forecast."""

from __future__ import annotations

import inspect
from typing import Any

from comfy.k_diffusion import sampling

# they accept the options for noise, and ignore them
_IGNORE_IT = (sampling.sample_res_multistep, sampling.sample_res_multistep_cfg_pp)


def adds_noise(sampler: Any) -> bool | None:
    """Whether a SAMPLER adds noise; None if it is not one of the host's own."""
    function = getattr(sampler, "sampler_function", None)
    if function is None or not getattr(function, "__module__", "").startswith("comfy."):
        return None
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    options = defaults | sampler.extra_options
    if options.get("s_noise") == 0 or function in _IGNORE_IT:
        return False
    if "s_churn" in options:
        return options["s_churn"] > 0
    if "eta" in options:
        return options["eta"] > 0
    return "noise_sampler" in options
