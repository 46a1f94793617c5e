"""What the pack must know of a model family: where its blocks are, their specs, how to reach their attention."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from ...tokencache_core.block_spec import BlockSpec


@dataclass(frozen=True)
class Family:
    """name: for people and fingerprints. model_class: full name of the network's class. block_lists: its lists of blocks, in the order they run.

    spec: from a block to its spec. attention_module: for networks that call `optimized_attention` without
    transformer_options, the module whose global of that name is swapped instead.
    """

    name: str
    model_class: str
    block_lists: tuple[str, ...]
    spec: Callable[[nn.Module], BlockSpec]
    attention_module: str | None = None

    def matches(self, diffusion_model: nn.Module) -> bool:
        kind = type(diffusion_model)
        return f"{kind.__module__}.{kind.__qualname__}".endswith(self.model_class)

    def blocks(self, diffusion_model: nn.Module) -> list[tuple[nn.Module, BlockSpec]]:
        """The blocks of this very module object (a host may hold several copies of one network)."""
        return [(block, self.spec(block)) for name in self.block_lists for block in getattr(diffusion_model, name)]

    def block_paths(self, diffusion_model: nn.Module) -> list[str]:
        """The blocks' names in the network's state dict, in the same order."""
        return [f"{name}.{index}" for name in self.block_lists for index in range(len(getattr(diffusion_model, name)))]

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


_SWAPPING = threading.Lock()


class _ByThread:
    """In place of a module's attention function while some threads tap it."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original, self.taps = original, {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tap = self.taps.get(threading.get_ident())
        return self.original(*args, **kwargs) if tap is None else tap(self.original, *args, **kwargs)
