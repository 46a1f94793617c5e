"""Train the reference text-to-video model: `python -m reference.train_video --out reference/runs/clips`. Interrupt it
or let it end, and run it again to resume.

A transformer of Open-Sora-Plan 1.1's shape, but small, learns clips of emoji (clips.py) as pixels: it predicts the
noise at one of 1,000 timesteps (Ho et al. 2020, arXiv 2006.11239) under min-SNR weights (gamma 5, arXiv 2303.09556).
The first phase has clips of half the side, a quarter of the tokens: clips and their noise are pooled, the network is
told the timestep of the whole clip, and its places lie twice as far apart, so that the second phase only has fine
detail to add. Matrices of the blocks are stepped by Muon (Jordan et al. 2024; scaled as in Liu et al., arXiv
2502.16982, equation 4), all else by AdamW.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokencache_core.blocks.attention import OVERRIDE_KEY
from tokencache_core.flux.prompts import PromptTable
from tokencache_core.open_sora_plan.config import VideoConfig
from tokencache_core.open_sora_plan.model import VideoTransformer
from tokencache_core.sampling.noise_schedule import TRAIN_STEPS, train_sigmas

from .clips import PROMPT_WORDS, Clips, Sprites, examples, load_sprites, vocabulary

SAVE_EVERY = 300  # seconds
TOLD_EVERY = 20  # seconds
MIN_SNR = 5.0


@dataclass(frozen=True)
class Recipe:
    """Counted in clips seen, so that a run means the same at any speed."""

    width: int = 160
    depth: int = 7
    heads: int = 4
    text_width: int = 64
    patch_size: int = 4
    size: int = 32
    frames: int = 8
    half_batch: int = 32
    full_batch: int = 16
    half_resolution: int = 120_000  # clips in the first phase
    full_resolution: int = 50_000  # clips in the second phase
    warmup: int = 2_000
    decay: int = 15_000  # the last clips, over which the learning rate falls to zero
    lr: float = 1e-3
    full_lr: float = 0.5  # of the learning rate, in the second phase: its batches are smaller
    table_scale: float = 5.0  # of the learning rate of the words' table, whose rows are seldom seen
    ema_clips: float = 6_000.0  # time constant of the weight average
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
        rise = (seen + self.batch(seen)) / self.warmup
        return self.lr * phase * min(1.0, rise, max(0.0, (self.total - seen) / self.decay))


def network_config(recipe: Recipe) -> VideoConfig:
    return VideoConfig(
        width=recipe.width,
        depth=recipe.depth,
        heads=recipe.heads,
        patch_size=recipe.patch_size,
        in_channels=3,
        learn_sigma=False,
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


class Trainer:
    """Model, average, optimisers and random state: all that a checkpoint holds."""

    def __init__(self, recipe: Recipe, sprites: Sprites, compiled: bool = False) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.seen, self.losses = recipe, 0, []
        self.model, self.average = (ClipModel(recipe, sprites) for _ in range(2))
        self.network, self.prompts = self.model.network, self.model.prompts
        self.network.initialise()
        self.prompts.initialise()
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False)
        self.clips = Clips(sprites, self.prompts, recipe.frames, recipe.size)
        self.random = torch.Generator().manual_seed(recipe.seed)
        self.sigmas = train_sigmas()
        matrices = [p for name, p in self.network.blocks.named_parameters() if name.endswith(".weight")]
        chosen = {id(p) for p in matrices}
        others = [p for p in self.network.parameters() if id(p) not in chosen]
        self.optimizers = [
            torch.optim.Muon([{"params": matrices, "scale": 1.0}], weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(
                [
                    {"params": others, "scale": 1.0},
                    {"params": list(self.prompts.parameters()), "scale": recipe.table_scale},
                ],
                betas=(0.9, 0.99),
                weight_decay=0.01,
                fused=True,
            ),
        ]
        self.predict: Callable[..., Tensor] = torch.compile(self.network, dynamic=False) if compiled else self.network

    def step(self) -> float:
        """One batch; returns its loss."""
        recipe = self.recipe
        batch = self.clips.draw(recipe.batch(self.seen), self.random)
        loss = self._loss(batch.clips, batch.prompts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["scale"] * recipe.learning_rate(self.seen)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.seen += len(batch.clips)
        self._average(len(batch.clips))
        return loss.item()

    def _loss(self, clips: Tensor, prompts: Tensor) -> Tensor:
        t = torch.randint(TRAIN_STEPS, (len(clips),), generator=self.random)
        sigma = self.sigmas[t][:, None, None, None, None]
        if self.recipe.halved(self.seen):
            clips, sigma = F.avg_pool3d(clips, (1, 2, 2)), sigma / 2  # noise of four pixels, averaged, is half as large
        noise = torch.randn(clips.shape, generator=self.random)
        noisy = (clips + sigma * noise) / (1 + sigma**2).sqrt()
        text, _ = self.prompts(prompts)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = self.predict(noisy, t, text, {OVERRIDE_KEY: explicit_attention})
        weight = (MIN_SNR * sigma**2).clamp(max=1.0)  # min(SNR, 5) / SNR
        return (weight * (predicted.float() - noise).square()).mean()

    @torch.no_grad()
    def _average(self, clips: int) -> None:
        # the window opens with training, so that early samples show the model and not its first weights
        window = min(self.recipe.ema_clips, 0.1 * self.seen + 1)
        for average, present in zip(self.average.parameters(), self.model.parameters()):
            average.lerp_(present, min(1.0, clips / window))

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
    parser.add_argument("--half-resolution", type=int, default=Recipe.half_resolution, help="clips in the first phase")
    parser.add_argument("--full-resolution", type=int, default=Recipe.full_resolution, help="clips in the second phase")
    parser.add_argument(
        "--decay", type=int, default=Recipe.decay, help="the last clips, over which the learning rate falls to zero"
    )
    parser.add_argument("--lr", type=float, default=Recipe.lr, help="learning rate")
    parser.add_argument("--compile", action="store_true", help="use torch.compile, which needs a C++ compiler")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    args.out.mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in vars(args).items() if name not in ("out", "compile")}
    signals: list[int] = []
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda number, frame: signals.append(number))
    train(Recipe(**options), load_sprites(), args.out, args.compile, stopped=lambda: bool(signals))


def train(
    recipe: Recipe, sprites: Sprites, out: Path, compiled: bool = False, stopped: Callable[[], bool] = lambda: False
) -> Trainer:
    """Train to the end of the recipe, from the folder's checkpoint if it has one. stopped: asked after every step."""
    trainer, checkpoint = Trainer(recipe, sprites, compiled), out / "last.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    recent: list[float] = []
    told = saved = time.monotonic()
    told_at = trainer.seen
    while trainer.seen < recipe.total and not stopped():
        recent.append(trainer.step())
        now = time.monotonic()
        if now - told >= TOLD_EVERY:
            loss = sum(recent) / len(recent)
            trainer.losses.append([trainer.seen, loss])
            speed = (trainer.seen - told_at) / (now - told)
            print(
                f"{trainer.seen} of {recipe.total} clips, {speed:.1f} a second, loss {loss:.4f}, "
                f"{(recipe.total - trainer.seen) / speed:.0f} s left",
                flush=True,
            )
            told, told_at = now, trainer.seen
            recent.clear()
        if now - saved >= SAVE_EVERY:
            trainer.save(checkpoint)
            saved = now
    trainer.save(checkpoint)
    return trainer


if __name__ == "__main__":
    main()
