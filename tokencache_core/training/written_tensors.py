"""Gradients through networks that write into their tensors, as hosts' blocks do to save memory.

torch refuses such gradients, and in the second pass of a checkpointed block gives wrong ones. Its own remedy for the
first, `torch.autograd.graph.allow_mutation_on_saved_tensors`, watches every operation below Python, and confuses
tensors whose object and memory have been reused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary, ref

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

# the (pack, unpack) of the hooks that are open, which inner ones would replace; older versions of torch lack it
outer_hooks: Callable[[bool], tuple[Any, Any]] | None = getattr(
    torch._C._autograd,  # pyright: ignore[reportAttributeAccessIssue]
    "_top_saved_tensors_default_hooks",
    None,
)
OPERATORS = {"__setitem__"} | {
    f"__i{name}__" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
}


class _Memory:
    """A piece of memory, and the saved tensors that lie in it. It is forgotten together with the last of them."""

    def __init__(self) -> None:
        self.saved: list[ref[Tensor]] = []


class _SavedTensors:
    """The tensors that the backward pass needs, by their memory, until they have copies of their own."""

    def __init__(self) -> None:
        self._by_address: WeakValueDictionary[int, _Memory] = WeakValueDictionary()

    def alias(self, tensor: Tensor) -> Tensor:
        """The tensor to save in place of `tensor`: another object with the same memory."""
        alias, memory = tensor.detach(), self._by_address.setdefault(_address(tensor), _Memory())
        memory.saved.append(ref(alias))
        alias.memory = memory  # pyright: ignore[reportAttributeAccessIssue] - keeps it as long as itself
        return alias

    def copy_what_lies_under(self, tensor: Tensor) -> None:
        """Give each saved tensor that lies in the memory of `tensor` a copy of its own."""
        memory = self._by_address.pop(_address(tensor), None)
        for saved in memory.saved if memory is not None else ():
            if (alias := saved()) is not None:
                alias.data = alias.clone()


class _CopyBeforeWrites(TorchFunctionMode):
    """A mode of torch that calls `before_write` with every tensor that a function is about to write into."""

    def __init__(self, before_write: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.before_write = before_write

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in OPERATORS or (name.endswith("_") and not name.endswith("__")) or kwargs.get("inplace"):
            self._before(args[:1])
        if (out := kwargs.get("out")) is not None:
            self._before(out if isinstance(out, tuple) else (out,))
        return func(*args, **kwargs)

    def _before(self, tensors: tuple[Any, ...]) -> None:
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                self.before_write(tensor)


@contextmanager
def gradients_through_writes() -> Iterator[None]:
    """While open, tensors that the backward pass needs may be written into; it receives them as they were.

    Both passes must run in it. A tensor is copied when it is first written into.
    """
    saved = _SavedTensors()
    with _CopyBeforeWrites(saved.copy_what_lies_under), saved_tensors_hooks(saved.alias, lambda alias: alias):
        yield


@contextmanager
def recomputation_through_writes() -> Iterator[None]:
    """As `gradients_through_writes`, for the second pass of a checkpointed function; to be opened inside it."""
    assert outer_hooks is not None
    saved, (pack, unpack) = _SavedTensors(), outer_hooks(True)
    with (
        _CopyBeforeWrites(saved.copy_what_lies_under),
        saved_tensors_hooks(lambda tensor: pack(saved.alias(tensor)), unpack),
    ):
        yield


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
