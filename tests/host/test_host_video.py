"""Tokens in space and time in the real host: a tiny Wan under Apply TokenCache, its report and its heatmap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import comfy.context_windows
import pytest
import torch
from tiny_families.flux import flux1, flux1_kontext
from tiny_families.tiny_model import TinyModel
from tiny_families.wan import t2v
from tokencache_pack.nodes.cache import ApplyTokenCache
from tokencache_pack.nodes.heatmap import TokenHeatmapPreview
from tokencache_pack.nodes.host.report_handle import ReportHandle
from tokencache_pack.nodes.report import TokenCacheReport

APPLY = {"cache_ratio": 0.7, "forecast_order": 1, "last_blocks": 0, "context": "stale", "shares": "uniform"}


@pytest.fixture(scope="module")
def wan() -> TinyModel:
    """With latents of 3 frames of 10 x 6, of which patches of 1 x 2 x 2 are tokens."""
    return replace(t2v(), latent=(16, 3, 10, 6))


def sampled(tiny: TinyModel, batch: int = 1, **settings) -> tuple[ReportHandle, str]:
    model, handle = ApplyTokenCache.execute(tiny.model, **{**APPLY, **settings}).result
    latent = tiny.sample(model, batch=batch)
    return handle, TokenCacheReport.execute({"samples": latent}, handle).result[0]


def test_a_videos_report_and_heatmap_know_its_frames(wan: TinyModel):
    """Two videos, decoded by a VAE that makes 9 frames of each."""
    handle, text = sampled(wan, batch=2)
    report = handle.latest()
    assert (report.grid.frames, report.grid.rows, report.grid.columns) == (3, 5, 3)
    assert "frames: 3 of 15 tokens (5 x 3); P-steps computed " in text
    assert report.frame_counts.sum() == pytest.approx(0.3 * 45, abs=0.5)
    frames = torch.full((2 * 9, 80, 48, 3), 0.5)
    overlay = TokenHeatmapPreview.execute(frames, handle).result[0]
    assert overlay.shape == (18, 480, 288, 3)
    for video in (0, 9):  # the first frame alone, then two latent frames over four each
        same = [torch.equal(overlay[frame], overlay[frame + 1]) for frame in range(video, video + 8)]
        assert same == [False, True, True, True, False, True, True, True]
    played = TokenHeatmapPreview.execute(frames, handle).ui
    assert len(played["tokencache_pictures"]) == 18 and played["tokencache_player"][0]["grid"] == [3, 5, 3]
    assert played["tokencache_player"][0]["frames"] == [0, 1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("make", [flux1, flux1_kontext])
def test_a_pictures_tokens_have_places_also_before_reference_images(make: Callable[[], TinyModel]):
    tiny = replace(make(), latent=(16, 20, 14))
    handle, text = sampled(tiny, cache_ratio=1.0)
    report = handle.latest()
    assert (report.grid.frames, report.grid.rows, report.grid.columns) == (1, 10, 7) and "frames" not in text
    assert (report.token_counts.shape[1] > 70) == (make is flux1_kontext)
    assert TokenHeatmapPreview.execute(torch.rand(1, 160, 112, 3), handle).result[0].shape == (1, 480, 336, 3)


def test_windows_in_time_have_no_map_and_the_nodes_say_so(wan: TinyModel):
    windowed = wan.model.clone()
    windowed.model_options["context_handler"] = comfy.context_windows.IndexListContextHandler(
        context_schedule=comfy.context_windows.get_matching_context_schedule("standard_static"),
        fuse_method=comfy.context_windows.get_matching_fuse_method("pyramid"),
        context_length=2,
        context_overlap=1,
        dim=2,
    )
    model, handle = ApplyTokenCache.execute(windowed, **APPLY).result
    wan.sample(model)
    report, frames = handle.latest(), torch.rand(9, 80, 48, 3)
    assert (
        report.compute < 1
        and report.grid is None
        and "no map of the tokens: there is none for runs in context windows" in report.text()
    )
    shown = TokenHeatmapPreview.execute(frames, handle)
    assert shown.result[0] is frames and shown.ui["tokencache_player"][0]["notes"] == [report.unplaced]
