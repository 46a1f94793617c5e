"""The causal video VAE against numbers that the release's own code gave for the same weights, and its tiles.

causal_vae_numbers.json was made once by running `Encoder` and `Decoder` of Open-Sora-Plan's tags v1.1.0 and v1.2.0, set
up as its configurations of these versions say but narrower, on the weights and inputs of video_values.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from video_values import values, weights

from tokencache_core.open_sora_plan.vae.causal_vae import CausalConv3d, VAEConfig, VideoVAE
from tokencache_core.open_sora_plan.vae.tiles import Tile, places, spans_of_frames, tiled_decode, tiled_encode

NUMBERS = json.loads((Path(__file__).parent / "causal_vae_numbers.json").read_text())
NARROW = VAEConfig(width=32, multipliers=(1, 2, 2, 3))


def made(config: VAEConfig) -> VideoVAE:
    vae = VideoVAE(config).eval().requires_grad_(False)
    vae.load_state_dict(weights(vae.state_dict()))
    return vae


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    return made(NARROW)


def test_that_of_1_2_agrees_with_the_release():
    vae = made(replace(NARROW, at_once=True))
    latent, clip = vae.encode(values((1, 3, 9, 32, 24), 1000)), vae.decode(values((1, 4, 3, 4, 3), 1001))
    assert torch.allclose(latent.flatten(), torch.tensor(NUMBERS["latent_1_2"]), atol=1e-4)
    assert torch.allclose(clip[:, :, ::2, ::5, ::5].flatten(), torch.tensor(NUMBERS["clip_1_2"]), atol=1e-4)


def test_encoding_agrees_with_the_release(vae: VideoVAE):
    latent = vae.encode(values((1, 3, 9, 32, 24), 1000))
    assert latent.shape == (1, 4, 3, 4, 3)
    assert torch.allclose(latent.flatten(), torch.tensor(NUMBERS["latent"]), atol=1e-4)


def test_decoding_agrees_with_the_release(vae: VideoVAE):
    clip = vae.decode(values((1, 4, 3, 4, 3), 1001))
    assert clip.shape == (1, 3, 9, 32, 24)
    assert torch.allclose(clip[:, :, ::2, ::5, ::5].flatten(), torch.tensor(NUMBERS["clip"]), atol=1e-4)


def test_the_released_sizes_have_as_many_parameters_as_their_files():
    with torch.device("meta"):
        for at_once, parameters in ((False, 246_859_499), (True, 239_189_991)):
            vae = VideoVAE(VAEConfig(at_once=at_once))
            assert sum(parameter.numel() for parameter in vae.parameters()) == parameters


def test_convolutions_see_no_later_frames():
    conv = CausalConv3d(2, 2, (3, 3, 3), torch.nn)
    x = torch.randn(1, 2, 6, 4, 4)
    later = torch.cat([x[:, :, :4], torch.randn(1, 2, 2, 4, 4)], dim=2)
    assert torch.equal(conv(x)[:, :, :4], conv(later)[:, :, :4])
    assert not torch.equal(conv(x), conv(later))


def test_frames_beyond_a_whole_number_of_latents_are_left_out(vae: VideoVAE):
    clip = torch.randn(1, 3, 7, 16, 16)
    assert torch.equal(vae.encode(clip), vae.encode(clip[:, :, :5]))


def enlarged(z: Tensor) -> Tensor:
    """Stands for a decoder: every latent frame but the first becomes 4, every place 8 x 8."""
    frames = torch.cat([z[:, :, :1], z[:, :, 1:].repeat_interleave(4, dim=2)], dim=2)
    return frames.repeat_interleave(8, dim=3).repeat_interleave(8, dim=4)


def reduced(x: Tensor) -> Tensor:
    """Stands for an encoder: what `enlarged` undoes."""
    return x[:, :, ::4, ::8, ::8]


@pytest.mark.parametrize("shape", [(1, 2, 11, 13, 9), (2, 2, 2, 4, 17), (1, 2, 1, 6, 6), (1, 2, 9, 5, 5)])
def test_tiles_are_put_together_where_they_belong(shape: tuple[int, ...]):
    z, sizes = torch.randn(shape), []

    def decode(part: Tensor) -> Tensor:
        sizes.append(part.shape[2:])
        return enlarged(part)

    whole = tiled_decode(decode, z, Tile(side=6, overlap=2, frames=4))
    assert torch.allclose(whole, enlarged(z), atol=1e-5)
    assert all(frames <= 4 and height <= 6 and width <= 6 for frames, height, width in sizes)
    assert torch.allclose(tiled_encode(reduced, enlarged(z), Tile(side=6, overlap=2, frames=4)), z, atol=1e-5)


def test_tiles_are_blended_where_they_overlap():
    numbers = iter((0.0, 1.0))
    out = tiled_decode(
        lambda part: torch.full_like(enlarged(part), next(numbers)), torch.zeros(1, 1, 1, 6, 10), Tile(6, 2, 4)
    )
    row = out[0, 0, 0, 0]
    assert (row[:32] == 0).all() and (row[48:] == 1).all()
    assert (row[32:48].diff() > 0).all()


def test_a_tile_of_later_frames_begins_with_the_frame_before(vae: VideoVAE):
    z = values((1, 4, 5, 4, 4), 1002)
    tiled = vae.decode(z, Tile(frames=3))
    assert torch.equal(tiled[:, :, :9], vae.decode(z[:, :, :3]))
    assert torch.equal(tiled[:, :, 9:], vae.decode(z[:, :, 2:])[:, :, 1:])
    assert not torch.equal(tiled, vae.decode(z))


def test_the_places_and_spans_of_tiles():
    assert places(64, 32, 8) == [0, 24, 32] and places(32, 32, 8) == [0] and places(56, 32, 8) == [0, 24]
    assert spans_of_frames(17, 17) == [(0, 17)] and spans_of_frames(1, 17) == [(0, 1)]
    assert spans_of_frames(10, 4) == [(0, 4), (3, 7), (6, 10)] and spans_of_frames(11, 4)[-1] == (9, 11)


def test_tiles_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="cannot overlap by 20"):
        Tile(side=32, overlap=20)
