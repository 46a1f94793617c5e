"""Turns a training's folder into the files that are shipped: `python -m reference.publish --run reference/runs/emoji`.

It writes the averaged weights as fp16 with their metadata, the loss curve, and a sample grid with each sample's nearest
training picture, and prints how often the classifier agrees with the wanted category.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import make_grid, save_image
from tqdm import tqdm

from tokencache_core.dit.checkpoint import load_dit, save_dit
from tokencache_core.dit.model import DiT, DiTConfig
from tokencache_core.dit.sampling import sample
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise

from .classifier import load_classifier
from .data import CATEGORIES, PACKAGE, SHOWN, EmojiData, load_emoji

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE / "emoji-dit.safetensors"


def export(run: Path, classes: tuple[str, ...]) -> list[list[float]]:
    """Write the averaged weights in the training's folder `run` to WEIGHTS; returns the loss curve."""
    state = torch.load(run / "last.pt", weights_only=True)
    recipe = json.loads((run / "recipe.json").read_text())
    width = recipe["width"]
    model = DiT(
        DiTConfig(
            width=width,
            depth=recipe["depth"],
            heads=width // 64,
            in_channels=3,
            num_classes=len(classes),
            input_size=recipe["size"],
            learn_sigma=False,
        )
    )
    model.load_state_dict(state["average"])
    save_dit(
        model.half(),
        WEIGHTS,
        {
            "class_names": json.dumps(classes),
            "data": f"Noto emoji pictures of the npm package {PACKAGE}",
            "licence": "weights Apache-2.0; pictures: Noto Emoji, Apache-2.0",
            "pictures_seen": str(state["seen"]),
            "recipe": json.dumps(recipe),
        },
    )
    return state["losses"]


def samples(model: DiT, labels: Tensor, seed: int, steps: int, solver: str, cfg: float) -> Tensor:
    size, sigmas = model.config.input_size, simple_sigmas(steps)
    noise = starting_noise((len(labels), 3, size, size), seed, sigmas[0])
    return sample(model, labels, noise=noise, sigmas=sigmas, cfg=cfg, solver=solver).clamp(-1, 1)


def nearest(pictures: Tensor, data: EmojiData) -> Tensor:
    """Each picture's nearest training picture by mean squared error, including mirror images."""
    known = data.pictures.float() / 127.5 - 1
    known = torch.cat([known, known.flip(-1)])
    return known[torch.cdist(pictures.flatten(1), known.flatten(1)).argmin(dim=1)]


def sample_grid(model: DiT, data: EmojiData, file: Path, rows: int) -> None:
    """Write a picture with samples on the left and their nearest training pictures on the right.

    There is one column per category; the samples in the lower half of the rows have one of its emoji as their class.
    """
    # older weights only have categories as classes
    by_name = SHOWN if model.config.num_classes == len(data.classes) else CATEGORIES
    names = (rows - rows // 2) * CATEGORIES + rows // 2 * by_name
    labels = torch.tensor([data.classes.index(name) for name in names])
    drawn = samples(model, labels, seed=0, steps=50, solver="ddim", cfg=4.0)
    halves = [
        make_grid((F.interpolate(half, scale_factor=2) + 1) / 2, nrow=len(CATEGORIES), pad_value=1.0)
        for half in (drawn, nearest(drawn, data))
    ]
    gap = torch.zeros(3, halves[0].shape[1], 6)
    save_image(torch.cat([halves[0], gap, halves[1]], dim=2), file)


def loss_curve(losses: list[list[float]], file: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot(*zip(*losses), linewidth=1)
    axes.set(xlabel="training pictures seen", ylabel="loss (min-SNR weighted)", yscale="log")
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def accuracy(model: DiT, data: EmojiData, count: int, batch: int = 64) -> Tensor:
    """The share (levels, 9) of samples that the classifier assigns to their category (12 steps of dpmpp_2m, guidance
    4).

    Categories take turns; in one round the classes are categories, in the next sub-categories, in the third emoji, as
    far as the model has them.
    """
    classifier, right = load_classifier(), []
    wanted, rounds = torch.arange(count) % len(CATEGORIES), torch.arange(count) // len(CATEGORIES)
    random = torch.Generator().manual_seed(0)
    levels = [
        level for level in (data.category, data.subcategory, data.emoji) if level.max() < model.config.num_classes
    ]
    labels = torch.stack(
        [
            _drawn(levels[turn % len(levels)][data.category == category], random)
            for category, turn in zip(wanted, rounds)
        ]
    )
    for start in tqdm(range(0, count, batch), unit="batch"):
        drawn = samples(
            model, labels[start : start + batch], seed=100_000 + start, steps=12, solver="dpmpp_2m", cfg=4.0
        )
        with torch.no_grad():
            right.append(classifier(drawn).argmax(dim=1) == wanted[start : start + batch])
    hits = torch.cat(right).float()
    return torch.stack(
        [
            torch.stack(
                [
                    hits[(wanted == category) & (rounds % len(levels) == level)].mean()
                    for category in range(len(CATEGORIES))
                ]
            )
            for level in range(len(levels))
        ]
    )


def _drawn(labels: Tensor, random: torch.Generator) -> Tensor:
    """One of the different `labels` (N,), with equal probability."""
    different = labels.unique()
    return different[torch.randint(len(different), (), generator=random)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="folder of the training to export; default: judge the shipped weights")
    parser.add_argument("--rows", type=int, default=6, help="rows of the sample grid")
    parser.add_argument("--count", type=int, default=1024, help="samples for the accuracy; 0 skips it")
    args = parser.parse_args()
    data = load_emoji()
    if args.run is not None:
        loss_curve(export(args.run, data.classes), HERE / "emoji-dit-loss.png")
    model = load_dit(WEIGHTS)
    sample_grid(model, data, HERE / "emoji-dit-samples.png", args.rows)
    if args.count:
        shares = accuracy(model, data, args.count)
        by = ", ".join(
            f"{share:.1%} by {level}" for level, share in zip(("category", "sub-category", "emoji"), shares.mean(dim=1))
        )
        print(f"{args.count} samples, right: {shares.mean():.1%}; asked {by}")
        for name, row in zip(CATEGORIES, shares.T.tolist()):
            print(f"  {name}: {', '.join(f'{share:.1%}' for share in row)}")


if __name__ == "__main__":
    main()
