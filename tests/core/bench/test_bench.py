"""The benchmark's arithmetic on made-up timings, and a tiny measurement of it all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bench_rows import row
from tiny_dit import tiny_dit

from tokencache_core.bench.duels import Quality, duels, quality_at, sweeps
from tokencache_core.bench.match import StepSeconds, StepTimes, calibrate
from tokencache_core.bench.methods import METHODS, RANDOM_TOKENS, Plan, settings_to_calibrate
from tokencache_core.bench.rows import Row, match_note, rows_of
from tokencache_core.bench.shape import VARIANTS, ShapeRow, measure_shape, parse_shape
from tokencache_core.bench.turns import Candidate, measure_interleaved, planned_seconds
from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.settings import DEFAULTS


def test_quality_is_interpolated_between_neighbours_and_never_beyond_the_sweep():
    sweep = [row("x", 2.0, 40.0), row("x", 4.0, 30.0), row("x", 6.0, 28.0)]
    assert quality_at(sweep, 2.5) == Quality(37.5, 0.0)
    assert quality_at(sweep, 4.0) == Quality(30.0, 0.0)
    assert quality_at(sweep, 5.0) == Quality(29.0, 0.0)
    assert quality_at(sweep, 1.9) is None and quality_at(sweep, 6.1) is None


def test_a_spread_of_speed_ups_is_worth_decibels_along_the_slope():
    # -5 dB per 1x; 4x varied by 0.4x, a tenth, which at 3x is 0.3x and therefore 1.5 dB
    sweep = [row("x", 2.0, 40.0), row("x", 4.0, 30.0, spread=0.4)]
    assert quality_at(sweep, 3.0).spread_db == pytest.approx(1.5)


def test_a_margin_counts_only_beyond_the_spread():
    ours = [row("tokencache", 2.0, 45.0, order=2), row("tokencache", 4.0, 35.0, spread=0.4, order=2)]
    for their_db, verdict in ((38.0, "wins"), (39.5, "within the spread of repeats"), (42.0, "loses")):
        theirs = [row("reuse", 2.0, their_db, order=0), row("reuse", 4.0, their_db, order=0)]
        (duel,) = duels([row("full", 1.0, None), *theirs, *ours], speedups=[3.0])
        assert (duel.method, duel.against, duel.verdict) == ("tokencache", "reuse", verdict)
        assert duel.margin_db == pytest.approx(40.0 - their_db) and duel.spread_db == pytest.approx(1.5)
        assert verdict in duel.text()


def test_a_sweep_that_ends_early_is_named():
    rows = [
        row("tokencache", 2.0, 45.0),
        row("tokencache", 4.0, 35.0),
        row("reuse", 2.0, 30.0),
        row("reuse", 2.5, 29.0),
    ]
    (duel,) = duels(rows, speedups=[3.0])
    assert duel.verdict == "outside of the sweep of reuse" and duel.margin_db is None and duel.ours_db == 40.0
    assert duels(rows[2:], speedups=[3.0]) == []  # without one of ours there is no duel


def test_the_two_orders_of_forecast_are_two_sweeps():
    rows = [
        row("forecast", 3.0, 30.0, order=1),
        row("forecast", 2.0, 35.0, order=1),
        row("forecast", 2.0, 40.0, order=2),
    ]
    found = sweeps([row("full", 1.0, None), *rows])
    assert {name: [r.speedup for r in sweep] for name, sweep in found.items()} == {
        "forecast order 1": [2.0, 3.0],
        "forecast order 2": [2.0],
    }


def test_i_steps_are_found_for_given_seconds():
    times = StepTimes(i_step=1.0, p_step=0.2)
    assert times.run_seconds(10, 50) == pytest.approx(10 + 40 * 0.2)
    assert times.i_steps_for(18.0, 50) == 10
    assert times.i_steps_for(18.3, 50) == 10 and times.i_steps_for(18.5, 50) == 11  # one I-step more is 0.8 s
    assert times.i_steps_for(1000.0, 50) == 50 and times.i_steps_for(0.0, 50) == 1


class Clock:
    """Seconds that only candidates spend."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def candidate(
    clock: Clock, method: str, costs: list[float], level: float, calls: list[str], **settings: object
) -> Candidate:
    durations = iter(costs)

    def run() -> tuple[torch.Tensor, float]:
        calls.append(method)
        clock.now += next(durations)
        return torch.full((2, 3, 16, 16), level), 0.5

    return Candidate(method, dict(settings), run, expected_seconds=costs[0])


