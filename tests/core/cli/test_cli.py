"""The command line as a user meets it: what it prints, what it refuses, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfy_location import ROOT
from commands import command, here, refusal
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_dit import tiny_dit_file
from tiny_predictor import tiny_predictor_file

ROOT = Path(__file__).resolve().parents[3]
NAMES = ["cat", "dog", "fish", "red bird", "snail"]
TINY_RUN = ("--steps", "4", "--samples", "2", "--repeats", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def pixel_file(folder: Path) -> Path:
    return tiny_dit_file(
        folder / "pixels.safetensors", {"class_names": json.dumps(NAMES)}, in_channels=3, learn_sigma=False
    )


@pytest.fixture(scope="module")
def latent_file(folder: Path) -> Path:
    return tiny_dit_file(folder / "latents.safetensors")


def test_no_command_shows_help_and_fails():
    done = command()
    assert done.returncode == 2
    assert all(name in done.stderr for name in ("sample", "train", "calibrate", "bench", "info"))


@pytest.mark.parametrize("name", ["sample", "train", "calibrate", "bench", "info"])
def test_every_command_has_help(name):
    done = here(name, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: python -m tokencache_core {name}")


def test_a_refusal_is_one_line_and_exit_code_2_for_a_shell_too(tmp_path):
    done = command("info", tmp_path / "absent.safetensors")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "absent.safetensors" in done.stderr and "Traceback" not in done.stderr


def test_a_reader_who_has_enough_ends_a_command_quietly(pixel_file):
    """As in `info FILE | head -1`: the pipe's other end closes before the command has printed."""
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [sys.executable, "-m", "tokencache_core", "info", str(pixel_file)]
    done = subprocess.run(arguments, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_info_prints_what_the_file_holds(pixel_file):
    done = here("info", pixel_file)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line in (
        "tokens: 16 (4x4) of 8x8 inputs in pixels",
        "depth: 3",
        "heads: 2",
        "classes: 5, null class 5",
        "  3 red bird",
        "metadata num_heads: 2",
    ):
        assert line in lines


def test_info_prints_what_a_predictor_file_holds(tmp_path):
    file = tiny_predictor_file(tmp_path / "cat.safetensors")
    done = here("info", file)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"file: {file}",
        "kind: predictor (light) + LoRA repair + calibration",
        "fits: DiT: 3 x DiTBlock of 768 parameters (layout 0123456789ab)",
        "settings: cache_ratio 0.9, forecast_order 1, last_blocks 1, context forecast, score round-robin, shares "
        "uniform, corrector 0.3, forecast_reach 1.08",
        "interval: 4",
        "block shares: 1 0.333",
        "predictor parameters: 18",
        "LoRA rank: 2, alpha 4, on 2 layers of the blocks 2",
        "calibration: 256 samples at 3 times",
        "training: 20 iterations in 11 seconds",
        "loss: 1.25 at first, 0.3 at last",
        "held-out error: 1.5 at first, 0.4 at last",
        "note prompts: a cat  [31ma dög",  # no control characters
        "note seed: 7",
    ]


def test_info_prints_a_predictor_file_with_next_to_nothing_in_it(tmp_path):
    file = tiny_predictor_file(
        tmp_path / "a.safetensors", predictor=None, repair=None, calibration=None, log=(), shares=(), notes={}
    )
    done = here("info", file)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "kind: settings alone" and lines[5:] == [
        "block shares: as the settings say (uniform)",
        "calibration: none",
    ]


def test_info_refuses_a_predictor_file_that_is_not_whole(tmp_path):
    file = tiny_predictor_file(tmp_path / "a.safetensors")
    tensors = load_file(file)
    save_file(tensors, file)
    line = refusal("info", file)
    assert str(file) in line and "lost the entry 'tokencache'" in line and "download it again" in line
    save_file(tensors, file, {"tokencache": '{"version": 2}'})
    assert "update TokenCache" in refusal("info", file)


def test_sample_writes_both_grids_and_the_report(pixel_file, tmp_path):
    out = tmp_path / "grid.png"
    done = command(
        "sample",
        "--model",
        pixel_file,
        "--labels",
        "Red Bird, 0",
        "--samples",
        3,
        "--steps",
        5,
        "--interval",
        2,
        "--cache",
        "both",
        "--out",
        out,
    )
    assert done.returncode == 0, done.stderr
    assert "steps: IIPIP" in done.stdout and "PSNR" in done.stdout
    with Image.open(out) as picture:
        assert picture.size == (3 * (128 + 4), 2 * (128 + 4))


def test_a_cache_ratio_of_zero_changes_no_bit(latent_file, tmp_path):
    out = tmp_path / "latents.safetensors"
    done = here(
        "sample",
        "--model",
        latent_file,
        "--cache-ratio",
        0,
        "--steps",
        4,
        "--solver",
        "dpmpp_2m",
        "--cache",
        "both",
        "--out",
        out,
    )
    assert done.returncode == 0, done.stderr
    samples = load_file(out)
    assert samples["full"].shape == (5, 4, 8, 8) and torch.equal(samples["full"], samples["cached"])


