"""The model families of ComfyUI that TokenCache knows: one file each, mostly a spec per block class."""

from __future__ import annotations

from torch import nn

from .dit import DIT
from .family import Family
from .flux import FLUX
from .pixart import PIXART

FAMILIES: tuple[Family, ...] = (DIT, PIXART, FLUX)


def family_of(diffusion_model: nn.Module) -> Family | None:
    """The family of a host's network, or None: then it runs whole."""
    return next((family for family in FAMILIES if family.matches(diffusion_model)), None)
