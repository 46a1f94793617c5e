"""The schedule of whoever connects none: places by a calibration that lies in models/tokencache, and a first run that
becomes one.
"""

from __future__ import annotations

import json
from pathlib import Path

import comfy.model_management
import comfy.sample
import comfy.samplers
import folder_paths
import pytest
import torch
from comfy.k_diffusion.sampling import sample_heun
from tiny_models import TinyModel, tiny_dit, tiny_flux
from tokencache_pack.nodes.cache import AUTOMATIC_ORDER, ApplyTokenCache, IStepScheduler
from tokencache_pack.nodes.host.compare import compare
from tokencache_pack.nodes.host.ksampler_inputs import KSamplerInputs
from tokencache_pack.nodes.host.model_hooks import apply_tokencache
from tokencache_pack.nodes.host.model_sampling import tau_function
from tokencache_pack.tokencache_core.files.fingerprint import fingerprint_of
from tokencache_pack.tokencache_core.predictor.trained_cache import TrainedCache
from tokencache_pack.tokencache_core.schedules.automatic import AutomaticSchedule
from tokencache_pack.tokencache_core.schedules.calibration import from_json, load_calibration
from tokencache_pack.tokencache_core.schedules.known_models import known_places
from tokencache_pack.tokencache_core.schedules.usual_count import usual_count
from tokencache_pack.tokencache_core.settings import CacheSettings

