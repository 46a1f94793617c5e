"""Samples a list of prompts by PixArt in the real ComfyUI, in full and cached, for `bench --fid-stats --prompts`
(docs/fid.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokencache_core.bench.fid_run import FidMethod, FidProtocol
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.settings import DEFAULTS

from .host_cache import apply_on_host
from .host_models import import_host

NEGATIVE = ""
SCHEDULER = "simple"  # the host requires a name; the sigmas are the protocol's
GRID = 16  # a token's side in pixels
LEAST_RESOLUTION = 272  # below, the host's position embedding of PixArt divides by zero


def read_prompts(file: Path) -> list[str]:
    """The prompts of a file, one per line without blank lines; ValueError if there is none."""
    prompts = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not prompts:
        raise ValueError(f"{file}: it holds no prompt; write one per line")
    return prompts


class PromptRuns:
    """Runs by batch: sample i has prompt i mod P of the list and the noise of seed + i.

    Prompts are sampled one by one, because they differ in length.

    model, text_encoder, vae: files for ComfyUI: a PixArt, a T5-XXL, and a VAE; ValueError for others.
    prompts: the list.
    protocol: what is measured.
    resolution: side of the pictures, in pixels.
    device: to sample on.
    """

    def __init__(
        self,
        model: Path,
        text_encoder: Path,
        vae: Path,
        prompts: list[str],
        protocol: FidProtocol,
        resolution: int,
        device: torch.device,
    ) -> None:
        if resolution % GRID or resolution < LEAST_RESOLUTION:
            raise ValueError(f"--resolution {resolution}: choose a multiple of {GRID} from {LEAST_RESOLUTION} on")
        import_host(device)
        import comfy.model_base
        import comfy.sd
        import comfy.utils

        self.prompts, self.protocol, self.resolution, self.device = prompts, protocol, resolution, device
        self.model = _loaded(model, "a PixArt", lambda: comfy.sd.load_diffusion_model(str(model)))
        if not isinstance(self.model.model, comfy.model_base.PixArt):
            raise ValueError(f"{model}: it is a {type(self.model.model).__name__}, not a PixArt")
        self.clip = _loaded(
            text_encoder,
            "a T5-XXL",
            lambda: comfy.sd.load_clip([str(text_encoder)], clip_type=comfy.sd.CLIPType.PIXART),
        )
        if not hasattr(self.clip.cond_stage_model, "t5xxl"):
            raise ValueError(f"{text_encoder}: it is another text encoder, not a T5-XXL")
        self.vae = _loaded(
            vae, "a VAE", lambda: _valid(comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(vae), safe_load=True)))
        )
        self.negative = self._encoded(NEGATIVE)
        self.cached: dict[int, Any] = {}  # MODELs by their number of I-steps

    def __call__(self, batch: int) -> Callable[[FidMethod], Tensor]:
        """A function from a method to the latents (B, C, H, W) of one batch."""
        first = batch * self.protocol.batch
        latent_format = self.model.get_model_object("latent_format")
        side = self.resolution // latent_format.spacial_downscale_ratio
        noise = starting_noise(
            (self.protocol.batch, latent_format.latent_channels, side, side),
            self.protocol.seed + first,
            torch.zeros(()),
        )
        wanted = [self._encoded(self.prompts[(first + row) % len(self.prompts)]) for row in range(self.protocol.batch)]
        return lambda method: torch.cat([self._sample(method, *one) for one in zip(wanted, noise.split(1))])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The pixels (B, 3, H, W), in [-1, 1], of latents."""
        return self.vae.decode(latents).movedim(-1, 1).to(self.device) * 2 - 1

    @torch.no_grad()
    def _sample(self, method: FidMethod, positive: list, noise: Tensor) -> Tensor:
        import comfy.sample

        solver, steps = self.protocol.solver_and_steps(method)
        return comfy.sample.sample(
            self._model(method),
            noise,
            steps,
            self.protocol.cfg,
            solver,
            SCHEDULER,
            positive,
            self.negative,
            torch.zeros_like(noise),
            sigmas=self.protocol.schedule.sigmas(steps),
            disable_pbar=True,
            seed=self.protocol.seed,
        )

    def _model(self, method: FidMethod) -> Any:
        if method.name != "tokencache":
            return self.model
        if method.count not in self.cached:
            self.cached[method.count] = apply_on_host(self.model, DEFAULTS, method.count)[0]
        return self.cached[method.count]

    @torch.no_grad()
    def _encoded(self, prompt: str) -> list:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(prompt))


def _loaded(file: Path, kind: str, load: Callable[[], Any]) -> Any:
    """The result of `load`; ValueError, in one line, if the host cannot load the file as this kind."""
    try:
        return load()
    except Exception as error:  # the host's detection raises many kinds of errors
        reason, *_ = [*str(error).strip().splitlines(), type(error).__name__]
        raise ValueError(f"{file}: ComfyUI cannot load it as {kind} ({reason})") from error


def _valid(vae: Any) -> Any:
    vae.throw_exception_if_invalid()
    return vae