def test_model_files_that_cannot_be_used(tmp_path, pixel_file):
    out = ("--out", tmp_path / "x.png")
    truncated, foreign, not_a_model = tmp_path / "cut.safetensors", tmp_path / "other.safetensors", tmp_path / "text.pt"
    truncated.write_bytes(pixel_file.read_bytes()[:-100])
    save_file({"weight": torch.zeros(2)}, foreign)
    not_a_model.write_text("hello")
    for file, reason in (
        (tmp_path / "absent.safetensors", "no such file"),
        (truncated, "truncated"),
        (foreign, "not a DiT"),
        (not_a_model, "damaged"),
    ):
        line = refusal("sample", "--model", file, *out)
        assert "--model" in line and str(file) in line and reason in line
        assert reason in refusal("info", file)
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--cache-ratio", "1.5"], ["--cache-ratio", "between 0 and 1", "1.5"]),
        (["--cache-ratio", "nan"], ["--cache-ratio", "between 0 and 1"]),
        (["--order", "3"], ["--order", "3"]),
        (["--reach", "3"], ["--reach", "between 0 and 2"]),
        (["--labels", "7"], ["--labels", "class 7 is out of range", "0 to 4"]),
        (["--labels", "horse"], ["--labels", "horse"]),
        (["--steps", "0"], ["--steps", "between 1 and 1000"]),
        (["--i-steps", "1,2"], ["--i-steps", "must contain 0"]),
        (["--i-steps", "a"], ["--i-steps", "whole numbers"]),
        (["--error-bound", "0"], ["--error-bound", "above 0"]),
        (["--speed-up", "9", "--cache-ratio", "0.5"], ["--speed-up", "out of reach"]),
        (["--last-blocks", "4"], ["--last-blocks", "only 3 blocks"]),
        (["--solver", "euler"], ["--solver", "dpmpp_2m"]),
        (["--device", "abacus"], ["--device", "abacus"]),
    ],
)
def test_sample_refuses_what_cannot_be(pixel_file, tmp_path, options, expected):
    line = refusal("sample", "--model", pixel_file, "--out", tmp_path / "x.png", *options)
    assert all(part in line for part in expected), line


def test_outputs_are_checked_before_any_work(pixel_file, latent_file, tmp_path):
    missing = tmp_path / "no" / "x.png"
    assert "no folder" in refusal("sample", "--model", pixel_file, "--out", missing)
    assert ".png" in refusal("sample", "--model", pixel_file, "--out", tmp_path / "x.gif")
    assert "4-channel latents" in refusal("sample", "--model", latent_file, "--out", tmp_path / "x.png")
    assert "that is a folder" in refusal("bench", "--model", pixel_file, "--json", tmp_path)
    assert "no folder" in refusal("bench", "--model", pixel_file, "--json", tmp_path / "no" / "b.json")
    assert "overwrite" in refusal("bench", "--model", pixel_file, "--json", tmp_path / "b.png")


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--methods", "full,magic"], ["--methods", "unknown method 'magic'", "fewer-steps-dpmpp_2m", "tokencache"]),
        (["--methods", ","], ["--methods", "known are"]),
        (["--speedups", "2,0.5"], ["--speedups", "1 or more"]),
        (["--speedups", "fast"], ["--speedups", "1 or more"]),
        (["--compared", "2,0.5"], ["--compared", "1 or more"]),
        (["--samples", "0"], ["--samples", "at least 1"]),
    ],
)
def test_bench_refuses_what_cannot_be(pixel_file, options, expected):
    line = refusal("bench", "--model", pixel_file, *options)
    assert all(part in line for part in expected), line


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--shape", "DiT-H/2-256"], ["--shape", "DiT-XL/2-256"]),
        (["--shape", "DiT-S/8-256", "--dtype", "fp8"], ["--dtype", "fp32, bf16"]),
        (["--shape", "DiT-S/8-256", "--batch", "3"], ["--batch", "even"]),
        ([], ["--model", "--shape"]),
    ],
)
def test_bench_shape_refuses_what_cannot_be(options, expected):
    line = refusal("bench", *options)
    assert all(part in line for part in expected), line


