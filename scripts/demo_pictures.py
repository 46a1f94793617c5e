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
from PIL import Image
from torch import Tensor

sys.path.append(str(ROOT))
from tokencache_core.likeness.metrics import psnr
from tokencache_core.reporting.picture_grid import picture_grid, save_png


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
