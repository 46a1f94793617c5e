"""DiT files: what is read, what is inferred, what is refused and how."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_dit import random_input, tiny_dit, tiny_dit_file
from torch import Tensor

from tokencache_core.dit.checkpoint import ModelFileError, infer_config, load_dit, read_dit, save_dit
from tokencache_core.dit.model import DiT, DiTConfig


def fails(path: Path, message: str) -> None:
    """It is one line that names the file and says `message`."""
    with pytest.raises(ModelFileError, match=message) as caught:
        load_dit(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 400
    assert isinstance(caught.value, ValueError)


def test_round_trip(tmp_path):
    model = tiny_dit(heads=4, in_channels=3)
    save_dit(model, tmp_path / "a.safetensors", {"class_names": json.dumps(list("abcde")), "licence": "CC0"})
    state_dict, config, metadata = read_dit(tmp_path / "a.safetensors")
    assert config == model.config
    assert metadata["licence"] == "CC0" and metadata["num_heads"] == "4"
    loaded = load_dit(str(tmp_path / "a.safetensors"))
    assert not loaded.training and loaded.use_sincos_grid
    assert torch.equal(loaded(*random_input(model)), model(*random_input(model)))
    assert state_dict.keys() == model.state_dict().keys()
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": {}, "ema": s, "steps": 3}, lambda s: {"model": s}])
def test_pt_files_also_as_training_saves_them(tmp_path, wrap):
    model = tiny_dit(heads=1)  # width / 64, since a .pt has no metadata
    torch.save(wrap(model.state_dict()), tmp_path / "a.pt")
    assert torch.equal(load_dit(tmp_path / "a.pt")(*random_input(model)), model(*random_input(model)))
    assert read_dit(tmp_path / "a.pt")[2] == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files(tmp_path, dtype):
    model = tiny_dit().to(dtype)
    save_dit(model, tmp_path / "a.safetensors")
    assert read_dit(tmp_path / "a.safetensors")[0]["pos_embed"].dtype == dtype
    loaded = load_dit(tmp_path / "a.safetensors")
    assert loaded.dtype == loaded.pos_embed.dtype == torch.float32 and loaded.use_sincos_grid
    assert load_dit(tmp_path / "a.safetensors", dtype=dtype).blocks[0].mlp.fc1.weight.dtype == dtype


def test_a_learned_position_embedding_is_recognised(tmp_path):
    model = tiny_dit()
    model.pos_embed.data[0, 3, 5] += 0.05
    save_dit(model, tmp_path / "a.safetensors")
    assert not load_dit(tmp_path / "a.safetensors").use_sincos_grid


@pytest.mark.parametrize(
    "shape",
    [
        {"width": 384, "depth": 12, "heads": 6},
        {"width": 768, "depth": 12, "heads": 12, "patch_size": 4},
        {"width": 1024, "depth": 24, "heads": 16, "patch_size": 8},
        {"width": 1152, "depth": 28, "heads": 16, "input_size": 64},
        {
            "width": 128,
            "depth": 1,
            "heads": 2,
            "in_channels": 3,
            "num_classes": 9,
            "learn_sigma": False,
            "mlp_ratio": 2.5,
        },
        {"width": 192, "depth": 11, "heads": 3, "in_channels": 16, "num_classes": 1, "mlp_ratio": 8 / 3},
    ],
)
def test_every_shape_is_inferred(shape):
    config = DiTConfig(**shape)
    inferred = infer_config(DiT(config, device="meta").state_dict(), {})
    assert inferred == config


@pytest.mark.parametrize("hidden", [256, 253, 171, 1])
def test_the_mlp_keeps_its_width_when_its_ratio_is_rounded(hidden):
    state_dict = DiT(DiTConfig(192, 1, 3), device="meta").state_dict()
    state_dict["blocks.0.mlp.fc1.weight"] = torch.empty(hidden, 192, device="meta")
    config = infer_config(state_dict, {})
    assert DiT(config, device="meta").blocks[0].mlp.fc1.out_features == hidden


def test_the_number_of_heads(tmp_path):
    state_dict = DiT(DiTConfig(192, 1, 3), device="meta").state_dict()
    assert infer_config(state_dict, {"num_heads": "12"}).heads == 12
    for wrong in ("5", "0", "-3", "three"):
        with pytest.raises(ModelFileError, match=f"num_heads` = '{wrong}' does not divide its width 192"):
            infer_config(state_dict, {"num_heads": wrong})
    torch.save(tiny_dit(width=96).state_dict(), tmp_path / "a.pt")
    fails(
        tmp_path / "a.pt", "width 96 is not a multiple of 64.*save it as .safetensors with `num_heads` in the metadata"
    )


def test_a_missing_file_and_another_kind_of_file(tmp_path):
    fails(tmp_path / "a.safetensors", "no such file")
    fails(tmp_path, "no such file")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    fails(tmp_path / "a.gguf", r"a .safetensors or .pt file, not '.gguf'")


@pytest.mark.parametrize("kept", [0, 5, 200, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_truncated_file(tmp_path, suffix, kept):
    path = tmp_path / f"a{suffix}"
    if suffix == ".pt":
        torch.save(tiny_dit(heads=1).state_dict(), path)
    else:
        tiny_dit_file(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    fails(path, "truncated or damaged.*download or save it again")


@pytest.mark.parametrize("content", [b"<html>404 Not Found</html>", b"version https://git-lfs.github.com\n" * 9])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_web_page_by_the_name_of_a_model(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    fails(tmp_path / f"a{suffix}", "damaged")


def test_a_foreign_state_dict(tmp_path):
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(3, 1)}, tmp_path / "flux.safetensors")
    fails(tmp_path / "flux.safetensors", "not a DiT: it has no key 'x_embedder.proj.weight'.*facebookresearch/DiT")
    save_file({}, tmp_path / "empty.safetensors")
    fails(tmp_path / "empty.safetensors", "not a DiT: it has no key")


class Payload:
    """Pickles to a call that leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("old_format", [False, True, None])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, old_format):
    path, trace = tmp_path / "a.pt", tmp_path / "trace"
    content = {**tiny_dit().state_dict(), "payload": Payload(trace)}
    if old_format is None:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    fails(path, "more than plain tensors.*it was not loaded.*save only its state dict")
    assert not trace.exists()
    with contextlib.suppress(Exception):  # the bare pickle is no PyTorch file, but is run before that is found out
        torch.load(path, weights_only=False)
    assert trace.exists()  # so that the payload is live


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ema": {}, "args": argparse.Namespace(lr=1)}, "more than plain tensors"),
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ({"x_embedder.proj.weight": torch.zeros(3), "epoch": 7}, "more than plain tensors: 'epoch' is a int"),
        ({0: torch.zeros(3)}, "more than plain tensors"),
    ],
)
def test_a_pt_file_of_anything_else(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pt")
    fails(tmp_path / "a.pt", message)


def changed(state_dict: dict[str, Tensor], **changes: Tensor | None) -> dict[str, Tensor]:
    """With `changes` put in place, or left out if None; '__' stands for '.'."""
    merged = state_dict | {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks__1__attn__qkv__bias": None}, "'blocks.1.attn.qkv.bias' is missing"),
        (
            {f"blocks__{i}__attn__qkv__bias": None for i in range(3)} | {"final_layer__linear__bias": None},
            "'blocks.0.attn.qkv.bias', 'blocks.1.attn.qkv.bias', 'blocks.2.attn.qkv.bias' and 1 more are missing",
        ),
        ({"blocks__7__attn__qkv__bias": torch.zeros(3)}, "'blocks.3' is missing"),
        ({"guidance__weight": torch.zeros(3)}, "'guidance.weight' is unknown"),
        (
            {"blocks__2__mlp__fc2__weight": torch.zeros(64, 128)},
            r"'blocks.2.mlp.fc2.weight' has shape \(64, 128\), but .*\(64, 256\)",
        ),
        ({"t_embedder__mlp__0__weight": torch.zeros(64, 128)}, r"'t_embedder.mlp.0.weight' has shape"),
        ({"x_embedder__proj__weight": torch.zeros(64, 16)}, "not a DiT: 'x_embedder.proj.weight' has shape"),
        ({"x_embedder__proj__weight": torch.zeros(64, 4, 2, 4)}, "'x_embedder.proj.weight' has shape"),
        ({"pos_embed": torch.zeros(1, 12, 64)}, "pos_embed has 12 tokens, which is not a square"),
        (
            {"final_layer__linear__weight": torch.zeros(48, 64)},
            "gives 48 features; 4 channels in 2x2 patches need 16, or twice",
        ),
        ({"y_embedder__embedding_table__weight": torch.zeros(1, 64)}, "no row for the null class"),
        ({"blocks__0__mlp__fc1__weight": torch.zeros(256, 64, dtype=torch.int8)}, "holds torch.int8.*unquantised"),
    ],
)
def test_a_dit_that_is_not_whole(tmp_path, changes, message):
    save_file(changed(tiny_dit().state_dict(), **changes), tmp_path / "a.safetensors", {"num_heads": "2"})
    fails(tmp_path / "a.safetensors", message)


def test_class_names_that_do_not_fit(tmp_path):
    path = tiny_dit_file(tmp_path / "a.safetensors", {"class_names": '["one", "two"]'})
    fails(path, "`class_names` must be a JSON list of 5 strings")


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path):
    path = tiny_dit_file(tmp_path / "a.safetensors")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_dit(tiny_dit(seed=1), path, {"steps": 3})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ModelFileError, match="saved as .safetensors"):
        save_dit(tiny_dit(), tmp_path / "a.pt")
