"""Train the reference text-to-video model: `python -m reference.train_video --out reference/runs/clips`. Interrupt it
or let it end, and run it again to resume.

A transformer of Open-Sora-Plan 1.1's shape, but small, learns clips of emoji (clips.py) as pixels. At one of the 1,000
timesteps of Ho et al. 2020 (arXiv 2006.11239) it predicts v (Salimans & Ho 2022, arXiv 2202.00512), as version 1.3
does: where nearly all is noise, v is nearly the clip, while the noise, which 1.1 predicts, says little of it.
The first phase has clips of half the side, a quarter of the tokens: clips and their noise are pooled, the network is
told the timestep of the whole clip, and its places lie twice as far apart, so that the second phase only has fine
detail to add.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokencache_core.blocks.attention import OVERRIDE_KEY
from tokencache_core.flux.prompts import PromptTable
from tokencache_core.open_sora_plan.config import VideoConfig
from tokencache_core.open_sora_plan.model import VideoTransformer
from tokencache_core.sampling.noise_schedule import TRAIN_STEPS, train_sigmas

from .clips import PROMPT_WORDS, Clips, Sprites, examples, load_sprites, vocabulary
from .two_phase_training import TwoPhases, TwoPhaseTraining, phase_options, run_to_the_end, until_interrupted


@dataclass(frozen=True)
class Recipe(TwoPhases):
    """Counted in clips seen."""

    width: int = 168
    depth: int = 5
    heads: int = 4
    text_width: int = 64
    patch_size: int = 4
    size: int = 32
    frames: int = 8
    half_batch: int = 8  # small: in so short a training, the number of steps counts
    full_batch: int = 4
    half_resolution: int = 20_000
    full_resolution: int = 6_500
    warmup: int = 1_000
    decay: int = 3_000
    lr: float = 2.5e-3
    ema_clips: float = 6_000.0  # time constant of the weight average


def network_config(recipe: Recipe) -> VideoConfig:
    return VideoConfig(
        width=recipe.width,
        depth=recipe.depth,
        heads=recipe.heads,
        patch_size=recipe.patch_size,
        in_channels=3,
        learn_sigma=False,
        predicts_velocity=True,
        caption_channels=recipe.text_width,
        sample_size=recipe.size,
        video_length=recipe.frames,
    )


class ClipModel(nn.Module):
    """The network, and the words that it is asked by."""

    def __init__(self, recipe: Recipe, sprites: Sprites) -> None:
        super().__init__()
        self.network = VideoTransformer(network_config(recipe))
        self.prompts = PromptTable(vocabulary(sprites), recipe.text_width, PROMPT_WORDS, examples(sprites))


def explicit_attention(plain: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, **_: object) -> Tensor:
    """What `plain` computes, as matrix products: on CPUs, in bfloat16, several times as fast there and back as the
    fused kernel.
    """
    with torch.autocast("cpu", enabled=False):  # which would take the softmax to float32
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2)


class Trainer(TwoPhaseTraining):
    samples = "clips"

    def __init__(self, recipe: Recipe, sprites: Sprites, compiled: bool = False, bf16: bool = False) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.model, self.average = (ClipModel(recipe, sprites) for _ in range(2))
        network, self.prompts = self.model.network, self.model.prompts
        network.initialise()
        self.prompts.initialise()
        super().__init__(
            recipe,
            self.model,
            self.average,
            matrices=[p for name, p in network.blocks.named_parameters() if name.endswith(".weight")],
            table=list(self.prompts.parameters()),
            averaged_over=recipe.ema_clips,
            bf16=bf16,
        )
        self.clips = Clips(sprites, self.prompts, recipe.frames, recipe.size)
        self.sigmas = train_sigmas()
        self.predict: Callable[..., Tensor] = torch.compile(network, dynamic=False) if compiled else network

    def step(self) -> float:
        """One batch; returns its loss."""
        batch = self.clips.draw(self.recipe.batch(self.seen), self.random)
        return self.descend(self._loss(batch.clips, batch.prompts), len(batch.clips))

    def summary(self, steps: list[float]) -> dict[str, float]:
        return {"loss": sum(steps) / len(steps)}

    def _loss(self, clips: Tensor, prompts: Tensor) -> Tensor:
        t = torch.randint(TRAIN_STEPS, (len(clips),), generator=self.random)
        sigma = self.sigmas[t][:, None, None, None, None]
        if self.recipe.halved(self.seen):
            clips, sigma = F.avg_pool3d(clips, (1, 2, 2)), sigma / 2  # noise of four pixels, averaged, is half as large
        noise = torch.randn(clips.shape, generator=self.random)
        deviation = (1 + sigma**2).sqrt()
        noisy, velocity = (clips + sigma * noise) / deviation, (noise - sigma * clips) / deviation
        text, _ = self.prompts(prompts)
        with self.mixed_precision():
            predicted = self.predict(noisy, t, text, {OVERRIDE_KEY: explicit_attention})
        return F.mse_loss(predicted.float(), velocity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    phase_options(parser, Recipe, "clips")
    parser.add_argument("--compile", action="store_true", help="use torch.compile, which needs a C++ compiler")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in vars(args).items() if name not in ("out", "compile", "bf16")}
    training = Trainer(Recipe(**options), load_sprites(), args.compile, args.bf16)
    run_to_the_end(training, args.out, until_interrupted())


if __name__ == "__main__":
    main()
