"""The shape of a Flux transformer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FluxConfig:
    """Sizes of a Flux transformer; the names are those of ComfyUI's own configuration of the architecture."""

    hidden_size: int
    num_heads: int
    depth: int  # double-stream blocks
    depth_single_blocks: int  # single-stream blocks
    context_in_dim: int  # width of a text token
    vec_in_dim: int  # width of the pooled text vector
    axes_dim: tuple[int, ...] = (8, 28, 28)  # of a head's features: how many turn by image index, row and column
    in_channels: int = 3
    patch_size: int = 4
    input_size: int = 64  # side of the latents (or pictures) that it was trained on
    mlp_ratio: float = 4.0
    theta: int = 10000

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"{self.num_heads} heads do not divide the width {self.hidden_size}")
        if (
            len(self.axes_dim) != 3
            or sum(self.axes_dim) != self.hidden_size // self.num_heads
            or any(n % 2 for n in self.axes_dim)
        ):
            raise ValueError(
                f"axes_dim {list(self.axes_dim)} must be three even numbers with the sum "
                f"{self.hidden_size // self.num_heads}, the width of a head"
            )

    @property
    def patch_features(self) -> int:
        return self.in_channels * self.patch_size**2

    @property
    def mlp_hidden(self) -> int:
        return int(self.hidden_size * self.mlp_ratio)
