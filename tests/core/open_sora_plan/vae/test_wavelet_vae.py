"""WF-VAE against numbers that the release's own code gave for the same weights, and clips that pass in pieces.

wavelet_vae_numbers.json was made once by running `WFVAEModel` of Open-Sora-Plan's branch main, set up as its
configuration of version 1.3 says but narrower, on the weights and inputs of video_values.py, thinned out.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from video_values import values, weights

from tokencache_core.open_sora_plan.vae.tiles import Tile
from tokencache_core.open_sora_plan.vae.wavelet_vae import WaveletVAE, WaveletVAEConfig, passed
from tokencache_core.open_sora_plan.vae.wavelets import clip_bands, clip_of_bands, picture_bands, picture_of_bands

NUMBERS = json.loads((Path(__file__).parent / "wavelet_vae_numbers.json").read_text())
NARROW = WaveletVAEConfig(width=16, encoder_flow=8, decoder_flow=12)


@pytest.fixture(scope="module")
def vae() -> WaveletVAE:
    vae = WaveletVAE(NARROW).eval().requires_grad_(False)
    vae.load_state_dict(weights(vae.state_dict()))
    return vae


def test_encoding_agrees_with_the_release(vae: WaveletVAE):
    latent = vae.encode(values((1, 3, 13, 32, 48), 1000))
    assert latent.shape == (1, 8, 4, 4, 6) and latent.std() > 0.3
    assert torch.allclose(latent.flatten()[::2], torch.tensor(NUMBERS["latent"]), atol=1e-4)


@pytest.mark.parametrize(("name", "frames"), [("clip", 4), ("picture", 1)])
def test_decoding_agrees_with_the_release(vae: WaveletVAE, name: str, frames: int):
    clip = vae.decode(values((1, 8, frames, 4, 6), 1001))
    assert clip.shape == (1, 3, 4 * frames - 3, 32, 48) and clip.std() > 0.5
    assert torch.allclose(clip[:, :, :, ::5, ::7].flatten(), torch.tensor(NUMBERS[name]), atol=1e-4)


def test_the_released_size_has_as_many_parameters_as_its_file():
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in WaveletVAE().parameters()) == 147_347_660


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_pieces_of_a_clip_give_what_the_whole_clip_does(vae: WaveletVAE, frames: int):
    x, z = values((2, 3, 21, 16, 24), 1002), values((2, 8, 6, 2, 3), 1003)
    for layers, given, piece in ((vae.encoder, x, 4 * frames), (vae.decoder, z, frames)):
        assert torch.allclose(passed(layers, given, piece), passed(layers, given, 100), atol=1e-5)


def test_later_frames_change_no_earlier_latents(vae: WaveletVAE):
    x = values((1, 3, 13, 16, 16), 1004)
    changed = torch.cat([x[:, :, :9], values((1, 3, 4, 16, 16), 1005)], dim=2)
    before, after = vae.encode(x), vae.encode(changed)
    assert torch.equal(before[:, :, :3], after[:, :, :3]) and not torch.equal(before, after)


def test_tiles_in_space_are_near_the_whole(vae: WaveletVAE):
    z = values((1, 8, 3, 12, 10), 1006)
    whole, tiled = vae.decode(z), vae.decode(z, Tile(side=8, overlap=4, frames=2))
    assert tiled.shape == whole.shape and not torch.equal(tiled, whole)
    assert torch.allclose(tiled[..., :24, :24], whole[..., :24, :24], atol=0.5 * float(whole.std()))


def test_frames_beyond_a_whole_number_of_latents_are_left_out(vae: WaveletVAE):
    clip = values((1, 3, 7, 16, 16), 1007)
    assert torch.equal(vae.encode(clip), vae.encode(clip[:, :, :5]))


def test_wavelets_come_back():
    x = torch.randn(2, 3, 6, 4, 8)
    assert clip_bands(x).shape == (2, 24, 3, 2, 4) and picture_bands(x).shape == (2, 12, 6, 2, 4)
    assert torch.allclose(clip_of_bands(clip_bands(x)), x, rtol=3e-4, atol=1e-5)  # the release's scale is a rounded one
    assert torch.allclose(picture_of_bands(picture_bands(x)), x, atol=1e-5)


def test_the_order_of_bands():
    ramp = torch.arange(4.0)
    for dim, clip_band, picture_band in ((4, 1, 2), (3, 2, 1), (2, 4, None)):
        x = ramp.view([4 if each == dim else 1 for each in range(5)]).expand(1, 1, 4, 4, 4)
        there = clip_bands(x)[0, 1:].abs().amax(dim=(1, 2, 3)) > 0
        assert there.nonzero().flatten().tolist() == [clip_band - 1]
        found = (picture_bands(x)[0, 1:].abs().amax(dim=(1, 2, 3)) > 0).nonzero().flatten().tolist()
        assert found == ([] if picture_band is None else [picture_band - 1])
