"""Look at and measure the reference text-to-image model: `python -m reference.flow_samples --run reference/runs/flow`.

Writes a sample grid, the loss curve, samples with their nearest training pictures and edits of the pairs that training
did not see, and prints how often the classifier takes a sample for its category and how close edits come to the true
drawing. `--export FILE` writes the averaged weights as a model file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid, save_image

from tokencache_core.flux.file import load_flux, save_flux
from tokencache_core.flux.model import Flux
from tokencache_core.flux.prompts import PromptTable
from tokencache_core.flux.sampling import flow_times, guided_velocity
from tokencache_core.flux.text_to_image import TextToImage
from tokencache_core.sampling.samplers import starting_noise

from .classifier import as_classified, load_classifier
from .data import CATEGORIES
from .emoji_pairs import STYLES, EmojiPairs, load_pairs
from .flow_batches import evenly_asked, examples, prompt_of, vocabulary
from .train_flow import Recipe, network_config

STEPS, SHIFT, GUIDANCE = 20, 3.0, 3.5
SHOWN = (
    "grinning face",
    "firefighter",
    "panda face",
    "watermelon",
    "taxi",
    "trophy",
    "gift",
    "no entry",
    "france flag",
    "red heart",
    "cat face",
    "soccer ball",
)
LICENCE = (
    "weights Apache-2.0; trained on Noto Emoji (Apache-2.0) and Twemoji (graphics CC-BY 4.0, Twitter, Inc and other "
    "contributors)"
)


class Drawer:
    """Draws pictures by the model: at half the side while it is in the first phase of its training."""

    def __init__(self, model: TextToImage, halved: bool, guidance: float = GUIDANCE, steps: int = STEPS) -> None:
        self.model, self.halved, self.guidance, self.steps = model.eval(), halved, guidance, steps

    @property
    def size(self) -> int:
        return self.model.network.config.input_size // (2 if self.halved else 1)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], seed: int, references: Tensor | None = None) -> Tensor:
        """(B, 3, size, size) in [-1, 1] by Euler's method; references (B, 3, size, size)."""
        positive, negative = self.model.prompts.encode(prompts), self.model.prompts.encode([""] * len(prompts))
        velocity = guided_velocity(
            self.model.network,
            positive,
            negative,
            self.guidance,
            () if references is None else (references,),
            stride=2 if self.halved else 1,
        )
        told = flow_times(self.steps, SHIFT)
        times = told / (2 - told) if self.halved else told  # see train_flow
        x = starting_noise((len(prompts), 3, self.size, self.size), seed, torch.zeros(()))
        for index, (t, following) in enumerate(zip(times[:-1], times[1:])):
            x = x + (following - t) * velocity(x, told[index])
        return x.clamp(-1, 1)


def load_run(run: Path, pairs: EmojiPairs, averaged: bool = True) -> tuple[TextToImage, bool, list, int]:
    """The run's model, whether it is in the first phase, its losses and how many pictures it has seen."""
    state = torch.load(run / "last.pt", weights_only=True)
    recipe = Recipe(**state["recipe"])
    model = TextToImage(
        Flux(network_config(recipe)), PromptTable(vocabulary(pairs), recipe.text_width, examples=examples(pairs))
    )
    model.load_state_dict(state["average" if averaged else "model"])
    return model.eval(), recipe.halved(state["seen"] - 1), state["losses"], state["seen"]


def pictures(pairs: EmojiPairs, style: int, chosen: Tensor, size: int) -> Tensor:
    """(B, 3, size, size) in [-1, 1]."""
    return F.adaptive_avg_pool2d(pairs.pictures[style, chosen].float() / 127.5 - 1, size)


def sample_grid(draw: Drawer, file: Path) -> None:
    """A column a prompt; two seeds of either style."""
    rows = [draw([f"{style} {name}" for name in SHOWN], seed) for style in STYLES for seed in (0, 1000)]
    save_image((_shown(torch.cat(rows)) + 1) / 2, file, nrow=len(SHOWN), pad_value=0.5)


def nearest(drawn: Tensor, pairs: EmojiPairs) -> Tensor:
    """Each picture's nearest training picture (mirror images included), by mean squared error."""
    seen = (~pairs.kept_back).nonzero()[:, 0]
    known = torch.cat([pictures(pairs, style, seen, drawn.shape[-1]) for style in range(len(STYLES))])
    known = torch.cat([known, known.flip(-1)])
    return known[torch.cdist(drawn.flatten(1), known.flatten(1)).argmin(dim=1)]


def unseen(pairs: EmojiPairs, count: int) -> Tensor:
    """(count,): pictures that training did not see, evenly spread over all of them."""
    chosen = pairs.kept_back.nonzero()[:, 0]
    return chosen[torch.linspace(0, len(chosen) - 1, count).long()]


