"""The shape of a video transformer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VideoConfig:
    """The shape of an Open-Sora-Plan 1.1 (or 1.0) transformer; `checkpoint.infer_config` infers it from a file.

    depth: number of pairs of a spatial and a temporal block.
    caption_channels: width of the text encoder's tokens.
    sample_size: side of the latents that it was trained on; positions in other sizes are scaled to it.
    video_length: number of latent frames that it was trained on.
    frame_stride: the divisor of frame numbers in the position code.
    predicts_velocity: whether it predicts v, or else the noise, as the releases do.
    """

    width: int = 1152
    depth: int = 28
    heads: int = 16
    patch_size: int = 2
    in_channels: int = 4
    learn_sigma: bool = True
    caption_channels: int = 4096
    sample_size: int = 64
    video_length: int = 17
    frame_stride: int = 1
    predicts_velocity: bool = False

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learn_sigma else 1)

    @property
    def is_pixels(self) -> bool:
        """Whether it samples clips of pictures, not latents of a VAE."""
        return self.in_channels == 3


def frame_stride(video_length: int, version: str) -> int:
    """The `frame_stride` of a released model that was trained on `video_length` latent frames. version: 1.0 or 1.1."""
    if version == "1.0":
        return max(video_length // 5, 1)
    return max((video_length - video_length % 2) // 16, 1)


@dataclass(frozen=True)
class SkipSparseConfig:
    """The shape of an Open-Sora-Plan 1.3 (or 1.2) transformer; `checkpoint.infer_skip_sparse_config` infers it from a
    file.

    skip: in blocks with sparse attention, a token attends to one in `skip` tokens; 1: all attention is dense.
    stretch: the divisors of positions, for frames, rows and columns.
    predicts_velocity: whether it predicts v, on a schedule that ends in pure noise (1.3), or else the noise (1.2).
    caption_channels: width of the text encoder's tokens.
    sample_frames, sample_height, sample_width: of the latents that a run without a host samples.
    """

    width: int = 2304
    depth: int = 32
    heads: int = 24
    patch_size: int = 2
    in_channels: int = 8
    caption_channels: int = 4096
    skip: int = 4
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    predicts_velocity: bool = True
    sample_frames: int = 24
    sample_height: int = 44
    sample_width: int = 80
