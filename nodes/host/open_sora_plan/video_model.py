"""The video transformers as ComfyUI MODELs: the core's networks under the host's calling convention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.supported_models_base
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor

from ....tokencache_core.open_sora_plan.checkpoint import read_video_transformer, released_key
from ....tokencache_core.open_sora_plan.config import SkipSparseConfig, VideoConfig
from ....tokencache_core.open_sora_plan.model import VideoTransformer
from ....tokencache_core.open_sora_plan.skip_sparse import SkipSparseTransformer
from ....tokencache_core.open_sora_plan.vae.tiles import SPACE, TIME
from ..own_model import in_patcher

WEIGHT_DTYPES = {"default": None, "fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
EncodeWords = Callable[[Sequence[str]], tuple[Tensor, Tensor]]  # a `PromptTable.encode`


class VideoLatents(comfy.latent_formats.SD15):
    """Latents of the VAE of 1.0 to 1.2, which was made from Stable Diffusion's: the same preview fits."""

    latent_dimensions = 3
    temporal_downscale_ratio = TIME


class WaveletLatents(comfy.latent_formats.LatentFormat):
    """Latents of WF-VAE, of 1.3; there is no preview of them."""

    latent_channels = 8
    latent_dimensions = 3
    temporal_downscale_ratio = TIME
    scale_factor = 0.18215


class PixelClips(comfy.latent_formats.LatentFormat):
    """Clips of pictures in [-1, 1], as a model in pixel space samples them."""

    latent_channels = 3
    latent_dimensions = 3
    spacial_downscale_ratio = 1
    latent_rgb_factors = [[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]]
    latent_rgb_factors_bias = [0.5, 0.5, 0.5]


class _CalledByTheHost:
    """The host's calling convention for diffusion models, to be mixed in before one of the core's networks."""

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        control: dict | None = None,
        transformer_options: dict | None = None,
        **kwargs: Any,
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timesteps, context, control, options, **kwargs)

    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor,
        control: dict | None,
        transformer_options: dict,
        **kwargs: Any,
    ) -> Tensor:
        network: Any = super()
        return network.forward(x, timesteps, context, transformer_options)


class HostVideoTransformer(_CalledByTheHost, VideoTransformer):
    """The network of 1.1 and 1.0 as the host builds it."""

    def __init__(
        self, *, image_model: str, dtype: torch.dtype, device: torch.device, operations: Any, **config: Any
    ) -> None:
        super().__init__(
            VideoConfig(**config), operations=operations, attention=optimized_attention, dtype=dtype, device=device
        )


class HostSkipSparseTransformer(_CalledByTheHost, SkipSparseTransformer):
    """The network of 1.3 and 1.2 as the host builds it."""

    def __init__(
        self, *, image_model: str, dtype: torch.dtype, device: torch.device, operations: Any, **config: Any
    ) -> None:
        super().__init__(
            SkipSparseConfig(**config), operations=operations, attention=optimized_attention, dtype=dtype, device=device
        )


HostNetwork = HostVideoTransformer | HostSkipSparseTransformer


