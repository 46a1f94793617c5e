"""The hook in the blocks' attention calls, through which computed tokens attend to keys and values of all tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from ..blocks.attention import OVERRIDE_KEY, OwnAttention
from ..blocks.misfit import Misfit
from .attention_context import AttentionContext, ComputedKeys
from .recording import Recording


class _Tap(Protocol):
    """A wrapper around the attention calls of one block. seconds: time spent in the wrapper itself."""

    seconds: float

    def __call__(
        self, attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any
    ) -> Tensor: ...


class Storing:
    """The tap for I-steps: keeps the keys, values and mask of each self-attention call of one block.

    rows: the block's number of rows; calls with others are among parts of a token, such as its frames.
    image, joint: number of tokens without and with text.
    tau: the evaluation's time.
    spacing: refreshes closer than this in tau count as one.
    recording: the host's, of what blocks allocate.
    """

    def __init__(
        self,
        context: AttentionContext,
        rows: int,
        image: int,
        joint: int,
        tau: float,
        spacing: float,
        recording: Recording | None = None,
    ) -> None:
        self.context, self.rows, self.lengths, self.tau, self.spacing = context, rows, (image, joint), tau, spacing
        self.recording = recording or Recording()
        self.calls, self.seconds = 0, 0.0

    def __call__(
        self, attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any
    ) -> Tensor:
        call, self.calls, started = self.calls, self.calls + 1, time.perf_counter()
        if k.shape[_tokens_dim(kwargs)] in self.lengths and k.shape[0] == self.rows:
            with self.recording.paused():
                self.context.store(call, k, v, kwargs.get("mask", args[0] if args else None), self.tau, self.spacing)
        self.seconds += time.perf_counter() - started
        return attention(q, k, v, heads, *args, **kwargs)


class Extending:
    """The tap for P-steps: gives each self-attention call of one block the keys and values of all tokens, including
    those just computed.

    image, joint: the tokens that are computed, without and with text.
    tau, spacing, recording: as in `Storing`.
    """

    def __init__(
        self,
        context: AttentionContext,
        image: ComputedKeys,
        joint: ComputedKeys,
        tau: float,
        spacing: float,
        recording: Recording | None = None,
    ) -> None:
        self.context, self.indices, self.tau, self.spacing = context, (image, joint), tau, spacing
        self.recording = recording or Recording()
        self.calls, self.seconds = 0, 0.0

    def __call__(
        self, attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any
    ) -> Tensor:
        call, self.calls, started = self.calls, self.calls + 1, time.perf_counter()
        dim = _tokens_dim(kwargs)
        computed = next((index for index in self.indices if index.count == k.shape[dim]), None)
        if computed is not None and call in self.context.entries:
            with self.recording.paused():
                k, v = self.context.entries[call].with_computed(k, v, computed, dim, self.tau, self.spacing)
            if (mask := self.context.mask(call, computed)) is not None:
                if len(args) > 1:  # arguments after the mask stay positional
                    args, kwargs = (mask, *args[1:]), {name: value for name, value in kwargs.items() if name != "mask"}
                else:
                    args, kwargs = (), {**kwargs, "mask": mask}
        self.seconds += time.perf_counter() - started
        return attention(q, k, v, heads, *args, **kwargs)


def _tokens_dim(kwargs: dict[str, Any]) -> int:
    """The dimension of keys along which tokens lie: 1 of (B, N, D), or 2 of (B, H, N, d) if the heads are split."""
    return 2 if kwargs.get("skip_reshape") else 1


def _tensor(value: Any) -> Tensor:
    """Queries, keys or values as a tensor; some hosts hand them over in a container that gives its tensor away once."""
    if isinstance(value, Tensor):
        return value
    taken = value.take() if hasattr(value, "take") else None
    if not isinstance(taken, Tensor):
        raise Misfit(f"attention was given a {type(value).__name__} instead of a tensor")
    return taken


class AttentionHook:
    """An `optimized_attention_override` for one call of the network: it receives all of the blocks' attention calls."""

    def __init__(self) -> None:
        self.override: Callable[..., Tensor] | None = None  # set by another node
        self.tap: _Tap | None = None
        self.seconds = 0.0  # spent in taps

    def __call__(self, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Run an attention call, computed by `function`, through the tap."""
        if self.override is not None:
            function = partial(self._overridden, function)
        if self.tap is None:
            return function(*args, **kwargs)
        queries, keys, values, *others = args
        return self.tap(function, _tensor(queries), _tensor(keys), _tensor(values), *others, **kwargs)

    def around(
        self,
        attend: OwnAttention,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        transformer_options: dict[str, Any],
    ) -> Tensor:
        """Run an attention of a form of its own (`blocks.attention.with_all_keys`) through the tap. The attention calls
        inside it reach the other node's override alone.
        """
        inside = {key: value for key, value in transformer_options.items() if key != OVERRIDE_KEY}
        if self.override is not None:
            inside[OVERRIDE_KEY] = self.override
        if self.tap is None:
            return attend(q, k, v, mask, inside)

        def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
            return attend(q, k, v, mask, inside)

        return self.tap(attention, q, k, v, 1, mask=mask)

    def _overridden(
        self, function: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        """Run an attention call through the other node's override, on copies of k and v, since it may modify them."""
        assert self.override is not None
        return self.override(function, q, k.clone(), v.clone(), *args, **kwargs)

    def in_options(self, transformer_options: dict[str, Any]) -> dict[str, Any]:
        """A copy of `transformer_options` with which the blocks' attention calls reach this hook."""
        self.override = transformer_options.get(OVERRIDE_KEY)
        return {**transformer_options, OVERRIDE_KEY: self}

    @contextmanager
    def through(self, tap: _Tap | None) -> Generator[None, None, None]:
        """While active, attention calls go through `tap`."""
        self.tap = tap
        try:
            yield
        finally:
            if tap is not None:
                self.seconds += tap.seconds
            self.tap = None
