"""What others see of a training while it runs: bounded, in plain numbers, and it can be asked to stop."""

from __future__ import annotations

import json
import time

import pytest

from tokencache_core.predictor.trained_cache import TrainingPoint
from tokencache_core.settings import CacheSettings
from tokencache_core.training.plan import TrainingPlan
from tokencache_core.training.progress import SHOWN, TrainingProgress


def log(points: int) -> list[TrainingPoint]:
    return [
        TrainingPoint(index, 2.0 * index, 1 / index, 0.5 / index if index % 5 == 0 else None)
        for index in range(1, points + 1)
    ]


def test_the_numbers_from_beginning_to_end():
    progress = TrainingProgress(2.0, 2.875, "7", "a workflow")
    before = progress.numbers()
    assert before == {
        "running": True,
        "phase": "preparing",
        "stopping": False,
        "node": "7",
        "workflow": "a workflow",
        "iteration": 0,
        "seconds": 0.0,
        "seconds_left": 120.0,
        "loss": [],
        "held_out": [],
        "held_out_without": None,
        "psnr": None,
        "psnr_without": None,
        "psnr_random": None,
        "predicted": 2.88,
        "speedup": None,
    }
    progress.begin()
    progress.add(log(12), 2.71828)
    during = progress.numbers()
    assert during["phase"] == "training" and during["iteration"] == 12 and during["speedup"] == 2.72
    assert during["loss"][2] == [6.0, 0.3333] and during["held_out"] == [[10.0, 0.1], [20.0, 0.05]]
    assert during["seconds"] + during["seconds_left"] == pytest.approx(120, abs=0.2)
    progress.measure()
    assert progress.numbers()["phase"] == "measuring"
    progress.end()
    after = progress.numbers()
    assert (
        not after["running"]
        and after["seconds_left"] == 0
        and after["iteration"] == 12
        and json.dumps(after, allow_nan=False)
    )
    ended = progress.seconds
    time.sleep(0.002)
    assert progress.seconds == ended


@pytest.mark.parametrize("points", [1, SHOWN, SHOWN + 1, 10 * SHOWN + 7])
def test_long_logs_are_thinned_and_the_newest_point_stays(points: int):
    progress = TrainingProgress(1.0, 2.0)
    progress.add(log(points), None)
    loss = progress.numbers()["loss"]
    assert 0 < len(loss) <= SHOWN and loss[-1][0] == 2.0 * points
    assert len(loss) == points or len(loss) > SHOWN / 2


def test_it_can_be_asked_to_stop_while_there_is_an_iteration_to_come():
    progress = TrainingProgress(1.0, 2.0)
    assert progress.stop() and progress.stopping  # before the first one too, which still runs
    other = TrainingProgress(1.0, 2.0)
    other.begin()
    other.measure()
    assert not other.stop() and not other.stopping
    other.end()
    assert not other.stop()


def test_the_predicted_speed_up_counts_what_p_steps_compute():
    whole = TrainingPlan(CacheSettings(cache_ratio=1.0), 4)
    i_steps = len(whole.schedule.i_steps([0.0] * 50))
    assert whole.predicted_speedup(50, 12) == pytest.approx(50 / i_steps)
    repaired = TrainingPlan(CacheSettings(cache_ratio=0.5, last_blocks=4), 4)
    assert repaired.predicted_speedup(50, 12) == pytest.approx(50 / (i_steps + (50 - i_steps) * (4 + 8 / 2) / 12))
