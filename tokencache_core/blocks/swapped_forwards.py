"""Temporary replacement of blocks' forwards, undone even after an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Forward = Callable[..., Any]


def uncompiled(block: nn.Module) -> nn.Module:
    """The block itself, where torch.compile has wrapped it."""
    return getattr(block, "_orig_mod", block)


@contextmanager
def swapped_forwards(blocks: Iterable[nn.Module], swap: Callable[[int, nn.Module, Forward], Forward]) -> Iterator[None]:
    """While active, every block runs the forward that `swap` returns.

    swap: called with the block's number, the block and its forward so far.
    """
    before = {block: block.__dict__.get("forward") for block in blocks}  # the instance's own, not its class's
    try:
        for index, block in enumerate(before):
            # bypasses torch's own __setattr__, which would take a tenth of a small model's P-step
            block.__dict__["forward"] = swap(index, block, block.forward)
        yield
    finally:
        for block, forward in before.items():
            block.__dict__.pop("forward", None)
            if forward is not None:
                block.__dict__["forward"] = forward
