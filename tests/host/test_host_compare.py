"""Compare with and without TokenCache, and TokenCache Report, as ComfyUI runs them."""

from __future__ import annotations

import json
import math

import comfy.model_management
import comfy.sample
import pytest
import torch
from tiny_models import TinyModel, tiny_dit
from tokencache_pack.nodes.cache import ApplyTokenCache
from tokencache_pack.nodes.compare import TokenCacheCompare
from tokencache_pack.nodes.families import family_of
from tokencache_pack.nodes.host.compare import compare, decoded, shown_pairs, without_tokencache
from tokencache_pack.nodes.host.ksampler_inputs import KSamplerInputs
from tokencache_pack.nodes.report import TokenCacheReport
from tokencache_pack.tokencache_core.schedules.schedule import UniformSchedule

from tokencache_core.files.fingerprint import fingerprint_of
from tokencache_core.predictor.trained_cache import TrainedCache
from tokencache_core.settings import CacheSettings

APPLY = {"cache_ratio": 1.0, "forecast_order": 1, "last_blocks": 0, "context": "stale", "shares": "early"}


class PixelVae:
    """Of a model whose latents are pictures in [-1, 1]."""

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent.movedim(1, -1).clamp(-1, 1) / 2 + 0.5


@pytest.fixture
def tiny(tmp_path) -> TinyModel:
    return tiny_dit(tmp_path / "dit.safetensors", in_channels=3)


def inputs(tiny: TinyModel, batch: int = 2, **changes) -> KSamplerInputs:
    latent = {"samples": torch.zeros(batch, 3, 16, 16)}
    return KSamplerInputs(
        **{
            "seed": 7,
            "steps": 12,
            "cfg": 3.0,
            "sampler_name": "ddim",
            "scheduler": "simple",
            "positive": tiny.positive,
            "negative": tiny.negative,
            "latent_image": latent,
            "denoise": 1.0,
            **changes,
        }
    )


def k_sampled(model, asked: KSamplerInputs) -> torch.Tensor:
    noise = comfy.sample.prepare_noise(asked.latent_image["samples"], asked.seed)
    return comfy.sample.sample(
        model,
        noise,
        asked.steps,
        asked.cfg,
        asked.sampler_name,
        asked.scheduler,
        asked.positive,
        asked.negative,
        asked.latent_image["samples"],
        denoise=asked.denoise,
        disable_pbar=True,
        seed=asked.seed,
    )


@torch.inference_mode()  # as the host runs nodes
@pytest.mark.parametrize("changes", [{}, {"denoise": 0.5}, {"steps": 1}, {"steps": 3, "sampler_name": "uni_pc"}])
def test_both_pictures_are_those_of_k_sampler(tiny, changes):
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY).result
    asked = inputs(tiny, **changes)
    plain, cached, found = compare(model, PixelVae(), asked)
    assert torch.equal(plain, PixelVae().decode(k_sampled(tiny.model, asked)))
    assert torch.equal(cached, PixelVae().decode(k_sampled(model, asked)))
    assert found.plain_seconds > 0 and found.cached_seconds > 0 and len(found.psnr) == 2


def test_only_the_timed_run_is_reported_and_the_model_stays_as_it_was(tiny):
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY).result
    _, _, found = compare(model, PixelVae(), inputs(tiny))
    assert [len(report.steps) for report in handle.reports] == [12]
    assert handle.latest().speedup == found.speedup  # both nodes show one number
    assert (
        found.kinds == "".join(step.kind for step in handle.latest().steps)
        and found.compute == handle.latest().compute < 1
    )
    tiny.sample(model, latent=(3, 16, 16))
    assert len(handle.reports) == 2  # it is still cached


def test_the_plain_model_is_plain_without_forgetting_other_nodes(tiny):
    tiny.model.add_wrapper_with_key(
        "outer_sample", "another node", lambda executor, *args, **kwargs: executor(*args, **kwargs)
    )
    model, _ = ApplyTokenCache.execute(tiny.model, **APPLY).result
    plain = without_tokencache(model)
    assert list(plain.wrappers["outer_sample"]) == ["another node"] and "tokencache" in model.wrappers["outer_sample"]


def test_ratio_zero_gives_the_same_pictures(tiny):
    model, _ = ApplyTokenCache.execute(tiny.model, **{**APPLY, "cache_ratio": 0.0}).result
    result = TokenCacheCompare.execute(model, **vars(inputs(tiny, steps=4)), vae=PixelVae()).result
    assert math.isinf(result[2]) and result[3] == 1.0 and "the same picture, to the last bit" in result[5]


