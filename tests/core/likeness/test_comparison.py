"""A comparison's numbers, worked out by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch

from tokencache_core.likeness.comparison import Comparison, likeness


def comparison(**changes) -> Comparison:
    return Comparison(
        **{
            "plain_seconds": 12.0,
            "cached_seconds": 4.0,
            "psnr": (30.0, 40.0),
            "ssim": (0.9, 1.0),
            "compute": 0.36,
            "kinds": "IIPP",
            **changes,
        }
    )


def test_the_clock_and_the_means():
    found = comparison()
    assert (found.speedup, found.mean_psnr, found.mean_ssim) == pytest.approx((3.0, 35.0, 0.95))
    assert found.text().splitlines()[:3] == [
        "TokenCache: 3.00x by the clock, measured in this run",
        "sampling: 12.00 s without, 4.00 s with TokenCache",
        "pictures: close: fine details may differ (PSNR 35.0 dB, SSIM 0.9500)",
    ]
    assert not found.notes


def test_equal_pictures_have_no_psnr():
    some, all_equal = comparison(psnr=(math.inf, 40.0)), comparison(psnr=(math.inf, math.inf))
    assert some.mean_psnr == 40.0 and some.data()["psnr"] == [None, 40.0]
    assert math.isinf(all_equal.mean_psnr) and "to the last bit" in all_equal.text()
    json.dumps(all_equal.data(), allow_nan=False)


@pytest.mark.parametrize(
    ("psnr", "kinds", "verdict"),
    [
        (math.inf, "IPP", "the same picture, to the last bit"),
        (40.0, "IPP", "hard to tell apart by eye"),
        (39.9, "IPP", "close: fine details may differ"),
        (29.9, "IPPIPPIPP", "details differ: try speed_up 2, or a preset for closer pictures"),
        (19.9, "IPPIPPIPP", "clearly different pictures: try speed_up 2, or a preset for closer pictures"),
        (29.9, "IPIPIP", "details differ: turn on calibrate_on_first_run, or use more steps"),
    ],
)
def test_the_verdict_in_words(psnr: float, kinds: str, verdict: str):
    assert comparison(psnr=(psnr,), kinds=kinds).verdict == verdict


def test_a_run_that_is_faster_than_it_can_be_is_told():
    (note,) = comparison(plain_seconds=16.0).notes
    assert "slowed down by other work: computing 36% of it is at most 2.8x as fast" in note
    assert not comparison(plain_seconds=12.7).notes  # 3.18x: what the clock varies by
    (short,) = comparison(plain_seconds=16.0, cached_seconds=0.5).notes
    assert "too short" in short


def test_a_run_that_is_too_short_is_told():
    short = comparison(cached_seconds=0.2, warnings=("another",))
    assert (
        short.notes[0].startswith("a run took only 0.20 s, which is too short to time well")
        and short.notes[1] == "another"
    )


def test_likeness_of_pictures_in_0_to_1():
    plain = torch.full((2, 16, 16, 3), 0.5)
    cached = torch.stack([plain[0], plain[1] + 0.1])
    (same, other), (one, less) = likeness(plain, cached)
    assert math.isinf(same) and other == pytest.approx(20.0, abs=1e-4)  # 10 log10(1 / 0.1^2)
    assert one == pytest.approx(1.0) and 0.9 < less < 1.0
