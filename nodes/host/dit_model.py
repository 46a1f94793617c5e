"""A DiT as a ComfyUI MODEL: the core's network under the host's calling convention, loaded into a ModelPatcher."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_patcher
import comfy.supported_models_base
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor, nn

from ...tokencache_core.dit.checkpoint import has_sincos_grid, read_dit
from ...tokencache_core.dit.class_labels import class_names, parse_labels
from ...tokencache_core.dit.model import DiT, DiTConfig
from .own_model import in_patcher

LATENT_SOURCES = {
    3: "Empty Chroma Radiance Latent Image, or VAE Encode with the pixel_space VAE",
    4: "Empty Latent Image, or VAE Encode with a Stable Diffusion 1.x VAE",
}


class HostDiT(DiT):
    """The core's DiT as the host builds and calls a diffusion model."""

    def __init__(
        self,
        *,
        image_model: str,
        use_sincos_grid: bool,
        dtype: torch.dtype,
        device: torch.device,
        operations: Any,
        **config: Any,
    ) -> None:
        super().__init__(
            DiTConfig(**config), operations=operations, attention=optimized_attention, dtype=dtype, device=device
        )
        self.use_sincos_grid = use_sincos_grid
        self.in_channels = self.config.in_channels  # nodes of the host read it, such as RenormCFG

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        control: dict | None = None,
        transformer_options: dict | None = None,
        **kwargs: Any,
    ) -> Tensor:
        options = {} if transformer_options is None else transformer_options
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timesteps, context, y, control, options, **kwargs)

    def _forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | None,
        y: Tensor,
        control: dict | None,
        transformer_options: dict,
        **kwargs: Any,
    ) -> Tensor:
        return super().forward(x, timesteps, y, transformer_options)

    def run_block(self, index: int, block: nn.Module, tokens: Tensor, c: Tensor, options: dict) -> Tensor:
        """A block, or what another node put in its place under `patches_replace["dit"]`."""
        options["block_index"], options["block_type"] = index, "double"
        replacements = options.get("patches_replace", {}).get("dit")
        # without replacements no key is made: torch.compile would specialise on the index
        replacement = replacements.get(("double_block", index)) if replacements else None
        if replacement is None:
            return super().run_block(index, block, tokens, c, options)

        def original_block(args: dict) -> dict:
            return {"img": block(args["img"], args["vec"], transformer_options=args["transformer_options"])}

        args = {"img": tokens, "vec": c, "transformer_options": options}
        return replacement(args, {"original_block": original_block})["img"]


class DiTModelConfig(comfy.supported_models_base.BASE):
    unet_extra_config: dict = {}  # the base class's would inject num_heads = -1
    # the host's name for betas that are linear in time; its "linear" is linear in their square roots
    sampling_settings = {"beta_schedule": "sqrt_linear", "linear_start": 1e-4, "linear_end": 0.02}

    def __init__(self, config: DiTConfig, use_sincos_grid: bool) -> None:
        super().__init__({"image_model": "dit", "use_sincos_grid": use_sincos_grid, **asdict(config)})
        self.latent_format = latent_format(config.in_channels)
        # The host expects 10,486 numbers per input pixel times this; a DiT holds about 16 * width per patch.
        self.memory_usage_factor = 16 * config.width / config.patch_size**2 / 10_486


class DiTModel(comfy.model_base.BaseModel):
    """A DiT as the host samples with it. class_names: by class index; None if the file has none."""

    diffusion_model: HostDiT

    def __init__(self, model_config: DiTModelConfig, class_names: tuple[str, ...] | None, device: torch.device) -> None:
        super().__init__(
            model_config,
            comfy.model_base.ModelType.EPS,
            device=device,
            unet_model=HostDiT,  # pyright: ignore[reportArgumentType] - any module class is accepted
        )
        self.class_names = class_names

    def extra_conds(self, **kwargs: Any) -> dict:
        """The network's `y`: labels of a conditioning entry, which cycle over the batch."""
        config = self.diffusion_model.config
        self._check_latent(kwargs["noise"])
        labels = kwargs.get("class_labels")
        if labels is None:
            raise ValueError("this DiT is guided by classes, not by text: connect DiT Class Label as its conditioning")
        if kwargs["num_classes"] != config.num_classes:
            raise ValueError(
                f"this DiT has {config.num_classes} classes, but its label was made for one with "
                f"{kwargs['num_classes']}: connect the same MODEL to DiT Class Label and to the sampler"
            )
        if not kwargs["cross_attn"].any():  # after Conditioning Zero Out
            labels = [config.num_classes]
        return {"y": comfy.conds.CONDRegular(torch.tensor(labels, device=kwargs["device"]))}

    def _check_latent(self, noise: Tensor) -> None:
        config = self.diffusion_model.config
        if noise.ndim != 4 or noise.shape[1] != config.in_channels:
            source = LATENT_SOURCES.get(config.in_channels, f"a latent with {config.in_channels} channels")
            raise ValueError(
                f"this DiT samples latents of shape (batch, {config.in_channels}, height, width), "
                f"but was given one of shape {tuple(noise.shape)}: use {source}"
            )
        self.diffusion_model.check_size(*noise.shape[-2:])


def latent_format(channels: int) -> comfy.latent_formats.LatentFormat:
    """Pictures in [-1, 1] for 3 channels, Stable Diffusion 1.x latents for 4, unscaled latents for other numbers."""
    if channels == 3:
        return comfy.latent_formats.ChromaRadiance()
    if channels == 4:
        return comfy.latent_formats.SD15()
    plain = comfy.latent_formats.LatentFormat()
    plain.latent_channels = channels
    return plain


def load_dit_model(
    path: str, dtype: torch.dtype | None = None, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """The DiT of a file as a MODEL, its weights in `dtype`; None: in the dtype that the host picks for the device."""
    state_dict, config, metadata = read_dit(path)
    model_config = DiTModelConfig(config, has_sincos_grid(state_dict, config))
    patcher = in_patcher(
        state_dict,
        model_config,
        lambda device: DiTModel(model_config, class_names(metadata, config.num_classes), device),
        dtype=dtype,
        disable_dynamic=disable_dynamic,
    )
    patcher.cached_patcher_init = (load_dit_model, (path, patcher.model.get_dtype()))
    return patcher


def class_label_conditioning(model: comfy.model_patcher.ModelPatcher, text: str) -> list:
    """CONDITIONING for the class labels in `text` (see `parse_labels`) of a MODEL loaded as a DiT."""
    if not isinstance(model.model, DiTModel):
        raise ValueError(
            f"DiT Class Label needs a class-conditional DiT, but this MODEL is a {type(model.model).__name__}: "
            "connect the MODEL output of Load DiT"
        )
    num_classes = model.model.diffusion_model.config.num_classes
    labels = parse_labels(text, num_classes, model.model.class_names)
    # The host needs a tensor in front; this one only says that there is a class (see extra_conds).
    return [[torch.ones(1, 1, 1), {"class_labels": labels, "num_classes": num_classes}]]
