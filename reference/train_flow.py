"""Train the reference text-to-image model: `python -m reference.train_flow --out reference/runs/flow`. Interrupt it
or let it end, and run it again to resume.

A rectified flow (Liu et al., arXiv 2209.03003): the network predicts noise - picture on the straight line between them,
at logit-normal times (Esser et al., arXiv 2403.03206, section 3.1). The first phase has pictures of half the side, a
quarter of the tokens. It tells the network the time at which pictures of the full side have as much noise over their
large shapes (Hoogeboom et al., arXiv 2301.11093, section 2.1) and places its tokens twice as far apart, so that the
second phase only has fine detail to add. Matrices of the blocks are stepped by Muon (Jordan et al. 2024; scaled as in
Liu et al., arXiv 2502.16982, equation 4), all else by AdamW.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
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

SAVE_EVERY = 300  # seconds
TOLD_EVERY = 20  # seconds
STEPPED_BY_MUON = ("qkv.weight", "proj.weight", "mlp.0.weight", "mlp.2.weight", "linear1.weight", "linear2.weight")


@dataclass(frozen=True)
class Recipe:
    """Counted in training pictures seen, so that a run means the same at any speed."""

    width: int = 256
    heads: int = 4
    axes: tuple[int, ...] = (8, 28, 28)
    double_blocks: int = 2
    single_blocks: int = 6
    text_width: int = 128
    size: int = 64
    half_batch: int = 64
    full_batch: int = 32
    half_resolution: int = 160_000  # pictures in the first phase
    full_resolution: int = 80_000  # pictures in the second
    edits: float = 0.4  # share of batches with reference pictures
    warmup: int = 5_000
    decay: int = 30_000  # the last pictures, over which the learning rate falls to zero
    lr: float = 1e-3
    full_lr: float = 0.5  # of the learning rate, in the second phase: its batches are smaller
    table_scale: float = 5.0  # of the learning rate of the words' table, whose rows are seldom seen
    ema_pictures: float = 15_000.0  # time constant of the weight average
    time_mean: float = math.log(3)  # of the logit of the time: sampling is best with shift 3
    time_spread: float = 1.3
    seed: int = 0

    @property
    def total(self) -> int:
        return self.half_resolution + self.full_resolution

    def halved(self, seen: int) -> bool:
        return seen < self.half_resolution

    def batch(self, seen: int) -> int:
        return self.half_batch if self.halved(seen) else self.full_batch

    def learning_rate(self, seen: int) -> float:
        phase = 1.0 if self.halved(seen) else self.full_lr
        return (
            self.lr
            * phase
            * min(1.0, (seen + self.batch(seen)) / self.warmup, max(0.0, (self.total - seen) / self.decay))
        )


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


class Trainer:
    """Model, average, optimisers and random state: all that a checkpoint holds."""

    def __init__(self, recipe: Recipe, pairs: EmojiPairs, compiled: bool = False) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.seen, self.losses = recipe, 0, []
        words = vocabulary(pairs)
        self.model, self.average = (
            TextToImage(Flux(network_config(recipe)), PromptTable(words, recipe.text_width)) for _ in range(2)
        )
        self.model.initialise()
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False)
        self.batches = Batches(pairs, self.model.prompts)
        self.random = torch.Generator().manual_seed(recipe.seed)
        by_muon = [p for name, p in self.model.network.named_parameters() if name.endswith(STEPPED_BY_MUON)]
        chosen = {id(p) for p in by_muon}
        others = [p for p in self.model.network.parameters() if id(p) not in chosen]
        self.optimizers = [
            torch.optim.Muon([{"params": by_muon, "scale": 1.0}], weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [
                    {"params": others, "scale": 1.0},
                    {"params": list(self.model.prompts.parameters()), "scale": recipe.table_scale},
                ],
                betas=(0.9, 0.99),
                weight_decay=0.01,
                fused=True,
            ),
        ]
        self.rotations: dict[tuple, Tensor] = {}
        self.velocity = self.model.network.velocity_tokens
        if compiled:
            self.velocity = torch.compile(self.velocity, dynamic=False)

    def step(self) -> tuple[float, bool]:
        """One batch; returns its loss, and whether it had reference pictures."""
        recipe = self.recipe
        edits = bool(torch.rand((), generator=self.random) < recipe.edits)
        batch = self.batches.draw(recipe.batch(self.seen), edits, self.random)
        loss = self._loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["scale"] * recipe.learning_rate(self.seen)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.seen += len(batch.pictures)
        self._average(len(batch.pictures))
        return loss.item(), edits

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
        with torch.autocast("cpu", torch.bfloat16):
            predicted = self.velocity(tokens, told, context, pooled, pe, {OVERRIDE_KEY: explicit_attention})
        target = network.patchify(noise - x)
        return F.mse_loss(predicted[:, : target.shape[1]].float(), target)

    def _rotations(self, n_text: int, sizes: list, stride: int) -> Tensor:
        key = n_text, tuple(map(tuple, sizes)), stride
        if key not in self.rotations:
            self.rotations[key] = self.model.network.rotations(n_text, sizes, stride)
        return self.rotations[key]

    @torch.no_grad()
    def _average(self, pictures: int) -> None:
        # the window opens with training, so that early samples show the model and not its first weights
        window = min(self.recipe.ema_pictures, 0.1 * self.seen + 1)
        for average, present in zip(self.average.parameters(), self.model.parameters()):
            average.lerp_(present, min(1.0, pictures / window))

    def save(self, file: Path) -> None:
        """Whole or not at all."""
        part = file.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "seen": self.seen,
                "losses": self.losses,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "random": self.random.get_state(),
                "recipe": asdict(self.recipe),
            },
            part,
        )
        part.replace(file)

    def load(self, file: Path) -> None:
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(kept)
        self.random.set_state(state["random"])
        self.seen, self.losses = state["seen"], state["losses"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint and the loss log")
    parser.add_argument(
        "--half-resolution", type=int, default=Recipe.half_resolution, help="pictures in the first phase"
    )
    parser.add_argument(
        "--full-resolution", type=int, default=Recipe.full_resolution, help="pictures in the second phase"
    )
    parser.add_argument(
        "--decay", type=int, default=Recipe.decay, help="the last pictures, over which the learning rate falls to zero"
    )
    parser.add_argument("--edits", type=float, default=Recipe.edits, help="share of batches with reference pictures")
    parser.add_argument("--lr", type=float, default=Recipe.lr, help="learning rate")
    parser.add_argument("--no-compile", action="store_true", help="skip torch.compile (no C++ compiler at hand)")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in vars(args).items() if name not in ("out", "no_compile")}
    signals: list[int] = []
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda number, frame: signals.append(number))
    train(Recipe(**options), load_pairs(Recipe.size), args.out, not args.no_compile, stopped=lambda: bool(signals))


def train(
    recipe: Recipe, pairs: EmojiPairs, out: Path, compiled: bool = False, stopped: Callable[[], bool] = lambda: False
) -> Trainer:
    """Train to the end of the recipe, from the folder's checkpoint if it has one. stopped: asked after every step."""
    trainer, checkpoint = Trainer(recipe, pairs, compiled), out / "last.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    recent: list[tuple[float, bool]] = []
    told = saved = time.monotonic()
    told_at = trainer.seen
    while trainer.seen < recipe.total and not stopped():
        recent.append(trainer.step())
        now = time.monotonic()
        if now - told >= TOLD_EVERY:
            plain, edits = (_mean([loss for loss, of in recent if of is kind]) for kind in (False, True))
            trainer.losses.append([trainer.seen, plain, edits])
            speed = (trainer.seen - told_at) / (now - told)
            print(
                f"{trainer.seen} of {recipe.total} pictures, {speed:.1f} a second, loss {plain:.4f}, "
                f"of edits {edits:.4f}, {(recipe.total - trainer.seen) / speed:.0f} s left",
                flush=True,
            )
            told, told_at = now, trainer.seen
            recent.clear()
        if now - saved >= SAVE_EVERY:
            trainer.save(checkpoint)
            saved = now
    trainer.save(checkpoint)
    return trainer


def _mean(losses: list[float]) -> float:
    """Not a number where there are none."""
    return sum(losses) / len(losses) if losses else math.nan


if __name__ == "__main__":
    main()
