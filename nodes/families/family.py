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
    """model_class: full name of the network's class. block_lists: its lists of blocks, in the order they run.

    specs: block class name -> spec, or a function from a block to its spec. attention_module: for networks that call
    `optimized_attention` without transformer_options, the module whose global of that name is swapped instead.
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

    @contextmanager
    def attention_reaching(self, tap: Callable[..., Any]) -> Iterator[None]:
        """Lead this thread's attention calls of the family through `tap(function, *args, **kwargs)`."""
        if self.attention_module is None:  # the override in transformer_options reaches it
            yield
            return
        module = importlib.import_module(self.attention_module)
        original, thread = module.optimized_attention, threading.get_ident()

        def tapped(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != thread:
                return original(*args, **kwargs)
            return tap(original, *args, **kwargs)

        module.optimized_attention = tapped
        try:
            yield
        finally:
            module.optimized_attention = original
