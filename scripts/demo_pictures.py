"""Fetches pictures from a ComfyUI server, compares them, and lays them out as a grid."""

from __future__ import annotations

import io
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_location import ROOT
from comfy_server import ComfyServer
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

sys.path.append(str(ROOT))
from tokencache_core.likeness.metrics import psnr
from tokencache_core.reporting.picture_grid import picture_grid, save_png

ENLARGED, GAP, LETTERS = 2, 8, 24  # times; pixels


def load_pictures(server: ComfyServer, images: list[dict[str, Any]]) -> Tensor:
    """A node's `images` from the server, (B, 3, H, W) in [-1, 1]; they must have the same size."""
    arrays = []
    for image in images:
        data = server.get_bytes("/view?" + urllib.parse.urlencode(image))
        arrays.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 127.5 - 1


def mean_psnr(full: Tensor, cached: Tensor) -> float:
    """The mean PSNR of the pictures, in dB; infinite if nothing differs."""
    return psnr(full, cached).mean().item()


def save_grid(pictures: Tensor, file: Path) -> None:
    """Write pictures (B, 3, H, W) in [-1, 1] as one nearly square grid."""
    save_png(file, picture_grid([pictures], columns=round(len(pictures) ** 0.5)))


def save_rows(rows: list[tuple[str, Tensor]], file: Path) -> None:
    """Write rows of pictures (B, 3, H, W) in [-1, 1], enlarged, each row below its label."""
    count, _, height, width = rows[0][1].shape
    height, width, label = height * ENLARGED, width * ENLARGED, LETTERS + 2 * GAP
    page = Image.new("RGB", (count * (width + GAP) + GAP, len(rows) * (label + height) + GAP), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(LETTERS)
    for number, (text, pictures) in enumerate(rows):
        top = number * (label + height)
        draw.text((GAP, top + GAP), text, "black", font)
        for place, picture in enumerate((pictures.clamp(-1, 1) + 1).mul(127.5).round().byte()):
            shown = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.BICUBIC)
            page.paste(shown, (GAP + place * (width + GAP), top + label))
    page.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
