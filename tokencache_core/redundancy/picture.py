"""The redundancy picture for a node: similarity and change by step and block, and each block's share of the tokens and
of the time.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..reporting.heatmap import colours
from .block_clock import BlockClock
from .measure import Redundancy

WIDTH, PANEL = 900, 200  # pixels: width of the picture, and height of a panel
LEFT, RIGHT, TOP, BELOW = 70, 130, 34, 40  # pixels: margins around a panel
TOKENS, SECONDS, INK = "#0072b2", "#d55e00", "#202020"  # blue and vermilion, distinguishable with any colour vision


def redundancy_picture(found: Redundancy) -> Tensor:
    """The picture, (1, H, W, 3) in [0, 1]."""
    picture = Image.new("RGB", (WIDTH, 3 * (TOP + PANEL + BELOW)), "white")
    draw = ImageDraw.Draw(picture)
    _grid(picture, draw, 0, found.similarity, "cosine of a block's update and that of the step before", "{:.4f}")
    _grid(picture, draw, 1, found.change, "its change, as a share of its length", "{:.1%}")
    _bars(draw, 2, BlockClock.of(found.clocks))
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 255)[None]


def _box(place: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of panel number `place`."""
    top = place * (TOP + PANEL + BELOW) + TOP
    return LEFT, top, WIDTH - RIGHT, top + PANEL


def _grid(picture: Image.Image, draw: ImageDraw.ImageDraw, place: int, values: Tensor, title: str, form: str) -> None:
    """A panel of values (steps, blocks), with steps from left to right and blocks from top to bottom."""
    left, top, right, bottom = _box(place)
    low, high = float(values.min()), float(values.max())
    shown = (values.float() - low) / ((high - low) or 1)
    picture.paste(_image(shown.T).resize((right - left, bottom - top), Image.Resampling.NEAREST), (left, top))
    ramp = _image(torch.linspace(1, 0, PANEL)[:, None])
    picture.paste(ramp.resize((16, PANEL)), (right + 16, top))
    draw.text((left, top - 20), title, INK, font_size=14)
    draw.text((right + 38, top - 2), form.format(high), INK, font_size=12)
    draw.text((right + 38, bottom - 14), form.format(low), INK, font_size=12)
    steps, blocks = values.shape
    draw.text((left, bottom + 4), "2", INK, font_size=12)  # the first step has none before it
    draw.text((right, bottom + 4), str(steps + 1), INK, font_size=12, anchor="ra")
    draw.text(((left + right) // 2, bottom + 4), "step", INK, font_size=12, anchor="ma")
    _depth(draw, top, bottom, blocks)


def _depth(draw: ImageDraw.ImageDraw, top: int, bottom: int, blocks: int) -> None:
    """The labels of the vertical axis."""
    draw.text((LEFT - 8, top), "1", INK, font_size=12, anchor="ra")
    draw.text((LEFT - 8, bottom), str(blocks), INK, font_size=12, anchor="rd")
    draw.text((LEFT - 8, (top + bottom) // 2), "block", INK, font_size=12, anchor="rm")


def _bars(draw: ImageDraw.ImageDraw, place: int, clock: BlockClock) -> None:
    """A panel with two bars for every block: its share of the tokens and of the seconds."""
    left, top, right, bottom = _box(place)
    draw.text((left, top - 20), "share of the block-tokens", TOKENS, font_size=14)
    second = "share of the seconds in blocks" if clock.seconds else "(seconds are not split by block on a GPU)"
    draw.text((left + 230, top - 20), second, SECONDS, font_size=14)
    highest = max(*clock.tokens, *clock.seconds, 1e-9)
    width = (right - left) / len(clock.tokens)
    for part, (shares, colour) in enumerate(((clock.tokens, TOKENS), (clock.seconds, SECONDS))):
        for block, share in enumerate(shares):
            start = left + (block + 0.1 + 0.4 * part) * width
            draw.rectangle([start, bottom - share / highest * PANEL, start + 0.4 * width, bottom], fill=colour)
    draw.line([(left, bottom), (right, bottom)], INK)
    draw.text((left - 8, top), f"{highest:.1%}", INK, font_size=12, anchor="ra")
    draw.text((left - 8, bottom), "0", INK, font_size=12, anchor="rd")
    for block, anchor, x in ((1, "la", left), (len(clock.tokens), "ra", right)):
        draw.text((x, bottom + 4), str(block), INK, font_size=12, anchor=anchor)
    draw.text(((left + right) // 2, bottom + 4), "block", INK, font_size=12, anchor="ma")


def _image(values: Tensor) -> Image.Image:
    return Image.fromarray((colours(values) * 255).round().to(torch.uint8).numpy())
