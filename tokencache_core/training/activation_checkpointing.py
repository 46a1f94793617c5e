"""Activation checkpointing (arXiv 1604.06174): blocks keep only their arguments, and run again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..blocks.swapped_forwards import Forward, swapped_forwards
from .written_tensors import outer_hooks, recomputation_through_writes


@contextmanager
def checkpointed(
    blocks: Iterable[nn.Module], again: Callable[[], AbstractContextManager] = nullcontext
) -> Iterator[None]:
    """While open, the blocks are checkpointed. again: opened around their second pass, which may come much later."""

    def swap(index: int, block: nn.Module, forward: Forward) -> Forward:
        # wrapped, because the engine reads the signature
        return wraps(forward)(partial(_checkpointed, forward, again))

    with swapped_forwards(blocks, swap):
        yield


def _checkpointed(
    forward: Callable[..., Any], again: Callable[[], AbstractContextManager], *args: Any, **kwargs: Any
) -> Any:
    if outer_hooks is None:  # an old torch, whose gradients would be wrong where blocks write into their tensors
        return forward(*args, **kwargs)
    first_pass, failures = True, list[BaseException]()

    def on_copies(*args: Any, **kwargs: Any) -> Any:  # because a block may write into its arguments
        try:
            with nullcontext() if first_pass else recomputation_through_writes():
                return forward(*map(_copied, args), **{name: _copied(value) for name, value in kwargs.items()})
        except BaseException as error:
            # raised in here, it would leave torch's hooks on all that is computed until it is collected as garbage
            if not first_pass:
                raise
            failures.append(error)

    out = checkpoint(on_copies, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), again()), **kwargs)
    first_pass = False
    if failures:
        raise failures.pop()
    return out


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value
