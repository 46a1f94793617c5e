"""Where tokens lie, by hand; plans over space and time; what a report says of frames."""

from __future__ import annotations

import pytest
import torch
from toy import ToyModel

from tokencache_core.blocks.token_grid import LatentShape, TokenGrid
from tokencache_core.engine.session import open_session
from tokencache_core.engine.token_choice import ScorePlanner
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings

TAUS = [1.0, 0.8, 0.6, 0.4, 0.2]


def cut(latent: tuple[int, ...], n_tokens: int, patch=None) -> tuple[int, int, int] | None:
    grid = LatentShape.of(latent, patch).grid(n_tokens)
    return grid and (grid.frames, grid.rows, grid.columns)


@pytest.mark.parametrize(
    ("latent", "n_tokens", "grid"),
    [
        ((2, 4, 16, 16), 64, (1, 8, 8)),  # a picture, patches of 2
        ((1, 16, 20, 14), 70, (1, 10, 7)),
        ((1, 16, 21, 13), 77, (1, 11, 7)),  # patches reach beyond its edge
        ((1, 3, 64, 48), 12, (1, 4, 3)),  # pixels, patches of 16
        ((1, 16, 1, 10, 6), 15, (1, 5, 3)),  # a picture of a video model
        ((1, 16, 3, 10, 6), 45, (3, 5, 3)),  # a video: 3 frames of 5 x 3
        ((1, 128, 3, 4, 6), 72, (3, 4, 6)),  # patches of 1
        ((1, 16, 5, 10, 6), 45, (3, 5, 3)),  # patches of two frames: 5 are 3
        ((1, 64, 100), 100, (1, 1, 100)),  # sound: a strip
        ((1, 64, 101), 51, (1, 1, 51)),
    ],
)
def test_the_patch_is_found_by_the_count(latent, n_tokens, grid):
    assert cut(latent, n_tokens) == grid


def test_few_frames_a_patch_are_more_likely_than_many():
    """4 frames of 8 x 8: 64 tokens are 4 frames of 4 x 4, and would be one of 8 x 8."""
    assert cut((1, 16, 4, 8, 8), 64) == (4, 4, 4)


@pytest.mark.parametrize(
    ("latent", "n_tokens", "patch", "grid"),
    [
        ((1, 16, 10, 14), 35 + 12, None, (1, 5, 7)),  # a reference image's tokens follow
        ((1, 16, 10, 14), 64, 2, (1, 5, 7)),  # padding
        ((1, 16, 10, 14), 4 * 35, 2, (1, 5, 7)),  # three reference images as large as the picture
        ((1, 16, 3, 6, 10), 60, [1, 2, 2], (3, 3, 5)),  # a reference frame
        ((1, 16, 10, 14), 35, (2, 2), (1, 5, 7)),
    ],
)
def test_the_pictures_tokens_are_the_first(latent, n_tokens, patch, grid):
    assert cut(latent, n_tokens, patch) == grid


@pytest.mark.parametrize(
    ("latent", "n_tokens", "patch"),
    [((1, 16, 64, 64), 7, None), ((1, 16, 10, 14), 34, 2), ((1, 16, 10, 14), 0, None), ((), 35, None)],
)
def test_tokens_that_are_no_patches_have_no_grid(latent, n_tokens, patch):
    assert cut(latent, n_tokens, patch) is None


def test_values_take_their_places():
    grid = TokenGrid(frames=2, rows=1, columns=2, latent_frames=2, patch_frames=1)
    assert grid.places(torch.arange(6)).tolist() == [[[0, 1]], [[2, 3]]]  # 4 and 5 are of no frame


