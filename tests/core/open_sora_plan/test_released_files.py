"""Files of the release's layout, whole and in shards, and those that are refused: each with one line that says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from released_weights import NAME, of_another, saved
from safetensors.torch import save_file
from torch import Tensor

from tokencache_core.flux.prompts import PromptTable
from tokencache_core.open_sora_plan.checkpoint import (
    load_video_transformer,
    read_video_transformer,
    released_key,
    save_video_transformer,
)
from tokencache_core.open_sora_plan.config import SkipSparseConfig, VideoConfig
from tokencache_core.open_sora_plan.model import VideoTransformer
from tokencache_core.open_sora_plan.released_files import VideoFileError, is_first_shard_or_whole
from tokencache_core.open_sora_plan.skip_sparse import SkipSparseTransformer

NARROW = VideoConfig(width=48, depth=2, heads=2, caption_channels=24, sample_size=32, video_length=33, frame_stride=2)
SAID = {"num_attention_heads": 2, "sample_size": [32, 32], "video_length": 33}
SHARDS = [f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors" for number in (1, 2)]


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = VideoTransformer(NARROW)
    network.initialise()
    return {released_key(key): tensor.detach() for key, tensor in network.state_dict().items()}


def in_shards(folder: Path, tensors: dict[str, Tensor], said: dict = SAID) -> Path:
    """The index of two shards."""
    keys = sorted(tensors)
    halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    for name, half in zip(SHARDS, halves):
        save_file({key: tensors[key] for key in half}, folder / name)
    index = folder / f"{NAME}.index.json"
    weight_map = {key: name for name, half in zip(SHARDS, halves) for key in half}
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(said))
    return index


def refusal(path: Path, version: str = "1.1") -> str:
    with pytest.raises(VideoFileError) as error:
        read_video_transformer(path, version)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))
    return str(error.value)


def test_sizes_come_from_the_file_and_its_config(tmp_path: Path, tensors: dict[str, Tensor]):
    of_training = {"caption_projection.y_embedding": torch.zeros(120, 24)}
    file = saved(tmp_path, tensors | of_training, SAID)
    for path in (file, tmp_path):
        read, config, words = read_video_transformer(path)
        assert config == NARROW and words is None
        assert torch.equal(
            read["blocks.1.temporal.attn1.to_q.weight"], tensors["temporal_transformer_blocks.1.attn1.to_q.weight"]
        )
    assert read_video_transformer(file, version="1.0")[1].frame_stride == 6


def test_what_comfyui_saves_is_read_again(tmp_path: Path, tensors: dict[str, Tensor]):
    file = saved(tmp_path, {f"model.diffusion_model.{key}": tensor for key, tensor in tensors.items()}, SAID)
    assert read_video_transformer(file)[1] == NARROW


@pytest.mark.parametrize("which", ["index", "folder", *SHARDS])
def test_shards_are_read_together(tmp_path: Path, tensors: dict[str, Tensor], which: str):
    index = in_shards(tmp_path, tensors)
    path = {"index": index, "folder": tmp_path}.get(which, tmp_path / which)
    read, config, _ = read_video_transformer(path)
    assert config == NARROW and len(read) == len(tensors)


def test_of_several_shards_the_first_is_offered():
    assert [is_first_shard_or_whole(f"folder/{name}") for name in (*SHARDS, NAME)] == [True, False, True]


def test_an_index_that_names_a_missing_shard(tmp_path: Path, tensors: dict[str, Tensor]):
    index = in_shards(tmp_path, tensors)
    (tmp_path / SHARDS[1]).unlink()
    assert f"names the shard '{SHARDS[1]}', which is not beside it; download it" in refusal(index).replace('"', "'")


def test_a_shard_without_its_index(tmp_path: Path, tensors: dict[str, Tensor]):
    in_shards(tmp_path, tensors).unlink()
    assert f"one of 2 shards, and their index {NAME}.index.json is not beside it" in refusal(tmp_path / SHARDS[0])


def test_a_truncated_shard(tmp_path: Path, tensors: dict[str, Tensor]):
    index = in_shards(tmp_path, tensors)
    shard = tmp_path / SHARDS[1]
    shard.write_bytes(shard.read_bytes()[:-1000])
    assert f"{SHARDS[1]} is truncated or damaged" in refusal(index)


def test_a_shard_of_other_tensors(tmp_path: Path, tensors: dict[str, Tensor]):
    index = in_shards(tmp_path, tensors)
    save_file({"other": torch.zeros(1)}, tmp_path / SHARDS[0])
    assert f"missing in the shard {SHARDS[0]}; download it again" in refusal(index)


@pytest.mark.parametrize("name", ["../away.safetensors", "/etc/passwd", 3])
def test_an_index_that_names_files_elsewhere(tmp_path: Path, tensors: dict[str, Tensor], name: object):
    index = in_shards(tmp_path, tensors)
    save_file({"a": torch.zeros(1)}, tmp_path.parent / "away.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    refusal(index)


ADALN = {"adaln_single__linear__weight": (12, 2), "transformer_blocks__0__attn1__to_q__weight": (2, 2)}
OTHERS = {
    "Open-Sora 1.2": of_another(spatial_blocks__0__attn__qkv__weight=(6, 2), x_embedder__proj__weight=(2, 4, 1, 2, 2)),
    "Open-Sora 1.0": of_another(blocks__0__attn_temp__qkv__weight=(6, 2), x_embedder__proj__weight=(2, 4, 1, 2, 2)),
    "Open-Sora-Plan's image-to-video model": of_another(**ADALN, pos_embed_masked_hidden_states__0__proj__weight=(2,)),
    "PixArt": of_another(**ADALN, pos_embed__proj__weight=(1152, 4, 2, 2)),
    "Load Open-Sora-Plan VAE": of_another(encoder__conv_in__weight=(2, 3, 3, 3)),
    "CLIPLoader": of_another(shared__weight=(2, 2)),
    "no transformer of Open-Sora-Plan": of_another(anything=(1,)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_models_file_is_refused_with_both_names(tmp_path: Path, name: str):
    message = refusal(saved(tmp_path, OTHERS[name]))
    assert name in message and "reads the transformers of Open-Sora-Plan 1.0 to 1.3" in message


SPARSE = SkipSparseConfig(width=48, depth=3, heads=2, caption_channels=24)
SAID_SPARSE = {"num_attention_heads": 2, "sparse1d": True, "sparse_n": 4, "sample_size_h": [44, 80]}


@pytest.fixture(scope="module")
def sparse() -> dict[str, Tensor]:
    return {key: tensor.detach() + 0.1 for key, tensor in SkipSparseTransformer(SPARSE).state_dict().items()}


def test_sizes_of_1_3_come_from_the_file_and_its_config(tmp_path: Path, sparse: dict[str, Tensor]):
    file = saved(tmp_path, {f"model.diffusion_model.{key}": tensor for key, tensor in sparse.items()}, SAID_SPARSE)
    read, config, words = read_video_transformer(file, "1.3")
    assert config == replace(SPARSE, sample_height=80) and words is None and set(read) == set(sparse)
    dense = saved(tmp_path, sparse, SAID_SPARSE | {"sparse1d": False, "interpolation_scale_h": 1.5})
    config = read_video_transformer(dense, "1.3")[1]
    assert isinstance(config, SkipSparseConfig) and config.skip == 1 and config.stretch == (1.0, 1.5, 1.0)


def test_1_2_predicts_noise_with_dense_attention(tmp_path: Path):
    shape = replace(SPARSE, in_channels=4, skip=1, predicts_velocity=False)
    file = saved(tmp_path, SkipSparseTransformer(shape).state_dict(), SAID_SPARSE | {"_class_name": "OpenSoraT2V"})
    assert read_video_transformer(file, "1.2")[1] == replace(shape, sample_height=80)
    assert "this is a transformer of Open-Sora-Plan 1.2, not of 1.3: choose 1.2" in refusal(file, "1.3")


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_another_version_is_refused_with_both(tmp_path: Path, sparse: dict[str, Tensor], version: str):
    message = refusal(saved(tmp_path, sparse, SAID_SPARSE), version)
    assert f"this is a transformer of Open-Sora-Plan 1.3, not of {version}: choose 1.3 as the version" in message


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_1_1_is_refused_as_a_later_version(tmp_path: Path, tensors: dict[str, Tensor], version: str):
    message = refusal(saved(tmp_path, tensors, SAID), version)
    assert f"this is a transformer of Open-Sora-Plan 1.1, not of {version}: choose 1.1 as the version" in message


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "its width 48 is not a multiple of 96, so its number of heads is unknown; put its config.json beside it"),
        (SAID_SPARSE | {"num_attention_heads": 3}, "its heads are 16 wide, which is no multiple of 6"),
        (SAID_SPARSE | {"sparse_n": 0}, "its sparse_n must be a whole number"),
        (SAID_SPARSE | {"interpolation_scale_w": "wide"}, "its interpolation_scale_w must be a number above 0"),
    ],
)
def test_a_config_of_1_3_that_does_not_fit(tmp_path: Path, sparse: dict[str, Tensor], said: dict, message: str):
    assert message in refusal(saved(tmp_path, sparse, said), "1.3")


def test_shards_of_1_3(tmp_path: Path, sparse: dict[str, Tensor]):
    index = in_shards(tmp_path, sparse, SAID_SPARSE)
    assert len(read_video_transformer(index, "1.3")[0]) == len(sparse)
    shard = tmp_path / SHARDS[1]
    shard.write_bytes(shard.read_bytes()[:-1000])
    assert f"{SHARDS[1]} is truncated or damaged" in refusal(index, "1.3")
    shard.unlink()
    assert f"names the shard '{SHARDS[1]}', which is not beside it" in refusal(index, "1.3").replace('"', "'")
    part = {key: tensor for key, tensor in sparse.items() if not key.startswith("transformer_blocks.1.ff")}
    assert "it is not the whole of a transformer of Open-Sora-Plan 1.3: " in refusal(
        saved(tmp_path, part, SAID_SPARSE), "1.3"
    )


def test_a_file_that_is_not_whole(tmp_path: Path, tensors: dict[str, Tensor]):
    missing = {key: tensor for key, tensor in tensors.items() if not key.startswith("temporal_transformer_blocks.1.ff")}
    assert "it is not the whole of a transformer of Open-Sora-Plan 1.1: " in refusal(saved(tmp_path, missing, SAID))
    odd = tensors | {"proj_out.weight": torch.zeros(30, 48)}
    assert "its proj_out gives 30 features" in refusal(saved(tmp_path, odd, SAID))
    more = tensors | {"more": torch.zeros(1)}
    assert "'more' is unknown" in refusal(saved(tmp_path, more, SAID))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "its width 48 is not a multiple of 72, so its number of heads is unknown; put its config.json beside it"),
        (SAID | {"num_attention_heads": 5}, "does not divide its width 48"),
        (SAID | {"sample_size": [32, 16]}, "must be one side of a square"),
        (SAID | {"video_length": 0}, "its video_length must be a whole number"),
    ],
)
def test_a_config_that_does_not_fit(tmp_path: Path, tensors: dict[str, Tensor], said: dict, message: str):
    assert message in refusal(saved(tmp_path, tensors, said))


def test_a_model_that_brings_its_own_words_comes_back(tmp_path: Path):
    torch.manual_seed(1)
    network, table = VideoTransformer(NARROW), PromptTable(["taxi", "turns"], 24, 4, ["taxi turns"])
    network.initialise()
    table.initialise()
    file = tmp_path / "clips.safetensors"
    save_video_transformer(network, table, file, licence="Apache-2.0", dtype=torch.float32)
    loaded, words = load_video_transformer(file)
    assert loaded.config == NARROW and words.words == table.words and words.examples == table.examples
    x, t = torch.randn(1, 4, 3, 8, 8), torch.tensor([400])
    with torch.no_grad():
        expected = network(x, t, table.encode(["taxi turns"])[0])
        assert torch.equal(loaded(x, t, words.encode(["taxi turns"])[0]), expected)
