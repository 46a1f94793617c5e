"""The redundancy view's core, with numbers worked out by hand: replayed forecasts, shares of the clock, verdicts, the
player's data.
"""

from __future__ import annotations

import base64
import zlib

import pytest
import torch
from tiny_dit import tiny_dit
from tiny_runs import run_of

from tokencache_core.redundancy.block_clock import BlockClock
from tokencache_core.redundancy.measure import StepClock, groups_of, measure_redundancy
from tokencache_core.redundancy.picture import redundancy_picture
from tokencache_core.redundancy.player import redundancy_data, scale
from tokencache_core.redundancy.replay import Replayed, forecast_errors, replays
from tokencache_core.redundancy.verdict import table, text, verdict

TAUS = (1.0, 0.8, 0.6, 0.4)
KNOWN = BlockClock((0.5, 0.5), (0.5, 0.5), 0.9, 0.1)


def updates_of(power: int) -> torch.Tensor:
    """One block, one token of two numbers: (tau^power, 0)."""
    return torch.tensor([[[[tau**power, 0.0]]] for tau in TAUS])


def test_a_forecast_is_off_by_what_its_polynomial_misses():
    i_steps = frozenset({0, 1})
    held = forecast_errors(TAUS, updates_of(1), i_steps, 0)
    assert held[:, 0].tolist() == pytest.approx([0.2 / 0.6, 0.4 / 0.4])  # 0.8 stands for 0.6, then for 0.4
    assert forecast_errors(TAUS, updates_of(1), i_steps, 1).abs().max() < 1e-5  # a line is met
    line_for_a_square = forecast_errors(TAUS, updates_of(2), i_steps, 1)[:, 0].tolist()
    assert line_for_a_square == pytest.approx([0.08 / 0.36, 0.24 / 0.16], rel=1e-4)  # (tau - 1)(tau - 0.8)
    assert forecast_errors(TAUS, updates_of(2), frozenset({0, 1, 2}), 2).abs().max() < 1e-4  # a parabola is met


def test_an_order_that_has_too_few_i_steps_takes_those_there_are():
    one = frozenset({0})
    assert torch.equal(forecast_errors(TAUS, updates_of(1), one, 2), forecast_errors(TAUS, updates_of(1), one, 0))


def test_replays_are_of_schedules_that_differ():
    taus = [1 - step / 12 for step in range(12)]
    found = replays(taus, torch.tensor(taus)[:, None, None, None])
    assert [each.i_steps for each in found] == sorted({each.i_steps for each in found}, reverse=True)
    assert all(each.order in (1, 2) and each.error < 1e-4 and each.errors[0] > 0.05 for each in found)
    assert not replays((1.0, 0.5), torch.ones(2, 1, 1, 1))  # two steps are both I-steps
    assert "every 2 (7 of 12 I-steps): order 0" in table(found)[1]


def test_the_clock_beside_the_tokens():
    slow_start = StepClock(0, 1.0, 100.0, (50.0, 50.0), (30, 10))
    step = StepClock(1, 0.5, 1.0, (0.3, 0.5), (30, 10))
    clock = BlockClock.of([slow_start, step, step])
    assert (
        clock.tokens == (0.75, 0.25)
        and clock.seconds == pytest.approx((0.375, 0.625))
        and clock.inside == pytest.approx(0.8)
    )
    assert clock.most_speedup(10, 2) == pytest.approx(10 / (2 + 8 * 0.2))
    said = clock.text()
    assert "1000.0 ms" in said and "80% of it inside" in said and "block 1 75.0% / 37.5%, block 2 25.0% / 62.5%" in said


def test_a_gpu_is_not_split_by_block():
    clock = BlockClock.of([StepClock(0, 1.0, 1.0, (), (30, 10))] * 2)
    assert clock.inside is None and not clock.seconds and "not split by block" in clock.text()
    assert clock.most_speedup(10, 2) == 5.0
    assert "not known here" in verdict(20, [Replayed(2, 11, 20, (0.05, 0.02, 0.03))], clock, 0.05)


