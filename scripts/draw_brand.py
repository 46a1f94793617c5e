"""Draws docs/images/icon.png and banner.png for the registry: tokens in a grid, a few computed (orange), the others
forecast (blue).
"""

from __future__ import annotations

import random
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
FINER = 4  # pictures are drawn so many times as large, then scaled down for smooth edges
NIGHT, WHITE, GREY = (16, 22, 34), (244, 246, 250), (150, 163, 184)
COMPUTED = (255, 145, 48)
FORECAST = ((34, 58, 98), (42, 76, 130), (54, 98, 166))
ICON_LIT = {(1, 1), (3, 2), (2, 3), (4, 4), (0, 4)}

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]


def icon(side: int = 400) -> Image.Image:
    """Five by five tokens on a rounded plate; transparent around it."""
    image = Image.new("RGBA", (side * FINER, side * FINER))
    draw = ImageDraw.Draw(image)
    _rounded(draw, (0, 0, side, side), 0.2 * side, NIGHT)
    chance = random.Random(7)
    cell = 0.154 * side
    edge = (side - 5 * cell) / 2
    for row in range(5):
        for column in range(5):
            _token(
                draw,
                edge + column * cell,
                edge + row * cell,
                cell,
                COMPUTED if (column, row) in ICON_LIT else chance.choice(FORECAST),
            )
    return image.resize((side, side), Image.Resampling.LANCZOS)


def banner(width: int = 1260, height: int = 540) -> Image.Image:
    """The name on the left; on the right three steps: all tokens computed, then only a few, twice."""
    image = Image.new("RGB", (width * FINER, height * FINER), NIGHT)
    draw = ImageDraw.Draw(image)
    _write(draw, 70, 180, "TokenCache", 78, WHITE, bold=True)
    _write(draw, 74, 294, "Diffusion transformers, several times", 27, GREY)
    _write(draw, 74, 332, "faster by the clock. For ComfyUI.", 27, GREY)
    chance = random.Random(3)
    cell, count = 24.0, 7
    for step, (name, share) in enumerate((("I", 1.0), ("P", 0.14), ("P", 0.08))):
        left, top = 660 + step * 190, (height - count * cell) / 2
        for place in range(count * count):
            colour = COMPUTED if chance.random() < share else chance.choice(FORECAST)
            _token(draw, left + place % count * cell, top + place // count * cell, cell, colour)
        _write(draw, left + count * cell / 2, top + count * cell + 30, name, 24, GREY, anchor="mm")
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _token(draw: ImageDraw.ImageDraw, x: float, y: float, cell: float, colour: Colour) -> None:
    gap = 0.09 * cell
    _rounded(draw, (x + gap, y + gap, x + cell - gap, y + cell - gap), 0.2 * cell, colour)


def _rounded(draw: ImageDraw.ImageDraw, box: Box, radius: float, colour: Colour) -> None:
    draw.rounded_rectangle([FINER * value for value in box], FINER * radius, fill=colour)


def _write(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    text: str,
    size: int,
    colour: Colour,
    *,
    bold: bool = False,
    anchor: str = "ls",
) -> None:
    weight = "bold" if bold else "normal"
    file = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))  # matplotlib's own
    draw.text(
        (FINER * x, FINER * (y + (size if anchor == "ls" else 0))),
        text,
        colour,
        ImageFont.truetype(file, FINER * size),
        anchor,
    )


def main() -> None:
    icon().quantize(64, method=Image.Quantize.FASTOCTREE).save(IMAGES / "icon.png", optimize=True)
    banner().quantize(64).save(IMAGES / "banner.png", optimize=True)


if __name__ == "__main__":
    main()
