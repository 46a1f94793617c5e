"""Files of text-to-image models: the round trip, and what is refused in words."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_flux_model import EXAMPLES, WORDS, draw, tiny_text_to_image

from tokencache_core.flux.file import METADATA_KEY, FluxFileError, is_flux_file, load_flux, save_flux


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("flux") / "tiny.safetensors"
    save_flux(tiny_text_to_image(), path, licence="Apache-2.0")
    return path


def test_the_round_trip(file, tmp_path):
    model = tiny_text_to_image()
    save_flux(model, tmp_path / "whole.safetensors", licence="CC0", dtype=torch.float32)
    again = load_flux(tmp_path / "whole.safetensors")
    assert (again.prompts.words, again.prompts.examples) == (WORDS, EXAMPLES)
    assert again.network.config == model.network.config
    assert torch.equal(draw(again, "red cat"), draw(model, "red cat"))
    with safe_open(file, "pt") as stored:
        assert {stored.get_tensor(key).dtype for key in stored.keys()} == {torch.bfloat16}
        assert json.loads(stored.metadata()[METADATA_KEY])["licence"] == "Apache-2.0"
    assert load_flux(file, dtype=torch.bfloat16).network.dtype == torch.bfloat16


def test_it_is_told_from_other_files(file, tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:1000])
    assert is_flux_file(file)
    assert not any(
        is_flux_file(tmp_path / name) for name in ("other.safetensors", "cut.safetensors", "missing.safetensors")
    )


def changed(file, out, tensors=None, **said):
    """A copy at `out` with these fields of its metadata and these tensors (None: left out)."""
    with safe_open(file, "pt") as stored:
        kept = {key: stored.get_tensor(key) for key in stored.keys()}
        metadata = json.loads(stored.metadata()[METADATA_KEY])
    kept = {key: tensor for key, tensor in {**kept, **(tensors or {})}.items() if tensor is not None}
    save_file(kept, out, metadata={METADATA_KEY: json.dumps({**metadata, **said})})
    return out


def network(file, **sizes):
    with safe_open(file, "pt") as stored:
        return {**json.loads(stored.metadata()[METADATA_KEY])["network"], **sizes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "does not say that its format is"),
        ({"version": 2}, "update TokenCache"),
        ({"licence": 5}, "licence must be a text"),
        ({"surplus": 5}, "unknown field 'surplus'"),
        ({"prompts": [1]}, "its prompts must be an object"),
        ({"prompts": {"words": ["Red cat"], "length": 4, "examples": ["red"]}}, "'Red cat', is no single word"),
        ({"prompts": {"words": ["red", "red"], "length": 4, "examples": ["red"]}}, "one of them twice"),
        ({"prompts": {"words": list(WORDS), "length": 0, "examples": ["red"]}}, "length must be a whole number"),
        ({"prompts": {"words": ["red"], "length": 4, "examples": ["red"]}}, "'prompt_table.*has shape"),
        ({"prompts": {"words": list(WORDS), "length": 4, "examples": []}}, "must be a list of 1 to"),
        ({"prompts": {"words": list(WORDS), "length": 4, "examples": ["red", "blue"]}}, "'blue', is no prompt for it"),
        ({"prompts": {"words": list(WORDS), "length": 1, "examples": ["red cat"]}}, "'red cat', is no prompt for it"),
        ({"prompts": {"words": list(WORDS), "length": 4, "examples": ["red, cat"]}}, "is no prompt for it"),
        ({"tensors": {"img_in.weight": None}}, "not whole: 'img_in.weight' is missing"),
        ({"tensors": {"extra": torch.zeros(1)}}, "'extra' is unknown"),
        ({"tensors": {"img_in.bias": torch.zeros(3)}}, r"'img_in.bias' has shape \(3,\)"),
        ({"tensors": {"img_in.bias": torch.zeros(64, dtype=torch.int8)}}, "not floating-point"),
    ],
)
def test_bad_files_are_refused(file, tmp_path, change, message):
    with pytest.raises(FluxFileError, match=f"bad.safetensors: .*{message}"):
        load_flux(changed(file, tmp_path / "bad.safetensors", **change))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_size": 0}, "hidden_size must be a whole number from 1"),
        ({"depth": 10**9}, "depth must be a whole number from 1 to 200"),
        ({"depth": True}, "depth must be"),
        ({"surplus": 1}, "unknown field 'surplus'"),
        ({"vec_in_dim": 8}, "not of one width"),
        ({"mlp_ratio": 0}, "its mlp_ratio must lie"),
        ({"mlp_ratio": "4"}, "mlp_ratio must be"),
        ({"axes_dim": [8, 8, 8]}, "the sum 32"),
        ({"axes_dim": "x"}, "axes_dim must be"),
    ],
)
def test_bad_sizes_are_refused(file, tmp_path, sizes, message):
    with pytest.raises(FluxFileError, match=message):
        load_flux(changed(file, tmp_path / "bad.safetensors", network=network(file, **sizes)))


def test_files_that_are_none(file, tmp_path):
    with pytest.raises(FluxFileError, match="no such file"):
        load_flux(tmp_path / "missing.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-10])
    with pytest.raises(FluxFileError, match="truncated or damaged"):
        load_flux(tmp_path / "cut.safetensors")
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    with pytest.raises(FluxFileError, match="not a text-to-image model"):
        load_flux(tmp_path / "other.safetensors")
    with pytest.raises(FluxFileError, match="saved as .safetensors"):
        save_flux(tiny_text_to_image(), tmp_path / "model.pt", licence="")
