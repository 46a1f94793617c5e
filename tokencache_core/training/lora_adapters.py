"""Trainable LoRA adapters (peft's) on the last blocks, switched on for one pass at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from ..predictor.lora import LoraRepair, repair_from_peft
from .activation_checkpointing import checkpointed


class Adapters:
    """peft's LoRA layers, which replace all linear layers of some blocks until `remove`.

    They start without effect (`up` is zero) and do nothing outside `on`.

    blocks: the blocks to adapt, by index.
    rank, alpha: of all pairs.
    seed: of the initial weights.
    checkpointing: whether the blocks are checkpointed while the adapters are on.
    """

    def __init__(
        self, blocks: Mapping[int, nn.Module], rank: int, alpha: float, seed: int, checkpointing: bool = False
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model  # takes seconds to import, and only training needs it

        self.blocks, self.checkpointing = dict(blocks), checkpointing
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for index, block in self.blocks.items():
                linear = [path for path, layer in block.named_modules() if isinstance(layer, nn.Linear)]
                if not linear:
                    raise ValueError(
                        f"block {index}, a {type(block).__name__}, has no plain linear layers to put LoRA on, because "
                        "the model's weights are quantised: set last_blocks to 0, or load the model in another "
                        "weight_dtype"
                    )
                config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear)  # pyright: ignore[reportArgumentType]
                inject_adapter_in_model(config, block)
        self.layers: list[Any] = [  # of peft's LoraLayer
            layer for block in self.blocks.values() for layer in block.modules() if hasattr(layer, "lora_A")
        ]
        for layer in self.layers:  # peft uses the dtype of the layer's own weights, which may be too coarse to learn in
            layer.lora_A.float()
            layer.lora_B.float()
        self.parameters: list[nn.Parameter] = [
            weight for layer in self.layers for part in (layer.lora_A, layer.lora_B) for weight in part.parameters()
        ]
        self._switch(False)

    @contextmanager
    def on(self) -> Iterator[None]:
        """While open, the blocks run with their adapters, which take gradients."""
        with self._switched_on():
            with checkpointed(self.blocks.values(), self._switched_on) if self.checkpointing else nullcontext():
                yield

    def repair(self) -> LoraRepair:
        """A repair for inference, from a copy of the weights."""
        return repair_from_peft(self.blocks)

    def remove(self) -> None:
        """Put the plain linear layers back."""
        for block in self.blocks.values():
            for path, layer in list(block.named_modules()):
                if hasattr(layer, "lora_A"):
                    plain = layer.base_layer
                    assert isinstance(plain, nn.Module)
                    block.set_submodule(path, plain)
            block.__dict__.pop("peft_config", None)

    @contextmanager
    def _switched_on(self) -> Iterator[None]:
        self._switch(True)
        try:
            yield
        finally:
            self._switch(False)

    def _switch(self, on: bool) -> None:
        for layer in self.layers:
            layer.enable_adapters(on)
        for weight in self.parameters:  # peft freezes them when it switches off, which is before the backward pass
            weight.requires_grad_(True)
