"""A MODEL small enough to be sampled in a test, and how the host makes one of a state dict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.sample
import comfy.sd
import torch
from torch import Tensor, nn

CPU = torch.device("cpu")


@dataclass(frozen=True)
class TinyModel:
    """A MODEL, what to condition it on (two seeds: positive, negative), and a latent shape without the batch.

    detected: the host recognised the model by its state dict, as it does with a user's file; else its config was given.
    """

    name: str
    model: Any
    positive: list
    negative: list
    latent: tuple[int, ...]
    detected: bool = False

    def noise(self, batch: int = 1, seed: int = 1, latent: tuple[int, ...] | None = None) -> Tensor:
        return torch.randn((batch, *(latent or self.latent)), generator=torch.Generator().manual_seed(seed))

    def sample(
        self, model: Any = None, *, batch: int = 1, steps: int = 6, cfg: float = 3.0, sampler: str = "euler", scheduler: str = "simple",
        seed: int = 1, latent: tuple[int, ...] | None = None, positive: list | None = None,
    ) -> Tensor:
        """KSampler's own call."""
        noise = self.noise(batch, seed, latent)
        return comfy.sample.sample(
            model or self.model, noise, steps, cfg, sampler, scheduler, positive or self.positive, self.negative,
            torch.zeros_like(noise), disable_pbar=True, seed=seed,
        )


def random_weights(module: nn.Module, std: float = 0.15) -> None:
    """Weights under which every block's update is a good part of its input."""
    random = torch.Generator().manual_seed(0)
    for name, tensor in module.named_parameters():
        values = torch.randn(tensor.shape, generator=random) * std
        tensor.data = values + 1 if "norm" in name and name.endswith(("weight", "scale")) else values


def from_config(config: Any, std: float = 0.15) -> Any:
    """The MODEL of one of the host's model configurations (comfy.supported_models), with random weights."""
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, device=CPU)
    random_weights(model.diffusion_model, std)
    return comfy.model_patcher.ModelPatcher(model.eval(), load_device=CPU, offload_device=CPU)


def from_state_dict(network: type[nn.Module], std: float = 0.15, **shape: Any) -> Any:
    """The MODEL that the host's own loader makes of the state dict of a `network` of this shape, with random weights."""
    import comfy.ops

    module = network(**shape, dtype=torch.float32, device=CPU, operations=comfy.ops.disable_weight_init)
    random_weights(module, std)
    model = comfy.sd.load_diffusion_model_state_dict(dict(module.state_dict()), model_options={"dtype": torch.float32})
    assert model is not None, "the host did not recognise the model"
    return model


def text(width: int, seed: int, length: int = 11, pooled: int = 32, **extra: Any) -> list:
    """CONDITIONING (1, length, width), as a text encoder would give it."""
    random = torch.Generator().manual_seed(seed)
    context = torch.randn(1, length, width, generator=random)
    return [[context, {"pooled_output": torch.randn(1, pooled, generator=random), **extra}]]
