"""Tiny models with random weights of the networks of which only the output is forecast, one or more of each class.

TINY_OUTPUTS: by name, a function that makes the `TinyModel`.
WHY_OUTPUT: by the class of the network, why none of its tokens are computed alone.
NOT_SAMPLED: by the class of the network, what it is instead of a diffusion model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.supported_models
import torch
from tiny_families.tiny_model import NotInThisHost, TinyModel, from_config, from_state_dict, host_config, text
from torch import Tensor

_UNET = dict(
    image_size=32,
    in_channels=4,
    out_channels=4,
    model_channels=32,
    num_res_blocks=[1, 1],
    channel_mult=[1, 2],
    transformer_depth=[1, 1],
    transformer_depth_middle=1,
    transformer_depth_output=[1, 1, 1, 1],
    context_dim=24,
    use_spatial_transformer=True,
    legacy=False,
)


def _random(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _unet(config: Any) -> Any:
    """A MODEL that predicts noise about as strong as what it is given: its norms let everything through."""
    model = from_config(config, std=0.05)
    for module in model.model.diffusion_model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.weight.data += 1
    return model


def sd15() -> TinyModel:
    model = _unet(comfy.supported_models.SD15({**_UNET, "adm_in_channels": None}))
    return TinyModel("SD 1.5", model, text(24, 1), text(24, 2), (4, 16, 12))


def sdxl() -> TinyModel:
    shape = {
        **_UNET,
        "use_linear_in_transformer": True,
        "adm_in_channels": 2816,
        "num_classes": "sequential",
        "transformer_depth": [0, 2],
        "transformer_depth_middle": 2,
        "transformer_depth_output": [0, 0, 2, 2],
    }
    model = _unet(comfy.supported_models.SDXL(shape))
    return TinyModel("SDXL", model, text(24, 1, pooled=1280), text(24, 2, pooled=1280), (4, 16, 12))


def cascade_c() -> TinyModel:
    shape = dict(
        stable_cascade_stage="c",
        c_cond=32,
        c_hidden=[32, 32],
        nhead=[2, 2],
        blocks=[[1, 1], [1, 1]],
        c_clip_text=24,
        c_clip_text_pooled=32,
    )
    model = from_config(comfy.supported_models.Stable_Cascade_C(shape), std=0.1)
    return TinyModel("Stable Cascade C", model, text(24, 1), text(24, 2), (16, 8, 12))


def cascade_b() -> TinyModel:
    shape = dict(
        stable_cascade_stage="b",
        c_cond=32,
        c_hidden=[16, 32],
        nhead=[-1, 2],
        blocks=[[1, 1], [1, 1]],
        block_repeat=[[1, 1], [1, 1]],
        level_config=["CT", "CTA"],
        c_clip=32,
    )
    model = from_config(comfy.supported_models.Stable_Cascade_B(shape), std=0.1)
    return TinyModel("Stable Cascade B", model, text(24, 1), text(24, 2), (4, 16, 24))


def ace_step() -> TinyModel:
    shape = dict(
        audio_model="ace",
        attention_head_dim=16,
        num_attention_heads=4,
        num_layers=2,
        mlp_ratio=2.0,
        max_position=64,
        max_width=64,
        text_embedding_dim=24,
        ssl_latent_dims=[8, 8],
        lyric_encoder_vocab_size=10,
    )
    model = from_config(comfy.supported_models.ACEStep(shape), std=0.05)
    lyrics = {"conditioning_lyrics": torch.tensor([[3, 1, 4, 1]])}
    return TinyModel("ACE-Step", model, text(24, 1, **lyrics), text(24, 2, **lyrics), (8, 16, 19))


def ace_step_15() -> TinyModel:
    shape = dict(
        audio_model="ace1.5",
        hidden_size=64,
        text_hidden_dim=24,
        num_dit_layers=2,
        num_lyric_layers=1,
        num_timbre_layers=1,
        num_tokenizer_layers=1,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        intermediate_size=96,
        encoder_hidden_size=64,
        encoder_intermediate_size=96,
        encoder_num_heads=4,
        fsq_dim=64,
    )
    try:
        model = from_config(host_config("ACEStep15")(shape), std=0.1)
    except TypeError:  # an older host, whose encoder is as wide as the rest
        raise NotInThisHost("ACE-Step 1.5") from None
    lyrics = {"conditioning_lyrics": _random(1, 5, 24), "reference_audio_timbre_latents": [_random(1, 64, 20)]}
    return TinyModel("ACE-Step 1.5", model, text(24, 1, **lyrics), text(24, 2, **lyrics), (64, 20))


def ltxav() -> TinyModel:
    """A nested latent: a video and its sound."""
    shape = dict(
        image_model="ltxav",
        in_channels=128,
        audio_in_channels=128,
        cross_attention_dim=64,
        audio_cross_attention_dim=32,
        attention_head_dim=16,
        audio_attention_head_dim=8,
        num_attention_heads=4,
        audio_num_attention_heads=4,
        num_layers=2,
        caption_channels=32,
        connector_attention_head_dim=16,
        connector_num_attention_heads=2,
    )
    model = from_config(host_config("LTXAV")(shape), std=0.1)
    return TinyModel("LTXAV", model, text(32, 1), text(32, 2), (128, 3, 5, 4), others=((8, 7, 16),))


def cosmos_1() -> TinyModel:
    shape = dict(
        image_model="cosmos",
        max_img_h=240,
        max_img_w=240,
        max_frames=128,
        in_channels=16,
        out_channels=16,
        patch_spatial=2,
        patch_temporal=1,
        model_channels=96,
        num_blocks=2,
        num_heads=2,
        block_x_format="THWBD",
        crossattn_emb_channels=24,
        pos_emb_cls="rope3d",
        affline_emb_norm=True,
        use_adaln_lora=True,
        adaln_lora_dim=16,
        extra_per_block_abs_pos_emb=True,
        extra_per_block_abs_pos_emb_type="learnable",
    )
    model = from_config(host_config("CosmosT2V")(shape), std=0.1)
    return TinyModel("Cosmos 1", model, text(24, 1), text(24, 2), (16, 3, 8, 6))


def humo() -> TinyModel:
    from comfy.ldm.wan.model import HumoWanModel

    model = from_state_dict(HumoWanModel, std=0.06, dim=256, ffn_dim=512, num_heads=2, num_layers=2)
    extra = {"audio_embed": _random(1, 3, 8, 5, 1280), "reference_latents": [_random(1, 16, 1, 8, 8)]}
    positive, negative = (text(4096, seed, **extra) for seed in (1, 2))
    return TinyModel("HuMo", model, positive, negative, (16, 3, 8, 8), detected=True)


def causal_wan() -> TinyModel:
    """Whole videos, as KSampler samples them; its own sampler does so frame by frame."""
    config = host_config("WAN21_CausalAR_T2V")
    shape = dict(image_model="wan2.1", model_type="t2v", dim=256, ffn_dim=512, num_heads=2, num_layers=2)
    model = from_config(config({**shape, "causal_ar": True}), std=0.06)
    return TinyModel("Wan, causal", model, text(4096, 1), text(4096, 2), (16, 3, 8, 8))


def hunyuan3d_21() -> TinyModel:
    shape = dict(
        image_model="hunyuan3d2_1",
        in_channels=64,
        hidden_size=64,
        context_dim=24,
        depth=3,
        num_heads=4,
        num_moe_layers=1,
        num_experts=3,
        guidance_cond_proj_dim=64,
    )
    model = from_config(host_config("Hunyuan3Dv2_1")(shape), std=0.1)
    return TinyModel("Hunyuan3D 2.1", model, text(24, 1), text(24, 2), (64, 61))


def triposplat() -> TinyModel:
    """A nested latent: tokens and a camera."""
    shape = dict(
        image_model="triposplat",
        q_token_length=64,
        model_channels=64,
        cond_channels=24,
        num_blocks=2,
        num_refiner_blocks=1,
        num_head_channels=16,
    )
    model = from_config(host_config("TripoSplat")(shape), std=0.1)
    return TinyModel("TripoSplat", model, text(24, 1), text(24, 2), (64, 16), others=((1, 5),))


def minimax_h3() -> TinyModel:
    """A nested latent: a video and its sound."""
    shape = dict(
        image_model="minimax_h3",
        hidden_size=64,
        num_layers=2,
        token_refiner_num_layers=1,
        num_attention_heads=2,
        attention_head_dim=128,
        ffn_hidden_size=96,
        text_dim=24,
        timestep_input_dim=32,
        time_embed_hidden_size=64,
        time_embed_dim=32,
    )
    model = from_config(host_config("MiniMaxH3")(shape), std=0.1)
    for buffer in model.model.diffusion_model.buffers():  # the host leaves them as memory was: files have them
        buffer.copy_(torch.linspace(1.0, 0.1, buffer.numel()).reshape(buffer.shape))
    return TinyModel("MiniMax H3", model, text(24, 1), text(24, 2), (24, 3, 6, 4), others=((32, 2, 9),))


def hidream_o1() -> TinyModel:
    config = dict(
        vocab_size=200,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        rope_dims=[4, 2, 2],
    )
    vision = dict(hidden_size=32, num_heads=2, intermediate_size=48, depth=1, num_position_embeddings=16)
    shape = dict(image_model="hidream_o1", text_config_overrides=config, vision_config_overrides=vision)
    model = from_config(host_config("HiDreamO1")(shape), std=0.1)
    positive, negative = (text(24, seed, text_input_ids=torch.arange(5)[None] + seed) for seed in (1, 2))
    return TinyModel("HiDream-O1", model, positive, negative, (3, 96, 64))


_PIXELDIT = dict(
    hidden_size=64,
    num_groups=4,
    pixel_attn_hidden_size=32,
    pixel_num_groups=2,
    patch_depth=2,
    pixel_depth=1,
    txt_embed_dim=24,
)


def pixeldit() -> TinyModel:
    model = from_config(host_config("PixelDiTT2I")({**_PIXELDIT, "image_model": "pixeldit_t2i"}), std=0.1)
    return TinyModel("PixelDiT", model, text(24, 1), text(24, 2), (3, 48, 32))


def pid() -> TinyModel:
    """It draws a larger picture after a given small one."""
    shape = {**_PIXELDIT, "image_model": "pid", "lq_hidden_dim": 16, "lq_num_res_blocks": 1}
    model = from_config(host_config("PiD")(shape), std=0.1)
    extra = {"lq_latent": _random(1, 16, 2, 2), "degrade_sigma": torch.tensor([0.1])}
    return TinyModel("PiD", model, text(24, 1, **extra), text(24, 2, **extra), (3, 64, 64))


def ernie() -> TinyModel:
    shape = dict(
        image_model="ernie",
        hidden_size=64,
        num_attention_heads=4,
        num_layers=2,
        ffn_hidden_size=96,
        text_in_dim=24,
        rope_axes_dim=(4, 6, 6),
    )
    model = from_config(host_config("ErnieImage")(shape), std=0.1)
    return TinyModel("Ernie-Image", model, text(24, 1), text(24, 2), (128, 9, 7))


def seedvr2() -> TinyModel:
    shape = dict(
        image_model="seedvr2",
        norm_eps=1e-5,
        num_layers=2,
        mlp_type="swiglu",
        vid_dim=64,
        heads=2,
        head_dim=128,
        mm_layers=1,
    )
    model = from_config(host_config("SeedVR2")(shape), std=0.05)
    extra = {"condition": _random(1, 17, 2, 8, 6)}
    return TinyModel("SeedVR2", model, text(5120, 1, **extra), text(5120, 2, **extra), (16, 2, 8, 6))


TINY_OUTPUTS: dict[str, Callable[[], TinyModel]] = {
    "SD 1.5": sd15,
    "SDXL": sdxl,
    "Stable Cascade C": cascade_c,
    "Stable Cascade B": cascade_b,
    "ACE-Step": ace_step,
    "ACE-Step 1.5": ace_step_15,
    "LTXAV": ltxav,
    "Cosmos 1": cosmos_1,
    "HuMo": humo,
    "Wan, causal": causal_wan,
    "Hunyuan3D 2.1": hunyuan3d_21,
    "TripoSplat": triposplat,
    "MiniMax H3": minimax_h3,
    "HiDream-O1": hidream_o1,
    "PixelDiT": pixeldit,
    "PiD": pid,
    "Ernie-Image": ernie,
    "SeedVR2": seedvr2,
}

WHY_OUTPUT = {
    "UNetModel": "a U-Net: convolutions, skips, and sizes that change from block to block",
    "StageC": "a U-Net: convolutions and skips",
    "StageB": "a U-Net: convolutions and skips",
    "ACEStepTransformer2DModel": "its blocks convolve over neighbouring tokens",
    "AceStepConditionGenerationModel": "every second block attends within a window of tokens",
    "LTXAVModel": "its blocks carry two streams, video and sound, that attend to each other",
    "GeneralDIT": "its tokens lie in a grid with the batch in the middle, and positions are added in every block",
    "HumoWanModel": "its blocks gather each frame's tokens to attend to that frame's sound",
    "CausalWanModel": "its blocks keep keys and values from frame to frame; under its own sampler all is computed",
    "HunYuanDiTPlain": "the time is one of its tokens, and long skips join its blocks",
    "LatentSeqMMFlowModel": "positions are predicted from the tokens before every block",
    "MiniMaxH3Model": "text, video and sound lie in one stream without a batch, modulated in segments",
    "HiDreamO1Transformer": "a language model that keeps keys and values of its prompt between steps",
    "PixDiT_T2I": "blocks of patches, then blocks of pixels, which attend to pooled tokens",
    "PidNet": "blocks of patches, then blocks of pixels, which attend to pooled tokens",
    "ErnieImageModel": "its blocks are not told which tokens are text",
    "NaDiT": "its blocks attend within windows of the video",
}

NOT_SAMPLED = {"RTv4": "finds objects", "DepthAnything3Net": "estimates depth", "SAM3Model": "marks objects"}
