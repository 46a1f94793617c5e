"""Cosmos Predict2 for images and for video, and Anima."""

from __future__ import annotations

import torch
from comfy.ldm.anima.model import Anima
from comfy.ldm.cosmos.predict2 import MiniTrainDIT

from .tiny_model import TinyModel, from_state_dict, text

# num_blocks, num_heads: what the host takes a model of unknown width to have.
_SHAPE = dict(
    max_img_h=240,
    max_img_w=240,
    max_frames=128,
    out_channels=16,
    patch_spatial=2,
    patch_temporal=1,
    model_channels=192,
    num_blocks=10,
    num_heads=16,
    crossattn_emb_channels=1024,
    pos_emb_cls="rope3d",
    use_adaln_lora=True,
    adaln_lora_dim=256,
)


def _cosmos(
    name: str,
    network: type[MiniTrainDIT],
    latent: tuple[int, ...],
    in_channels: int = 16,
    noise_mask: torch.Tensor | None = None,
) -> TinyModel:
    model = from_state_dict(network, std=0.06, in_channels=in_channels, **_SHAPE)
    return TinyModel(name, model, text(1024, 1), text(1024, 2), latent, detected=True, noise_mask=noise_mask)


def text_to_image() -> TinyModel:
    return _cosmos("Cosmos Predict2 T2I", MiniTrainDIT, (16, 1, 12, 10))


def video_to_world() -> TinyModel:
    """The noise mask gives each frame its time: the first is the given image."""
    mask = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 3, 1, 1)
    return _cosmos("Cosmos Predict2 I2V", MiniTrainDIT, (16, 3, 8, 6), in_channels=17, noise_mask=mask)


def anima() -> TinyModel:
    return _cosmos("Anima", Anima, (16, 1, 12, 10))


TINY = {"Cosmos Predict2 T2I": text_to_image, "Cosmos Predict2 I2V": video_to_world, "Anima": anima}
