"""Hostile files of every kind that users share: damaged at random, and built to take memory, run code or never end."""

from __future__ import annotations

import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_files import LOADERS, Loader, answer, damaged
from safetensors.torch import load_file, save_file
from tiny_dit import tiny_dit

from tokencache_core.dit.class_labels import parse_labels
from tokencache_core.schedules.choices import parse_steps

TRIED = 40  # inputs of each kind; `python scripts/fuzz_files.py` tries thousands


@pytest.fixture(params=LOADERS)
def loader(request: pytest.FixtureRequest) -> Loader:
    return LOADERS[request.param]


def test_damaged_files_are_read_or_refused_in_one_line(loader: Loader, tmp_path: Path):
    path = tmp_path / f"a{loader.suffix}"
    loader.write(path)
    assert answer(loader, path) == "read"
    good, said = path.read_bytes(), []
    for number in range(TRIED):
        path.write_bytes(damaged(good, random.Random(number)))
        said.append(answer(loader, path))
    assert said.count("refused") > TRIED / 2


def refused(loader: Loader, path: Path, words: str) -> None:
    with pytest.raises(loader.refusal, match=words) as caught:
        loader.read(path)
    assert path.name in str(caught.value) and answer(loader, path) == "refused"


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"[" * 2**20, b"PK\x03\x04", b"\x80\x02}q\x00.", b"\xff" * 64])
def test_a_file_that_is_something_else(loader: Loader, tmp_path: Path, content: bytes):
    path = tmp_path / f"a{loader.suffix}"
    path.write_bytes(content)
    assert answer(loader, path) == "refused"


def test_a_name_that_leads_elsewhere(loader: Loader, tmp_path: Path):
    """To a folder, to nothing, in a circle, to a text that must not be quoted, to a device without an end."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2 " * 100)
    for name, target in {"folder": tmp_path, "nothing": "missing", "circle": "circle", "text": secret}.items():
        path = tmp_path / f"{name}{loader.suffix}"
        path.symlink_to(f"circle{loader.suffix}" if name == "circle" else target)
        with pytest.raises(loader.refusal) as caught:
            loader.read(path)
        assert "hunter2" not in str(caught.value) and path.name in str(caught.value)
    if os.path.exists("/dev/zero"):
        path = tmp_path / f"endless{loader.suffix}"
        path.symlink_to("/dev/zero")
        assert answer(loader, path) == "refused"


@pytest.mark.parametrize("name", ["preset", "calibration"])
def test_a_json_file_of_any_size_is_not_read_whole(name: str, tmp_path: Path):
    loader, path = LOADERS[name], tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse: it takes no room on the disk
    refused(loader, path, "characters, more than the 8,388,608 that are allowed")


@pytest.mark.parametrize("name", ["predictor", "DiT", "text-to-image"])
@pytest.mark.parametrize("length", [2**31, 2**40, 2**63, 2**64 - 1])
def test_a_header_that_claims_to_be_large(name: str, length: int, tmp_path: Path):
    loader, path = LOADERS[name], tmp_path / "a.safetensors"
    loader.write(path)
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    refused(loader, path, "truncated or damaged")


@pytest.mark.parametrize("name", ["DiT", "text-to-image"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(name: str, value: float, tmp_path: Path):
    loader, path = LOADERS[name], tmp_path / "a.safetensors"
    loader.write(path)
    tensors, metadata = load_file(path), _metadata(path)
    last = sorted(tensors)[-1]
    tensors[last].view(-1)[-1] = value
    save_file(tensors, path, metadata)
    refused(loader, path, f"'{last}' holds NaN or infinity")


def _metadata(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


class Touches:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def _pickled(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(Touches(canary)))


def _in_state_dict(path: Path, canary: Path) -> None:
    torch.save({"pos_embed": torch.zeros(1), "x": Touches(canary)}, path)


def _legacy(path: Path, canary: Path) -> None:
    torch.save({"x": Touches(canary)}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("write", [_pickled, _in_state_dict, _legacy])
def test_code_in_a_file_does_not_run(write: Callable[[Path, Path], None], tmp_path: Path):
    path, canary = tmp_path / "a.pt", tmp_path / "canary"
    write(path, canary)
    refused(LOADERS["DiT, .pt"], path, "it holds more than plain tensors")
    assert not canary.exists()


@pytest.mark.parametrize("name", ["predictor", "DiT", "text-to-image"])
def test_code_in_a_file_that_is_called_safetensors(name: str, tmp_path: Path):
    path, canary = tmp_path / "a.safetensors", tmp_path / "canary"
    _in_state_dict(path, canary)
    assert answer(LOADERS[name], path) == "refused" and not canary.exists()


def test_a_tensor_that_claims_to_be_larger_than_its_file(tmp_path: Path):
    path, state = tmp_path / "a.pt", tiny_dit(width=64).state_dict()
    state["x_embedder.proj.bias"] = torch.zeros(1).expand(2**40)
    torch.save(state, path)
    refused(LOADERS["DiT, .pt"], path, "'x_embedder.proj.bias' has more elements than the file")


@pytest.mark.parametrize(
    "tensor", [torch.zeros(4, device="meta"), torch.zeros(4, 4).to_sparse(), torch.zeros(4).to_sparse()]
)
def test_a_tensor_of_another_kind(tensor: torch.Tensor, tmp_path: Path):
    path, state = tmp_path / "a.pt", tiny_dit(width=64).state_dict()
    state["x_embedder.proj.bias"] = tensor
    torch.save(state, path)
    refused(LOADERS["DiT, .pt"], path, "'x_embedder.proj.bias' is no plain tensor")


def test_a_zip_that_grows_when_it_is_opened(tmp_path: Path):
    path, small = tmp_path / "a.pt", tmp_path / "small.pt"
    torch.save({"x": torch.zeros(2**20)}, small)
    with zipfile.ZipFile(small) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    small.unlink()
    assert path.stat().st_size < 2**16
    refused(LOADERS["DiT, .pt"], path, "it is compressed")


@pytest.mark.parametrize("parse", [parse_steps, lambda text: parse_labels(text, 9, ("a cat", "a dog, big"))])
def test_texts_typed_into_nodes_are_taken_or_refused(parse: Callable[[str], Any]):
    draw, answers = random.Random(1), set()
    pieces = (
        "0",
        "1",
        "8",
        ",",
        ", ",
        " ",
        "-1",
        "9" * 5000,
        "a cat",
        "a dog, big",
        "\x00",
        "\n",
        "½",
        "٣",
        "1e3",
        "_",
    )
    for _ in range(300):
        text = "".join(draw.choices(pieces, k=draw.randint(0, 6)))
        try:
            answers.add(type(parse(text)))
        except ValueError as error:
            answers.add(f"a line of {'a few' if len(str(error)) < 500 else 'thousands of'} characters")
    assert len(answers) == 2 and "a line of a few characters" in answers
