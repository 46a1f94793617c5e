"""The command line on a small text-to-video model of random weights: it is sampled, calibrated, tuned and measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import refusal
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from tokencache_core.__main__ import main
from tokencache_core.flux.prompts import PromptTable
from tokencache_core.open_sora_plan.checkpoint import save_video_transformer
from tokencache_core.open_sora_plan.config import VideoConfig
from tokencache_core.open_sora_plan.model import VideoTransformer
from tokencache_core.schedules.calibration import load_calibration

CONFIG = VideoConfig(
    width=32, depth=3, heads=2, in_channels=3, learn_sigma=False, caption_channels=8, sample_size=16, video_length=4
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network, table = VideoTransformer(CONFIG), PromptTable(["taxi", "frog", "turns"], 8, 4, ["taxi turns", "frog"])
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    table.initialise()
    path = tmp_path_factory.mktemp("clips") / "tiny.safetensors"
    save_video_transformer(network, table, path, licence="Apache-2.0")
    return path


def test_sample(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "grid.png"
    arguments = ["--prompts", "taxi turns, frog", "--steps", "6", "--cfg", "3", "--cache", "both", "--i-steps", "0,2,4"]
    assert not main(["sample", "--model", str(file), "--out", str(out), *arguments])
    said = capsys.readouterr().out
    assert "3 I-steps" in said and "cached against full" in said and "flicker" in said
    assert Image.open(out).width > 4 * Image.open(out).height / 2  # the frames of a clip are side by side


def test_uncached_steps_are_sampled_beside_a_cached_run(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    model, out = ["--model", str(file), "--steps", "6", "--cfg", "3"], tmp_path / "raw.safetensors"
    plain = ["--cache", "both", "--i-steps", "0,2,4", "--plain", "ddim,dpmpp_2m"]
    assert not main(["sample", "--out", str(out), *model, *plain])
    said, results = capsys.readouterr().out, load_file(out)
    assert "3 uncached steps of ddim against full: PSNR" in said
    assert "3 uncached steps of dpmpp_2m against full: PSNR" in said
    fewer = ["--model", str(file), "--steps", "3", "--cfg", "3", "--cache", "off", "--solver", "dpmpp_2m"]
    assert not main(["sample", "--out", str(out), *fewer])
    assert torch.equal(results["dpmpp_2m"], load_file(out)["full"])


def test_uncached_steps_need_a_cached_and_a_full_run(file: Path, tmp_path: Path):
    arguments = ["sample", "--model", str(file), "--out", str(tmp_path / "raw.safetensors"), "--plain"]
    assert "add --cache both" in refusal(*arguments, "ddim")
    assert "there is no 'dpm3'" in refusal(*arguments, "ddim,dpm3")


def test_examples_are_sampled_by_default(file: Path, tmp_path: Path):
    out = tmp_path / "raw.safetensors"
    main(["sample", "--model", str(file), "--out", str(out), "--steps", "2", "--cache", "off"])
    assert load_file(out)["full"].shape == (2, 3, 4, 16, 16)


def test_tokens_are_columns(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "raw.safetensors"
    arguments = ["--steps", "4", "--cache", "on", "--cache-ratio", "0.5", "--i-steps", "0,2", "--last-blocks", "0"]
    assert not main(["sample", "--model", str(file), "--out", str(out), *arguments])
    assert "compute: 75.0" in capsys.readouterr().out  # all, and half of 64 places, in turn


def test_calibrate(file: Path, tmp_path: Path):
    out = tmp_path / "places.json"
    arguments = ["--steps", "6", "--samples", "2", "--i-steps", "3", "--budget", "4"]
    assert not main(["calibrate", "--model", str(file), "--out", str(out), *arguments])
    calibration = load_calibration(out)
    assert calibration.fingerprint.architecture.startswith("Open-Sora-Plan")
    assert len(calibration.places[3]) == 3


def test_bench(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    out, page = tmp_path / "bench.json", tmp_path / "page.md"
    arguments = ["--methods", "full,tokencache,random-tokens", "--samples", "1", "--steps", "6", "--cfg", "1"]
    assert not main(["bench", "--model", str(file), "--json", str(out), "--repeats", "1", *arguments])
    rows = json.loads(out.read_text())["rows"]
    assert {row["method"] for row in rows} >= {"full", "tokencache"}
    others = [row for row in rows if row["method"] != "full"]
    assert all(row["ssim"] is not None and 0 <= row["flicker"] < 2 for row in others)
    least = min(others, key=lambda row: row["flicker"])
    assert f"{least['flicker']:.4f}" in capsys.readouterr().out
    assert not main(["bench", "--read", str(out), "--page", str(page)])
    assert "| exact | flicker |" in page.read_text() and f"| {least['flicker']:.4f} |" in page.read_text()


def test_info(file: Path, capsys: pytest.CaptureFixture):
    assert not main(["info", str(file)])
    said = capsys.readouterr().out
    assert "clips of 4 frames of 16 x 16" in said and "prompts: taxi turns, frog" in said


def test_an_unknown_word_is_refused(file: Path):
    said = refusal("sample", "--model", file, "--out", "x.png", "--prompts", "cat")
    assert "knows no word of the prompt 'cat'" in said
