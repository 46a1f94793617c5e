"""The commands on a text-to-image model: prompts in the place of labels, on a flow's own times."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from commands import refusal
from PIL import Image
from safetensors.torch import load_file
from tiny_flux_model import tiny_text_to_image

from tokencache_core.__main__ import main
from tokencache_core.flux.file import save_flux
from tokencache_core.predictor.file import read_trained_cache
from tokencache_core.schedules.calibration import load_calibration
from tokencache_core.tuning.preset import load_preset

FLOW = ("--schedule", "flow", "--shift", "3")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("flux") / "tiny.safetensors"
    save_flux(tiny_text_to_image(), path, licence="Apache-2.0")
    return path


def test_sample(file, tmp_path, capsys):
    out = tmp_path / "grid.png"
    arguments = ["--prompts", "red cat, dog", "--steps", "6", "--cfg", "3.5", "--cache", "both", "--i-steps", "0,2,4"]
    assert not main(["sample", "--model", str(file), "--out", str(out), *FLOW, *arguments])
    said = capsys.readouterr().out
    assert "3 I-steps" in said and "cached against full" in said
    assert Image.open(out).width > Image.open(out).height / 2


def test_examples_are_sampled_by_default(file, tmp_path):
    out = tmp_path / "raw.safetensors"
    main(["sample", "--model", str(file), "--out", str(out), *FLOW, "--steps", "2", "--cache", "off"])
    assert load_file(out)["full"].shape == (5, 3, 16, 16)


def test_calibrate(file, tmp_path):
    out = tmp_path / "places.json"
    arguments = ["--steps", "6", "--samples", "2", "--i-steps", "3", "--budget", "4"]
    assert not main(["calibrate", "--model", str(file), "--out", str(out), *FLOW, *arguments])
    calibration = load_calibration(out)
    assert calibration.fingerprint.architecture.startswith("Flux")
    assert calibration.taus[0] == pytest.approx(1.0) and len(calibration.places[3]) == 3


def test_tune(file, tmp_path):
    out = tmp_path / "preset.json"
    arguments = ["--steps", "6", "--samples", "2", "--minutes", "0.1", "--psnr", "10"]
    assert not main(["tune", "--model", str(file), "--out", str(out), *FLOW, *arguments])
    assert load_preset(out).fingerprint.architecture.startswith("Flux")


def test_generality(file, tmp_path):
    out = tmp_path / "rows.json"
    lists = ["--schedules", "flow:3", "--steps", "6", "--solvers", "ddim", "--guidance", "3.5", "--shares", "1/2"]
    arguments = ["--samples", "1", "--tries", "3"]
    assert not main(["experiment", "generality", "--model", str(file), "--json", str(out), *lists, *arguments])
    (row,) = json.loads(out.read_text())
    assert row["condition"] == "flow, shift 3, 6 steps of ddim, guidance 3.5, 3 I-steps"


@pytest.fixture(scope="module")
def edits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edits")
    random = np.random.default_rng(0)
    for name in ("google-dog.png", "red cat.png"):
        Image.fromarray(random.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(folder / name)
    return folder


def test_edits_are_sampled_by_their_files_names(file, edits, tmp_path):
    def sampled(*arguments):
        out = tmp_path / "raw.safetensors"
        main(["sample", "--model", str(file), "--out", str(out), *FLOW, "--steps", "2", "--cache", "off", *arguments])
        return load_file(out)["full"]

    both = sampled("--references", str(edits))
    assert len(both) == 2
    assert torch.allclose(sampled("--references", str(edits), "--prompts", "google dog"), both[:1], atol=1e-3)
    assert not torch.allclose(sampled("--prompts", "google dog"), both[:1], atol=0.1)


def test_edits_are_measured(file, edits, tmp_path):
    out = tmp_path / "rows.json"
    lists = ["--schedules", "flow:3", "--steps", "6", "--solvers", "ddim", "--guidance", "3.5", "--shares", "1/2"]
    arguments = ["--samples", "1", "--tries", "3", "--references", str(edits)]
    assert not main(["experiment", "generality", "--model", str(file), "--json", str(out), *lists, *arguments])
    (row,) = json.loads(out.read_text())
    assert row["model"] == f"{file.name}, {edits.name}"


def test_edits_that_cannot_be_used_are_refused(file, edits, tmp_path):
    def refused(folder):
        return refusal("sample", "--model", file, "--out", tmp_path / "grid.png", *FLOW, "--references", folder)

    assert "there is no such folder" in refused(tmp_path / "nowhere")
    assert "it has no pictures" in refused(tmp_path)
    (tmp_path / "red.png").write_text("no picture")
    assert "red.png: it cannot be read as a picture" in refused(tmp_path)
    (tmp_path / "red.png").unlink()
    Image.new("RGB", (8, 8)).save(tmp_path / "spaceship.png")
    assert "knows no word of the prompt 'spaceship'" in refused(tmp_path)


def test_train(file, tmp_path):
    out = tmp_path / "predictor.safetensors"
    plan = ["--cache-ratio", "0.5", "--predictor", "light", "--forecast-hidden", "0", "--last-blocks", "1"]
    size = ["--steps", "6", "--batch", "1", "--iterations", "1"]
    assert not main(["train", "--model", str(file), "--out", str(out), *FLOW, *size, *plan])
    trained = read_trained_cache(out)
    assert trained.fingerprint.architecture.startswith("Flux") and trained.settings.last_blocks == 1
    bench = ["bench", "--model", str(file), "--json", str(tmp_path / "rows.json"), *FLOW, "--steps", "6"]
    methods = ["--methods", "predictor", "--predictor", str(out), "--speedups", "1.2"]
    assert not main([*bench, "--samples", "1", "--repeats", "1", *methods])
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["method"] for row in rows} == {"full", "predictor"}


@pytest.mark.parametrize(
    "question",
    [
        ["settings", "--vary", "cache-ratio=0.5,1", "--i-steps", "3", "--samples", "2"],
        ["context", "--cache-ratios", "0.5", "--scores", "random", "--orders", "1", "--i-steps", "3", "--samples", "2"],
        ["outputs", "--counts", "3", "--samples", "2"],
    ],
    ids=lambda words: words[0],
)
def test_experiments_take_it(file, question, capsys):
    assert not main(["experiment", *question, "--model", str(file), *FLOW, "--steps", "6"])
    rows = [line for line in capsys.readouterr().out.splitlines() if " dB |" in line]
    assert len(rows) == (2 if question[0] == "settings" else 1)


def test_bad_input_is_refused(file, tmp_path):
    out = ("--out", tmp_path / "grid.png")
    assert "--schedule ddpm: this is a flow model" in refusal("sample", "--model", file, *out)
    unknown = refusal("sample", "--model", file, *out, *FLOW, "--prompts", "blue")
    assert "knows no word of the prompt 'blue'" in unknown
    deep = refusal("sample", "--model", file, *out, *FLOW, "--last-blocks", "9")
    assert "the model has only 4 blocks" in deep
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-10])
    assert "truncated or damaged" in refusal("sample", "--model", cut, *out, *FLOW)


def test_bench(file, tmp_path, capsys):
    out = tmp_path / "rows.json"
    arguments = [
        "--steps",
        "6",
        "--samples",
        "2",
        "--repeats",
        "1",
        "--methods",
        "fewer-steps,tokencache",
        "--cfg",
        "3.5",
    ]
    assert not main(["bench", "--model", str(file), "--json", str(out), *FLOW, *arguments, "--speedups", "1.5"])
    content = json.loads(out.read_text())
    assert {row["method"] for row in content["rows"]} == {"full", "fewer-steps", "tokencache"}
    assert "empty prompt" in content["protocol"]["classes"] and "flow, shift 3" in content["protocol"]["exact"]
    assert "toca samples DiTs alone" in refusal("bench", "--model", file, *FLOW, "--peers", "toca")
    assert "this is a flow model" in refusal("bench", "--model", file)


def test_info(file, capsys):
    assert not main(["info", str(file)])
    said = capsys.readouterr().out
    assert "tokens: 16 (4x4) of 16x16 inputs in pixels" in said and "licence: Apache-2.0" in said
    assert "prompts: of up to 4 words out of 6, 5 examples\n  red cat\n" in said
