"""Look at the reference text-to-video model: `python -m reference.video_samples --run reference/runs/clips`.

Writes a sheet of sampled clips, one clip a row, with its frames side by side, and the loss curve. `--export FILE`
writes the averaged weights as a model file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import save_image

from tokencache_core.flux.prompts import PromptTable
from tokencache_core.open_sora_plan.checkpoint import load_video_transformer, save_video_transformer
from tokencache_core.open_sora_plan.model import VideoTransformer
from tokencache_core.open_sora_plan.run import VideoRun
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise

from .clips import load_sprites
from .train_video import ClipModel, Recipe

STEPS, GUIDANCE = 50, 3.0
LICENCE = "weights Apache-2.0; trained on clips of Noto Emoji (Apache-2.0)"


@torch.no_grad()
def sampled(
    network: VideoTransformer,
    table: PromptTable,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int = STEPS,
    cfg: float = GUIDANCE,
    halved: bool = False,
) -> Tensor:
    """Clips (B, 3, F, S, S) in [-1, 1] by DDIM. halved: at half the side, as in the first phase of training."""
    batch, channels, frames, height, width = network.noise_shape(len(prompts))
    side = 2 if halved else 1
    sigmas = simple_sigmas(steps) / side
    noise = starting_noise((batch, channels, frames, height // side, width // side), seed, sigmas[0])
    positive, negative = (table.encode(texts)[0] for texts in (prompts, [""] * batch))
    kind = HalvedRun if halved else VideoRun
    return kind(network, positive, negative, noise=noise, sigmas=sigmas, cfg=cfg, solver="ddim").sample().clamp(-1, 1)


class HalvedRun(VideoRun):
    """A run of a network in the first phase of its training: it is told the timestep of twice the noise."""

    def timestep(self, sigma: Tensor) -> Tensor:
        return super().timestep(2 * sigma)


def load_run(run: Path) -> tuple[ClipModel, bool, list, int]:
    """A training's averaged model, whether it is in the first phase, its losses and the clips it has seen."""
    state = torch.load(run / "last.pt", weights_only=True)
    recipe = Recipe(**state["recipe"])
    model = ClipModel(recipe, load_sprites())
    model.load_state_dict(state["average"])
    return model.eval(), recipe.halved(state["seen"] - 1), state["losses"], state["seen"]


def sheet(clips: Tensor, file: Path) -> None:
    """One clip a row, its frames side by side."""
    frames = F.interpolate(clips.transpose(1, 2).flatten(0, 1), scale_factor=96 // clips.shape[-1])
    save_image((frames + 1) / 2, file, nrow=clips.shape[2], pad_value=0.5)


def loss_curve(losses: list[list[float]], file: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 3))
    axes.plot(*zip(*losses), linewidth=1)
    axes.set(xlabel="training clips seen", ylabel="loss (v, mean square)", yscale="log")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="folder of a training run")
    source.add_argument("--model", type=Path, help="model file")
    parser.add_argument("--out", type=Path, help="folder for the pictures; by default the run's")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the averaged weights to this .safetensors")
    parser.add_argument("--prompts", nargs="+", help="what to sample; by default the model's examples")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    name, losses, halved = "", [], False
    if args.run is not None:
        model, halved, losses, seen = load_run(args.run)
        network, table, name = model.network, model.prompts, f"-{seen:07d}"
    else:
        network, words = load_video_transformer(args.model)
        if words is None:
            parser.error(f"{args.model} brings no words of its own: this draws the reference model only")
        table = words
    out = args.out or args.run or Path(".")
    out.mkdir(parents=True, exist_ok=True)
    if losses:
        loss_curve(losses, out / "loss.png")
    if args.export is not None:
        save_video_transformer(network, table, args.export, licence=LICENCE)
    prompts = args.prompts or list(table.examples)
    clips = sampled(network, table, prompts, seed=args.seed, steps=args.steps, cfg=args.guidance, halved=halved)
    sheet(clips, out / f"samples{name}.png")
    print("\n".join(prompts))


if __name__ == "__main__":
    main()