def write_references(pairs: EmojiPairs, folder: Path, count: int) -> None:
    """Noto's drawings of emoji that training did not see, each named by the prompt for Twemoji's."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in unseen(pairs, count).tolist():
        prompt = prompt_of(pairs, picture, list(STYLES)[1])
        pixels = pairs.pictures[0, picture].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{prompt.replace(' ', '-')}.png", optimize=True)


def edits(draw: Drawer, pairs: EmojiPairs, file: Path, count: int) -> tuple[float, float]:
    """Pairs that training did not see: Noto's drawing, the edit into Twemoji's style, Twemoji's drawing, in rows.
    Returns the mean PSNR of edits to the true drawing, and of the reference pictures to it.
    """
    chosen = unseen(pairs, count)
    given, true = (pictures(pairs, style, chosen, draw.size) for style in (0, 1))
    drawn = torch.cat([draw(["twitter"] * len(part), seed, part) for seed, part in enumerate(given.split(16))])
    save_image((_shown(torch.cat([given, drawn, true])) + 1) / 2, file, nrow=count, pad_value=0.5)
    return _psnr(drawn, true), _psnr(given, true)


def accuracy(draw: Drawer, pairs: EmojiPairs, count: int, batch: int = 32) -> tuple[float, list[float]]:
    """How often the classifier takes a sample asked for by style and name for its category: all, and by category in
    turn.
    """
    classifier, prompts, right = load_classifier(), evenly_asked(pairs, count), []
    wanted = torch.arange(count) % len(CATEGORIES)
    for start in range(0, count, batch):
        drawn = as_classified(draw(prompts[start : start + batch], 100_000 + start))
        with torch.no_grad():
            right.append(classifier(drawn).argmax(dim=1) == wanted[start : start + batch])
        print(f"{min(start + batch, count)} of {count} samples classified", file=sys.stderr, flush=True)
    hits = torch.cat(right).float()
    return hits.mean().item(), [hits[wanted == category].mean().item() for category in range(len(CATEGORIES))]


def loss_curve(losses: list[list[float]], file: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 3))
    for name, column in (("text to image", 1), ("edits", 2)):
        known = [(row[0], row[column]) for row in losses if len(row) > column]
        axes.plot(*zip(*known), linewidth=1, label=name)
    axes.legend()
    axes.set(xlabel="training pictures seen", ylabel="loss (velocity, mean square)", yscale="log")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def _psnr(a: Tensor, b: Tensor) -> float:
    """Mean over pictures in [-1, 1], in dB."""
    return (10 * torch.log10(4 / (a - b).square().flatten(1).mean(dim=1))).mean().item()


def _shown(small: Tensor) -> Tensor:
    return F.interpolate(small, scale_factor=128 // small.shape[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="folder of a training run")
    source.add_argument("--model", type=Path, help="model file")
    parser.add_argument(
        "--export",
        type=Path,
        metavar="FILE",
        help="write the averaged weights to this .safetensors file; pictures are named after it and lie beside it",
    )
    parser.add_argument(
        "--references",
        type=Path,
        metavar="FOLDER",
        help="write the pictures to edit, each named by its prompt, for --references of other commands",
    )
    parser.add_argument("--count", type=int, default=0, help="samples for the classifier's verdict; 0 skips it")
    parser.add_argument("--edits", type=int, default=12, help="pairs kept back that are edited; 0 skips them")
    parser.add_argument("--nearest", action="store_true", help="show samples with their nearest training pictures")
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    pairs = load_pairs()
    halved, seen, losses = False, None, None
    if args.run is not None:
        model, halved, losses, seen = load_run(args.run, pairs)
    else:
        model = load_flux(args.model)
    if args.export is not None:
        save_flux(model, args.export, licence=LICENCE)
    file: Path = args.export or args.model or Path(args.run or "") / f"{seen or 0:07d}"
    out, name = file.parent, file.stem
    if losses:
        loss_curve(losses, out / f"{name}-loss.png")
    if args.references is not None:
        write_references(pairs, args.references, args.edits)
    draw = Drawer(model, halved, args.guidance)
    sample_grid(draw, out / f"{name}-samples.png")
    if args.nearest:
        drawn = draw([f"{style} {each}" for style in STYLES for each in SHOWN], 0)
        rows = [
            make_grid((_shown(half) + 1) / 2, nrow=len(SHOWN), pad_value=0.5) for half in (drawn, nearest(drawn, pairs))
        ]
        save_image(torch.cat(rows, dim=1), out / f"{name}-nearest.png")
    if args.edits:
        edited, unedited = edits(draw, pairs, out / f"{name}-edits.png", args.edits)
        print(
            f"{args.edits} edits of unseen pairs: {edited:.1f} dB to the true drawing "
            f"(the reference picture itself: {unedited:.1f} dB)"
        )
    if args.count:
        share, shares = accuracy(draw, pairs, args.count)
        print(f"{args.count} samples, taken for their category: {share:.1%}")
        print("\n".join(f"  {category}: {each:.1%}" for category, each in zip(CATEGORIES, shares)))


if __name__ == "__main__":
    main()
