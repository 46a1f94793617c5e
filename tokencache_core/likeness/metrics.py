"""PSNR and SSIM between two batches of pictures, or of clips: one number per picture, or clip.

Pictures are (B, C, H, W) in [-1, 1], a range of 2, and clips (B, C, F, H, W). Values outside are clamped first, as for
display.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DATA_RANGE = 2.0
PSNR_CAP_DB = 100.0  # the PSNR of equal pictures in a mean
WINDOW, WINDOW_SIGMA = 11, 1.5


def psnr(a: Tensor, b: Tensor, *, clamp: bool = True) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB; infinite for equal pictures.

    clamp: False for VAE latents, which have no fixed range. The peak is still 2, so that the number is their mean
        squared error on the same scale.
    """
    a, b = _pair(a, b, clamp)
    mean_square = (a - b).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(DATA_RANGE**2 / mean_square)


def capped_psnr(a: Tensor, b: Tensor, *, clamp: bool = True) -> Tensor:
    """`psnr` (B,), limited to 100 dB so that it can be averaged even over equal pictures."""
    return psnr(a, b, clamp=clamp).clamp(max=PSNR_CAP_DB)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (B,) of Wang et al. 2004 (IEEE TIP 13-4), averaged over positions and channels.

    The window is a Gaussian of 11 pixels and sigma 1.5, at all positions where it fits. For smaller pictures it is the
    largest odd size that fits, with the same sigma.
    """
    if a.dim() == 5 and a.shape == b.shape:  # the mean over the frames
        frames = (x.transpose(1, 2).flatten(0, 1) for x in (a, b))
        return ssim(*frames).unflatten(0, (len(a), -1)).mean(dim=1)
    a, b = (x + 1 for x in _pair(a, b, clamp=True))  # the luminance term needs black at zero
    window = _gaussian_window(_window_size(*a.shape[-2:])).to(a)
    mean_a, mean_b = _blur(a, window), _blur(b, window)
    var_a = _blur(a * a, window) - mean_a**2
    var_b = _blur(b * b, window) - mean_b**2
    covariance = _blur(a * b, window) - mean_a * mean_b
    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).flatten(1).mean(dim=1)


def flicker(a: Tensor, b: Tensor) -> Tensor:
    """How much clips a (B, C, F, H, W) flicker that b do not: (B,), the RMS error of the differences of neighbouring
    frames, in the range of pictures.
    """
    a, b = _pair(a, b, clamp=True)
    return (a.diff(dim=2) - b.diff(dim=2)).square().flatten(1).mean(dim=1).sqrt()


def _pair(a: Tensor, b: Tensor, clamp: bool) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape or a.dim() not in (4, 5):
        raise ValueError(
            f"the pictures must be two batches (B, C, H, W) of one shape, not {tuple(a.shape)} and {tuple(b.shape)}"
        )
    a, b = a.double(), b.double()  # the variances are differences of close numbers
    return (a.clamp(-1, 1), b.clamp(-1, 1)) if clamp else (a, b)


def _window_size(height: int, width: int) -> int:
    fits = min(WINDOW, height, width)
    return fits if fits % 2 else fits - 1


def _gaussian_window(size: int) -> Tensor:
    offsets = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-offsets.square() / (2 * WINDOW_SIGMA**2))
    return weights / weights.sum()


def _blur(x: Tensor, window: Tensor) -> Tensor:
    """The weighted mean over the window: (B, C, H, W) -> (B, C, H - size + 1, W - size + 1)."""
    channels = x.shape[1]
    column = window.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    row = window.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(x, column, groups=channels), row, groups=channels)
