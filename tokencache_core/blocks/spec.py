"""Block specs: where a block class has its tokens. To support a new model, the engine needs only `BlockSpec`s."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TokenArgument:
    """An argument with one entry per token (positions, for example): a tensor, or tensors in a tuple or list.

    dim: the dimension of the tokens, or several (a mask's queries and keys). A dimension of length 1 is broadcast and
        stays as it is.
    joint: the entries are for text and image tokens, even if the block keeps these in two streams.
    frames: the entries may be for frames instead, each of equally many consecutive tokens.
    """

    dim: int | tuple[int, ...]
    joint: bool = False
    frames: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        return self.dim if isinstance(self.dim, tuple) else (self.dim,)


@dataclass(frozen=True)
class TokenBounds:
    """An argument with the bounds of token ranges: a number, or a list of (begin, end, anything ...).

    None as a bound is the end of the tokens.

    joint: as in `TokenArgument`.
    """

    joint: bool = False


@dataclass(frozen=True)
class BlockSpec:
    """How to call a block on some of its tokens.

    tokens: name of the argument with the image tokens (rows, N, D), or, in a joint stream, text and image tokens.
    output: index of the new tokens in the returned tuple; None if the block returns the tensor itself.
    text, text_output: the same for a second stream, of text tokens, which the block updates as well.
    text_length: in a joint stream, from the block's arguments to the number of text tokens; None: there are none.
    text_first: text tokens come before image tokens, in a joint stream and in the attention over both.
    per_token: other arguments that are reduced along with the tokens.
    bounds: arguments that count tokens (see `TokenBounds`); if they are given, all images of a batch compute the same
        tokens.
    positional: names for the arguments of a block whose forward takes *args.
    grid: tokens come as (rows, T, H, W, D) and are reduced to (rows, n, 1, 1, D), each token a frame of its own.
    in_place: the block writes into its inputs.
    whole_if: arguments that, if given, make the block run in full, since reducing them is not known to be exact.
    whole: the block always runs in full.
    """

    tokens: str = ""
    output: int | None = None
    text: str | None = None
    text_output: int | None = None
    text_length: Callable[[Mapping[str, Any]], int] | None = None
    text_first: bool = True
    per_token: Mapping[str, TokenArgument] = field(default_factory=dict)
    bounds: Mapping[str, TokenBounds] = field(default_factory=dict)
    positional: tuple[str, ...] = ()
    grid: bool = False
    in_place: bool = False
    whole_if: tuple[str, ...] = ()
    whole: bool = False

    @property
    def stream(self) -> str:
        """The name of the block's token stream. Blocks on different streams never share a cached update."""
        return f"{self.tokens}:{self.text}:{self.text_length is not None}:{','.join(self.whole_if)}:{self.whole}"


WHOLE = BlockSpec(whole=True)
