"""Flux: a transformer that predicts the velocity of a rectified flow from image and text tokens.

The architecture is that of FLUX.1 (Black Forest Labs 2024) without the embedded guidance, which "FLUX.1 schnell" lacks,
too: MMDiT blocks (Esser et al., arXiv 2403.03206) with rotary positions. Parameter names are the host's, so that
its own class loads the state dict; layers come from `operations`, as in `dit/model.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .blocks import DoubleStreamBlock, SingleStreamBlock
from .config import FluxConfig
from .layers import Embedder, Modulation, modulated, timestep_features
from .positions import grid_positions, reference_offsets
from .rotary import rotations


class LastLayer(nn.Module):
    """Tokens (B, N, D) to the features of their patches."""

    def __init__(self, config: FluxConfig, operations: Any, **factory: Any) -> None:
        super().__init__()
        width = config.hidden_size
        self.norm_final = operations.LayerNorm(width, elementwise_affine=False, eps=1e-6, **factory)
        self.linear = operations.Linear(width, config.patch_features, **factory)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), operations.Linear(width, 2 * width, **factory))

    def forward(self, x: Tensor, vec: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(vec)[:, None].chunk(2, dim=-1)
        return self.linear(modulated(self.norm_final(x), shift, scale))


class Flux(nn.Module):
    """The velocity dx/dt = noise - picture at x = (1 - t) picture + t noise (Liu et al., arXiv 2209.03003, equation 1,
    with t reversed).

    x (B, C, H, W), t (B,) in [0, 1], context (B, M, context_in_dim) text tokens, y (B, vec_in_dim) the pooled text;
    references: reference pictures (B, C, h, w), without noise. H and W must be multiples of the patch size.
    """

    def __init__(
        self,
        config: FluxConfig,
        *,
        operations: Any = nn,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype or torch.get_default_dtype()
        factory, width = {"dtype": dtype, "device": device}, config.hidden_size
        self.img_in = operations.Linear(config.patch_features, width, **factory)
        self.time_in = Embedder(256, width, operations, **factory)
        self.vector_in = Embedder(config.vec_in_dim, width, operations, **factory)
        self.txt_in = operations.Linear(config.context_in_dim, width, **factory)
        self.double_blocks = nn.ModuleList(
            DoubleStreamBlock(config, operations, **factory) for _ in range(config.depth)
        )
        self.single_blocks = nn.ModuleList(
            SingleStreamBlock(config, operations, **factory) for _ in range(config.depth_single_blocks)
        )
        self.final_layer = LastLayer(config, operations, **factory)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        context: Tensor,
        y: Tensor,
        references: Sequence[Tensor] = (),
        transformer_options: dict | None = None,
        stride: float = 1,
    ) -> Tensor:
        """The velocity (B, C, H, W). stride: the distance of neighbouring tokens, for training at a fraction of the
        resolution.
        """
        img = torch.cat([self.patchify(picture) for picture in (x, *references)], dim=1)
        pe = self.rotations(
            context.shape[1], [_side_lengths(picture) for picture in (x, *references)], stride, x.device
        )
        tokens = self.velocity_tokens(
            img, t, context, y, pe, {} if transformer_options is None else transformer_options
        )
        rows, columns = (side // self.config.patch_size for side in x.shape[-2:])
        return self.unpatchify(tokens[:, : rows * columns], rows, columns)

    def velocity_tokens(self, img: Tensor, t: Tensor, context: Tensor, y: Tensor, pe: Tensor, options: dict) -> Tensor:
        """Patches (B, N, features) -> the velocity of each of them, reference pictures' too."""
        img, txt = self.img_in(img), self.txt_in(context)
        vec = self.time_in(timestep_features(t).to(img.dtype)) + self.vector_in(y)
        for block in self.double_blocks:
            img, txt = block(img=img, txt=txt, vec=vec, pe=pe, transformer_options=options)
        n_text = txt.shape[1]
        joint = torch.cat([txt, img], dim=1)
        options["img_slice"] = [n_text, joint.shape[1]]
        for block in self.single_blocks:
            joint = block(joint, vec=vec, pe=pe, transformer_options=options)
        return self.final_layer(joint[:, n_text:], vec)

    def patchify(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H/p * W/p, C*p*p)."""
        self.check_size(*x.shape[-2:])
        return nn.functional.pixel_unshuffle(x, self.config.patch_size).flatten(2).transpose(1, 2)

    def unpatchify(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """(B, rows * columns, C*p*p) -> (B, C, H, W)."""
        return nn.functional.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (rows, columns)), self.config.patch_size)

    def rotations(
        self, n_text: int, sizes: Sequence[tuple[int, int]], stride: float = 1, device: torch.device | str | None = None
    ) -> Tensor:
        """Rotations (1, 1, M + N, d/2, 2, 2) of text tokens, all at the origin, and of the pictures of these `sizes`,
        first the one that is made.
        """
        patch, centre = self.config.patch_size, (stride - 1) / 2
        grids = [(height // patch, width // patch) for height, width in sizes]
        positions = [torch.zeros(n_text, 3, device=device)]
        for index, (grid, (row, column)) in enumerate(zip(grids, [(0, 0), *reference_offsets(grids[1:])])):
            first = {"first_row": row * stride + centre, "first_column": column * stride + centre}
            positions.append(grid_positions(*grid, index=min(index, 1), stride=stride, device=device, **first))
        return rotations(torch.cat(positions)[None], self.config.axes_dim, self.config.theta)

    @property
    def trained_size(self) -> tuple[int, int]:
        """(H, W) of the latents or pictures that it was trained on."""
        return (self.config.input_size, self.config.input_size)

    def check_size(self, height: int, width: int) -> None:
        """ValueError for an input size that is not a whole number of patches."""
        patch = self.config.patch_size
        if height % patch or width % patch:
            raise ValueError(
                f"this model works on patches of {patch}x{patch}, and {height}x{width} is no multiple of {patch}; "
                "change height or width"
            )

    def initialise(self) -> None:
        """Random weights for training from scratch; gates and the last layer at zero, as DiT's (arXiv 2212.09748,
        section 3.2).
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        zeroed = [module.lin for module in self.modules() if isinstance(module, Modulation)]
        for layer in (*zeroed, self.final_layer.adaLN_modulation, self.final_layer.linear):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)


def _side_lengths(picture: Tensor) -> tuple[int, int]:
    return picture.shape[-2], picture.shape[-1]