def measured_rows(clock: Clock, candidates: list[Candidate], repeats: int) -> list[Row]:
    measured = measure_interleaved(candidates, repeats, synchronize=lambda: None, clock=clock)
    workload = Workload(tiny_dit(in_channels=3, learn_sigma=False), Protocol(steps=2, samples=2))
    return rows_of(candidates, measured, torch.full((2, 3, 16, 16), -0.02), workload)


def test_candidates_run_in_turn_and_the_full_run_whenever_it_is_due():
    clock, calls = Clock(), []
    candidates = [
        candidate(clock, "full", [9.0, 12.0, 10.0, 8.0], 0.0, calls, steps=4, solver="ddim"),
        candidate(clock, "reuse", [5.0, 40.0, 4.0], 0.2, calls, steps=2, solver="ddim"),
        candidate(clock, "forecast", [2.0, 2.0, 2.0], 0.0, calls, steps=2, solver="ddim"),
    ]
    assert planned_seconds(candidates, 3) == pytest.approx(3 * 16.0 * 1.25)
    full, reuse, forecast = measured_rows(clock, candidates, 3)
    # each round starts at another; after reuse's 40 seconds the full run is due
    assert calls == ["full", "reuse", "forecast", "reuse", "full", "forecast", "full", "forecast", "full", "reuse"]
    assert (full.seconds, full.speedup, full.psnr_db, full.ssim) == (9.5, 1.0, None, None)
    assert full.note == "4 runs, 8.00 to 12.00 s" and full.psnr_exact_db == pytest.approx(40.0, abs=1e-4)
    # four full runs are nearest to any: 9.5 s
    assert reuse.seconds == 5.0 and reuse.speedup == pytest.approx(9.5 / 5)
    assert reuse.speedup_spread == pytest.approx(9.5 / 4 - 9.5 / 40)
    assert reuse.psnr_db == pytest.approx(20.0, abs=1e-4) and 0 < reuse.ssim < 1
    assert forecast.speedup == pytest.approx(9.5 / 2) and forecast.speedup_spread == 0
    assert forecast.psnr_db == 100.0 and forecast.ssim == pytest.approx(1.0)  # equal pictures


def test_a_machine_that_slows_down_favours_no_row():
    clock, calls = Clock(), []
    slower = [2.0 * 1.02**n for n in range(100)]  # every candidate at half of the full run's seconds of the moment
    rows = [candidate(clock, f"row {n}", [slower[n]], 0.0, calls) for n in range(100)]

    def full() -> tuple[torch.Tensor, float]:
        clock.now += 2 * slower[min(len(calls), 99)]
        return torch.zeros(2, 3, 16, 16), 1.0

    found = measured_rows(clock, [Candidate("full", {}, full, 4.0), *rows], 1)
    assert slower[-1] > 7 * slower[0] and all(row.speedup == pytest.approx(2.0, rel=0.5) for row in found[1:])
    assert all(row.speedup == pytest.approx(2.0, rel=0.15) for row in found[16:-16])  # with full runs on either side


def test_each_row_is_beside_its_own_baseline():
    clock, calls = Clock(), []
    candidates = [
        candidate(clock, "full", [8.0], 0.0, calls),
        candidate(clock, "reuse", [4.0], 0.0, calls),
        candidate(clock, "full-host", [10.0], 0.0, calls),
        candidate(clock, "easycache", [2.0], 0.0, calls),
    ]
    candidates[2:] = [replace(each, baseline="full-host") for each in candidates[2:]]
    found = measured_rows(clock, candidates, 1)
    assert calls == ["full", "reuse", "full-host", "easycache"]
    assert [row.speedup for row in found] == [1.0, 2.0, 1.0, 5.0]


def test_a_match_of_seconds_says_how_close_it_is():
    assert match_note(1.021, 17) == "time +2.1% of tokencache with 17 I-steps"
    assert match_note(0.95, 8) == "time -5.0% of tokencache with 8 I-steps, not within 3%"


