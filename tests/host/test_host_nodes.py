"""The cache nodes as ComfyUI sees them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import tokencache_pack
import torch
from comfy_api.latest import io
from tiny_models import tiny_dit
from tiny_predictor import tiny_predictor
from tokencache_pack.nodes.cache import ApplyTokenCache, IStepScheduler
from tokencache_pack.nodes.heatmap import TokenHeatmapPreview
from tokencache_pack.nodes.report import TokenCacheReport

ROOT = Path(__file__).resolve().parents[2]
APPLY = {"cache_ratio": 1.0, "forecast_order": 2, "last_blocks": 0, "context": "stale", "shares": "early"}
SCHEDULE = {"policy": "uniform", "interval": 3, "second_interval": 4, "split": 0.5, "warmup": 3, "steps": "0, 1, 2"}


def all_nodes() -> list:
    async def load():
        extension = await tokencache_pack.comfy_entrypoint()
        return await extension.get_node_list()

    return asyncio.run(load())


def test_the_entrypoint_gives_the_nodes_whose_ids_never_change():
    assert {node.define_schema().node_id for node in all_nodes()} == {
        "TokenCacheLoadDiT",
        "TokenCacheDiTClassLabel",
        "TokenCacheLoadOpenSoraPlan",
        "TokenCacheLoadOpenSoraPlanVAE",
        "TokenCacheLoadMT5XXL",
        "TokenCacheOpenSoraPlanPrompt",
        "TokenCacheEmptyOpenSoraPlanLatent",
        "TokenCacheLoadSmallFlux",
        "TokenCacheSmallFluxPrompt",
        "TokenCacheApply",
        "TokenCacheIStepScheduler",
        "TokenCacheHeatmap",
        "TokenCacheReport",
        "TokenCacheLoadPredictor",
        "TokenCacheTrainPredictor",
        "TokenCacheSavePredictor",
        "TokenCachePlotTraining",
        "TokenCacheTuning",
        "TokenCacheLoadPreset",
        "TokenCacheCalibrate",
        "TokenCacheCompare",
        "TokenCacheRedundancy",
    }


@pytest.mark.parametrize("node", all_nodes(), ids=lambda node: node.define_schema().node_id)
def test_every_node_explains_itself(node):
    schema = node.define_schema()
    assert schema.description and schema.search_aliases and schema.category == "TokenCache"
    assert all(item.tooltip for item in [*schema.inputs, *schema.outputs])
    page = (ROOT / "web" / "docs" / f"{schema.node_id}.md").read_text()
    assert page.startswith(f"# {schema.display_name}\n")
    missing = [item.id for item in schema.inputs if item.id not in page]
    assert not missing


def test_apply_sample_report_heatmap(tmp_path):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    schedule = IStepScheduler.execute(**{**SCHEDULE, "policy": "explicit"}).result[0]
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, schedule=schedule).result
    latent = tiny.sample(model, batch=2)
    text, speedup, compute = TokenCacheReport.execute({"samples": latent}, handle).result
    assert "IIIPPP" in text and compute == pytest.approx(0.5) and speedup > 0
    tokens, per_step, _ = TokenHeatmapPreview.execute(torch.rand(2, 64, 64, 3), handle).result
    assert tokens.shape == (2, 256, 256, 3) and per_step.ndim == 4


@pytest.mark.parametrize(
    ("policy", "kinds"),
    [
        ({"policy": "count", "speed_up": 2.0}, "IPIPIP"),
        ({"policy": "error-bound", "error_bound": 1e-4}, "IIIIII"),
        ({"policy": "error-bound", "error_bound": 10.0}, "IIPIPP"),
    ],
)
def test_i_steps_by_speed_up_and_by_error(tmp_path, policy, kinds):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    schedule = IStepScheduler.execute(**{**SCHEDULE, "warmup": 1, **policy}).result[0]
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, schedule=schedule).result
    tiny.sample(model)
    assert "".join(step.kind for step in handle.latest().steps) == kinds


@pytest.mark.parametrize("sampler", ["heun", "heunpp2", "dpm_2", "dpm_fast", "euler_ancestral", "res_multistep"])
def test_an_error_bound_serves_samplers_that_evaluate_elsewhere(tmp_path, sampler):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    whole = []
    for bound in (1e-6, 10.0):
        schedule = IStepScheduler.execute(**{**SCHEDULE, "policy": "error-bound", "error_bound": bound}).result[0]
        model, handle = ApplyTokenCache.execute(tiny.model, **APPLY, schedule=schedule).result
        tiny.sample(model, steps=8, sampler=sampler)
        kinds = [step.kind for step in handle.latest().steps]
        whole.append(kinds.count("I") / len(kinds))
    assert whole[0] == 1 and whole[1] < 0.8


def test_a_speed_up_that_p_steps_do_not_allow_is_told(tmp_path):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    schedule = IStepScheduler.execute(**{**SCHEDULE, "policy": "count", "speed_up": 4.0}).result[0]
    model, handle = ApplyTokenCache.execute(tiny.model, **{**APPLY, "cache_ratio": 0.5}, schedule=schedule).result
    tiny.sample(model)
    assert "a speed-up of 4 is out of reach" in handle.latest().text()


def test_a_predictor_tells_the_scheduler_what_its_p_steps_cost():
    slow = tiny_predictor(interval=4, notes={"steps": "10", "held_out_speedup": "2.0"})
    schedule = IStepScheduler.execute(**{**SCHEDULE, "policy": "count", "speed_up": 2.0}, predictor=slow).result[0]
    assert schedule.p_step == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("speed_up", "i_steps"), [(0.0, 8), (1.0, 20), (2.0, 10), (4.0, 5)], ids=["automatic", "1x", "2x", "4x"]
)
def test_the_knob_of_apply_sets_the_number_of_i_steps(tmp_path, speed_up, i_steps):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    model, handle = ApplyTokenCache.execute(tiny.model, speed_up).result
    tiny.sample(model, steps=20)
    assert [step.kind for step in handle.latest().steps].count("I") == i_steps


def test_the_knob_reckons_with_what_p_steps_compute(tmp_path):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    model, handle = ApplyTokenCache.execute(tiny.model, 2.0, cache_ratio=0.7, shares="uniform").result
    tiny.sample(model, steps=20)
    assert [step.kind for step in handle.latest().steps].count("I") < 8
    assert handle.latest().compute == pytest.approx(0.5, abs=0.03)


def test_one_input_is_in_front_and_what_is_for_comparison_is_not_there():
    inputs = {item.id: item for item in ApplyTokenCache.define_schema().inputs}
    in_front = [name for name, item in inputs.items() if isinstance(item, io.WidgetInput) and not item.advanced]
    assert in_front == ["speed_up"] and list(inputs)[1] == "speed_up"
    assert "score" not in inputs and inputs["context"].options == ["forecast", "stale"]


def test_a_report_before_any_run_says_what_to_connect(tmp_path):
    _, handle = ApplyTokenCache.execute(tiny_dit(tmp_path / "dit.safetensors").model, **APPLY).result
    output = TokenCacheReport.execute({"samples": None}, handle)
    assert output.result[0].startswith("No sampling run has finished yet") and output.result[1:] == (1.0, 1.0)
    assert output.ui["tokencache_report"] == [{"notice": output.result[0], "text": output.result[0]}]


def test_a_report_that_is_not_connected_says_so():
    for node, shown in ((TokenCacheReport, {"samples": None}), (TokenHeatmapPreview, torch.rand(1, 16, 16, 3))):
        assert "Apply TokenCache is bypassed" in json.dumps(node.execute(shown).ui)
    assert TokenCacheReport.execute({"samples": None}).result[1:] == (1.0, 1.0)


def test_an_unknown_models_output_is_forecast_and_the_log_says_so(tmp_path, caplog):
    tiny = tiny_dit(tmp_path / "dit.safetensors")
    network = tiny.model.model.diffusion_model
    network.__class__ = type("NextMonthsModel", (type(network),), {})
    model, handle = ApplyTokenCache.execute(tiny.model, **APPLY).result
    assert "does not know the blocks of NextMonthsModel" in caplog.text
    assert tiny.sample(model, steps=20).isfinite().all() and handle.latest().compute < 1


@pytest.mark.parametrize(
    ("node", "choice", "says"),
    [
        (ApplyTokenCache, {**APPLY, "cache_ratio": 1.5}, "cache_ratio must lie between 0"),
        (ApplyTokenCache, {**APPLY, "forecast_order": 3}, "order must be"),
        (ApplyTokenCache, {**APPLY, "forecast_reach": 3.0}, "reach must lie between 0"),
        (ApplyTokenCache, {"speed_up": 0.5, "forecast_order": 2}, "speed-up must be at least 1"),
        (IStepScheduler, {**SCHEDULE, "policy": "explicit", "steps": "3, 6"}, "must contain 0"),
        (IStepScheduler, {**SCHEDULE, "policy": "explicit", "steps": "a"}, "whole numbers"),
        (IStepScheduler, {**SCHEDULE, "policy": "count", "speed_up": 0.5}, "speed-up must be at least 1"),
        (IStepScheduler, {**SCHEDULE, "policy": "error-bound", "error_bound": 0.0}, "above 0"),
    ],
)
def test_bad_input_is_one_clear_error(node, choice, says):
    arguments = (None,) if node is ApplyTokenCache else ()
    with pytest.raises(ValueError, match=says):
        node.execute(*arguments, **choice)
