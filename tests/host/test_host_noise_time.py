"""The noise time in the host: one variable for eps, v and flow models, under each family's own shift node; default
I-steps follow it.
"""

from __future__ import annotations

from math import log
from pathlib import Path

import comfy.model_sampling
import comfy.samplers
import folder_paths
import pytest
from comfy_extras.nodes_model_advanced import (
    ModelSamplingAuraFlow,
    ModelSamplingContinuousEDM,
    ModelSamplingDiscrete,
    ModelSamplingFlux,
    ModelSamplingSD3,
)
from tiny_families import TINY
from tokencache_pack.nodes.cache import ApplyTokenCache, IStepScheduler
from tokencache_pack.nodes.host.model_sampling import tau_function
from tokencache_pack.tokencache_core.sampling.noise_time import flow_ratio, noise_time
from tokencache_pack.tokencache_core.schedules.known_models import known_places
from tokencache_pack.tokencache_core.schedules.run_simulator import FLOW_FADING
from tokencache_pack.tokencache_core.schedules.usual_count import usual_count

STEPS = 20
APPLY = {"cache_ratio": 1.0, "forecast_order": 2, "context": "stale"}
SHIFTED = {  # family -> its own shift node
    # whose shift is the logarithm
    "Flux 1": lambda model, shift: ModelSamplingFlux().patch(model, log(shift), log(shift), 1024, 1024),
    "SD3": lambda model, shift: ModelSamplingSD3().patch(model, shift),
    "Wan 2.1 T2V": lambda model, shift: ModelSamplingSD3().patch(model, shift),
    "Z-Image": lambda model, shift: ModelSamplingAuraFlow().patch_aura(model, shift),
    "AuraFlow": lambda model, shift: ModelSamplingAuraFlow().patch_aura(model, shift),
}


@pytest.fixture(autouse=True)
def no_calibrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "tokencache", ([str(tmp_path)], {".json"}))


def shifted(shift: float) -> list[float]:
    """The noise times of a flow model's steps."""
    sigmas = [1 - step / STEPS for step in range(STEPS)]
    return [noise_time(flow_ratio(shift * sigma / (1 + (shift - 1) * sigma))) for sigma in sigmas]


@pytest.mark.parametrize("name", SHIFTED)
def test_the_same_noise_has_the_same_i_steps_in_every_flow_family(name: str):
    tiny = TINY[name]()
    found = {}
    for shift in (1.0, 6.0):
        (model,) = SHIFTED[name](tiny.model, shift)
        cached, handle = ApplyTokenCache.execute(model, **APPLY).result
        tiny.sample(cached, steps=STEPS)
        found[shift] = tuple(step.index for step in handle.latest().steps if step.kind == "I")
        assert found[shift] == known_places(usual_count(shifted(shift)), shifted(shift), fading=FLOW_FADING)
    assert found[1.0] != found[6.0]  # which has the same noise at other steps


def test_as_many_i_steps_lie_at_the_same_places_by_policy_count():
    tiny, count = TINY["Flux 1"](), 10
    (model,) = SHIFTED["Flux 1"](tiny.model, 6.0)
    (schedule,) = IStepScheduler.execute("count", 3, 4, 0.5, 1, "", count=count).result
    cached, handle = ApplyTokenCache.execute(model, **APPLY, schedule=schedule).result
    tiny.sample(cached, steps=STEPS)
    found = tuple(step.index for step in handle.latest().steps if step.kind == "I")
    assert found == known_places(count, shifted(6.0), fading=FLOW_FADING) != known_places(count, shifted(6.0))


def test_eps_v_and_flow_agree_about_the_same_signal_to_noise_ratio():
    eps, flow = TINY["PixArt sigma"]().model, TINY["Flux 1"]().model
    (v,) = ModelSamplingDiscrete().patch(eps, "v_prediction", False)
    (edm,) = ModelSamplingContinuousEDM().patch(eps, "edm", 120.0, 0.002)
    assert isinstance(v.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)
    for noise in (0.0, 0.03, 0.5, 1.0, 4.0, 80.0):
        scale = getattr(edm.get_model_object("model_sampling"), "sigma_data", 1.0)
        times = [
            tau_function(eps)(noise),
            tau_function(v)(noise),
            tau_function(flow)(noise / (1 + noise)),
            tau_function(edm)(noise * scale),
        ]
        assert times == pytest.approx([noise_time(noise)] * 4, abs=1e-9)
    assert tau_function(flow)(1.0) == pytest.approx(1.0)