@pytest.fixture(scope="module")
def plan() -> Plan:
    """36 steps; full steps of 1 s, and P-steps of 0.02 s unless tokens are computed."""
    workload = Workload(tiny_dit(in_channels=3, learn_sigma=False), Protocol(steps=36, samples=2))
    wanted = settings_to_calibrate(list(METHODS))
    cost = {settings: 0.02 if settings.cache_ratio == 1 else 0.15 for settings in wanted}
    return Plan(workload, StepSeconds(1.0, {settings: StepTimes(1.02, cost[settings]) for settings in wanted}))


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name != "full"])
def test_every_sweep_has_six_settings_from_slow_to_fast(plan, method):
    candidates = METHODS[method].candidates(plan)
    speedups = [36.0 / c.expected_seconds for c in candidates]
    assert len(candidates) >= 6
    assert min(speedups) == pytest.approx(1.5, rel=0.05) and max(speedups) == pytest.approx(6.0, rel=0.1)


@pytest.mark.parametrize("method, settings", [("random-tokens", RANDOM_TOKENS), ("more-i-steps", DEFAULTS)])
def test_matched_sweeps_come_as_near_to_our_seconds_as_whole_i_steps_allow(plan, method, settings):
    ours = {len(c.settings["i_steps"]): c.expected_seconds for c in METHODS["tokencache"].candidates(plan)}
    one_i_step = plan.calibration.times[settings].i_step - plan.calibration.times[settings].p_step
    for c in METHODS[method].candidates(plan):
        twin = ours[len(c.matched_to["i_steps"])]
        assert abs(c.expected_seconds - twin) <= one_i_step / 2 + 1e-9 or len(c.settings["i_steps"]) == 1


def test_a_measured_match_ends_up_in_the_note(plan):
    ours = METHODS["tokencache"].candidates(plan)[2]
    (matched,) = [c for c in METHODS["random-tokens"].candidates(plan) if c.matched_to == ours.settings]
    full = METHODS["full"].candidates(plan)[0]
    clock, calls = Clock(), []
    fakes = [
        candidate(clock, name, [seconds, seconds], 0.0, calls)
        for name, seconds in (("full", 9.0), ("x", 3.0), ("y", 3.03))
    ]
    measured = measure_interleaved(fakes, 1, synchronize=lambda: None, clock=clock)
    rows = rows_of([full, ours, matched], measured, torch.zeros(2, 3, 16, 16), plan.workload)
    assert rows[2].note.endswith(f"time +1.0% of tokencache with {len(ours.settings['i_steps'])} I-steps")


def test_calibration_times_both_kinds_of_step():
    workload = Workload(tiny_dit(in_channels=3, learn_sigma=False), Protocol(steps=4, samples=2))
    calibration = calibrate(workload, [DEFAULTS, RANDOM_TOKENS])
    assert calibration.full_step > 0
    assert all(times.i_step > 0 and times.p_step > 0 for times in calibration.times.values())


def test_shapes_are_those_of_the_published_models():
    xl = parse_shape("DiT-XL/2-512")
    assert (xl.width, xl.depth, xl.heads, xl.patch_size, xl.input_size) == (1152, 28, 16, 2, 64)
    assert (parse_shape("DiT-S/8-256").width, parse_shape("DiT-S/8-256").input_size) == (384, 32)
    for bad in ("DiT-XXL/2-256", "DiT-XL/3-256", "DiT-XL/2-250", "XL/2-256", "DiT-XL/2-0"):
        with pytest.raises(ValueError, match="unknown shape"):
            parse_shape(bad)


def test_the_overhead_of_a_small_shape_is_measured():
    rows = measure_shape("DiT-S/8-256", dtype="fp32", batch=2, repeats=1, device=torch.device("cpu"))
    assert [r.settings["context"] for r in rows] == [variant.context for variant in VARIANTS]
    for measured in rows:
        assert isinstance(measured, ShapeRow)
        # K = 4 blocks whole and a tenth of the other 8: (4 + 0.8) / 12, in whole tokens
        assert measured.compute == pytest.approx(0.4, abs=0.02)
        assert measured.overhead == pytest.approx(
            measured.p_step_seconds / (measured.compute * measured.i_step_seconds)
        )
