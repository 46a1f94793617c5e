"""DiT, the class-conditional diffusion transformer (Peebles & Xie 2023, arXiv 2212.09748).

Parameter names follow the original release, so that its checkpoints load unchanged. Layers come from `operations`
(torch.nn, or ComfyUI's casting and offloading layers) and attention from a callable, so that one module serves the
command line and the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks.attention import attention as core_attention


@dataclass(frozen=True)
class DiTConfig:
    """The shape of a DiT; `dit.checkpoint.infer_config` infers it from a state dict."""

    width: int
    depth: int
    heads: int
    patch_size: int = 2
    in_channels: int = 4
    num_classes: int = 1000
    input_size: int = 32  # side of the latents (or pictures) that it was trained on
    learn_sigma: bool = True  # the last layer also predicts a variance, which sampling drops
    mlp_ratio: float = 4.0

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)


def timestep_embedding(t: Tensor, dim: int = 256, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal features (B, dim), cosines first, of timesteps t (B,) in [0, 1000)."""
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * freqs
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _sincos_1d(width: int, positions: Tensor) -> Tensor:
    omega = 1.0 / 10000 ** (torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = positions.double().reshape(-1, 1) * omega
    return torch.cat([angles.sin(), angles.cos()], dim=1)  # (N, width)


def sincos_pos_embed(
    width: int, grid_h: int, grid_w: int, stride: int = 1, device: torch.device | str | None = None
) -> Tensor:
    """DiT's fixed position embedding (1, grid_h * grid_w, width), row by row, in float32.

    stride: the distance between neighbouring tokens. The grid is centred, so that one coarse token lies in the middle
        of the stride x stride fine tokens that it stands for (the half-resolution phase of training).
    """
    rows = torch.arange(grid_h, dtype=torch.float64) * stride + (stride - 1) / 2
    cols = torch.arange(grid_w, dtype=torch.float64) * stride + (stride - 1) / 2
    # one table per side is small enough to be computed at every call, and moved to any device (some have no float64)
    row, col = (_sincos_1d(width // 2, positions).float().to(device) for positions in (rows, cols))
    grid = torch.cat([col[None].expand(grid_h, -1, -1), row[:, None].expand(-1, grid_w, -1)], dim=-1)
    return grid.reshape(1, grid_h * grid_w, -1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, attention: Callable, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.qkv = operations.Linear(width, 3 * width, **factory)
        self.proj = operations.Linear(width, width, **factory)

    def forward(self, x: Tensor, transformer_options: dict) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # each (B, N, D)
        return self.proj(self.attention(q, k, v, self.heads, transformer_options=transformer_options))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.fc1 = operations.Linear(width, hidden, **factory)
        self.fc2 = operations.Linear(hidden, width, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x), approximate="tanh"))


class DiTBlock(nn.Module):
    """A transformer block with adaptive layer norm, zero-initialised gates (adaLN-Zero)."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, attention: Callable, operations: Any, **factory: Any
    ) -> None:
        super().__init__()
        self.norm1 = operations.LayerNorm(width, elementwise_affine=False, eps=1e-6, **factory)
        self.attn = Attention(width, heads, attention, operations, **factory)
        self.norm2 = operations.LayerNorm(width, elementwise_affine=False, eps=1e-6, **factory)
        self.mlp = Mlp(width, int(width * mlp_ratio), operations, **factory)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), operations.Linear(width, 6 * width, **factory))

    def forward(self, x: Tensor, c: Tensor, transformer_options: dict) -> Tensor:
        """x (B, N, D) tokens, c (B, D) condition -> (B, N, D)."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(c).chunk(6, dim=-1)
        x = torch.addcmul(x, gate_a[:, None], self.attn(modulate(self.norm1(x), shift_a, scale_a), transformer_options))
        return torch.addcmul(x, gate_m[:, None], self.mlp(modulate(self.norm2(x), shift_m, scale_m)))


class FinalLayer(nn.Module):
    def __init__(self, width: int, out_features: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.norm_final = operations.LayerNorm(width, elementwise_affine=False, eps=1e-6, **factory)
        self.linear = operations.Linear(width, out_features, **factory)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), operations.Linear(width, 2 * width, **factory))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class PatchEmbed(nn.Module):
    def __init__(self, channels: int, width: int, patch_size: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.proj = operations.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, D)


class TimestepEmbedder(nn.Module):
    def __init__(self, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            operations.Linear(256, width, **factory), nn.SiLU(), operations.Linear(width, width, **factory)
        )

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(timestep_embedding(t).to(dtype))  # (B, D)


class LabelEmbedder(nn.Module):
    def __init__(self, num_classes: int, width: int, operations: Any, **factory: Any) -> None:
        super().__init__()
        self.embedding_table = operations.Embedding(num_classes + 1, width, **factory)

    def forward(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return self.embedding_table(y).to(dtype)  # (B, D); y = num_classes is the null class


class DiT(nn.Module):
    """A DiT: predicts the noise in x (B, C, H, W) at timesteps t (B,) in [0, 1000) for class labels y (B,).

    H and W must be multiples of the patch size. A grid other than the trained one needs `use_sincos_grid = True`, which
    regenerates the fixed position embedding for it.

    config: the shape.
    operations: the classes of layers: torch.nn, or a host's.
    attention: called with q, k, v (each (B, N, D)), the number of heads, and transformer_options.
    dtype, device: of the weights.
    """

    def __init__(
        self,
        config: DiTConfig,
        *,
        operations: Any = nn,
        attention: Callable = core_attention,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.config, self.dtype = config, dtype or torch.get_default_dtype()
        factory = {"dtype": dtype, "device": device}
        width, grid = config.width, config.input_size // config.patch_size
        self.x_embedder = PatchEmbed(config.in_channels, width, config.patch_size, operations, **factory)
        self.t_embedder = TimestepEmbedder(width, operations, **factory)
        self.y_embedder = LabelEmbedder(config.num_classes, width, operations, **factory)
        self.pos_embed = nn.Parameter(torch.empty(1, grid * grid, width, **factory), requires_grad=False)
        self.blocks = nn.ModuleList(
            DiTBlock(width, config.heads, config.mlp_ratio, attention, operations, **factory)
            for _ in range(config.depth)
        )
        self.final_layer = FinalLayer(width, config.patch_size**2 * config.out_channels, operations, **factory)
        self.use_sincos_grid = True

    def embed(self, x: Tensor, pos_embed: Tensor | None = None) -> Tensor:
        """The tokens (B, N, D) of x (B, C, H, W): its patches with their position embedding."""
        if pos_embed is None:
            pos_embed = self._pos_embed_for(x)
        return self.x_embedder(x) + pos_embed.to(x)

    def condition(self, t: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
        return self.t_embedder(t, dtype) + self.y_embedder(y, dtype)  # (B, D)

    def unpatchify(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """The noise (B, C, H, W), without the variance half, from tokens (B, N, p*p*C_out)."""
        p, channels = self.config.patch_size, self.config.out_channels
        x = tokens.reshape(-1, height // p, width // p, p, p, channels)
        x = torch.einsum("bhwpqc->bchpwq", x).reshape(-1, channels, height, width)
        return x[:, : self.config.in_channels]

    @property
    def is_pixels(self) -> bool:
        """Whether it samples pictures, not latents of a VAE."""
        return self.config.in_channels == 3

    def noise_shape(self, batch: int) -> tuple[int, int, int, int]:
        """The shape (B, C, H, W) of samples at the size that it was trained on."""
        return (batch, self.config.in_channels, self.config.input_size, self.config.input_size)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor, transformer_options: dict | None = None, pos_embed: Tensor | None = None
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        tokens, c = self.embed(x, pos_embed), self.condition(t, y, x.dtype)
        for index, block in enumerate(self.blocks):
            tokens = self.run_block(index, block, tokens, c, options)
        return self.unpatchify(self.final_layer(tokens, c), *x.shape[-2:])

    def run_block(self, index: int, block: nn.Module, tokens: Tensor, c: Tensor, options: dict) -> Tensor:
        """Run one block; a host overrides it so that others can replace blocks."""
        return block(tokens, c, transformer_options=options)

    @property
    def trained_size(self) -> tuple[int, int]:
        """The size (H, W) of the latents or pictures that it was trained on."""
        return (self.config.input_size, self.config.input_size)

    def check_size(self, height: int, width: int) -> None:
        """ValueError for an input size (latent or picture, as the network sees it) that this DiT cannot run at."""
        patch, trained = self.config.patch_size, self.config.input_size
        if height % patch or width % patch:
            raise ValueError(
                f"this DiT works on patches of {patch}x{patch}, but {height}x{width} is not a multiple of {patch}; "
                "change height or width"
            )
        if not self.use_sincos_grid and (height, width) != (trained, trained):
            raise ValueError(
                f"this DiT has a learned position embedding for {trained}x{trained} inputs only; "
                f"sample at that size, not at {height}x{width}"
            )

    def _pos_embed_for(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        self.check_size(height, width)
        patch, trained = self.config.patch_size, self.config.input_size
        if (height, width) == (trained, trained):
            return self.pos_embed
        return sincos_pos_embed(self.config.width, height // patch, width // patch, device=x.device)

    def initialise(self) -> None:
        """Initialise the weights as in the original release, for training from scratch."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        grid = self.config.input_size // self.config.patch_size
        self.pos_embed.data.copy_(sincos_pos_embed(self.config.width, grid, grid))
        proj = self.x_embedder.proj
        nn.init.xavier_uniform_(proj.weight.view(proj.weight.shape[0], -1))
        nn.init.zeros_(proj.bias)
        for weight in (
            self.y_embedder.embedding_table.weight,
            self.t_embedder.get_parameter("mlp.0.weight"),
            self.t_embedder.get_parameter("mlp.2.weight"),
        ):
            nn.init.normal_(weight, std=0.02)
        modulations = [layer for name, layer in self.named_modules() if name.endswith("adaLN_modulation.1")]
        for linear in (*modulations, self.final_layer.linear):
            for weight in linear.parameters():
                nn.init.zeros_(weight)
