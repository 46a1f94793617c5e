"""PSNR and SSIM against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from tokencache_core.likeness.metrics import _gaussian_window, _window_size, flicker, psnr, ssim


def flat(value: float, size: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.full((1, channels, size, size), value)


def test_psnr_of_a_constant_difference():
    # a difference of 0.2 everywhere: 10 log10(4 / 0.04) = 20 dB
    torch.testing.assert_close(
        psnr(flat(0.1), flat(-0.1)), torch.tensor([20.0], dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_psnr_is_per_sample_and_infinite_for_equal_pictures():
    a = torch.cat([flat(0.0), flat(0.0), flat(0.0)])
    b = torch.cat([flat(0.0), flat(0.02), flat(2.0)])  # the last is clamped to 1: 10 log10(4 / 1)
    values = psnr(a, b).tolist()
    assert math.isinf(values[0])
    assert values[1:] == pytest.approx([40.0, 10 * math.log10(4)], abs=1e-5)


def test_psnr_of_latents_is_not_clamped():
    assert psnr(flat(0.0), flat(2.0), clamp=False).item() == pytest.approx(0.0)


def test_ssim_of_flat_pictures_is_their_luminance_term():
    # luminances 0.5 and 0.25 above black, no variance: (2 * 0.5 * 0.25 + c1) / (0.5^2 + 0.25^2 + c1), c1 = 0.02^2
    assert ssim(flat(-0.5), flat(-0.75)).item() == pytest.approx((0.25 + 0.0004) / (0.3125 + 0.0004), abs=1e-7)


def test_ssim_of_equal_pictures_is_one_and_of_a_negative_is_below_zero():
    noise = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert ssim(noise, noise).tolist() == pytest.approx([1.0, 1.0])
    assert (ssim(noise, -noise) < 0).all()


def test_ssim_of_one_window_by_hand():
    """A 3x3 picture has one 3-pixel window: weights w, v, w with w = e^(-1/4.5) v and 2w + v = 1."""
    a, b = -torch.ones(1, 1, 3, 3), -torch.ones(1, 1, 3, 3)
    a[..., 1, 1], b[..., 1, 1] = 0.0, -0.5  # luminances 1 and 0.5 on black
    v = 1 / (1 + 2 * math.exp(-1 / 4.5))
    centre = v * v  # the middle pixel's weight; all others are black in both
    mean_a, mean_b = centre, 0.5 * centre
    var_a, var_b, covariance = centre - mean_a**2, 0.25 * centre - mean_b**2, 0.5 * centre - mean_a * mean_b
    c1, c2 = 0.0004, 0.0036
    expected = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * (2 * covariance + c2) / (var_a + var_b + c2)
    assert ssim(a, b).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "height, width, size", [(32, 32, 11), (11, 40, 11), (10, 40, 9), (8, 8, 7), (2, 5, 1), (1, 1, 1)]
)
def test_the_window_is_the_largest_odd_size_that_fits(height, width, size):
    assert _window_size(height, width) == size
    assert ssim(torch.zeros(1, 1, height, width), torch.zeros(1, 1, height, width)).item() == pytest.approx(1.0)


def test_the_window_is_a_gaussian_of_sigma_one_and_a_half():
    window = _gaussian_window(11)
    assert window.sum().item() == pytest.approx(1.0)
    assert (window[6] / window[5]).item() == pytest.approx(math.exp(-1 / 4.5))
    assert (window[8] / window[5]).item() == pytest.approx(math.exp(-9 / 4.5))


def test_two_shapes_are_refused():
    with pytest.raises(ValueError, match="of one shape"):
        psnr(flat(0.0, 16), flat(0.0, 8))


def test_of_clips_psnr_is_over_all_frames_and_ssim_their_mean():
    a, b = torch.rand(2, 3, 4, 16, 16), torch.rand(2, 3, 4, 16, 16)
    frames = [ssim(a[:, :, frame], b[:, :, frame]) for frame in range(4)]
    assert torch.allclose(ssim(a, b), torch.stack(frames).mean(dim=0))
    assert torch.allclose(psnr(a, b), psnr(a.flatten(2, 3), b.flatten(2, 3)))


def test_flicker_is_the_error_of_what_changes_between_frames():
    still, brighter = torch.zeros(1, 3, 4, 8, 8), torch.full((1, 3, 4, 8, 8), 0.5)
    assert flicker(brighter, still).item() == 0
    blinking = still.clone()
    blinking[:, :, 1::2] = 0.5
    assert flicker(blinking, still).item() == pytest.approx(0.5)
