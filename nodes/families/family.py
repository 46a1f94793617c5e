"""What the pack must know of a model family: where its blocks are, their specs, how to reach their attention."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from ...tokencache_core.blocks.spec import WHOLE, BlockSpec
from ...tokencache_core.blocks.swapped_forwards import uncompiled

IMAGE_TOKENS = (
    "tokencache_image_tokens"  # in the transformer_options that blocks are given, where `Family.image_tokens` is set
)


@dataclass(frozen=True)
class Family:
    """name: for people and fingerprints. model_class: full names of the networks' classes. block_lists: their lists of
    blocks, in the order they run.

    spec: from a block to its spec (see `by_class`). attention_module: for networks that call `optimized_attention`
    without transformer_options, the module whose global of that name is swapped instead. image_tokens: for networks
    whose blocks cannot tell text from image, how many tokens the network makes of a latent (B, C, ...) and of what its
    conditioning adds, by the network's names (ref_latents, say). block_by_block: the network reads or writes the stream
    between its blocks, so that neighbours never share a cached update.
    """

    name: str
    model_class: str | tuple[str, ...]
    block_lists: tuple[str, ...]
    spec: Callable[[nn.Module], BlockSpec]
    attention_module: str | None = None
    image_tokens: Callable[[nn.Module, Tensor, Mapping[str, Any]], int] | None = None
    block_by_block: bool = False

    def matches(self, diffusion_model: nn.Module) -> bool:
        kind = type(diffusion_model)
        return f"{kind.__module__}.{kind.__qualname__}".endswith(self.model_class)

    def blocks(self, diffusion_model: nn.Module) -> list[tuple[nn.Module, BlockSpec]]:
        """The blocks of this very module object (a host may hold several copies of one network)."""
        return [
            (block, self.spec(uncompiled(block)))
            for name in self.block_lists
            for block in attrgetter(name)(diffusion_model)
        ]

    def streams(self, diffusion_model: nn.Module) -> tuple[str, ...]:
        """A name a block: neighbours of the same name may share a cached update."""
        specs = [spec for _, spec in self.blocks(diffusion_model)]
        return tuple(
            f"{index}:{spec.stream}" if self.block_by_block else spec.stream for index, spec in enumerate(specs)
        )

    def unknown_blocks(self, diffusion_model: nn.Module) -> list[str]:
        """Names of the block classes that run whole because nobody has written their spec."""
        return sorted(
            {type(uncompiled(block)).__name__ for block, spec in self.blocks(diffusion_model) if spec is WHOLE}
        )

    def block_paths(self, diffusion_model: nn.Module) -> list[str]:
        """The blocks' names in the network's state dict, in the same order."""
        return [
            f"{name}.{index}" for name in self.block_lists for index in range(len(attrgetter(name)(diffusion_model)))
        ]

    def options(self, diffusion_model: nn.Module, latent: Tensor, conditioning: Mapping[str, Any]) -> dict[str, Any]:
        """What the specs want to find in transformer_options, for a call with `latent` (B, C, ...) and arguments by
        name.
        """
        return (
            {}
            if self.image_tokens is None
            else {IMAGE_TOKENS: self.image_tokens(diffusion_model, latent, conditioning)}
        )

    @contextmanager
    def attention_reaching(self, tap: Callable[..., Any]) -> Iterator[None]:
        """Lead this thread's attention calls of the family through `tap(function, *args, **kwargs)`."""
        if self.attention_module is None:  # the override in transformer_options reaches it
            yield
            return
        module, thread = importlib.import_module(self.attention_module), threading.get_ident()
        with _SWAPPING:
            if not isinstance(module.optimized_attention, _ByThread):
                module.optimized_attention = _ByThread(module.optimized_attention)
            by_thread = module.optimized_attention
            by_thread.taps[thread] = tap
        try:
            yield
        finally:
            with _SWAPPING:
                del by_thread.taps[thread]
                if not by_thread.taps:
                    module.optimized_attention = by_thread.original


def by_class(specs: Mapping[str, BlockSpec]) -> Callable[[nn.Module], BlockSpec]:
    """A family's `spec` out of specs by the name of the block's class; blocks of other classes run whole."""
    return lambda block: specs.get(type(block).__name__, WHOLE)


def rest_is_text(tokens: str) -> Callable[[Mapping[str, Any]], int]:
    """A spec's `text_length` where `Family.image_tokens` says how much of the joint stream in the argument `tokens` is
    image.
    """
    return lambda arguments: arguments[tokens].shape[1] - arguments["transformer_options"][IMAGE_TOKENS]


def n_patches(latent: Tensor, patch_size: int) -> int:
    """How many patches cover a latent (B, C, H, W), padded where they do not fit."""
    height, width = (-(-side // patch_size) for side in latent.shape[-2:])
    return height * width


_SWAPPING = threading.Lock()


class _ByThread:
    """In place of a module's attention function while some threads tap it."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original, self.taps = original, {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tap = self.taps.get(threading.get_ident())
        return self.original(*args, **kwargs) if tap is None else tap(self.original, *args, **kwargs)