@pytest.mark.parametrize(
    ("steps", "errors", "clock", "says"),
    [
        (
            20,
            {2: 0.02, 4: 0.08, 6: 0.3},
            KNOWN,
            "caching can pay off. With an I-step every 4 steps (5 of 20), forecasts would have been 8.0% off, for at "
            "most about 3.1x",
        ),
        (
            20,
            {2: 0.02, 4: 0.08},
            BlockClock((1.0,), (1.0,), 0.2, 0.1),
            "there is little to gain: at most about 1.2x with 5 I-steps",
        ),
        (20, {2: 0.15, 4: 0.4}, KNOWN, "This measurement cannot tell whether that is visible. Tune TokenCache"),
        (
            20,
            {2: 0.35},
            KNOWN,
            "too much: even with an I-step every 2 steps, forecasts would have been 35% off, and caching would be "
            "visible",
        ),
        (4, {2: 0.35}, KNOWN, "4 steps are too few, and updates change too much: caching would be visible"),
        (
            2,
            {},
            KNOWN,
            "2 steps are too few: caching would be visible or save little. Updates change by 5.0% per step.",
        ),
    ],
)
def test_verdicts(steps: int, errors: dict[int, float], clock: BlockClock, says: str):
    replayed = [
        Replayed(interval, steps // interval, steps, (error * 2, error, error * 3))
        for interval, error in errors.items()
    ]
    assert says in verdict(steps, replayed, clock, 0.05)


def test_blocks_in_groups():
    assert groups_of(3, 5) == ((0, 0), (1, 1), (2, 2))
    assert groups_of(5, 2) == ((0, 2), (3, 4)) and groups_of(5, 0) == ((0, 4),)


def test_the_scale_is_a_round_number_that_nearly_all_stay_below():
    assert scale(torch.full((1, 1, 1, 10), 0.0123)) == pytest.approx(0.02)
    assert scale(torch.full((1, 1, 1, 10), 0.3)) == pytest.approx(0.3) and scale(torch.full((1, 1, 1, 10), 7.0)) == 1.0


def test_a_run_for_the_player_the_chart_and_in_words():
    evaluations = []
    found = measure_redundancy(run_of(tiny_dit(), steps=4), evaluations.append)
    assert evaluations == [1, 2, 3, 4] and found.compared == (1, 2, 3) and found.end.shape == (2, 4, 8, 8)
    assert found.kept.shape[:2] == (4, 3) and torch.allclose(found.maps.mean(dim=1), found.token_change, atol=1e-6)
    assert len(found.clocks) == 4 and all(0 < sum(clock.by_block) < clock.seconds for clock in found.clocks)
    data = redundancy_data(found, 2)
    assert [step["groups"] for step in data["steps"]] == [
        [[0, 0, 3 * step], [1, 1, 3 * step + 1], [2, 2, 3 * step + 2]] for step in range(3)
    ]
    sent = torch.frombuffer(bytearray(zlib.decompress(base64.b64decode(data["maps"]["data"]))), dtype=torch.uint8)
    wanted = (found.maps / data["measure"]["full"]).clamp(max=1).flatten()
    assert (sent / 255 - wanted).abs().max() < 1 / 255
    assert redundancy_picture(found).shape[0] == 1 and "Verdict: 4 steps are too few" in text(found)


def test_much_is_sent_in_groups_and_tokens_without_places_in_words(monkeypatch):
    # 3 steps of 32 tokens and 3 blocks would be 288
    monkeypatch.setattr("tokencache_core.redundancy.measure.MAP_BYTES", 200)
    found = measure_redundancy(run_of(tiny_dit()))
    assert found.groups == ((0, 1), (2, 2)) and found.maps.shape[1] == 2
    whole = measure_redundancy(run_of(tiny_dit()))
    assert torch.allclose(found.token_change, whole.token_change)
    monkeypatch.setattr("tokencache_core.redundancy.player.MAP_BYTES", 70)  # of 192: every third step
    data = redundancy_data(found, 0)
    assert (
        [step["groups"][0][2] for step in data["steps"]] == [0, None, None]
        and "groups" in data["notes"][0]
        and "one step in 3" in data["notes"][1]
    )
