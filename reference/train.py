"""Train the reference DiT: `python -m reference.train --out reference/runs/emoji`. Run it again to resume.

Noise prediction on DiT's linear schedule with min-SNR weights (Hang et al., arXiv 2303.09556, gamma 5), classes
dropped for guidance, EMA weights. The first phase denoises the noisy picture pooled to half its side, with the
position embedding subsampled: a quarter of the tokens, the same network, and at every timestep the same amount of
noise over the large shapes as at full resolution (Hoogeboom et al., arXiv 2301.11093, section 2.1).
Processes share each batch and average their gradients: on a few cores one process a core beats threads.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torchvision.utils import save_image
from tqdm import tqdm

from tokencache_core.dit.model import DiT, DiTConfig, sincos_pos_embed
from tokencache_core.dit.sampling import sample
from tokencache_core.sampling.noise_schedule import TRAIN_STEPS, alphas_cumprod, simple_sigmas
from tokencache_core.sampling.samplers import starting_noise

from .data import CATEGORIES, SHOWN, EmojiData, load_emoji

SAVE_EVERY = 5_000  # pictures


@dataclass(frozen=True)
class Recipe:
    """Counted in training pictures seen, so that a run means the same at any speed."""

    width: int = 192
    depth: int = 12
    size: int = 32
    batch: int = 64
    half_resolution: int = 220_032  # pictures in the first phase
    full_resolution: int = 36_032  # pictures in the second
    warmup: int = 3_000
    decay: int = 25_000  # the last pictures, over which the learning rate falls to zero
    lr: float = 1e-3
    table_scale: float = 5.0  # of the learning rate of the class table, whose rows are seldom seen
    ema_pictures: float = 8_000.0  # time constant of the weight average
    # shares of pictures named by category, sub-category, emoji; the others: null
    named_by: tuple[float, ...] = (0.1, 0.18, 0.6)
    min_snr_gamma: float = 5.0
    seed: int = 0

    @property
    def total(self) -> int:
        return self.half_resolution + self.full_resolution

    def learning_rate(self, seen: int) -> float:
        return self.lr * min(1.0, (seen + self.batch) / self.warmup, max(0.0, (self.total - seen) / self.decay))


class Trainer:
    """Model, average, optimiser and random state: all that a checkpoint holds."""

    def __init__(self, recipe: Recipe, data: EmojiData, compiled: bool, rank: int = 0, processes: int = 1) -> None:
        config = DiTConfig(
            width=recipe.width,
            depth=recipe.depth,
            heads=recipe.width // 64,
            in_channels=3,
            num_classes=len(data.classes),
            input_size=recipe.size,
            learn_sigma=False,
        )
        torch.manual_seed(recipe.seed)
        self.recipe, self.data, self.seen, self.losses = recipe, data, 0, []
        self.model, self.average = DiT(config), DiT(config)
        self.model.initialise()
        self.average.load_state_dict(self.model.state_dict())
        self.average.requires_grad_(False)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        table = self.model.y_embedder.embedding_table.weight
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.trained if p is not table], "scale": 1.0},
                {"params": [table], "scale": recipe.table_scale},
            ],
            lr=recipe.lr,
            betas=(0.9, 0.99),
            weight_decay=0.01,
            fused=True,
        )
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model
        self.rank, self.processes, self.share = rank, processes, recipe.batch // processes
        self.random = torch.Generator().manual_seed(recipe.seed + rank)
        grid = recipe.size // config.patch_size
        self.coarse = sincos_pos_embed(recipe.width, grid // 2, grid // 2, stride=2)
        self.alphas = alphas_cumprod().float()

    def step(self) -> float:
        recipe, random, share = self.recipe, self.random, self.share
        x, names = self.data.batch(share, random)
        names = torch.cat([names, torch.full((share, 1), len(self.data.classes))], dim=1)
        level = torch.bucketize(torch.rand(share, generator=random), torch.tensor(recipe.named_by).cumsum(0))
        labels = names.gather(1, level[:, None])[:, 0]
        loss = self._loss(x, labels)
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * recipe.learning_rate(self.seen)
        loss.backward()
        self._share_gradients()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.seen += share * self.processes
        self._average()
        return loss.item()

    def _loss(self, x: Tensor, labels: Tensor) -> Tensor:
        t = torch.randint(TRAIN_STEPS, (len(x),), generator=self.random)
        noise = torch.randn(x.shape, generator=self.random)
        kept = self.alphas[t].view(-1, 1, 1, 1)
        noisy, pos = kept.sqrt() * x + (1 - kept).sqrt() * noise, self.model.pos_embed
        if self.seen < self.recipe.half_resolution:
            noisy, pos, noise = F.avg_pool2d(noisy, 2), self.coarse, 2 * F.avg_pool2d(noise, 2)  # unit variance again
        predicted = self.forward(noisy, t.float(), labels, pos_embed=pos)
        snr = (kept / (1 - kept)).flatten()
        weight = snr.clamp(max=self.recipe.min_snr_gamma) / snr
        return (weight * (predicted - noise).square().mean(dim=(1, 2, 3))).mean()

    def _share_gradients(self) -> None:
        """Replace each process's gradients by their mean."""
        if self.processes > 1:
            gradients = [p.grad for p in self.trained if p.grad is not None]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(flat)
            for gradient, mean in zip(gradients, (flat / self.processes).split([g.numel() for g in gradients])):
                gradient.copy_(mean.view_as(gradient))

    @torch.no_grad()
    def _average(self) -> None:
        # the window opens with training, so that early grids show the model and not its first weights
        window = min(self.recipe.ema_pictures, 0.1 * self.seen + 1)
        new = min(1.0, self.recipe.batch / window)
        averages = [p for p, q in zip(self.average.parameters(), self.model.parameters()) if q.requires_grad]
        for average, trained in zip(averages, self.trained):
            average.lerp_(trained, new)

    def save(self, file: Path) -> None:
        """Called by all processes; the first writes."""
        states = [torch.empty_like(self.random.get_state()) for _ in range(self.processes)]
        if self.processes > 1:
            dist.all_gather(states, self.random.get_state())
        else:
            states[0] = self.random.get_state()
        if self.rank == 0:
            part = file.with_suffix(".part")
            torch.save(
                {
                    "model": self.model.state_dict(),
                    "average": self.average.state_dict(),
                    "seen": self.seen,
                    "optimizer": self.optimizer.state_dict(),
                    "random": torch.stack(states),
                    "losses": self.losses,
                },
                part,
            )
            part.replace(file)

    def load(self, file: Path) -> None:
        state = torch.load(file, weights_only=True)
        if len(state["random"]) != self.processes:
            raise SystemExit(
                f"{file} was written by {len(state['random'])} processes: resume with --processes "
                f"{len(state['random'])}"
            )
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.set_state(state["random"][self.rank].clone())  # it reads the storage from its start
        self.seen, self.losses = state["seen"], state["losses"]


