"""The kind of a SAMPLER: its name, whether it is Euler's method, and whether its runs can be calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy.k_diffusion import sampling as k_diffusion_sampling

from ...tokencache_core.schedules.known_models import MOST_STEPS
from ...tokencache_core.tuning.calibrate_places import LEAST_STEPS
from ...tokencache_core.words.message import say
from .sampler_noise import adds_noise

EULER = "euler"
# prefixes of the host's samplers that call the model several times a step
_SEVERAL = ("heun", "dpm_2", "dpm_fast", "dpm_adaptive", "dpmpp_2s", "dpmpp_sde", "exp_heun", "seeds", "sa_solver_pece")


def is_euler(sampler: Any) -> bool:
    """Whether a SAMPLER is Euler's method without noise of its own: `euler`, and `ddim`, which is built upon it."""
    function = getattr(sampler, "sampler_function", None)
    return function is k_diffusion_sampling.sample_euler and not sampler.extra_options.get("s_churn")


def sampler_name(sampler: Any) -> str:
    """The name of the SAMPLER's function, which is close to the name that the user chose."""
    function = getattr(sampler, "sampler_function", None)
    return getattr(function, "__name__", type(sampler).__name__).removeprefix("sample_").removesuffix("_function")


def evaluates_several_times(sampler: Any) -> bool:
    """Whether a SAMPLER calls the model several times a step."""
    return sampler_name(sampler).startswith(_SEVERAL)


def sampler_kind(sampler: Any) -> str:
    """The sampler's name in calibrations: "euler" for every form of Euler's method."""
    return EULER if is_euler(sampler) else sampler_name(sampler)


def why_not_calibrated(sampler: Any, sigmas: Sequence[float]) -> str:
    """Why a run of this sampler along `sigmas` (steps + 1) cannot be calibrated; empty if it seems that it can."""
    name, steps = sampler_name(sampler), len(sigmas) - 1
    if steps < LEAST_STEPS:
        return say(
            "too_few_to_calibrate",
            "a run of so few steps ({steps}) leaves no places to choose; at least {least} steps are needed",
            steps=steps,
            least=LEAST_STEPS,
        )
    if steps > MOST_STEPS:
        return say(
            "too_many_to_calibrate",
            "a run of {steps} steps has too many places to try; calibrate one of {most} or fewer, which serves all "
            "numbers of steps",
            steps=steps,
            most=MOST_STEPS,
        )
    if adds_noise(sampler):
        return say(
            "noisy_to_calibrate",
            "the sampler {sampler} adds fresh noise on every step; use one that does not, such as euler or dpmpp_2m",
            sampler=name,
        )
    if evaluates_several_times(sampler):
        return say(
            "several_calls_to_calibrate",
            "the sampler {sampler} calls the model several times a step; use one that calls it once, such as euler or "
            "dpmpp_2m",
            sampler=name,
        )
    if any(here <= then for here, then in zip(sigmas, sigmas[1:])):
        return say("rising_to_calibrate", "its noise does not decrease from step to step")
    return ""
