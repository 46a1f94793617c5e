"""Gradient checkpointing (arXiv 1604.06174): blocks keep their arguments alone, and run again when their gradient is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def checkpointed(blocks: Iterable[nn.Module], again: Callable[[], AbstractContextManager] = nullcontext) -> Iterator[None]:
    """While open, the blocks are checkpointed. again: opened around their second pass, which may come long after."""
    before = {block: block.__dict__.get("forward") for block in blocks}
    try:
        for block in before:
            # wrapped, because the engine asks for the signature
            block.forward = wraps(block.forward)(partial(_checkpointed, block.forward, again))
        yield
    finally:
        for block, forward in before.items():
            del block.__dict__["forward"]
            if forward is not None:
                block.forward = forward


def _checkpointed(forward: Callable[..., Any], again: Callable[[], AbstractContextManager], *args: Any, **kwargs: Any) -> Any:
    def on_copies(*args: Any, **kwargs: Any) -> Any:     # of what a block may write into
        return forward(*map(_copied, args), **{name: _copied(value) for name, value in kwargs.items()})
    return checkpoint(on_copies, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), again()), **kwargs)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