def save_grid(model: DiT, classes: tuple[str, ...], file: Path) -> None:
    """A column a category, two rows of it and two of one of its emoji; guidance 4, 12 steps of dpmpp_2m."""
    labels = torch.tensor([classes.index(name) for name in 2 * CATEGORIES + 2 * SHOWN])
    size = model.config.input_size
    sigmas = simple_sigmas(12)
    noise = starting_noise((len(labels), 3, size, size), 0, sigmas[0])
    pictures = sample(model, labels, noise=noise, sigmas=sigmas, solver="dpmpp_2m")
    save_image(
        F.interpolate(pictures.clamp(-1, 1), scale_factor=2),
        file,
        nrow=len(CATEGORIES),
        normalize=True,
        value_range=(-1, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, sample grids and the loss log")
    parser.add_argument(
        "--half-resolution", type=int, default=Recipe.half_resolution, help="pictures in the first phase"
    )
    parser.add_argument(
        "--full-resolution", type=int, default=Recipe.full_resolution, help="pictures in the second phase"
    )
    parser.add_argument("--every", type=int, default=50_048, help="pictures between sample grids")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="data-parallel processes, one core each"
    )
    parser.add_argument("--no-compile", action="store_true", help="skip torch.compile (no C++ compiler at hand)")
    args = parser.parse_args()
    recipe = Recipe(half_resolution=args.half_resolution, full_resolution=args.full_resolution)
    if args.processes < 1 or recipe.batch % args.processes:
        parser.error(f"--processes must divide the batch of {recipe.batch}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1))
    load_emoji(recipe.size)  # fetched and prepared once, before there are several processes
    with tempfile.TemporaryDirectory() as folder:
        spawn(run, (args, recipe, f"file://{folder}/meet"), nprocs=args.processes)


def run(rank: int, args: argparse.Namespace, recipe: Recipe, meeting: str) -> None:
    """One process of the training."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=args.processes)
    trainer = Trainer(recipe, load_emoji(recipe.size), not args.no_compile, rank, args.processes)
    checkpoint = args.out / "last.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    recent = []
    with tqdm(total=recipe.total, initial=trainer.seen, unit="img", mininterval=10, disable=rank > 0) as bar:
        while trainer.seen < recipe.total:
            recent.append(trainer.step())
            bar.update(recipe.batch)
            if len(recent) == 100:
                trainer.losses.append([trainer.seen, sum(recent) / len(recent)])
                bar.set_postfix(loss=f"{trainer.losses[-1][1]:.4f}")
                recent.clear()
            if trainer.seen % SAVE_EVERY < recipe.batch or trainer.seen >= recipe.total:
                trainer.save(checkpoint)
            if rank == 0 and (trainer.seen % args.every < recipe.batch or trainer.seen >= recipe.total):
                save_grid(trainer.average, trainer.data.classes, args.out / f"grid-{trainer.seen:07d}.png")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
