"""What the engine must know of a block class: where its tokens are. A new model costs a `BlockSpec`, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TokenArgument:
    """An argument that holds something per token (positions, say): a tensor, or tensors in a tuple or list.

    dim: the dimension that counts the tokens, or several (a mask's queries and keys). One that is 1 long broadcasts and
        stays.
    joint: counts text + image tokens, also where the block keeps them in two streams.
    frames: may count frames instead, each of as many consecutive tokens.
    """

    dim: int | tuple[int, ...]
    joint: bool = False
    frames: bool = False

    @property
    def dims(self) -> tuple[int, ...]:
        return self.dim if isinstance(self.dim, tuple) else (self.dim,)


@dataclass(frozen=True)
class TokenBounds:
    """An argument that says where ranges of tokens begin and end: a number, or (begin, end, anything ...) in a list;
    None is the end.
    """

    joint: bool = False


@dataclass(frozen=True)
class BlockSpec:
    """How to call a block on some of its tokens.

    tokens: name of the argument holding the image tokens (rows, N, D), or, in a joint stream, text and image tokens.
    output: index of the new tokens in the returned tuple; None when the block returns the tensor itself.
    text, text_output: the same for a second stream of text tokens that the block updates as well.
    text_length: in a joint stream, from the block's arguments to its number of text tokens; None: it has none.
    text_first: text tokens come before the image's, in a joint stream and in the attention over both.
    per_token: other arguments to be cut along with the tokens.
    bounds: arguments that count tokens (see TokenBounds); where they are given, all images of a batch compute the same
        tokens.
    positional: names for the arguments of a block whose forward takes *args.
    grid: tokens come as (rows, T, H, W, D) and are cut to (rows, n, 1, 1, D), each a frame of its own.
    in_place: the block writes into its inputs.
    whole_if: arguments that, when given, make the block run whole, since cutting them is not known to be exact.
    whole: the block always runs whole.
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
        """Blocks on different streams never share a cached update."""
        return f"{self.tokens}:{self.text}:{self.text_length is not None}:{','.join(self.whole_if)}:{self.whole}"


WHOLE = BlockSpec(whole=True)
