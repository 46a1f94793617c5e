"""Which rows of a benchmark get Frechet distances, and that they are sampled as the benchmark had them."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from bench_rows import row
from tiny_dit import tiny_dit

from peers.bwcache import run as run_bwcache
from peers.host_solvers import host_solvers
from reference.frechet_rows import chosen_rows, method_of, protocol_of
from tokencache_core.bench.rows import Row
from tokencache_core.bench.workload import Protocol, Workload
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.settings import CacheSettings


def test_ours_and_the_best_peers_and_solvers_at_each_speed_up():
    rows = [row("full", 1.0, None)]
    for method, slow, fast in (
        ("tokencache", 46, 37),
        ("taylorseer", 44, 33),
        ("bwcache", 33, 28),
        ("toca", 35, 20),
        ("fewer-steps", 37, 28),
        ("fewer-steps-dpmpp_2m", 35, 32),
        ("fewer-steps-uni_pc", 36, 20),
    ):
        rows += [row(method, 2.0, slow), row(method, 4.0, fast)]

    def methods(speedup: float) -> set[str]:
        return {rows[index].method for index in chosen_rows(rows, [speedup], best=2)}

    assert methods(2.0) == {"tokencache", "taylorseer", "toca", "fewer-steps", "fewer-steps-uni_pc"}
    assert methods(4.0) == {"tokencache", "taylorseer", "bwcache", "fewer-steps-dpmpp_2m", "fewer-steps"}
    assert {rows[index].method for index in chosen_rows(rows, [2.0, 4.0], best=2)} == methods(2.0) | methods(4.0)


def test_between_two_settings_both_are_chosen():
    rows = [
        row("tokencache", 2.7, 46),
        row("tokencache", 3.3, 40),
        row("tokencache", 4.0, 35),
        row("taylorseer", 2.8, 41),
        row("taylorseer", 3.1, 36),
    ]
    chosen = [(rows[index].method, rows[index].speedup) for index in chosen_rows(rows, [3.0], best=1)]
    assert chosen == [("tokencache", 2.7), ("tokencache", 3.3), ("taylorseer", 2.8), ("taylorseer", 3.1)]


def test_or_the_nearer_of_them_alone():
    rows = [
        row("tokencache", 2.7, 46),
        row("tokencache", 3.2, 40),
        row("tokencache", 4.4, 35),
        row("taylorseer", 2.8, 41),
        row("taylorseer", 4.3, 36),
    ]
    chosen = [
        (rows[index].method, rows[index].speedup) for index in chosen_rows(rows, [3.0, 3.6], best=1, nearest=True)
    ]
    assert chosen == [("tokencache", 3.2), ("taylorseer", 2.8), ("taylorseer", 4.3)]


def test_a_sweep_that_does_not_reach_a_speed_up_has_no_row_there():
    rows = [row("tokencache", 2.0, 46), row("tokencache", 4.0, 37), row("bwcache", 2.0, 33), row("bwcache", 2.5, 30)]
    assert [rows[index].method for index in chosen_rows(rows, [4.0], best=3)] == ["tokencache"] * 2


def test_presets_stand_for_ours_where_the_sweep_ends():
    rows = [
        row("tokencache", 2.0, 46),
        row("tokencache", 3.7, 38),
        row("tuned", 3.0, 41),
        row("tuned", 4.1, 37),
        row("bwcache", 2.0, 33),
        row("bwcache", 4.5, 25),
    ]
    chosen = [(rows[index].method, rows[index].speedup) for index in chosen_rows(rows, [4.0], best=1)]
    assert chosen == [("tuned", 3.0), ("tuned", 4.1), ("bwcache", 2.0), ("bwcache", 4.5)]


@pytest.fixture(scope="module")
def work() -> Workload:
    return Workload(tiny_dit(in_channels=3, learn_sigma=False), Protocol(steps=8, samples=2, cfg=2.0))


def sampled(work: Workload, method: str, settings: dict) -> torch.Tensor:
    measured = Row(method, settings, 1.0, 2.0, 0.5, 30.0, None, 0.0)
    return method_of(measured).sample(work, None)


def test_rows_are_sampled_as_the_benchmark_had_them(work):
    settings = CacheSettings(order=1)
    chosen = {name: value for name, value in asdict(settings).items() if name != "seed"}
    assert torch.equal(
        sampled(work, "tokencache", {**chosen, "i_steps": [0, 1, 4]}), work.cached(settings, (0, 1, 4))[0]
    )
    assert torch.equal(
        sampled(work, "fewer-steps-dpmpp_2m", {"steps": 5, "solver": "dpmpp_2m"}), work.full(5, "dpmpp_2m")
    )
    peers = {"threshold": 3.0, "reuse": 2}
    assert torch.equal(sampled(work, "bwcache", peers), run_bwcache(work, peers)[0])


def test_every_setting_has_a_folder_of_its_own():
    names = {
        str(method_of(Row("toca", {"interval": n, "cache_ratio": 0.9}, 1.0, 2.0, 0.5, 30.0, None, 0.0))) for n in (2, 3)
    }
    assert len(names) == 2 and all(name.startswith("toca-") for name in names)


def test_the_host_s_solvers_are_sampled_as_the_benchmark_had_them(work):
    settings = {"steps": 4, "solver": "deis"}
    assert torch.equal(sampled(work, "fewer-steps-deis", settings), host_solvers(work.device)["deis"](work, 4))


def test_the_benchmark_s_protocol():
    about = {"steps": 20, "solver": "ddim", "cfg": 3.5, "schedule": "flow", "shift": 3.0}
    assert protocol_of(about) == Protocol(steps=20, cfg=3.5, schedule=SigmaSchedule("flow", 3.0))
