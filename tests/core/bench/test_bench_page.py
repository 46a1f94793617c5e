"""The page that benchmarks are read on, of rows with round numbers."""

from __future__ import annotations

from bench_rows import of_rows, ours

from tokencache_core.bench.page import page


def test_frontiers_are_read_off_by_the_clock_and_by_the_share_of_the_compute():
    lines = of_rows(ours(1.0, 1.0, 60.0), ours(3.0, 0.5, 40.0), ours(5.0, 0.25, 20.0))
    by_clock, by_compute = (line for line in lines if line.startswith("| **tokencache** |"))
    assert by_clock == "| **tokencache** | 50.0 | 50.0 | 40.0 | 40.0 | 30.0 | 30.0 |"  # PSNR and exact at 2x, 3x and 4x
    assert by_compute == "| **tokencache** | 40.0 | 40.0 | 30.0 | 30.0 | 20.0 | 20.0 |"


def test_methods_are_compared_at_the_speed_ups_of_the_protocol():
    lines = of_rows(ours(1.0, 1.0, 60.0), ours(3.0, 0.5, 40.0), compared=[2.0, 2.5])
    assert "| method | PSNR at 2x | exact at 2x | PSNR at 2.5x | exact at 2.5x |" in lines
    assert "| **tokencache** | 50.0 | 50.0 | 45.0 | 45.0 |" in lines


def test_settings_name_the_reach_where_forecasts_go_further_than_their_step():
    lines = of_rows(ours(2.0, 0.5, 40.0), ours(3.0, 0.3, 30.0, reach=1.0), ours(4.0, 0.2, 20.0, reach=1.08))
    settings = [line.split(" | ")[1] for line in lines if line.startswith("| tokencache | order")]
    assert settings == ["order 2, 2 I-steps", "order 2, 2 I-steps", "order 2, reach 1.08, 2 I-steps"]


def test_a_page_of_times_alone_is_not_called_one_of_benchmarks():
    assert page([{"rows": [], "shape_rows": []}], "bench --read", [None]).startswith(
        "# The time of a step at the shapes"
    )
    assert of_rows(ours(2.0, 0.5, 40.0))[0] == "# Benchmarks"
