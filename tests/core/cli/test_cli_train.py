"""`train` and what takes its file: info, sample, bench."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny_dit import tiny_dit_file

from tokencache_core.__main__ import main
from tokencache_core.predictor.file import read_trained_cache

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--steps", "8", "--cfg", "2", "--batch", "2", "--rank", "2", "--last-blocks", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_dit_file(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture(scope="module")
def predictor(model, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("trained") / "p.safetensors"
    assert main(["train", "--model", str(model), "--out", str(file), "--iterations", "2", *SMALL]) == 0
    return file


def fails(capsys, arguments: list[str], words: str) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error, error


def test_info_tells_what_was_trained(predictor, capsys):
    assert main(["info", str(predictor)]) == 0
    told = capsys.readouterr().out
    assert "DiT: 3 x DiTBlock" in told and "rank" in told


def test_stopping_and_resuming_gives_the_same_file(model, predictor, tmp_path):
    file = tmp_path / "p.safetensors"
    arguments = ["train", "--model", str(model), "--out", str(file), *SMALL]
    assert main([*arguments, "--iterations", "1"]) == 0
    assert main([*arguments, "--iterations", "2", "--resume"]) == 0
    ours, theirs = load_file(file), load_file(predictor)
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond `size` bytes of a file fails in this process, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_during_a_training_is_told_of_and_the_older_state_stays(model, tmp_path, capsys):
    file, state = tmp_path / "p.safetensors", tmp_path / "p.training"
    arguments = ["train", "--model", str(model), "--out", str(file), *SMALL]
    assert main([*arguments, "--iterations", "1"]) == 0
    older = state.read_bytes()
    with files_of_at_most(len(older) // 2):
        main([*arguments, "--iterations", "2", "--resume"])
    assert "p.training: it cannot be written" in capsys.readouterr().err
    assert state.read_bytes() == older and not list(tmp_path.glob(".*"))
    assert main([*arguments, "--iterations", "2", "--resume"]) == 0


def test_a_full_disk_is_told_of_before_a_training(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    arguments = ["train", "--model", str(model), "--out", str(tmp_path / "p.safetensors"), "--iterations", "1", *SMALL]
    fails(capsys, arguments, "the disk has 0 MB free, but what a training keeps there may take ")
    assert not list(tmp_path.iterdir())


def test_what_killed_trainings_have_left_of_a_state_is_removed(model, tmp_path):
    left, other = tmp_path / ".p.training.4711.part", tmp_path / ".q.training.4711.part"
    left.write_bytes(b"half a st"), other.write_bytes(b"another training's")
    arguments = ["train", "--model", str(model), "--out", str(tmp_path / "p.safetensors"), "--iterations", "1", *SMALL]
    assert main(arguments) == 0 and other.exists() and not left.exists()


def test_a_predictor_is_trained_kept_and_used(model, tmp_path, capsys):
    file, out = tmp_path / "p.safetensors", tmp_path / "s.safetensors"
    arguments = ["train", "--model", str(model), "--out", str(file), "--iterations", "2", *SMALL]
    assert (
        main(
            [
                *arguments,
                "--cache-ratio",
                "0.5",
                "--predictor",
                "light",
                "--sparsity",
                "1e-4",
                "--soft",
                "--every-step",
                "--reach",
                "1.2",
            ]
        )
        == 0
    )
    assert main(["info", str(file)]) == 0
    told = capsys.readouterr().out
    assert "kind: predictor (light) + LoRA repair" in told and "block shares: " in told
    assert (
        main(
            [
                "sample",
                "--model",
                str(model),
                "--predictor",
                str(file),
                "--out",
                str(out),
                "--labels",
                "1",
                "--steps",
                "8",
            ]
        )
        == 0
    )
    told = capsys.readouterr().out
    assert "compute" in told and "forecast_reach 1.2" in told  # what it was trained with


@pytest.mark.parametrize("kind", ["light", "block"])
@pytest.mark.parametrize(
    "shape",
    [
        {"width": 96, "depth": 5, "heads": 3, "num_classes": 12},
        {
            "width": 32,
            "depth": 2,
            "heads": 1,
            "num_classes": 2,
            "in_channels": 3,
            "input_size": 16,
            "learn_sigma": False,
        },
    ],
    ids=["wider and deeper", "small, on pixels"],
)
def test_another_dit_is_trained_and_served_likewise(model, shape, kind, tmp_path, capsys):
    other, file, out = (
        tiny_dit_file(tmp_path / "other.safetensors", **shape),
        tmp_path / "p.safetensors",
        tmp_path / "s.safetensors",
    )
    assert (
        main(
            [
                "train",
                "--model",
                str(other),
                "--out",
                str(file),
                "--iterations",
                "1",
                *SMALL,
                "--cache-ratio",
                "0.5",
                "--predictor",
                kind,
            ]
        )
        == 0
    )
    assert (
        main(
            [
                "sample",
                "--model",
                str(other),
                "--predictor",
                str(file),
                "--out",
                str(out),
                "--labels",
                "1",
                "--steps",
                "8",
            ]
        )
        == 0
    )
    assert load_file(out)["cached"].isfinite().all()
    capsys.readouterr()
    fails(
        capsys,
        ["sample", "--model", str(model), "--predictor", str(file), "--out", str(out), "--labels", "1"],
        "a predictor trained for this one",
    )


def test_an_unfinished_training_is_not_overwritten(model, predictor, capsys):
    fails(
        capsys,
        ["train", "--model", str(model), "--out", str(predictor), *SMALL],
        "add --resume to continue it, or remove it",
    )


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--last-blocks", "9"], "the model has only 3 blocks"),
        (["--labels", "77"], "class 77 is out of range"),
        (["--predictor", "block"], "there is no choice: set it between 0 and 1"),
    ],
)
def test_bad_choices_are_refused_before_training(model, tmp_path, capsys, extra, words):
    fails(capsys, ["train", "--model", str(model), "--out", str(tmp_path / "p.safetensors"), *SMALL, *extra], words)
    assert not list(tmp_path.iterdir())


def test_the_file_must_end_in_safetensors(model, tmp_path, capsys):
    fails(
        capsys, ["train", "--model", str(model), "--out", str(tmp_path / "p.pt")], "a predictor is a .safetensors file"
    )


def test_bench_adds_its_rows(model, predictor, tmp_path):
    out = tmp_path / "bench.json"
    arguments = [
        "bench",
        "--model",
        str(model),
        "--predictor",
        str(predictor),
        "--methods",
        "predictor,predictor-no-lora,untrained-random,untrained-staleness",
        "--steps",
        "8",
        "--samples",
        "2",
        "--repeats",
        "1",
        "--speedups",
        "1.5",
        "--json",
        str(out),
    ]
    assert main(arguments) == 0
    content = json.loads(out.read_text())
    rows, others = content["rows"], {"predictor-no-lora", "untrained-random", "untrained-staleness"}
    assert {row["method"] for row in rows} == {"full", "predictor", *others}
    assert {(duel["method"], duel["against"]) for duel in content["beats"]} == {
        ("predictor", other) for other in others
    }
    assert all(row["settings"]["last_blocks"] == 1 for row in rows if row["method"] != "full")


def test_sample_applies_the_repair(model, predictor, tmp_path):
    results = []
    for index, extra in enumerate((["--predictor", str(predictor)], ["--last-blocks", "1"])):
        out = tmp_path / f"{index}.safetensors"
        assert main(["sample", "--model", str(model), "--out", str(out), "--labels", "1", "--steps", "8", *extra]) == 0
        results.append(load_file(out)["cached"])
    assert not results[0].equal(results[1])


def test_a_predictor_of_another_model_is_refused(predictor, tmp_path, capsys):
    other = tiny_dit_file(tmp_path / "other.safetensors", depth=4)
    arguments = [
        "sample",
        "--model",
        str(other),
        "--predictor",
        str(predictor),
        "--out",
        str(tmp_path / "s.safetensors"),
    ]
    fails(capsys, arguments, "a predictor trained for this one")


def test_predictor_rows_need_a_predictor(model, capsys):
    fails(capsys, ["bench", "--model", str(model), "--methods", "predictor"], "add --predictor FILE")


def in_two_processes(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    launch = [
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_ip",
        "127.0.0.1",
        "--main_process_port",
        str(port),
    ]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> None:
    """Skips where two processes cannot even add two numbers: some sandboxes abort torch's own CPU backend."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "add.py").write_text(
        "import torch; from accelerate import PartialState; from accelerate.utils import reduce\n"
        "state = PartialState(cpu=True)\n"
        "assert reduce(torch.ones(1), 'sum') == 2\n"
        "state.destroy_process_group()\n"
    )
    done = in_two_processes(folder, "add.py")
    if done.returncode != 0:
        pytest.skip(f"torch.distributed does not work on this machine: {done.stderr}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "extra", [[], ["--cache-ratio", "0.5", "--predictor", "light"]], ids=["forecast and LoRA", "predictor and LoRA"]
)
def test_two_processes_learn_as_one_with_twice_the_batch(two_processes, model, tmp_path, extra):
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    rest = ["--model", str(model), "--iterations", "3", *SMALL, *extra]
    assert main(["train", "--out", str(one), *rest, "--batch", "4"]) == 0
    done = in_two_processes(ROOT, "-m", "tokencache_core", "train", "--out", str(two), *rest, "--batch", "2")
    assert done.returncode == 0, done.stderr
    ours, theirs = read_trained_cache(one), read_trained_cache(two)
    assert [point.loss for point in theirs.log] == pytest.approx([point.loss for point in ours.log], rel=1e-4)
    assert theirs.shares == ours.shares
    weights, others = load_file(one), load_file(two)
    assert weights.keys() == others.keys()
    assert all(torch.allclose(weights[name], others[name], atol=1e-3) for name in weights)
