"""The tuner on a tiny DiT: it lands on its goal, prefers what is likest, stops where the goal is out of reach or the
time over.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_dit import tiny_dit

from tokencache_core.bench.rows import mean_psnr
from tokencache_core.dit.run import DiTRun
from tokencache_core.files.fingerprint import Fingerprint
from tokencache_core.runs.cached_sampling import sample_cached
from tokencache_core.runs.run import HELD_OUT_SEEDS, Run
from tokencache_core.sampling.noise_schedule import simple_sigmas
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings
from tokencache_core.tuning import place_search
from tokencache_core.tuning.preset import Goal, Result
from tokencache_core.tuning.probe import Likeness, Probe, StepTimes
from tokencache_core.tuning.search_space import CORNERS, DEFAULT_CHOICE, Choice, space
from tokencache_core.tuning.tuner import GoalOutOfReach, Tuner

SIGMAS = simple_sigmas(16)


@pytest.fixture(autouse=True)
def brief_search(monkeypatch):
    monkeypatch.setattr(place_search, "PATIENCE", 4)


@pytest.fixture(scope="module")
def model():
    return tiny_dit(width=128, depth=4, input_size=16, in_channels=3)


@pytest.fixture
def seeds():
    return []


@pytest.fixture
def start(model, seeds):
    def run(seed: int) -> DiTRun:
        seeds.append(seed)
        noise = starting_noise((3, 3, 16, 16), 10 * seed, SIGMAS[0])
        return DiTRun(model, torch.arange(3), noise=noise, sigmas=SIGMAS, cfg=2.0, solver="ddim")

    return run


def likeness(run: Run, choice: Choice, i_steps: tuple[int, ...]) -> float:
    full = run.sample(lambda denoise: denoise)
    return mean_psnr(sample_cached(run, choice.settings, ExplicitSchedule(i_steps))[0], full, is_pixels=True)


@torch.no_grad()
def test_a_speed_up_is_met_by_the_likest_choice(start):
    choices = [*CORNERS, DEFAULT_CHOICE]
    tuner = Tuner(start, Goal("speed-up", 2.0), choices, minutes=2, is_pixels=True)
    tuner.tune()
    assert tuner.best.speedup() >= 0.98 * 2.0
    fast = [probe for probe in tuner.tried if probe.speedup() >= 0.98 * 2.0]
    assert {probe.choice.name for probe in tuner.tried} == {choice.name for choice in choices}
    likest = max(fast, key=lambda probe: probe.likeness.db.mean())
    assert tuner.best.choice is likest.choice and tuner.best.count == likest.count
    assert tuner.best.i_steps == likest.i_steps or tuner.best.likeness.db.mean() > likest.likeness.db.mean()
    assert tuner.best.likeness.db.mean().item() == pytest.approx(
        likeness(start(0), tuner.best.choice, tuner.best.i_steps), abs=1e-4
    )


@torch.no_grad()
def test_a_floor_is_met_by_the_fewest_i_steps(start):
    tuner = Tuner(start, Goal("psnr", 30.0), [DEFAULT_CHOICE], minutes=2, is_pixels=True)
    tuner.tune()
    best = tuner.best
    error = best.likeness.db.std() / 3**0.5
    assert best.likeness.db.mean() - error >= 30.0
    met = [probe.count for probe in tuner.tried if probe.likeness.db.mean() - probe.likeness.db.std() / 3**0.5 >= 30.0]
    missed = [probe.count for probe in tuner.tried if probe.count not in met]
    assert max(missed) + 1 == min(met) >= best.count  # better places may meet it with fewer


def test_another_choice_takes_over_only_where_it_is_faster_and_near_enough(start):
    slow = Choice("everything", CacheSettings(cache_ratio=0.0), p_step=1.0)
    tuner = Tuner(start, Goal("ssim", 0.9), [DEFAULT_CHOICE, slow, CORNERS[2]], minutes=2, is_pixels=True)
    tuner.tune()
    assert tuner.best.choice is not slow
    assert tuner.best.likeness.ssim.mean() >= 0.9


def test_what_wins_is_measured_on_seeds_that_nothing_was_chosen_by(start, seeds):
    tuner = Tuner(start, Goal("speed-up", 1.5), [DEFAULT_CHOICE], minutes=2, is_pixels=True)
    tuner.tune()
    assert seeds[0] == 0 and seeds[1:] and all(seed >= HELD_OUT_SEEDS for seed in seeds[1:])
    assert tuner.measured.samples == 3 * len(seeds[1:])
    preset = tuner.preset(Fingerprint("a", "b"), {"sampler": "ddim"})
    assert (
        preset.measured == tuner.measured
        and preset.i_steps == tuner.best.i_steps
        and preset.notes["choice"] == DEFAULT_CHOICE.name
    )


@pytest.mark.parametrize(
    ("goal", "choices", "says"),
    [(Goal("speed-up", 500.0), [DEFAULT_CHOICE], "out of reach"), (Goal("psnr", 100.0), [CORNERS[2]], "cannot be met")],
)
def test_what_is_out_of_reach_is_said_soon(start, goal, choices, says):
    tuner = Tuner(start, goal, choices, minutes=2, is_pixels=True)
    with pytest.raises(GoalOutOfReach, match=says):
        tuner.tune()
    assert len(tuner.tried) <= 3 and tuner.preset(Fingerprint("a", "b"), {}) is None


def test_when_the_time_is_over_the_rest_is_not_tried(start):
    lines = []
    tuner = Tuner(
        start, Goal("speed-up", 1.5), [DEFAULT_CHOICE, *CORNERS], minutes=1e-4, is_pixels=True, log=lines.append
    )
    with pytest.raises(GoalOutOfReach, match="time"):
        tuner.tune()
    assert any("time is over" in line for line in lines) and not tuner.tried


def test_an_interrupt_leaves_the_best_so_far(start):
    calls = []

    def progress(share: float) -> None:
        calls.append(share)
        if len(calls) == 4:
            raise KeyboardInterrupt

    tuner = Tuner(
        start, Goal("speed-up", 1.5), [DEFAULT_CHOICE, *CORNERS], minutes=2, is_pixels=True, progress=progress
    )
    with pytest.raises(KeyboardInterrupt):
        tuner.tune()
    preset = tuner.preset(Fingerprint("a", "b"), {})
    assert preset is not None and preset.measured is None


@pytest.mark.slow
def test_better_places_are_looked_for_while_there_is_time(start, monkeypatch):
    """A choice whose first I-steps follow one another, which is no good place for them, has as many elsewhere in the
    end.
    """
    lines, choice = [], replace(DEFAULT_CHOICE, warmup=4)
    monkeypatch.setattr(Probe, "speedup", lambda self, count=None: 2.0)  # the number of I-steps is not the clock's
    monkeypatch.setattr(Probe, "most_i_steps", lambda self, wanted: self.count)
    tuner = Tuner(start, Goal("speed-up", 2.0), [choice], minutes=10, is_pixels=True, log=lines.append)
    monkeypatch.setattr(place_search, "PATIENCE", 30)
    tuner.tune()
    (first, *_) = [probe for probe in tuner.tried if probe.count == tuner.best.count]
    found = [line for line in lines if line.startswith("I-steps")]
    assert found and tuner.best.likeness.db.mean() > first.likeness.db.mean() and tuner.best.i_steps != first.i_steps
    assert tuner.best.likeness.db.mean().item() == pytest.approx(
        likeness(start(0), choice, tuner.best.i_steps), abs=1e-4
    )


@pytest.mark.parametrize(
    ("goal", "found", "default", "is_kept"),
    [
        (Goal("speed-up", 1.5), (1.6, 40.0), (1.6, 40.5), True),
        (Goal("speed-up", 1.5), (1.6, 40.0), (2.0, 39.5), False),
        (Goal("psnr", 20.0), (2.0, 40.0), (2.1, 39.5), True),
        (Goal("psnr", 20.0), (2.0, 40.0), (1.9, 40.5), False),
    ],
    ids=["likelier", "less like", "faster", "slower"],
)
def test_the_default_is_kept_where_it_is_better_on_other_samples(start, monkeypatch, goal, found, default, is_kept):
    results = [Result(speedup, db, 0.1, None, 3) for speedup, db in (found, default)]
    monkeypatch.setattr(Tuner, "_held_out", lambda self, best, default: tuple(results))
    choices = [DEFAULT_CHOICE, replace(CORNERS[0], warmup=4)]  # the second is the better one of this model
    tuner = Tuner(start, goal, choices, minutes=2, is_pixels=True)
    tuner.tune()
    assert tuner.best is tuner.default or not is_kept
    preset = tuner.preset(Fingerprint("a", "b"), {})
    assert preset.measured == (results[1] if is_kept else results[0]) and preset.default == results[1]


def test_ssim_of_latents_is_refused(start):
    with pytest.raises(ValueError, match="PSNR"):
        Tuner(start, Goal("ssim", 0.9), [DEFAULT_CHOICE], minutes=1, is_pixels=False)


def test_how_many_i_steps_fit():
    """10 steps of 1 s; P-steps of 0.1 s: c I-steps take c + 0.1 (10 - c) seconds."""
    probe = Probe(DEFAULT_CHOICE, (0, 3, 6, 9), 10, StepTimes(1.0, 0.1), 1.0, Likeness(torch.ones(2), None))
    assert probe.speedup() == pytest.approx(10 / 4.6)
    assert [probe.most_i_steps(wanted) for wanted in (1.0, 2.0, 5.0, 6.0)] == [10, 4, 1, 0]
    half = probe.with_times_of(Choice("half", CacheSettings(cache_ratio=0.5), p_step=0.5))
    assert half.speedup(4) == pytest.approx(10 / 7)


def test_the_space_holds_the_known_caches():
    for corrects in (True, False):
        choices = space(12, corrects)
        assert (
            choices[0] == DEFAULT_CHOICE
            and set(CORNERS) < set(choices)
            and len({choice.name for choice in choices}) == len(choices)
        )
        kinds = {
            (
                choice.settings.order,
                choice.settings.cache_ratio,
                choice.settings.last_blocks > 0,
                choice.settings.context,
            )
            for choice in choices
        }
        assert {
            (0, 1.0, False, "forecast"),
            (1, 0.9, False, "computed"),
            (1, 0.9, True, "forecast"),
            (1, 1.0, True, "forecast"),
            (2, 1.0, False, "forecast"),
        } <= kinds
