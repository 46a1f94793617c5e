"""Short clips made of emoji: one picture moves, grows, shrinks, turns or fades over a ground, which is still or pans.

A clip's prompt names the emoji and says what happens, as in "taxi moves leftward" or "panda face turns, ground pans".
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tokencache_core.flux.prompts import PromptTable, words_of

from .data import CACHE, PACKAGE, fetch

CATEGORIES = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities")
MOTIONS = (
    "stays",
    "moves leftward",
    "moves rightward",
    "moves upward",
    "moves downward",
    "grows",
    "shrinks",
    "turns",
    "fades",
)
PANS = "ground pans"
PANNING = 0.25  # share of clips whose ground pans
UNCONDITIONAL = 0.1  # prompts left empty, for classifier-free guidance (arXiv 2207.12598)
SPRITE = 64  # side of an emoji, in pixels, before it is drawn
PROMPT_WORDS = 12
EXAMPLE_NAMES = 12  # emoji among the examples of prompts


@dataclass(frozen=True)
class Sprites:
    """Emoji (N, 4, SPRITE, SPRITE) uint8, RGB times opacity and opacity, and their names."""

    pictures: Tensor
    names: tuple[str, ...]


def load_sprites() -> Sprites:
    """The first emoji of every sub-category of four categories, prepared on first use."""
    file = CACHE / f"emoji-clips-{SPRITE}.npz"
    if not file.exists():
        _prepare(file)
    arrays = np.load(file, allow_pickle=False)
    return Sprites(torch.from_numpy(arrays["pictures"]), tuple(arrays["names"].tolist()))


def first_of_each_kind(index: list[dict]) -> list[dict]:
    """The entries of a package's index that are the first of a sub-category of CATEGORIES, with different names."""
    entries = sorted((e for e in index if e["category"] in CATEGORIES), key=lambda entry: entry["sort_order"])
    first: dict[tuple[str, str], dict] = {}
    for entry in entries:
        first.setdefault((entry["category"], entry["subcategory"]), entry)
    return list({_name(entry): entry for entry in first.values()}.values())


def _name(entry: dict) -> str:
    return " ".join(words_of(entry["short_name"].replace("_", " ")))


def _prepare(file: Path) -> None:
    pictures, names = [], []
    with tarfile.open(fetch(PACKAGE)) as tar:
        for entry in first_of_each_kind(json.loads(_read(tar, "package/emoji.json"))):
            picture = (
                Image.open(io.BytesIO(_read(tar, f"package/img/google/64/{entry['image']}")))
                .convert("RGBA")
                .convert("RGBa")
            )
            pictures.append(np.asarray(picture.resize((SPRITE, SPRITE))).transpose(2, 0, 1))
            names.append(_name(entry))
    part = file.with_suffix(".part.npz")
    np.savez(part, pictures=np.stack(pictures), names=np.array(names))
    part.replace(file)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    if member is None:
        raise SystemExit(f"{tar.name}: {name} is no file")
    return member.read()


def vocabulary(sprites: Sprites) -> list[str]:
    """All words of the prompts."""
    return sorted({word for text in (*sprites.names, *MOTIONS, PANS) for word in words_of(text)})


def prompt_of(name: str, motion: str, pans: bool) -> str:
    return f"{name} {motion} {PANS}" if pans else f"{name} {motion}"


