"""Pictures of what the cache computed: over the decoded picture, and as steps x blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# anchors of the viridis colour map (van der Walt and Smith), legible with any colour vision
_VIRIDIS = torch.tensor([
    [0.267, 0.005, 0.329], [0.283, 0.141, 0.458], [0.254, 0.265, 0.530], [0.207, 0.372, 0.553], [0.164, 0.471, 0.558],
    [0.128, 0.567, 0.551], [0.135, 0.659, 0.518], [0.267, 0.749, 0.441], [0.478, 0.821, 0.318], [0.741, 0.873, 0.150],
    [0.993, 0.906, 0.144],
])
_SHORTEST_SIDE = 256  # pixels; smaller pictures are enlarged so that single tokens can be seen


def colours(values: Tensor) -> Tensor:
    """Values in [0, 1] of any shape -> RGB in [0, 1], shape (..., 3)."""
    position = values.float().clamp(0, 1) * (len(_VIRIDIS) - 1)
    low = position.floor().long().clamp(max=len(_VIRIDIS) - 2)
    return torch.lerp(_VIRIDIS[low], _VIRIDIS[low + 1], (position - low)[..., None])


def token_grid(n_tokens: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of n_tokens patches whose shape comes nearest to that of a height x width picture."""
    divisors = [rows for rows in range(1, n_tokens + 1) if n_tokens % rows == 0]
    rows = min(divisors, key=lambda rows: abs(rows * width - n_tokens // rows * height))
    return rows, n_tokens // rows


def tokens_over_pictures(token_counts: Tensor, pictures: Tensor, opacity: float = 0.6) -> Tensor:
    """Compute counts (images, N) laid over pictures (images, H, W, 3) in [0, 1]; bright tokens were computed most.

    Colours run from never computed to the most any token was. Returns (images, H', W', 3), enlarged where small.
    """
    if token_counts.shape[0] != pictures.shape[0]:
        raise ValueError(
            f"the last run made {token_counts.shape[0]} pictures, but {pictures.shape[0]} are connected: "
            "connect the pictures decoded from that run"
        )
    images, height, width, _ = pictures.shape
    rows, columns = token_grid(token_counts.shape[1], height, width)
    heat = colours(token_counts.cpu() / max(1.0, float(token_counts.max()))).view(images, rows, columns, 3)
    scale = max(1, -(-_SHORTEST_SIDE // min(height, width)))
    size = height * scale, width * scale
    heat = F.interpolate(heat.permute(0, 3, 1, 2), size=size, mode="nearest").permute(0, 2, 3, 1)
    enlarged = F.interpolate(pictures.cpu().permute(0, 3, 1, 2), size=size, mode="nearest").permute(0, 2, 3, 1)
    return torch.lerp(enlarged, heat, opacity)


def steps_by_blocks(block_counts: Tensor, cell: int = 12) -> Tensor:
    """Tokens computed (steps, blocks) as one picture (1, blocks * cell, steps * cell, 3): steps run right, depth down."""
    share = block_counts.float().cpu() / max(1.0, float(block_counts.max()))
    cells = colours(share.T).repeat_interleave(cell, dim=0).repeat_interleave(cell, dim=1)
    cells[::cell], cells[:, ::cell] = 0.0, 0.0  # grid lines
    return cells[None]
