"""A small classifier of emoji by category, which judges samples: `python -m reference.classifier --out
reference/emoji-classifier.safetensors`.

It is trained on the same data as the DiT, except for a tenth of the emoji, which are held out to test it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from .data import CATEGORIES, EmojiData, load_emoji

FILE = Path(__file__).resolve().parent / "emoji-classifier.safetensors"


def _stage(channels: int, wider: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, wider, 3, padding=1),
        nn.BatchNorm2d(wider),
        nn.ReLU(),
        nn.Conv2d(wider, wider, 3, stride=2, padding=1),
        nn.BatchNorm2d(wider),
        nn.ReLU(),
    )


class EmojiClassifier(nn.Module):
    """From pictures (B, 3, 32, 32) in [-1, 1] to category logits (B, 9); `features` gives the (B, 128) before the last
    layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(_stage(3, 32), _stage(32, 64), _stage(64, 128))
        self.head = nn.Linear(128, len(CATEGORIES))

    def features(self, x: Tensor) -> Tensor:
        return self.stages(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def as_classified(pictures: Tensor) -> Tensor:
    """(B, 3, 32, 32) in [-1, 1], as the classifier sees pictures (B, 3, S, S)."""
    return F.adaptive_avg_pool2d(pictures.clamp(-1, 1), 32)


def load_classifier(file: Path = FILE) -> EmojiClassifier:
    classifier = EmojiClassifier()
    classifier.load_state_dict(load_file(file))
    return classifier.eval()


def train(data: EmojiData, steps: int, batch: int, seed: int) -> tuple[EmojiClassifier, float]:
    """The classifier and its accuracy on the held-out emoji (every tenth)."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    held_out = data.emoji % 10 == 0
    seen = data.only(~held_out)
    classifier = EmojiClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in tqdm(range(steps), unit="step", mininterval=5):
        x, names = seen.batch(batch, random)
        shift = torch.randint(-2, 3, (2,), generator=random).tolist()
        x = x.roll(shift, dims=(2, 3)) + 0.1 * torch.rand(1, generator=random) * torch.randn(x.shape, generator=random)
        loss = F.cross_entropy(classifier(x), names[:, 0], label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    classifier.eval()
    unseen = data.only(held_out)
    with torch.no_grad():
        right = classifier(unseen.pictures.float() / 127.5 - 1).argmax(dim=1) == unseen.category
    return classifier, right.float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    classifier, accuracy = train(load_emoji(), args.steps, batch=128, seed=0)
    save_file(classifier.state_dict(), args.out, metadata={"held_out_accuracy": f"{accuracy:.4f}"})
    print(f"accuracy on held-out emoji: {accuracy:.1%}; written to {args.out}")


if __name__ == "__main__":
    main()
