"""Measure Redundancy in the real host."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_models import TinyModel, tiny_dit, tiny_flux
from tokencache_pack.nodes.cache import ApplyTokenCache
from tokencache_pack.nodes.redundancy import MeasureRedundancy

CHOICES = {"seed": 3, "steps": 9, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple"}
APPLY = {"cache_ratio": 1.0, "forecast_order": 0, "last_blocks": 0, "context": "stale", "shares": "early"}


def measure(tiny: TinyModel, batch: int = 2, **changes):
    with torch.inference_mode():
        latent = {"samples": torch.zeros(batch, *tiny.latent)}
        return MeasureRedundancy.execute(tiny.model, tiny.positive, tiny.negative, latent, **{**CHOICES, **changes})


def dit(tmp_path) -> TinyModel:
    return tiny_dit(tmp_path / "dit.safetensors")


@pytest.mark.parametrize(
    ("make", "blocks", "grid"), [(dit, 4, [1, 8, 8]), (lambda path: tiny_flux(), 4, [1, 10, 7])], ids=["DiT", "Flux"]
)
def test_it_shows_the_run_and_says_what_it_knows(make, blocks: int, grid: list[int], tmp_path):
    tiny = make(tmp_path)
    before = tiny.sample()
    output = measure(tiny)
    assert torch.equal(tiny.sample(), before)  # nothing stays on the model
    words, chart = output.result
    assert words.startswith("Verdict: ") and "updates change by" in words.lower() and "every 2 (" in words
    assert "inside the blocks" in words and "block 4" in words
    assert chart.ndim == 4 and chart.min() >= 0 and chart.max() <= 1 and chart.std() > 0.1
    data = json.loads(json.dumps(output.ui["tokencache_player"][0]))
    assert data["grid"] == grid and data["images"] == 2 and data["blocks"] == blocks
    assert [step["index"] for step in data["steps"]] == list(range(1, 9)) and data["maps"]["count"] == 8 * blocks
    assert data["measure"]["full"] > 0 and output.ui["tokencache_pictures"] == []


def test_with_a_vae_the_runs_own_pictures_lie_below(tmp_path):
    tiny = dit(tmp_path)

    class Decoder:  # the host's VAE is a large model; what is asked of one is this
        def decode(self, latent):
            return latent[:, :3].movedim(1, -1).sigmoid().repeat_interleave(8, 1).repeat_interleave(8, 2)

    output = measure(tiny, vae=Decoder())
    assert len(output.ui["tokencache_pictures"]) == 2 and output.ui["tokencache_player"][0]["frames"] == [0]


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "euler_ancestral", "dpmpp_2m"])
def test_samplers_that_evaluate_more_than_once_a_step_or_add_noise(sampler: str, tmp_path):
    words = measure(dit(tmp_path), batch=1, sampler_name=sampler).result[0]
    assert words.startswith("Verdict: ") and "(5 of 9 I-steps)" in words


def test_an_apply_before_it_does_not_count(tmp_path):
    tiny = dit(tmp_path)
    slow, handle = ApplyTokenCache.execute(tiny.model, **APPLY).result
    through = TinyModel(tiny.name, slow, tiny.positive, tiny.negative, tiny.latent)
    plain, other = (measure(each).ui["tokencache_player"][0] for each in (tiny, through))
    assert plain["maps"] == other["maps"] and not handle.reports


def test_an_unknown_model_is_a_sentence(tmp_path):
    tiny = dit(tmp_path)
    tiny.model.model.diffusion_model = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="does not know Linear yet"):
        measure(tiny)


def test_it_can_be_interrupted(tmp_path, monkeypatch):
    import comfy.model_management

    tiny, calls = dit(tmp_path), []
    monkeypatch.setattr(
        comfy.utils.ProgressBar,
        "update_absolute",
        lambda self, value, *args: (
            calls.append(value),
            value == 3 and comfy.model_management.interrupt_current_processing(),
        ),
    )
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        measure(tiny)
    assert calls == [1, 2, 3]
