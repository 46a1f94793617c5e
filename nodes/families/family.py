"""What the pack must know about a model family: where its blocks are, their specs, how to reach their attention."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from ...tokencache_core.blocks.spec import WHOLE, BlockSpec
from ...tokencache_core.blocks.swapped_forwards import uncompiled

IMAGE_TOKENS = "tokencache_image_tokens"  # in the blocks' transformer_options, if `Family.image_tokens` is set


@dataclass(frozen=True)
class Family:
    """One family of the host's networks.

    name: for people and fingerprints.
    model_class: full name or names of the networks' classes.
    block_lists: attribute paths of the networks' lists of blocks, in the order in which they run.
    spec: from a block to its spec (see `by_class`).
    attention_module: for networks that call `optimized_attention` without transformer_options, the module whose global
        of that name is swapped instead.
    image_tokens: for networks whose blocks cannot tell text from image: the number of tokens that the network makes of
        a latent (B, C, ...) and of the images in its conditioning, by the network's names of its arguments (such as
        ref_latents).
    block_by_block: whether the network reads or writes the stream between its blocks, so that neighbours cannot share
        a cached update.
    """

    name: str
    model_class: str | tuple[str, ...]
    block_lists: tuple[str, ...]
    spec: Callable[[nn.Module], BlockSpec]
    attention_module: str | None = None
    image_tokens: Callable[[nn.Module, Tensor, Mapping[str, Any]], int] | None = None
    block_by_block: bool = False

    def matches(self, diffusion_model: nn.Module) -> bool:
        return self.knows(type(diffusion_model))

    def knows(self, kind: type[nn.Module]) -> bool:
        """Whether networks of this class are of the family."""
        return f"{kind.__module__}.{kind.__qualname__}".endswith(self.model_class)

    def blocks(self, diffusion_model: nn.Module) -> list[tuple[nn.Module, BlockSpec]]:
        """The blocks of this module object, with their specs (a host may hold several copies of one network)."""
        return [
            (block, self.spec(uncompiled(block)))
            for name in self.block_lists
            for block in attrgetter(name)(diffusion_model)
        ]

    def fits(self, diffusion_model: nn.Module) -> bool:
        """Whether the network has its blocks where the family expects them, and some that do not always run in full."""
        try:
            return any(not spec.whole for _, spec in self.blocks(diffusion_model))
        except AttributeError:  # a host in which the lists have other names
            return False

    def streams(self, diffusion_model: nn.Module) -> tuple[str, ...]:
        """A name per block: neighbours with the same name may share a cached update."""
        specs = [spec for _, spec in self.blocks(diffusion_model)]
        return tuple(
            f"{index}:{spec.stream}" if self.block_by_block else spec.stream for index, spec in enumerate(specs)
        )

    def unknown_blocks(self, diffusion_model: nn.Module) -> list[str]:
        """The names of the block classes that run in full because they have no spec."""
        return sorted(
            {type(uncompiled(block)).__name__ for block, spec in self.blocks(diffusion_model) if spec is WHOLE}
        )

    def block_paths(self, diffusion_model: nn.Module) -> list[str]:
        """The blocks' names in the network's state dict, in the same order."""
        return [
            f"{name}.{index}" for name in self.block_lists for index in range(len(attrgetter(name)(diffusion_model)))
        ]

    def options(self, diffusion_model: nn.Module, latent: Tensor, conditioning: Mapping[str, Any]) -> dict[str, Any]:
        """The entries of transformer_options that the specs need.

        latent: (B, C, ...), given to the network.
        conditioning: the network's other arguments, by name.
        """
        if self.image_tokens is None:
            return {}
        return {IMAGE_TOKENS: self.image_tokens(diffusion_model, latent, conditioning)}

    @contextmanager
    def attention_reaching(self, tap: Callable[..., Any]) -> Iterator[None]:
        """While open, this thread's attention calls of the family go through `tap(function, *args, **kwargs)`."""
        if self.attention_module is None:  # the override in transformer_options reaches it
            yield
            return
        module: Any = importlib.import_module(self.attention_module)
        thread = threading.get_ident()
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
    """A family's `spec` from specs by the name of the block's class; blocks of other classes run in full."""
    return lambda block: specs.get(type(block).__name__, WHOLE)


def rest_is_text(tokens: str) -> Callable[[Mapping[str, Any]], int]:
    """A spec's `text_length` for a joint stream, of which `Family.image_tokens` says how much is image.

    tokens: the name of the block's argument with the stream.
    """
    return lambda arguments: arguments[tokens].shape[1] - arguments["transformer_options"][IMAGE_TOKENS]


def n_patches(latent: Tensor, patch_size: int) -> int:
    """The number of patches that cover a latent (B, C, H, W), or (B, C, T, H, W) frame by frame, padded to whole
    patches.
    """
    height, width = (-(-side // patch_size) for side in latent.shape[-2:])
    return math.prod(latent.shape[2:-2]) * height * width


_SWAPPING = threading.Lock()


class _ByThread:
    """A replacement of a module's attention function while some threads tap it; other threads get the original."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original
        self.taps: dict[int, Callable[..., Any]] = {}  # by thread

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tap = self.taps.get(threading.get_ident())
        return self.original(*args, **kwargs) if tap is None else tap(self.original, *args, **kwargs)
