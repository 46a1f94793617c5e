"""Writes small picture files for the repository: screenshots as PNG with few colours, thumbnails as JPEG."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path

from comfy_location import ROOT
from PIL import Image, PngImagePlugin

THUMBNAIL = (480, 480)  # the template browser shows at most 256 pixels; nearly twice that for high-resolution screens
THUMBNAIL_BYTES = 68_000
QUALITIES = (90, 80, 70, 60)
ENLARGED = 3  # times, for small samples
GAP = 12
SHOWS = "Shows"


def save_screenshot(png: bytes, file: Path, shows: str = "") -> None:
    """Write a screenshot as PNG with few colours.

    shows: what the picture is of, kept in the file under SHOWS, so that a test notices when it is out of date.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = PngImagePlugin.PngInfo()
    if shows:
        kept.add_text(SHOWS, shows)
    picture = _opened(png).quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    picture.save(file, optimize=True, pnginfo=kept)
    _tell(file)


def save_thumbnail(png: bytes | Image.Image, file: Path) -> None:
    picture = png if isinstance(png, Image.Image) else _opened(png)
    picture.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() <= THUMBNAIL_BYTES:
            break
    file.write_bytes(data.getvalue())
    _tell(file)


def sheet(groups: list[list[bytes]]) -> Image.Image:
    """One square grid of pictures per group, side by side; all pictures have the same size."""
    pictures = [[_opened(data) for data in group] for group in groups]
    columns = math.ceil(math.sqrt(max(len(group) for group in pictures)))
    width, height = (side * ENLARGED for side in pictures[0][0].size)
    page = Image.new("RGB", (len(groups) * columns * width + (len(groups) - 1) * GAP, columns * height), "white")
    for place, group in enumerate(pictures):
        for number, picture in enumerate(group):
            left = place * (columns * width + GAP) + number % columns * width
            page.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, number // columns * height))
    return page


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _tell(file: Path) -> None:
    with Image.open(file) as picture:
        size = f"{picture.width} x {picture.height}"
    print(f"{os.path.relpath(file, ROOT):<50}{size:>12}{file.stat().st_size / 1000:>8.0f} KB", flush=True)
