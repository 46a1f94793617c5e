"""Train the reference DiT: `python -m reference.train --out reference/runs/emoji`. Run it again to resume.

Noise prediction on DiT's linear schedule with min-SNR weights (Hang et al., arXiv 2303.09556, gamma 5), classes
dropped for guidance, EMA weights. The first phase trains at half resolution with the position embedding
subsampled: a quarter of the tokens, and the same network.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import save_image
from tqdm import tqdm

from tokencache_core.dit import DiT, DiTConfig, sincos_pos_embed
from tokencache_core.noise_schedule import TRAIN_STEPS, alphas_cumprod, simple_sigmas
from tokencache_core.sampling import sample, starting_noise

from .data import CLASSES, EmojiData, load_emoji


@dataclass(frozen=True)
class Recipe:
    """Counted in training pictures seen, so that a run means the same at any speed."""

    width: int = 192
    depth: int = 12
    size: int = 32
    batch: int = 64
    half_resolution: int = 129_920   # pictures in the first phase
    full_resolution: int = 27_008    # pictures in the second
    warmup: int = 3_000
    decay: int = 25_000              # the last pictures, over which the learning rate falls to zero
    lr: float = 1e-3
    ema_pictures: float = 8_000.0    # time constant of the weight average
    label_dropout: float = 0.12
    min_snr_gamma: float = 5.0
    seed: int = 0

    @property
    def total(self) -> int:
        return self.half_resolution + self.full_resolution

    def learning_rate(self, seen: int) -> float:
        return self.lr * min(1.0, (seen + self.batch) / self.warmup, max(0.0, (self.total - seen) / self.decay))


class Trainer:
    """Model, average, optimiser and random state: all that a checkpoint holds."""

    def __init__(self, recipe: Recipe, data: EmojiData, compiled: bool) -> None:
        config = DiTConfig(
            width=recipe.width, depth=recipe.depth, heads=recipe.width // 64, in_channels=3,
            num_classes=len(CLASSES), input_size=recipe.size, learn_sigma=False,
        )
        torch.manual_seed(recipe.seed)
        self.recipe, self.data, self.seen, self.losses = recipe, data, 0, []
        self.model, self.average = DiT(config), DiT(config)
        self.model.initialise()
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=recipe.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.forward = torch.compile(self.model) if compiled else self.model
        self.random = torch.Generator().manual_seed(recipe.seed)
        grid = recipe.size // config.patch_size
        self.coarse = sincos_pos_embed(recipe.width, grid // 2, grid // 2, stride=2)
        self.alphas = alphas_cumprod().float()

    def step(self) -> float:
        recipe, random = self.recipe, self.random
        x, labels = self.data.batch(recipe.batch, random)
        pos = self.model.pos_embed
        if self.seen < recipe.half_resolution:
            x, pos = F.avg_pool2d(x, 2), self.coarse
        dropped = torch.rand(recipe.batch, generator=random) < recipe.label_dropout
        labels = torch.where(dropped, torch.full_like(labels, len(CLASSES)), labels)
        loss = self._loss(x, labels, pos)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate(self.seen)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.seen += recipe.batch
        self._average()
        return loss.item()

    def _loss(self, x: Tensor, labels: Tensor, pos: Tensor) -> Tensor:
        t = torch.randint(TRAIN_STEPS, (len(x),), generator=self.random)
        noise = torch.randn(x.shape, generator=self.random)
        kept = self.alphas[t].view(-1, 1, 1, 1)
        predicted = self.forward(kept.sqrt() * x + (1 - kept).sqrt() * noise, t.float(), labels, pos_embed=pos)
        snr = (kept / (1 - kept)).flatten()
        weight = snr.clamp(max=self.recipe.min_snr_gamma) / snr
        return (weight * (predicted - noise).square().mean(dim=(1, 2, 3))).mean()

    @torch.no_grad()
    def _average(self) -> None:
        # the window opens with training, so that early grids show the model and not its first weights
        window = min(self.recipe.ema_pictures, 0.1 * self.seen + 1)
        new = min(1.0, self.recipe.batch / window)
        averages = [p for p, q in zip(self.average.parameters(), self.model.parameters()) if q.requires_grad]
        torch._foreach_lerp_(averages, self.trained, new)

    def save(self, file: Path) -> None:
        part = file.with_suffix(".part")
        torch.save({
            "model": self.model.state_dict(), "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
            "random": self.random.get_state(), "seen": self.seen, "losses": self.losses,
        }, part)
        part.replace(file)

    def load(self, file: Path) -> None:
        state = torch.load(file, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.set_state(state["random"])
        self.seen, self.losses = state["seen"], state["losses"]


def save_grid(model: DiT, file: Path, rows: int = 4) -> None:
    """One column a class, guidance 4, 50 DDIM steps, seeds 0 to rows * classes - 1."""
    labels = torch.arange(len(CLASSES)).repeat(rows)
    size = model.config.input_size
    sigmas = simple_sigmas(50)
    noise = starting_noise((len(labels), 3, size, size), 0, sigmas[0])
    pictures = sample(model, labels, noise=noise, sigmas=sigmas)
    save_image(F.interpolate(pictures.clamp(-1, 1), scale_factor=2), file, nrow=len(CLASSES), normalize=True, value_range=(-1, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, sample grids and the loss log")
    parser.add_argument("--half-resolution", type=int, default=Recipe.half_resolution, help="pictures in the first phase")
    parser.add_argument("--full-resolution", type=int, default=Recipe.full_resolution, help="pictures in the second phase")
    parser.add_argument("--every", type=int, default=50_000, help="pictures between checkpoints with a sample grid")
    parser.add_argument("--no-compile", action="store_true", help="skip torch.compile (no C++ compiler at hand)")
    args = parser.parse_args()
    recipe = Recipe(half_resolution=args.half_resolution, full_resolution=args.full_resolution)
    args.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(recipe, load_emoji(recipe.size), compiled=not args.no_compile)
    checkpoint = args.out / "last.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    (args.out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    run(trainer, args.out, args.every)


def run(trainer: Trainer, out: Path, every: int) -> None:
    recipe, recent, saved_at = trainer.recipe, [], time.monotonic()
    with tqdm(total=recipe.total, initial=trainer.seen, unit="img", mininterval=10) as bar:
        while trainer.seen < recipe.total:
            recent.append(trainer.step())
            bar.update(recipe.batch)
            if len(recent) == 100:
                trainer.losses.append([trainer.seen, sum(recent) / len(recent)])
                bar.set_postfix(loss=f"{trainer.losses[-1][1]:.4f}")
                recent.clear()
            if trainer.seen % every < recipe.batch:
                save_grid(trainer.average, out / f"grid-{trainer.seen:07d}.png")
            if time.monotonic() - saved_at > 180:
                trainer.save(out / "last.pt")
                saved_at = time.monotonic()
    trainer.save(out / "last.pt")
    save_grid(trainer.average, out / "grid-final.png")


if __name__ == "__main__":
    main()
