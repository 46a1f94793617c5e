"""The LoRA repair: low-rank adapters on the last blocks that correct the errors of reuse on P-steps.

LoRA (arXiv 2106.09685): a linear layer's output W x becomes W x + (alpha / rank) up down x. TokenCache (arXiv
2409.18523, section 3) trains such adapters on the last K blocks, which are computed in full on P-steps but on features
that are partly reused. I-steps are not affected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


@dataclass(frozen=True, eq=False)
class LoraPair:
    """One linear layer's low-rank addition.

    down: (rank, in_features).
    up: (out_features, rank).
    """

    down: Tensor
    up: Tensor

    def __str__(self) -> str:
        return f"down {tuple(self.down.shape)}, up {tuple(self.up.shape)}"


@dataclass(frozen=True, eq=False)
class LoraRepair:
    """Adapters of one model, by block index (from the model's first block) and layer path in the block ("mlp.fc1").

    The pairs are finished weights: training keeps weights of its own and makes a repair from them
    (`repair_from_peft`).
    """

    blocks: Mapping[int, Mapping[str, LoraPair]]
    rank: int
    alpha: float
    _placed: dict[tuple, LoraPair] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.rank < 1 or not math.isfinite(self.alpha):
            raise ValueError(
                f"a LoRA repair needs a rank of at least 1 and a finite alpha, not rank {self.rank}, alpha {self.alpha}"
            )
        for block_index, pairs in self.blocks.items():
            for path, pair in pairs.items():
                down, up = pair.down, pair.up
                if down.ndim != 2 or up.ndim != 2 or down.shape[0] != self.rank or up.shape[1] != self.rank:
                    raise ValueError(
                        f"the LoRA pair of block {block_index}, {path}, has {pair}; rank {self.rank} needs down "
                        f"({self.rank}, in) and up (out, {self.rank})"
                    )

    def check(self, blocks: Sequence[nn.Module]) -> None:
        """ValueError unless every pair fits the linear layer that it names. blocks: all of the model's, in order."""
        self.check_last(len(blocks), len(blocks))
        for block_index, pairs in self.blocks.items():
            for path, pair in pairs.items():
                layer = _layer(blocks[block_index], block_index, path)
                has = getattr(layer, "in_features", None), getattr(layer, "out_features", None)
                needs = pair.down.shape[1], pair.up.shape[0]
                if has != needs:
                    what = type(layer).__name__ if None in has else f"one from {has[0]} to {has[1]} features"
                    raise ValueError(
                        f"the LoRA repair adapts block {block_index}, {path}, as a linear layer from {needs[0]} to "
                        f"{needs[1]} features, but it is {what}; {_RETRAIN}"
                    )

    def check_last(self, n_blocks: int, last_blocks: int) -> None:
        """ValueError unless all adapted blocks are among the last K, the only ones computed in full on P-steps."""
        for index in sorted(self.blocks):
            if not 0 <= index < n_blocks:
                raise ValueError(
                    f"the LoRA repair adapts block {index}, but the model has {n_blocks} blocks; {_RETRAIN}"
                )
            if index < n_blocks - last_blocks:
                raise ValueError(
                    f"the LoRA repair adapts block {index} of {n_blocks}, but with last_blocks {last_blocks} only the "
                    f"last {last_blocks} run in full on P-steps: set last_blocks to {n_blocks - index}, as in the "
                    "repair's training"
                )

    @contextmanager
    def added_to(self, block_index: int, module: nn.Module) -> Iterator[None]:
        """While open, the adapted linear layers of `module` (block `block_index`) add their pairs to their output.

        Only a layer's input and output are touched, never its weight, which may be offloaded, cast or quantised. The
        layers' forwards are swapped, not hooked, because torch.compile does not notice hooks that come and go.
        """
        layers = [(_layer(module, block_index, path), path) for path in self.blocks.get(block_index, ())]
        own = [layer.__dict__.get("forward") for layer, _ in layers]
        try:
            for layer, path in layers:
                layer.forward = self._with_pair(layer.forward, block_index, path)
            yield
        finally:
            for (layer, _), previous in zip(layers, own):
                layer.__dict__.pop("forward", None)
                if previous is not None:
                    layer.forward = previous

    def release(self) -> None:
        """Free the copies that runs have left on their devices."""
        self._placed.clear()

    def _with_pair(self, forward: Callable[..., Tensor], block_index: int, path: str) -> Callable[..., Tensor]:
        def forward_with_pair(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            """x (..., in_features) -> (..., out_features)."""
            pair = self._placed.get((block_index, path, x.device, x.dtype)) or self._place(block_index, path, x)
            output = forward(x, *args, **kwargs)
            return output + linear(linear(x, pair.down), pair.up).to(output.dtype)

        return forward_with_pair

    def _place(self, block_index: int, path: str, x: Tensor) -> LoraPair:
        """A pair on the device and in the dtype of `x`, its scale folded into `up`; copied once per run."""
        pair = self.blocks[block_index][path]
        with torch.inference_mode(False), torch.no_grad():  # ordinary tensors, which a later training can use as well
            up = pair.up.float() * (self.alpha / self.rank)
            placed = LoraPair(pair.down.to(x.device, x.dtype, copy=True), up.to(x.device, x.dtype))
        return self._placed.setdefault((block_index, path, x.device, x.dtype), placed)


_RETRAIN = "it was trained on another model: load the model it belongs to, or train one for this model"


def _layer(module: nn.Module, block_index: int, path: str) -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError:
        raise ValueError(
            f"the LoRA repair adapts {path} of block {block_index}, a {type(module).__name__} without it; {_RETRAIN}"
        ) from None


def repair_from_peft(blocks: Mapping[int, nn.Module], adapter: str = "default") -> LoraRepair:
    """The repair that peft has trained, as a copy of its weights, so that training can go on.

    Nothing is imported from peft: its LoRA layers are recognised by their `lora_A` (down) and `lora_B` (up). All layers
    must share one rank and one alpha; DoRA and biases are refused with a ValueError.

    blocks: by index; `peft.inject_adapter_in_model` has put LoRA layers into them.
    adapter: peft's name of the adapter.
    """
    found = {index: _peft_pairs(index, block, adapter) for index, block in blocks.items()}
    shapes = {shape for pairs in found.values() for _, shape in pairs.values()}
    if len(shapes) != 1:
        raise ValueError(
            f"a LoRA repair has one rank and one alpha in all its layers, but peft's {adapter!r} has (rank, alpha) "
            f"{', '.join(map(str, sorted(shapes))) or 'nowhere'}: use one LoraConfig without patterns, whose "
            "target_modules are linear layers"
        )
    ((rank, alpha),) = shapes
    repairs = {index: {path: pair for path, (pair, _) in pairs.items()} for index, pairs in found.items()}
    return LoraRepair(repairs, rank, alpha)


def _peft_pairs(block_index: int, block: nn.Module, adapter: str) -> dict[str, tuple[LoraPair, tuple[int, float]]]:
    """The pair, its rank and its alpha, by layer path."""
    pairs = {}
    for path, layer in block.named_modules():
        if adapter not in getattr(layer, "lora_A", ()):
            continue
        peft_layer: Any = layer  # a class of peft's
        down, up = peft_layer.lora_A[adapter], peft_layer.lora_B[adapter]
        if adapter in peft_layer.lora_magnitude_vector or up.bias is not None:
            raise ValueError(
                f"block {block_index}, {path}: a LoRA repair holds two matrices per layer: train without use_dora and "
                "lora_bias"
            )
        weights = LoraPair(*(matrix.weight.detach().clone() for matrix in (down, up)))
        rank = peft_layer.r[adapter]
        pairs[path] = weights, (rank, peft_layer.scaling[adapter] * rank)
    return pairs


def plain_lora(repair: LoraRepair, prefix: str | Callable[[int], str] = "blocks.{}.") -> dict[str, Tensor]:
    """The repair as the tensors of an ordinary LoRA file, for the host's own LoRA loaders.

    Keys are the network's own under "diffusion_model.", which the host maps for every model, followed by lora_down
    (rank, in), lora_up (out, rank) and alpha. Loaded this way it acts on every step, not only on P-steps.

    prefix: the path of block {} in the network, or a function from the block's index to it, for models with several
        lists of blocks.
    """
    tensors, place = {}, prefix if callable(prefix) else prefix.format
    for block_index, pairs in repair.blocks.items():
        for path, pair in pairs.items():
            name = f"diffusion_model.{place(block_index)}{path}"
            tensors[f"{name}.lora_down.weight"] = pair.down.contiguous()
            tensors[f"{name}.lora_up.weight"] = pair.up.contiguous()
            tensors[f"{name}.alpha"] = torch.tensor(float(repair.alpha))
    return tensors