@pytest.mark.parametrize(
    ("frames", "latent_frames", "patch_frames", "decoded", "expected"),
    [
        (3, 3, 1, 9, [0, 1, 1, 1, 1, 2, 2, 2, 2]),  # the first alone, then 4 each
        (3, 3, 1, 17, [0] + [1] * 8 + [2] * 8),
        (3, 3, 1, 3, [0, 1, 2]),
        (3, 3, 1, 6, [0, 0, 1, 1, 2, 2]),  # no first alone
        (3, 3, 1, 2, [0, 1]),
        (1, 1, 1, 1, [0]),
        (2, 3, 2, 9, [0, 0, 0, 0, 0, 1, 1, 1, 1]),  # patches of two latent frames
    ],
)
def test_latent_frames_over_decoded_ones(frames, latent_frames, patch_frames, decoded, expected):
    assert TokenGrid(frames, 1, 1, latent_frames, patch_frames).frames_over(decoded) == expected


def test_a_window_is_a_part_of_the_latent():
    latent = LatentShape.of((1, 16, 5, 10, 6))
    assert latent.is_of((4, 16, 5, 10, 6)) and not latent.is_of((4, 16, 3, 10, 6))
    assert LatentShape().is_of((1, 16, 3, 10, 6))


@pytest.mark.parametrize("score", ["random", "round-robin"])
def test_plans_without_a_score_spread_over_frames(score):
    """8 frames of 48 tokens, a quarter computed: about 12 of every frame."""
    planner = ScorePlanner(CacheSettings(score=score))
    picks = [planner.ranking(0, 1, 8 * 48, 96, 0.5, [])[0, :96] // 48 for _ in range(4)]
    for frames in picks:
        assert frames.bincount(minlength=8).min() >= 3 and frames.bincount(minlength=8).max() <= 24
    if score == "round-robin":
        assert torch.cat(picks).bincount().tolist() == [48] * 8  # after four steps, every token once


def run_of(latent: LatentShape, i_steps=(0,), seed: int = 0):
    model = ToyModel((1.0, 2.0), n_tokens=8)
    settings = CacheSettings(order=0, cache_ratio=0.75, shares="uniform", score="round-robin", seed=seed)
    session = open_session(
        settings,
        ExplicitSchedule(tuple(i_steps)),
        sigmas=TAUS,
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=model.streams,
        latent=latent,
    )
    for tau in TAUS:
        model.run(session, tau)
    return session.close()


def test_the_report_says_how_many_tokens_of_a_frame_were_computed():
    """Four P-steps of 2 tokens out of 8 compute each once: of each frame of 4, 4 in 4 P-steps."""
    report = run_of(LatentShape.of((1, 4, 2, 4, 4), 2))
    assert report.frame_counts.tolist() == [1.0, 1.0]
    assert (
        "frames: 2 of 4 tokens (2 x 2); P-steps computed 1.0 tokens of every frame, mean over blocks" in report.text()
    )


def test_the_frames_computed_least_and_most_are_named():
    """One P-step computes 2 of 8 tokens, the first two in the round-robin's order."""
    report = run_of(LatentShape.of((1, 4, 4, 2, 4), 2), i_steps=(0, 1, 2, 3), seed=1)
    first = ScorePlanner(CacheSettings(score="round-robin", seed=1)).ranking(0, 1, 8, 2, 0.2, [])[0, :2] // 2
    assert report.frame_counts.tolist() == first.bincount(minlength=4).tolist()
    most = int(first.bincount(minlength=4).argmax())
    assert (
        f"P-steps computed 0.0 (frame {1 if 0 not in first else 2}) to {float(report.frame_counts[most])} (frame "
        f"{most + 1})" in report.text()
    )


def test_without_p_steps_only_the_frames_are_told():
    report = run_of(LatentShape.of((1, 4, 2, 4, 4), 2), i_steps=range(5))
    assert report.frame_counts is None and report.text().endswith("frames: 2 of 4 tokens (2 x 2)")


def test_pictures_have_no_frames_to_speak_of():
    report = run_of(LatentShape.of((1, 4, 4, 8), 2))
    assert report.grid.frames == 1 and report.unplaced is None and "frames" not in report.text()


def test_a_report_whose_tokens_have_no_places_says_so():
    report = run_of(LatentShape.of((1, 4, 64, 64), 2))
    assert report.grid is None and report.unplaced in report.text()
    assert report.unplaced == "no map of the tokens: its 8 tokens do not fit a latent of 64 x 64"