class VideoModelConfig(comfy.supported_models_base.BASE):
    unet_extra_config: dict = {}  # the base class's would inject num_heads = -1

    def __init__(self, config: VideoConfig | SkipSparseConfig) -> None:
        super().__init__({"image_model": "open_sora_plan", **asdict(config)})
        self.latent_format = _latent_format(config)
        # the host's name for betas that are linear in time; its "linear" is linear in their square roots
        self.sampling_settings = {"beta_schedule": "sqrt_linear", "linear_start": 1e-4, "linear_end": 0.02}
        kinds = comfy.model_base.ModelType
        self.predicts = kinds.V_PREDICTION if config.predicts_velocity else kinds.EPS
        if isinstance(config, VideoConfig):
            self.network_class = HostVideoTransformer
        else:
            self.network_class = HostSkipSparseTransformer
            self.sampling_settings["zsnr"] = config.predicts_velocity
        # The host expects 10,486 numbers per place of the latent times this; a block holds about 16 * width per patch.
        self.memory_usage_factor = 16 * config.width / config.patch_size**2 / 10_486

    def get_model(self, state_dict: dict[str, Tensor], prefix: str = "", device: Any = None) -> VideoModel:
        return VideoModel(self, None, device)

    def process_unet_state_dict_for_saving(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state dict to save, under the release's names."""
        return super().process_unet_state_dict_for_saving(
            {released_key(key): tensor for key, tensor in state_dict.items()}
        )


def _latent_format(config: VideoConfig | SkipSparseConfig) -> comfy.latent_formats.LatentFormat:
    if isinstance(config, VideoConfig) and config.is_pixels:
        return PixelClips()
    return WaveletLatents() if config.in_channels == WaveletLatents.latent_channels else VideoLatents()


class VideoModel(comfy.model_base.BaseModel):
    """The video transformer as the host samples with it. encode_words: None if it needs a text encoder."""

    diffusion_model: HostNetwork

    def __init__(self, model_config: VideoModelConfig, encode_words: EncodeWords | None, device: torch.device) -> None:
        super().__init__(
            model_config,
            model_config.predicts,
            device=device,
            unet_model=model_config.network_class,  # pyright: ignore[reportArgumentType] - any module class is accepted
        )
        self.encode_words = encode_words

    def extra_conds(self, **kwargs: Any) -> dict:
        config, noise, text = self.diffusion_model.config, kwargs["noise"], kwargs.get("cross_attn")
        if noise.ndim != 5 or noise.shape[1] != config.in_channels:
            raise ValueError(
                f"this model samples clips of shape (batch, {config.in_channels}, frames, height, width), but was "
                f"given a latent of shape {tuple(noise.shape)}: use Empty Open-Sora-Plan Latent"
            )
        self.diffusion_model.check_size(*noise.shape[-2:])
        if text is None or text.shape[-1] != config.caption_channels:
            given = "none" if text is None else f"some of width {text.shape[-1]}"
            raise ValueError(
                f"this model wants text of width {config.caption_channels} and was given {given}: use Open-Sora-Plan "
                "Prompt, which says what to connect"
            )
        return super().extra_conds(**kwargs)


def load_video_model(
    path: str, version: str, weight_dtype: str = "default", disable_dynamic: bool = False
) -> ModelPatcher:
    """The transformer of a file as a MODEL.

    path, version: as for `read_video_transformer`.
    weight_dtype: one of WEIGHT_DTYPES; the default is what the host picks for the device.
    """
    state_dict, config, table = read_video_transformer(path, version)
    model_config = VideoModelConfig(config)
    patcher = in_patcher(
        state_dict,
        model_config,
        lambda device: VideoModel(model_config, None if table is None else table.encode, device),
        dtype=WEIGHT_DTYPES[weight_dtype],
        disable_dynamic=disable_dynamic,
    )
    patcher.cached_patcher_init = (load_video_model, (path, version, weight_dtype))
    return patcher


def empty_latent(model: ModelPatcher, width: int, height: int, frames: int, batch: int) -> dict:
    """An empty LATENT for clips of this size in pixels. Frames beyond a whole number of latent frames are dropped."""
    config, device = video_network(model).config, comfy.model_management.intermediate_device()
    space, time = (1, 1) if isinstance(config, VideoConfig) and config.is_pixels else (SPACE, TIME)
    unit = space * config.patch_size
    if width % unit or height % unit:
        raise ValueError(f"width and height must be multiples of {unit} for this model, not {width} x {height}")
    shape = (batch, config.in_channels, (frames - 1) // time + 1, height // space, width // space)
    return {"samples": torch.zeros(shape, device=device)}


def video_network(model: ModelPatcher) -> HostNetwork:
    """The network of a MODEL loaded as Open-Sora-Plan; ValueError for another one."""
    network = model.model.diffusion_model
    if not isinstance(network, HostVideoTransformer | HostSkipSparseTransformer):
        raise ValueError(
            f"this needs an Open-Sora-Plan model, but the MODEL is a {type(model.model).__name__}: connect the output "
            "of Load Open-Sora-Plan"
        )
    return network
