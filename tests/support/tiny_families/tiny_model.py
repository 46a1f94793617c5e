"""A MODEL small enough to be sampled in a test, and how the host makes one of a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy.supported_models
import torch
from comfy.nested_tensor import NestedTensor
from torch import Tensor, nn


class NotInThisHost(Exception):
    """A model that is younger than the ComfyUI under test."""


CPU = torch.device("cpu")


@dataclass(frozen=True)
class TinyModel:
    """A MODEL, what to condition it on (two seeds: positive, negative), and a latent shape without the batch.

    detected: the host recognised the model by its state dict, as it does with a user's file; else its config was given.
    noise_mask: of the latent, as Set Latent Noise Mask gives it: some video models then have a time for every frame or
        token.
    others: the shapes of the further parts of a nested latent, such as a video's sound.
    """

    name: str
    model: Any
    positive: list
    negative: list
    latent: tuple[int, ...]
    detected: bool = False
    noise_mask: Tensor | None = None
    others: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        # The host expects up to 4.5 GB of such a model, and where less is free evaluates conditionings one by one. What
        # a test sees would depend on what else the machine does.
        self.model.model.memory_required = lambda *args, **kwargs: 0.0

    def noise(self, batch: int = 1, seed: int = 1, latent: tuple[int, ...] | None = None) -> Tensor:
        """In a nested latent, its first part alone."""
        return torch.randn((batch, *(latent or self.latent)), generator=torch.Generator().manual_seed(seed))

    def latent_noise(self, batch: int = 1, seed: int = 1, latent: tuple[int, ...] | None = None) -> Any:
        """Noise for the whole latent, nested if it has several parts."""
        first = self.noise(batch, seed, latent)
        if not self.others:
            return first
        return NestedTensor([first, *(self.noise(batch, seed + 1, part) for part in self.others)])

    @torch.inference_mode()
    def sample(
        self,
        model: Any = None,
        *,
        batch: int = 1,
        steps: int = 6,
        cfg: float = 3.0,
        sampler: str = "euler",
        scheduler: str = "simple",
        seed: int = 1,
        latent: tuple[int, ...] | None = None,
        positive: list | None = None,
    ) -> Tensor:
        """KSampler's own call, as the host makes it; of a nested latent, all parts in a row (batch, numbers)."""
        noise = self.latent_noise(batch, seed, latent)
        samples = comfy.sample.sample(
            model or self.model,
            noise,
            steps,
            cfg,
            sampler,
            scheduler,
            positive or self.positive,
            self.negative,
            noise * 0.0,
            noise_mask=self.noise_mask,
            disable_pbar=True,
            seed=seed,
        )
        return torch.cat([part.flatten(1) for part in samples.unbind()], dim=1) if self.others else samples


def random_weights(module: nn.Module, std: float = 0.15) -> None:
    """Weights under which every block's update is a good part of its input."""
    random = torch.Generator().manual_seed(0)
    for name, tensor in module.named_parameters():
        values = torch.randn(tensor.shape, generator=random) * std
        tensor.data = values + 1 if "norm" in name and name.endswith(("weight", "scale", "gamma")) else values


def host_config(name: str) -> Any:
    """One of the host's model configurations by its class's name; NotInThisHost if this ComfyUI has none."""
    config = getattr(comfy.supported_models, name, None)
    if config is None:
        raise NotInThisHost(name)
    return config


def from_config(config: Any, std: float = 0.15, others: Mapping[str, Tensor] = MappingProxyType({})) -> Any:
    """The MODEL of one of the host's model configurations (comfy.supported_models), with random weights.

    others: what such a model's file has besides the network.
    """
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(dict(others), device=CPU)
    random_weights(model.diffusion_model, std)
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=CPU, offload_device=CPU)


def from_state_dict(
    network: type[nn.Module], std: float = 0.15, others: Mapping[str, Tensor] = MappingProxyType({}), **shape: Any
) -> Any:
    """The MODEL that the host's own loader makes of the state dict of a `network` of this shape, with random weights.

    others: what else is in the file, or there instead of random values.
    """
    import comfy.ops

    module = network(**shape, dtype=torch.float32, device=CPU, operations=comfy.ops.disable_weight_init)
    random_weights(module, std)
    model = comfy.sd.load_diffusion_model_state_dict(
        {**module.state_dict(), **others}, model_options={"dtype": torch.float32}
    )
    assert model is not None, "the host did not recognise the model"
    assert isinstance(model.model.diffusion_model, network), (
        f"the host took it for a {type(model.model.diffusion_model).__name__}"
    )
    return model


def text(width: int, seed: int, length: int = 11, pooled: int = 32, **extra: Any) -> list:
    """CONDITIONING (1, length, width), as a text encoder would give it."""
    random = torch.Generator().manual_seed(seed)
    context = torch.randn(1, length, width, generator=random)
    return [[context, {"pooled_output": torch.randn(1, pooled, generator=random), **extra}]]
