"""Files of the VAEs as they were released or trained, and those that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from released_weights import of_another, saved

from tokencache_core.open_sora_plan.released_files import VideoFileError
from tokencache_core.open_sora_plan.vae.causal_vae import VAEConfig, VideoVAE
from tokencache_core.open_sora_plan.vae.file import read_video_vae
from tokencache_core.open_sora_plan.vae.wavelet_vae import WaveletVAE, WaveletVAEConfig

VAE = VAEConfig(width=32, multipliers=(1, 1, 2, 2))


def test_a_vaes_sizes_come_from_its_file_and_what_training_needed_is_dropped(tmp_path: Path):
    weights = VideoVAE(VAE).state_dict()
    read, config = read_video_vae(saved(tmp_path, weights | {"loss.logvar": torch.zeros(1)}))
    assert config == VAE and set(read) == set(weights)


def test_a_vae_of_1_2_in_its_checkpoint(tmp_path: Path):
    shape = replace(VAE, at_once=True)
    torch.save({"ema_state_dict": {}, "state_dict": VideoVAE(shape).state_dict()}, tmp_path / "checkpoint.ckpt")
    assert read_video_vae(tmp_path)[1] == shape


OTHER_VAES = {
    "hpcaitech": of_another(spatial_vae__module__encoder__conv_in__weight=(2, 3, 3, 3)),
    "the WF-VAE of Open-Sora-Plan 1.5": of_another(
        encoder__down1__0__weight=(2, 24, 3, 3), encoder__connect_l1__weight=(2, 24, 3, 3)
    ),
    "the VAE of Open-Sora-Plan 1.0, or of HunyuanVideo": of_another(encoder__conv_in__conv__weight=(2, 3, 3, 3, 3)),
    "Load Open-Sora-Plan": of_another(transformer_blocks__0__attn1__to_q__weight=(2, 2)),
}


@pytest.mark.parametrize("name", OTHER_VAES)
def test_another_vae_is_refused_with_both_names(tmp_path: Path, name: str):
    with pytest.raises(VideoFileError, match="reads the VAEs of Open-Sora-Plan 1.1, 1.2 and 1.3") as error:
        read_video_vae(saved(tmp_path, OTHER_VAES[name]))
    assert name in str(error.value)


def test_a_vae_that_is_not_whole(tmp_path: Path):
    weights = VideoVAE(VAE).state_dict()
    del weights["decoder.conv_out.conv.weight"]
    with pytest.raises(VideoFileError, match="not the whole of a VAE"):
        read_video_vae(saved(tmp_path, weights))


WAVELET = WaveletVAEConfig(width=16, latent_channels=8, resnets=1, encoder_flow=4, decoder_flow=8, flow_resnets=1)


def checkpoint(folder: Path, content: object) -> Path:
    torch.save(content, folder / "merged.ckpt")
    return folder / "merged.ckpt"


def test_a_wavelet_vae_in_a_checkpoint_of_training(tmp_path: Path):
    """The average where there is one, the last step elsewhere, and neither constants nor the discriminator."""
    last = WaveletVAE(WAVELET).state_dict()
    average = {key: tensor + 1 for key, tensor in last.items() if key.startswith("decoder.")}
    constants = {"decoder.inverse_wavelet_transform_out.h": torch.zeros(1, 1, 2, 2, 2)}
    file = checkpoint(
        tmp_path,
        {
            "ema_state_dict": {f"module.{key}": tensor for key, tensor in (average | constants).items()},
            "state_dict": {"gen_model": last, "dics_model": {"layer.weight": torch.zeros(1)}},
            "epoch": 3,
        },
    )
    for path in (file, tmp_path):
        read, config = read_video_vae(path)
        assert config == WAVELET and set(read) == set(last)
        assert torch.equal(read["decoder.conv_out.weight"], average["decoder.conv_out.weight"])
        assert torch.equal(read["encoder.connect_l1.weight"], last["encoder.connect_l1.weight"])
    assert read_video_vae(saved(tmp_path, last))[1] == WAVELET


def vae_refusal(path: Path) -> str:
    with pytest.raises(VideoFileError) as error:
        read_video_vae(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_checkpoints_that_cannot_be_read(tmp_path: Path):
    file = checkpoint(tmp_path, {"state_dict": WaveletVAE(WAVELET).state_dict()})
    file.write_bytes(file.read_bytes()[:-2000])
    assert "merged.ckpt is damaged or holds more than weights" in vae_refusal(file)
    assert "merged.ckpt is damaged or holds more than weights" in vae_refusal(checkpoint(tmp_path, {"a": Path("b")}))
    assert "merged.ckpt holds no weights by name" in vae_refusal(checkpoint(tmp_path, [torch.zeros(1)]))


def test_a_wavelet_vae_that_is_not_whole(tmp_path: Path):
    weights = WaveletVAE(WAVELET).state_dict()
    part = {key: tensor for key, tensor in weights.items() if not key.startswith("decoder.up1")}
    assert "it is not the whole of a VAE of Open-Sora-Plan 1.3: " in vae_refusal(saved(tmp_path, part))
    message = vae_refusal(saved(tmp_path, weights, {"t_interpolation": "nearest"}))
    assert "only WF-VAEs with 'trilinear'" in message