def test_the_page_gets_files_numbers_and_warnings(tiny):
    model, _ = ApplyTokenCache.execute(tiny.model, **APPLY, schedule=UniformSchedule()).result
    output = TokenCacheCompare.execute(model, **vars(inputs(tiny, steps=6)), vae=PixelVae())
    (shown,) = output.ui["tokencache_compare"]
    json.dumps(shown, allow_nan=False)
    assert len(shown["pictures"]) == len(shown["psnr"]) == len(shown["ssim"]) == 2
    assert (
        shown["pictures"][0]["plain"]["type"] == "temp"
        and shown["pictures"][0]["plain"] != shown["pictures"][0]["cached"]
    )
    assert any("too short to time well" in text for text in shown["warnings"])
    assert any(text.startswith("6 steps are few to cache") for text in shown["warnings"])


def test_of_a_video_some_frames_are_shown(tiny):
    class Video:
        def decode(self, latent: torch.Tensor) -> torch.Tensor:
            return torch.arange(80.0).div(80).view(1, 80, 1, 1, 1).expand(1, 80, 12, 12, 3)

    frames = decoded(Video(), torch.zeros(1, 3, 16, 16))
    model, _ = ApplyTokenCache.execute(tiny.model, **APPLY).result
    _, _, found = compare(model, Video(), inputs(tiny, batch=1, steps=2))
    saved = []
    shown = shown_pairs(found, frames, frames, lambda pictures: saved.append(pictures) or [{}] * len(pictures))
    assert frames.shape == (80, 12, 12, 3) and len(found.psnr) == 80
    assert len(shown["pictures"]) == len(shown["ssim"]) == len(saved[0]) == 32 and torch.equal(saved[0][-1], frames[-1])


@pytest.mark.parametrize(("say", "change"), [("connect the MODEL", None), ("raise it", {"denoise": 0.0})])
def test_nothing_to_compare_is_one_clear_error(tiny, say, change):
    model = tiny.model if change is None else ApplyTokenCache.execute(tiny.model, **APPLY).result[0]
    with pytest.raises(ValueError, match=say):
        compare(model, PixelVae(), inputs(tiny, **(change or {})))


def test_a_model_that_is_not_known_is_forecast_at_its_output_and_told(tiny):
    network = tiny.model.model.diffusion_model
    network.__class__ = type("NextMonthsModel", (type(network),), {})
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY).result
    _, _, found = compare(model, PixelVae(), inputs(tiny))
    assert found.compute < 1 and any("does not know the blocks of NextMonthsModel" in text for text in found.warnings)
    text, _, compute = TokenCacheReport.execute({}, handle).result
    assert "does not know the blocks of NextMonthsModel" in text and compute == found.compute


def test_an_interrupt_ends_both_runs(tiny):
    runs = []

    def another_node(executor, *args, **kwargs):
        runs.append(args)
        if len(runs) == 2:  # the plain model's timed run, after its warm-up
            comfy.model_management.interrupt_current_processing()
        return executor(*args, **kwargs)

    tiny.model.add_wrapper_with_key("outer_sample", "another node", another_node)
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY).result
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        compare(model, PixelVae(), inputs(tiny))
    assert len(runs) == 2 and not handle.reports


def test_the_report_node_shows_the_run_and_its_advice(tiny):
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY).result
    tiny.sample(model, sampler="euler_ancestral", latent=(3, 16, 16), steps=20)
    output = TokenCacheReport.execute({}, handle)
    (shown,) = output.ui["tokencache_report"]
    json.dumps(shown, allow_nan=False)
    assert shown["kinds"] == "".join(step.kind for step in handle.latest().steps) and len(shown["milliseconds"]) == 20
    (noise,) = [text for text in shown["warnings"] if "fresh noise" in text]
    assert (
        noise.startswith("this sampler (euler_ancestral) adds fresh noise") and f"advice: {noise}" in output.result[0]
    )
    assert shown["text"] == output.result[0] == output.ui["text"][0]


def test_a_report_knows_that_heun_evaluates_twice(tiny):
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY).result
    tiny.sample(model, sampler="heun", latent=(3, 16, 16), steps=20)
    assert (
        "this sampler (heun) calls the model twice per step: 39 evaluations for 20 steps"
        in TokenCacheReport.execute({}, handle).result[0]
    )


def test_a_report_knows_that_the_predictor_was_trained_at_another_size(tiny):
    network = tiny.model.model.diffusion_model
    blocks = [block for block, _ in family_of(network).blocks(network)]
    trained = TrainedCache(
        settings=CacheSettings(),
        interval=3,
        fingerprint=fingerprint_of("DiT", blocks),
        notes={"latent": "(4, 3, 8, 8)"},
    )
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, predictor=trained).result
    tiny.sample(model, latent=(3, 16, 16), steps=20)
    said = TokenCacheReport.execute({}, handle).result[0]
    assert "the predictor was trained at 8 x 8 px, but this run is 16 x 16 px" in said


def test_a_report_knows_at_what_size_a_dit_was_trained(tiny):
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY).result
    tiny.sample(model, latent=(3, 16, 32), steps=20)
    assert "trained at 16 x 16 px only, but this run is 32 x 16 px" in TokenCacheReport.execute({}, handle).result[0]
