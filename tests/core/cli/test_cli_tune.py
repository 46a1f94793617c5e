"""`tune` as a user meets it."""

from __future__ import annotations

import pytest
from commands import here, refusal
from tiny_dit import tiny_dit_file

from tokencache_core.tuning.preset import load_preset


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tiny_dit_file(tmp_path_factory.mktemp("tune") / "dit.safetensors", in_channels=3, learn_sigma=False)


def test_it_writes_a_preset_and_says_what_it_promises(file, tmp_path):
    out = tmp_path / "near.json"
    ran = here("tune", "--model", file, "--out", out, "--psnr", 10, "--steps", 8, "--samples", 2, "--minutes", 1)
    assert ran.returncode == 0, ran.stderr
    preset = load_preset(out)
    assert len(preset.taus) == 8 and preset.measured.samples >= 2 and preset.notes["sampler"] == "ddim"
    assert preset.text() in ran.stdout and "full run" in ran.stderr


def test_a_floor_out_of_reach_writes_nothing(file, tmp_path):
    line = here("tune", "--model", file, "--out", tmp_path / "no.json", "--psnr", 100, "--steps", 8, "--samples", 2)
    assert line.returncode == 2 and "cannot be met" in line.stderr and not (tmp_path / "no.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--speed-up", 0.5), "--speed-up"),
        (("--ssim", 2), "--ssim"),
        (("--speed-up", 2, "--psnr", 3), "not allowed with"),
        ((), "required"),
    ],
)
def test_bad_goals_are_refused(file, tmp_path, arguments, says):
    assert says in refusal("tune", "--model", file, "--out", tmp_path / "a.json", *arguments)


def test_bad_outputs_are_refused(file, tmp_path):
    assert ".json" in refusal("tune", "--model", file, "--out", tmp_path / "a.safetensors", "--speed-up", 2)
    assert "no folder" in refusal("tune", "--model", file, "--out", tmp_path / "none" / "a.json", "--speed-up", 2)