def examples(sprites: Sprites) -> list[str]:
    """Prompts of a few emoji, each with another motion."""
    names = sprites.names[:: max(1, len(sprites.names) // EXAMPLE_NAMES)][:EXAMPLE_NAMES]
    return [prompt_of(name, MOTIONS[number % len(MOTIONS)], number % 4 == 3) for number, name in enumerate(names)]


@dataclass(frozen=True)
class ClipBatch:
    """Clips (B, 3, F, S, S) in [-1, 1], and prompts as (B, words) rows of a table."""

    clips: Tensor
    prompts: Tensor


class Clips:
    """Draws clips of `frames` pictures of side `size`."""

    def __init__(self, sprites: Sprites, table: PromptTable, frames: int, size: int) -> None:
        self.pictures, self.names, self.table = sprites.pictures, sprites.names, table
        self.frames, self.size = frames, size

    def draw(self, count: int, random: torch.Generator) -> ClipBatch:
        """`count` clips: emoji, motion, start and ground are drawn at random."""
        which = torch.randint(len(self.names), (count,), generator=random)
        motion = torch.randint(len(MOTIONS), (count,), generator=random)
        pans = torch.rand(count, generator=random) < PANNING
        silent = torch.rand(count, generator=random) < UNCONDITIONAL
        rows = [
            [] if left_out else self.table.rows(prompt_of(self.names[emoji], MOTIONS[number], panning))
            for emoji, number, panning, left_out in zip(
                which.tolist(), motion.tolist(), pans.tolist(), silent.tolist(), strict=True
            )
        ]
        ground = self.grounds(pans, random)
        sprite, opacity = self.moved(self.pictures[which].float() / 255, motion, random)
        return ClipBatch((ground * (1 - opacity) + sprite) * 2 - 1, self.table.padded(rows))

    def grounds(self, pans: Tensor, random: torch.Generator) -> Tensor:
        """(B, 3, F, S, S) in [0, 1]: soft patches of pale colours, which move by half a side where `pans` (B,)."""
        size, frames = self.size, self.frames
        patches = 0.45 + 0.5 * torch.rand(len(pans), 3, 3, 5, generator=random)
        wide = F.interpolate(patches, (size, 2 * size), mode="bicubic", align_corners=True).clamp(0, 1)
        shifts = torch.linspace(0, size / 2, frames).round().long()
        columns = torch.arange(size)[None] + shifts[:, None]  # (F, S)
        moving = wide[..., columns].permute(0, 1, 3, 2, 4)  # (B, 3, F, S, S)
        return torch.where(pans[:, None, None, None, None], moving, moving[:, :, :1])

    def moved(self, sprites: Tensor, motion: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """The emoji (B, 4, SPRITE, SPRITE) in motion: colours times opacity (B, 3, F, S, S), and opacity
        (B, 1, F, S, S).
        """
        count, frames, side = len(sprites), self.frames, 2 * self.size  # drawn at twice the size, for smooth edges
        progress = torch.linspace(0, 1, frames)[None].expand(count, -1)  # (B, F)
        centred = 2 * progress - 1
        name = [MOTIONS[number] for number in motion.tolist()]

        def of(**values: Tensor | float) -> Tensor:
            """(B, F): by the motion's name with its words joined; 0 for others."""
            chosen = [values.get(each.replace(" ", "_"), 0.0) for each in name]
            rows = [
                value[row] if isinstance(value, Tensor) else torch.full((frames,), value)
                for row, value in enumerate(chosen)
            ]
            return torch.stack(rows)

        start = 0.3 * (2 * torch.rand(count, 2, 1, generator=random) - 1)
        x = start[:, 0] * of(moves_upward=1.0, moves_downward=1.0, stays=1.0, fades=1.0) + 0.45 * of(
            moves_leftward=-centred, moves_rightward=centred
        )
        y = start[:, 1] * of(moves_leftward=1.0, moves_rightward=1.0, stays=1.0, fades=1.0) + 0.45 * of(
            moves_upward=-centred, moves_downward=centred
        )
        scale = 0.55 + of(grows=0.35 * progress - 0.2, shrinks=0.15 - 0.35 * progress, turns=0.05)
        angle = math.pi * of(turns=progress)
        cos, sin = angle.cos() / scale, angle.sin() / scale
        rows = (cos, sin, -cos * x - sin * y), (-sin, cos, sin * x - cos * y)
        theta = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
        # (B, F, 2, 3), from places in the frame to places in the emoji
        grid = F.affine_grid(theta.flatten(0, 1), [count * frames, 4, side, side], align_corners=False)
        repeated = sprites.repeat_interleave(frames, dim=0)
        drawn = F.avg_pool2d(F.grid_sample(repeated, grid, align_corners=False), 2)
        drawn = drawn.unflatten(0, (count, frames)).transpose(1, 2)  # (B, 4, F, S, S)
        drawn = drawn * (1 - of(fades=progress))[:, None, :, None, None]
        return drawn[:, :3], drawn[:, 3:]
