"""Every model that the host can load, with the class of its network."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import comfy.model_base
import comfy.supported_models
import pytest
import torch
from torch import nn


@dataclass(frozen=True)
class HostModel:
    """name: of the host's class for the model. network: that the host builds for it."""

    name: str
    network: type[nn.Module]


class _Built(Exception):
    """Raised instead of building a network."""


def host_models() -> list[HostModel]:
    """In the order in which the host tries them on a file."""
    return [HostModel(kind.__name__, _network(kind)) for kind in comfy.supported_models.models]


def _network(kind: Any) -> type[nn.Module]:
    """Asks the host for the model, and stops it where it begins to build the network."""
    built: list[type[nn.Module]] = []

    def init(
        self: Any,
        model_config: Any,
        model_type: Any = None,
        device: Any = None,
        unet_model: type[nn.Module] = comfy.model_base.UNetModel,
    ) -> None:
        built.append(unet_model)
        raise _Built

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.model_base.BaseModel, "__init__", init)
        with pytest.raises(_Built):
            file = defaultdict(lambda: torch.zeros(1))  # has whatever the host takes from it
            shape = defaultdict(lambda: 4, kind.unet_config)  # whatever the host reads of it
            kind(shape).get_model(file, device=torch.device("cpu"))
    return built[0]
