"""The video transformer against diffusers' Latte, whose keys and mathematics it shares, and its columns."""

from __future__ import annotations

import pytest
import torch
from diffusers import LatteTransformer3DModel
from torch import nn

from tokencache_core.open_sora_plan.checkpoint import network_key, released_key
from tokencache_core.open_sora_plan.config import VideoConfig, frame_stride
from tokencache_core.open_sora_plan.inferred_shape import infer_config
from tokencache_core.open_sora_plan.model import VideoTransformer

FRAMES, SIDE = 5, 16


@pytest.fixture(scope="module")
def latte() -> LatteTransformer3DModel:
    torch.manual_seed(0)
    model = LatteTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=4,
        out_channels=8,
        num_layers=3,
        cross_attention_dim=48,
        attention_bias=True,
        sample_size=SIDE,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        caption_channels=20,
        video_length=FRAMES,
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.12)
    return model.eval()


@pytest.fixture(scope="module")
def ours(latte: LatteTransformer3DModel) -> VideoTransformer:
    tensors = {network_key(key): tensor for key, tensor in latte.state_dict().items()}
    said = {"num_attention_heads": 2, "sample_size": [SIDE, SIDE], "video_length": FRAMES}
    model = VideoTransformer(infer_config(tensors, said, "1.1"))
    model.load_state_dict(tensors)
    return model.eval()


@torch.no_grad()
def test_it_agrees_with_latte(latte: LatteTransformer3DModel, ours: VideoTransformer):
    random = torch.Generator().manual_seed(1)
    x, text = (torch.randn(shape, generator=random) for shape in ((2, 4, FRAMES, SIDE, SIDE), (2, 7, 20)))
    t = torch.tensor([3, 900])
    expected = latte(x, timestep=t, encoder_hidden_states=text, return_dict=False)[0]
    without_variance = expected[:, :4]
    assert without_variance.std() > 0.5
    assert torch.allclose(ours(x, t, text), without_variance, atol=1e-4)


def test_released_names_come_back(latte: LatteTransformer3DModel, ours: VideoTransformer):
    assert {released_key(key) for key in ours.state_dict()} == set(latte.state_dict())


def test_the_released_size_has_as_many_parameters_as_its_file():
    """4.23 GB of float32, with 120 captions of training that are dropped."""
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in VideoTransformer(VideoConfig()).parameters())
    assert parameters + 120 * 4096 == 1_057_738_400


@torch.no_grad()
def test_a_single_picture_runs_without_temporal_blocks(ours: VideoTransformer):
    x, text, t = torch.randn(1, 4, 1, SIDE, SIDE), torch.randn(1, 7, 20), torch.tensor([500])
    expected = ours(x, t, text)
    spoiled = VideoTransformer(ours.config)
    spoiled.load_state_dict(ours.state_dict())
    for block in spoiled.blocks:
        for parameter in block.temporal.parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(spoiled(x, t, text), expected)
    assert spoiled(x.expand(-1, -1, 2, -1, -1), t, text).isnan().all()


@pytest.mark.parametrize(
    ("frames", "version", "stride"), [(17, "1.1", 1), (56, "1.1", 3), (17, "1.0", 3), (5, "1.0", 1), (1, "1.1", 1)]
)
def test_the_distance_of_frames_in_the_position_code(frames: int, version: str, stride: int):
    assert frame_stride(frames, version) == stride


def test_half_a_patch_is_refused(ours: VideoTransformer):
    with pytest.raises(ValueError, match="patches of 2x2, but a latent of 16x15"):
        ours(torch.zeros(1, 4, 1, 16, 15), torch.tensor([1]), torch.zeros(1, 1, 20))