APPLY = {"cache_ratio": 1.0, "forecast_order": 2, "last_blocks": 0, "context": "stale", "shares": "early"}
STEPS = 12


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/tokencache, and nothing in it."""
    place = tmp_path / "tokencache"
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "tokencache", ([str(place)], {".safetensors", ".json"}))
    return place


@pytest.fixture
def tiny(tmp_path: Path) -> TinyModel:
    return tiny_dit(tmp_path / "dit.safetensors")


def applied(tiny: TinyModel, calibrate: bool = True, **changes):
    return ApplyTokenCache.execute(tiny.model, **{**APPLY, "calibrate_on_first_run": calibrate, **changes}).result


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*"))


def kinds(handle) -> str:
    return "".join(step.kind for step in handle.latest().steps)


def i_steps(handle) -> tuple[int, ...]:
    return tuple(step.index for step in handle.latest().steps if step.kind == "I")


def test_the_first_run_is_whole_and_every_later_one_is_placed_by_it(tiny: TinyModel, folder: Path):
    model, handle = applied(tiny)
    assert torch.equal(tiny.sample(model, steps=STEPS), tiny.sample(steps=STEPS))
    (file,) = files(folder)
    assert kinds(handle) == "I" * STEPS and handle.latest().compute == 1
    assert (
        file.name.startswith("DiT_euler_cfg3_")
        and f"every step, to calibrate: the next runs take theirs from tokencache/{file.name}" in handle.latest().text()
    )
    assert "too few to cache" not in handle.latest().text()

    found, content = load_calibration(file), file.read_bytes()
    assert sorted(found.places) == list(range(1, STEPS)) and found.sampler == "euler" and found.cfg == 3
    cached = tiny.sample(model, steps=STEPS)
    assert (
        i_steps(handle) == found.places[usual_count(taus_of(tiny, STEPS))]
        and f"I-steps: by the calibration {file.name}" in handle.latest().text()
    )
    again, later = applied(tiny)  # as after a restart: the switch does nothing once there is one
    assert torch.equal(tiny.sample(again, steps=STEPS), cached) and i_steps(later) == i_steps(handle)
    off, quiet = applied(tiny, calibrate=False)
    assert torch.equal(tiny.sample(off, steps=STEPS, seed=2), tiny.sample(again, steps=STEPS, seed=2))
    assert i_steps(quiet) == i_steps(handle)
    assert files(folder) == [file] and file.read_bytes() == content


def test_its_order_of_forecasts_is_taken_unless_the_user_chose_one(tiny: TinyModel, folder: Path):
    model, _ = applied(tiny, forecast_order=AUTOMATIC_ORDER)
    tiny.sample(model, steps=STEPS)
    (file,) = files(folder)
    content, sampled = json.loads(file.read_text()), {}
    for order in (1, 2):
        file.write_text(json.dumps({**content, "order": order}))
        sampled[order] = tiny.sample(model, steps=STEPS)
    assert not torch.equal(sampled[1], sampled[2])  # the file has 2 now
    fitted, _ = apply_tokencache(tiny.model, CacheSettings(context="stale"), AutomaticSchedule())
    assert torch.equal(sampled[1], tiny.sample(fitted, steps=STEPS))
    chosen = {order: tiny.sample(applied(tiny, forecast_order=order)[0], steps=STEPS) for order in (1, 2)}
    assert torch.equal(chosen[2], sampled[2]) and not torch.equal(chosen[1], sampled[2])


def test_other_steps_and_denoise_are_served(tiny: TinyModel, folder: Path):
    model, handle = applied(tiny)
    tiny.sample(model, steps=12)
    (file,) = files(folder)
    for steps in (14, 20):
        tiny.sample(model, steps=steps)
        assert (
            len(i_steps(handle)) == usual_count(taus_of(tiny, steps))
            and f"by the calibration {file.name}" in handle.latest().text()
        )
    assert files(folder) == [file]


def test_another_sampler_or_guidance_has_a_calibration_of_its_own(tiny: TinyModel, folder: Path):
    model, handle = applied(tiny)
    for changes in ({}, {"sampler": "dpmpp_2m"}, {"cfg": 1.0}):
        tiny.sample(model, steps=STEPS, **changes)
        assert handle.latest().teaches
    names = [file.name.rpartition("_")[0] for file in files(folder)]
    assert names == ["DiT_dpmpp_2m_cfg3", "DiT_euler_cfg1", "DiT_euler_cfg3"]
    tiny.sample(model, steps=STEPS, sampler="ddim", cfg=4.0)  # Euler's method, and nearly the guidance
    assert not handle.latest().teaches and "by the calibration DiT_euler_cfg3" in handle.latest().text()


def test_a_deleted_file_is_gone_and_comes_back_only_with_the_switch(tiny: TinyModel, folder: Path):
    (model, _), (off, quiet) = applied(tiny), applied(tiny, calibrate=False)
    first = tiny.sample(model, steps=STEPS)
    (file,) = files(folder)
    content = file.read_bytes()
    file.unlink()
    tiny.sample(off, steps=STEPS)
    assert (
        i_steps(quiet) == known_places(usual_count(taus_of(tiny, STEPS)), taus_of(tiny, STEPS)) and files(folder) == []
    )
    assert "where other models need them" in quiet.latest().text() and "calibrate_on_first_run" in quiet.latest().text()
    assert torch.equal(tiny.sample(model, steps=STEPS), first)
    assert load_calibration(file).places == from_json(content.decode(), "before").places
    tiny.sample(off, steps=STEPS)
    assert f"by the calibration {file.name}" in quiet.latest().text()


def test_two_models_in_one_graph_have_each_their_own(tmp_path: Path, folder: Path):
    one, other = (tiny_dit(tmp_path / f"{name}.safetensors") for name in ("one", "other"))
    for parameter in other.model.model.diffusion_model.parameters():
        parameter.data *= 1.3  # another model of the same architecture
    flux = tiny_flux()
    applications = [(tiny, *applied(tiny)) for tiny in (one, other, flux)]
    for tiny, model, handle in applications:
        tiny.sample(model, steps=STEPS)
        assert handle.latest().teaches
    assert len(files(folder)) == 3
    served = []
    for tiny, model, handle in applications:
        tiny.sample(model, steps=STEPS)
        served.append(handle.latest().placed)
    assert len(set(served)) == 3 and all("by the calibration" in words for words in served)


def test_a_file_that_cannot_be_read_never_breaks_a_run(tiny: TinyModel, folder: Path):
    model, handle = applied(tiny)
    tiny.sample(model, steps=STEPS)
    (file,) = files(folder)
    (folder / "preset.json").write_text('{"format": "tokencache preset"}')
    (folder / "noise.json").write_bytes(b"\xff\x00{{{{")
    (folder / "folder.json").mkdir()
    (folder / "broken.json").write_text(file.read_text().replace('"cfg": 3.0', '"cfg": -3.0'))
    tiny.sample(model, steps=STEPS)
    text = handle.latest().text()
    assert f"by the calibration {file.name}" in text and "preset.json" not in text
    assert (
        "a calibration was skipped: broken.json is not a TokenCache calibration: the calibration's cfg must be 0 "
        "or more" in text
    )
    file.write_text(file.read_text()[:-40])
    tiny.sample(model, steps=STEPS)  # and is calibrated anew, beside it
    assert (
        handle.latest().teaches
        and f"skipped: {file.name}" in handle.latest().text()
        and (folder / f"{file.stem}_2.json").is_file()
    )


@pytest.mark.parametrize(
    ("sampler", "steps", "why"),
    [
        ("euler_ancestral", STEPS, "adds fresh noise"),
        ("dpmpp_2m_sde", STEPS, "adds fresh noise"),
        ("heun", STEPS, "several times a step"),
        ("dpm_2", STEPS, "several times a step"),
        ("euler", 2, "at least 3 steps are needed"),
        ("euler", 1, "a run of so few steps (1) leaves"),
    ],
)
def test_a_run_that_cannot_teach_is_cached_as_by_default_and_says_why(
    tiny: TinyModel, folder: Path, sampler: str, steps: int, why: str
):
    (model, handle), (off, quiet) = applied(tiny), applied(tiny, calibrate=False)
    samples = tiny.sample(model, steps=steps, sampler=sampler)
    assert torch.equal(samples, tiny.sample(off, steps=steps, sampler=sampler))
    assert kinds(handle) == kinds(quiet) and why in handle.latest().text() and not handle.latest().teaches
    assert files(folder) == []


def test_a_strange_sampler_that_evaluates_between_steps_is_found_out_and_cached(tiny: TinyModel, folder: Path):
    def sample_strange(model, x, sigmas, extra_args=None, callback=None, disable=None):
        return sample_heun(model, x, sigmas, extra_args=extra_args, disable=disable)

    model, handle = applied(tiny)
    run(tiny, model, comfy.samplers.KSAMPLER(sample_strange), steps=12)
    assert "P" in kinds(handle) and "the sampler strange calls the model several times a step" in handle.latest().text()
    assert files(folder) == []


def test_an_interrupted_run_writes_nothing(tiny: TinyModel, folder: Path):
    model, handle = applied(tiny)
    interrupted, calls = model.clone(), []

    def interrupting(executor, *args, **kwargs):
        calls.append(None)
        if len(calls) == STEPS:  # the last of them
            raise comfy.model_management.InterruptProcessingException
        return executor(*args, **kwargs)

    interrupted.add_wrapper_with_key("apply_model", "interrupting", interrupting)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny.sample(interrupted, steps=STEPS)
    assert files(folder) == [] and not handle.reports
    tiny.sample(model, steps=STEPS)
    assert len(files(folder)) == 1


def test_a_folder_that_cannot_be_written_to_costs_no_picture(tiny: TinyModel, folder: Path):
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file in the folder's place")
    model, handle = applied(tiny)
    assert torch.equal(tiny.sample(model, steps=STEPS), tiny.sample(steps=STEPS))
    assert "every step, to calibrate, which failed: File exists" in handle.latest().text()


def test_places_of_the_users_own_win_and_nothing_is_calibrated(tiny: TinyModel, folder: Path):
    own = IStepScheduler.execute("explicit", 3, 4, 0.5, 2, "0, 2, 5").result[0]
    model, handle = applied(tiny, schedule=own)
    tiny.sample(model, steps=STEPS)
    assert i_steps(handle) == (0, 2, 5) and handle.latest().placed == "" and files(folder) == []
    network = tiny.model.model.diffusion_model
    trained = TrainedCache(settings=CacheSettings(), interval=4, fingerprint=fingerprint_of("DiT", network.blocks))
    model, handle = applied(tiny, predictor=trained)
    tiny.sample(model, steps=STEPS)
    assert i_steps(handle) == (0, 1, 5, 9) and files(folder) == []


def test_a_run_without_p_steps_says_nothing_of_places(tiny: TinyModel, folder: Path):
    model, handle = applied(tiny, calibrate=False, speed_up=1.0)
    tiny.sample(model, steps=STEPS)
    assert kinds(handle) == "I" * STEPS and handle.latest().placed == ""


@pytest.mark.parametrize(("choices", "count"), [({"count": 5}, 5), ({"speed_up": 2.0}, 6), ({}, 0)])
def test_the_schedulers_automatic_policy_takes_as_many_of_the_calibrations_places(
    tiny: TinyModel, folder: Path, choices, count: int
):
    schedule = IStepScheduler.execute("automatic", 3, 4, 0.5, 2, "0", **choices).result[0]
    model, handle = applied(tiny, schedule=schedule)
    tiny.sample(model, steps=STEPS)
    (file,) = files(folder)
    tiny.sample(model, steps=STEPS)
    assert i_steps(handle) == load_calibration(file).places[count or usual_count(taus_of(tiny, STEPS))]


def test_ratio_zero_stays_bit_identical(tiny: TinyModel, folder: Path):
    model, handle = applied(tiny, cache_ratio=0.0)
    plain = tiny.sample(steps=STEPS)
    assert torch.equal(tiny.sample(model, steps=STEPS), plain) and torch.equal(tiny.sample(model, steps=STEPS), plain)
    assert "P" in kinds(handle) and handle.latest().compute == 1


@pytest.mark.parametrize(
    "sampler", ["dpmpp_2m", "uni_pc", "res_multistep", "deis", "lms", "ipndm", "gradient_estimation", "euler_cfg_pp"]
)
def test_every_sampler_that_calls_the_model_once_a_step_teaches(tiny: TinyModel, folder: Path, sampler: str):
    model, handle = applied(tiny)
    assert torch.equal(tiny.sample(model, steps=STEPS, sampler=sampler), tiny.sample(steps=STEPS, sampler=sampler))
    assert handle.latest().teaches and len(files(folder)) == 1
    tiny.sample(model, steps=STEPS, sampler=sampler)
    assert "by the calibration" in handle.latest().text() and "P" in kinds(handle)


def test_a_calibration_is_found_again_while_a_lora_lies_in_the_weights(folder: Path):
    tiny = tiny_flux()
    model, handle = applied(tiny)
    tiny.sample(model, steps=STEPS)
    styled = tiny.model.clone()
    weights = {
        f"diffusion_model.{name}": ("diff", (torch.full_like(tensor, 0.01),))
        for name, tensor in tiny.model.model.diffusion_model.named_parameters()
    }
    assert styled.add_patches(weights)
    first = ApplyTokenCache.execute(styled, **APPLY).result
    tiny.sample(first[0], steps=STEPS)
    assert "by the calibration" in first[1].latest().text()
    second = ApplyTokenCache.execute(styled, **APPLY).result  # the host has the LoRA in the weights now
    tiny.sample(second[0], steps=STEPS)
    assert second[1].latest().placed == first[1].latest().placed


def test_compare_never_takes_its_warm_up_for_a_first_run(tiny: TinyModel, folder: Path):
    class Pixels:
        def decode(self, latent):
            return latent[:, :3].movedim(1, -1)

    model, handle = applied(tiny)
    latent = {"samples": torch.zeros(1, *tiny.latent)}
    asked = KSamplerInputs(7, 12, 3.0, "euler", "simple", tiny.positive, tiny.negative, latent, 1.0)
    _, _, found = compare(model, Pixels(), asked)
    (file,) = files(folder)
    assert (
        len(load_calibration(file).taus) == 12
        and "P" in found.kinds
        and f"by the calibration {file.name}" in handle.latest().text()
    )


def run(tiny: TinyModel, model, sampler, steps: int) -> torch.Tensor:
    """As SamplerCustom does it."""
    noise = torch.randn((1, *tiny.latent), generator=torch.Generator().manual_seed(1))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    return comfy.sample.sample_custom(
        model,
        noise,
        3.0,
        sampler,
        sigmas,
        tiny.positive,
        tiny.negative,
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=1,
    )


def taus_of(tiny: TinyModel, steps: int) -> list[float]:
    sigmas = comfy.samplers.calculate_sigmas(tiny.model.get_model_object("model_sampling"), "simple", steps)
    return [tau_function(tiny.model)(sigma) for sigma in sigmas[:-1].tolist()]