@pytest.mark.slow
def test_a_whole_benchmark_of_a_tiny_model(pixel_file, tmp_path):
    out = tmp_path / "bench.json"
    done = command("bench", "--model", pixel_file, *TINY_RUN, "--json", out)
    assert done.returncode == 0, done.stderr
    assert "minutes" in done.stderr and "tokencache" in done.stdout
    content = json.loads(out.read_text())
    assert set(content) == {"device", "torch", "threads", "model", "protocol", "rows", "beats", "shape_rows"}
    assert content["shape_rows"] == [] and content["threads"] == 1 and content["model"]["depth"] == 3
    assert (content["protocol"]["steps"], content["protocol"]["cfg"], content["protocol"]["repeats"]) == (4, 4.0, 2)
    rows = content["rows"]
    assert {row["method"] for row in rows} == {
        "full",
        "fewer-steps",
        "fewer-steps-dpmpp_2m",
        "fewer-steps-uni_pc",
        "fewer-steps-deis",
        "fewer-steps-res_multistep",
        "reuse",
        "forecast",
        "random-tokens",
        "more-i-steps",
        "tokencache",
    }
    for row in rows:
        assert set(row) == {
            "method",
            "settings",
            "seconds",
            "speedup",
            "compute",
            "psnr_db",
            "ssim",
            "frechet",
            "frechet_from_full",
            "frechet_times_full",
            "psnr_exact_db",
            "speedup_spread",
            "flicker",
            "note",
        }
        assert row["seconds"] > 0 and 0 < row["compute"] <= 1 and row["frechet"] is None
        assert (row["psnr_db"] is None) == (row["method"] == "full")
        assert isinstance(row["psnr_exact_db"], float)
    assert all(
        row["settings"]["i_steps"][0] == 0 for row in rows if row["method"] in ("reuse", "forecast", "tokencache")
    )
    with Image.open(out.with_suffix(".png")) as picture:
        assert picture.format == "PNG"
    page, twin = tmp_path / "page.md", tmp_path / "twin.json"
    twin.write_bytes(out.read_bytes())
    assert here("bench", "--read", out, twin, "--page", page).returncode == 0
    text = page.read_text()
    assert str(out) in text and all(
        f"| {row['method']} | {row['settings']['steps']} steps" in text for row in rows if "solver" in row["settings"]
    )
    for source in (out, twin):
        assert f"(images/page-{source.stem}.png)" in text
        with Image.open(tmp_path / "images" / f"page-{source.stem}.png") as picture:
            assert picture.format == "PNG"


def test_a_page_is_written_only_from_what_bench_wrote(pixel_file, tmp_path):
    (tmp_path / "other.json").write_text('{"rows": [{}]}')
    assert "--read" in refusal("bench", "--read", tmp_path / "other.json", "--page", tmp_path / "page.md")
    assert "the same name" in refusal(
        "bench", "--read", tmp_path / "a" / "bench.json", tmp_path / "b" / "bench.json", "--page", tmp_path / "page.md"
    )
    assert "--read" in refusal("bench", "--model", pixel_file, "--page", tmp_path / "page.md")


@pytest.mark.slow
def test_a_preset_is_one_more_method_and_another_models_is_refused(pixel_file, tmp_path):
    assert (
        here(
            "tune",
            "--model",
            pixel_file,
            "--out",
            tmp_path / "a.json",
            "--psnr",
            5,
            "--steps",
            4,
            "--samples",
            2,
            "--minutes",
            1,
        ).returncode
        == 0
    )
    out = tmp_path / "bench.json"
    assert (
        here(
            "bench",
            "--model",
            pixel_file,
            *TINY_RUN,
            "--methods",
            "full",
            "--preset",
            tmp_path / "a.json",
            "--json",
            out,
        ).returncode
        == 0
    )
    tuned = [row for row in json.loads(out.read_text())["rows"] if row["method"] == "tuned"]
    assert len(tuned) == 1 and "tuned for 5 dB" in tuned[0]["note"]
    deeper = tiny_dit_file(tmp_path / "deeper.safetensors", depth=4)
    assert "a preset tuned for" in refusal("bench", "--model", deeper, "--preset", tmp_path / "a.json")


def test_chosen_methods_alone_and_full_beside_them(latent_file, tmp_path):
    out = tmp_path / "bench.json"
    done = here("bench", "--model", latent_file, *TINY_RUN, "--methods", "reuse", "--speedups", "1.5,2", "--json", out)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert {row["method"] for row in rows} == {"full", "reuse"}
    assert all(row["ssim"] is None for row in rows)  # latents have no pixels to compare


def test_bench_shape_fills_the_shape_rows(tmp_path):
    out = tmp_path / "shape.json"
    done = here("bench", "--shape", "DiT-S/8-256", "--dtype", "bf16", "--repeats", 1, "--json", out)
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    assert content["rows"] == [] and "overhead" in done.stdout
    for row in content["shape_rows"]:
        assert (row["shape"], row["dtype"], row["batch"]) == ("DiT-S/8-256", "bf16", 2)
        assert row["overhead"] > 0 and row["overhead_to_full"] > 0
    few_blocks = tmp_path / "few_blocks.json"
    for row in content["shape_rows"]:
        row["shape"] += ", 1 of 12 blocks"
    few_blocks.write_text(json.dumps(content))
    assert here("bench", "--read", out, few_blocks, "--page", tmp_path / "page.md").returncode == 0
    whole, few = (tmp_path / "page.md").read_text().split("## Time alone, at the shape of ")[1:]
    assert whole.startswith("DiT-S/8-256\n") and "extrapolation" not in whole
    assert few.startswith("DiT-S/8-256, 1 of 12 blocks\n") and "extrapolation" in few
