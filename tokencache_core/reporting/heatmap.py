"""Heatmaps of what the cache computed: over the decoded picture, and as steps x blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..blocks.token_grid import TokenGrid
from ..words.message import say

# points of the viridis colour map (van der Walt and Smith), legible with any colour vision
_VIRIDIS = torch.tensor(
    [
        [0.267, 0.005, 0.329],
        [0.283, 0.141, 0.458],
        [0.254, 0.265, 0.530],
        [0.207, 0.372, 0.553],
        [0.164, 0.471, 0.558],
        [0.128, 0.567, 0.551],
        [0.135, 0.659, 0.518],
        [0.267, 0.749, 0.441],
        [0.478, 0.821, 0.318],
        [0.741, 0.873, 0.150],
        [0.993, 0.906, 0.144],
    ]
)
_SHORTEST_SIDE = 256  # pixels


def colours(values: Tensor) -> Tensor:
    """The colours of values in [0, 1] of any shape: RGB in [0, 1], shape (..., 3)."""
    position = values.float().clamp(0, 1) * (len(_VIRIDIS) - 1)
    low = position.floor().long().clamp(max=len(_VIRIDIS) - 2)
    return torch.lerp(_VIRIDIS[low], _VIRIDIS[low + 1], (position - low)[..., None])


def tokens_over_pictures(token_counts: Tensor, pictures: Tensor, grid: TokenGrid, opacity: float = 0.6) -> Tensor:
    """A heatmap over pictures, in which bright tokens were computed most. Returns (P, H', W', 3), enlarged if small.

    token_counts: (images, N), how often each token was computed. Colours are scaled to the largest count.
    pictures: (P, H, W, 3) in [0, 1]: the images, or the frames of all videos, one video after the other.
    opacity: of the heatmap, 0..1.
    """
    height, width = pictures.shape[1:3]
    counts = grid.places(token_counts.cpu())
    shown = counts[:, frames_behind(len(counts), len(pictures), grid)].flatten(0, 1)  # (P, rows, columns)
    scale = enlargement(height, width)
    heat = enlarged(colours(shown / max(1.0, float(counts.max()))), height * scale, width * scale)
    return heat.lerp_(enlarged(pictures[..., :3].cpu(), height * scale, width * scale), 1 - opacity)


def frames_behind(images: int, n_pictures: int, grid: TokenGrid) -> list[int]:
    """For each picture decoded from one latent, the frame of tokens that it comes from.

    images: number of latents of the run.
    n_pictures: number of pictures decoded from all of them. ValueError if it does not fit the run.
    """
    if n_pictures % images or (grid.latent_frames == 1 and n_pictures != images):
        if grid.latent_frames == 1:
            raise ValueError(
                say(
                    "player_other_pictures",
                    "the last run made {made} pictures, but {given} pictures are connected: connect the pictures "
                    "decoded from that run",
                    made=images,
                    given=n_pictures,
                )
            )
        raise ValueError(
            say(
                "player_other_frames",
                "the last run made {made} videos of {frames} latent frames, but {given} frames are connected: connect "
                "the frames decoded from that run",
                made=images,
                frames=grid.latent_frames,
                given=n_pictures,
            )
        )
    return grid.frames_over(n_pictures // images)


def enlargement(height: int, width: int) -> int:
    """The factor by which to enlarge pictures of this size, so that single tokens can be seen."""
    return max(1, -(-_SHORTEST_SIDE // min(height, width)))


def enlarged(pictures: Tensor, height: int, width: int) -> Tensor:
    """Pictures (P, h, w, 3) enlarged to (P, height, width, 3)."""
    return F.interpolate(pictures.permute(0, 3, 1, 2), size=(height, width), mode="nearest").permute(0, 2, 3, 1)


def reduced(pictures: Tensor, longest: int = 1024) -> Tensor:
    """Pictures (P, H, W, 3), reduced so that no side is longer than `longest`, for a page that shows them small."""
    height, width = pictures.shape[1:3]
    scale = longest / max(height, width)
    if scale >= 1:
        return pictures
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return F.interpolate(pictures.permute(0, 3, 1, 2), size=size, mode="area").permute(0, 2, 3, 1)


def steps_by_blocks(block_counts: Tensor, cell: int = 12) -> Tensor:
    """One picture (1, blocks * cell, steps * cell, 3) of the tokens that each step and block computed.

    block_counts: (steps, blocks). Steps run from left to right, blocks from top to bottom.
    cell: pixels per step and block.
    """
    share = block_counts.float().cpu() / max(1.0, float(block_counts.max()))
    cells = colours(share.T).repeat_interleave(cell, dim=0).repeat_interleave(cell, dim=1)
    cells[::cell], cells[:, ::cell] = 0.0, 0.0  # grid lines
    return cells[None]
