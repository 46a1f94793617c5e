"""Train the reference text-to-image model: `python -m reference.train_flow --out reference/runs/flow`. Interrupt it
or let it end, and run it again to resume.

A rectified flow (Liu et al., arXiv 2209.03003): the network predicts noise - picture on the straight line between them,
at logit-normal times (Esser et al., arXiv 2403.03206, section 3.1). The first phase has pictures of half the side, a
quarter of the tokens. It tells the network the time at which pictures of the full side have as much noise over their
large shapes (Hoogeboom et al., arXiv 2301.11093, section 2.1) and places its tokens twice as far apart, so that the
second phase only has fine detail to add.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tokencache_core.blocks.attention import OVERRIDE_KEY
from tokencache_core.flux.config import FluxConfig
from tokencache_core.flux.model import Flux
from tokencache_core.flux.prompts import PromptTable
from tokencache_core.flux.text_to_image import TextToImage

from .emoji_pairs import EmojiPairs, load_pairs
from .flow_batches import Batch, Batches, vocabulary
from .two_phase_training import TwoPhases, TwoPhaseTraining, phase_options, run_to_the_end, until_interrupted

STEPPED_BY_MUON = ("qkv.weight", "proj.weight", "mlp.0.weight", "mlp.2.weight", "linear1.weight", "linear2.weight")


@dataclass(frozen=True)
class Recipe(TwoPhases):
    """Counted in training pictures seen."""

    width: int = 256
    heads: int = 4
    axes: tuple[int, ...] = (8, 28, 28)
    double_blocks: int = 2
    single_blocks: int = 6
    text_width: int = 128
    size: int = 64
    half_batch: int = 64
    full_batch: int = 32
    half_resolution: int = 160_000
    full_resolution: int = 80_000
    edits: float = 0.4  # share of batches with reference pictures
    warmup: int = 5_000
    decay: int = 30_000
    ema_pictures: float = 15_000.0  # time constant of the weight average
    time_mean: float = math.log(3)  # of the logit of the time: sampling is best with shift 3
    time_spread: float = 1.3


def network_config(recipe: Recipe) -> FluxConfig:
    return FluxConfig(
        hidden_size=recipe.width,
        num_heads=recipe.heads,
        depth=recipe.double_blocks,
        depth_single_blocks=recipe.single_blocks,
        context_in_dim=recipe.text_width,
        vec_in_dim=recipe.text_width,
        axes_dim=recipe.axes,
        input_size=recipe.size,
    )


def explicit_attention(
    plain: Callable, q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, **_: Any
) -> Tensor:
    """What `plain` computes, as matrix products: on CPUs, in bfloat16, several times as fast there and back as the
    fused kernel.
    """
    with torch.autocast("cpu", enabled=False):  # which would take the softmax to float32
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2)


class Trainer(TwoPhaseTraining):
    samples = "pictures"

    def __init__(self, recipe: Recipe, pairs: EmojiPairs, compiled: bool = False, bf16: bool = False) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        words = vocabulary(pairs)
        self.model, self.average = (
            TextToImage(Flux(network_config(recipe)), PromptTable(words, recipe.text_width)) for _ in range(2)
        )
        self.model.initialise()
        super().__init__(
            recipe,
            self.model,
            self.average,
            matrices=[p for name, p in self.model.network.named_parameters() if name.endswith(STEPPED_BY_MUON)],
            table=list(self.model.prompts.parameters()),
            averaged_over=recipe.ema_pictures,
            bf16=bf16,
        )
        self.batches = Batches(pairs, self.model.prompts)
        self.rotations: dict[tuple, Tensor] = {}
        self.velocity = self.model.network.velocity_tokens
        if compiled:
            self.velocity = torch.compile(self.velocity, dynamic=False)

    def step(self) -> tuple[float, bool]:
        """One batch; returns its loss, and whether it had reference pictures."""
        edits = bool(torch.rand((), generator=self.random) < self.recipe.edits)
        batch = self.batches.draw(self.recipe.batch(self.seen), edits, self.random)
        return self.descend(self._loss(batch), len(batch.pictures)), edits

    def summary(self, steps: list[tuple[float, bool]]) -> dict[str, float]:
        plain, edits = (_mean([loss for loss, of in steps if of is kind]) for kind in (False, True))
        return {"loss": plain, "of edits": edits}

    def _loss(self, batch: Batch) -> Tensor:
        recipe, network = self.recipe, self.model.network
        x, references, stride = batch.pictures, batch.references, 1
        logit = recipe.time_mean + recipe.time_spread * torch.randn(len(x), generator=self.random)
        told = t = logit.sigmoid()
        if recipe.halved(self.seen):
            x, references = F.avg_pool2d(x, 2), None if references is None else F.avg_pool2d(references, 2)
            t, stride = t / (2 - t), 2  # half the noise to a picture: t / (1 - t) is halved
        t = t[:, None, None, None]
        noise = torch.randn(x.shape, generator=self.random)
        pictures = [torch.lerp(x, noise, t)] if references is None else [torch.lerp(x, noise, t), references]
        tokens = torch.cat([network.patchify(picture) for picture in pictures], dim=1)
        context, pooled = self.model.prompts(batch.prompts)
        pe = self._rotations(context.shape[1], [picture.shape[-2:] for picture in pictures], stride)
        with self.mixed_precision():
            predicted = self.velocity(tokens, told, context, pooled, pe, {OVERRIDE_KEY: explicit_attention})
        target = network.patchify(noise - x)
        return F.mse_loss(predicted[:, : target.shape[1]].float(), target)

    def _rotations(self, n_text: int, sizes: list, stride: int) -> Tensor:
        key = n_text, tuple(map(tuple, sizes)), stride
        if key not in self.rotations:
            self.rotations[key] = self.model.network.rotations(n_text, sizes, stride)
        return self.rotations[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    phase_options(parser, Recipe, "pictures")
    parser.add_argument("--edits", type=float, default=Recipe.edits, help="share of batches with reference pictures")
    parser.add_argument("--no-compile", action="store_true", help="skip torch.compile (no C++ compiler at hand)")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in vars(args).items() if name not in ("out", "no_compile", "bf16")}
    training = Trainer(Recipe(**options), load_pairs(Recipe.size), not args.no_compile, args.bf16)
    run_to_the_end(training, args.out, until_interrupted())


def _mean(losses: list[float]) -> float:
    """Not a number where there are none."""
    return sum(losses) / len(losses) if losses else math.nan


if __name__ == "__main__":
    main()
