"""What the engine must know of a block class: where its tokens are. A new model costs a `BlockSpec`, nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from torch import Tensor

from .token_index import TokenIndex


@dataclass(frozen=True)
class TokenArgument:
    """An argument that holds something per token (positions, say), by the dimension that counts the tokens."""

    dim: int
    joint: bool = False    # counts text + image tokens, also where the block keeps them in two streams


@dataclass(frozen=True)
class BlockSpec:
    """How to call a block on some of its tokens.

    tokens: name of the argument holding the image tokens (rows, N, D), or, in a joint stream, text and image tokens.
    output: index of the new tokens in the returned tuple; None when the block returns the tensor itself.
    text, text_output: the same for a second stream of text tokens that the block updates as well.
    text_length: from the block's arguments to the number of text tokens in front of the image's; None: none take part
        in the self-attention.
    per_token: other arguments to be cut along with the tokens.
    self_attention: which of the block's attention calls, in order, are among the tokens themselves.
    in_place: the block writes into its inputs.
    whole_if: arguments that, when given, make the block run whole, since cutting them is not known to be exact.
    """

    tokens: str
    output: int | None = None
    text: str | None = None
    text_output: int | None = None
    text_length: Callable[[Mapping[str, Any]], int] | None = None
    per_token: Mapping[str, TokenArgument] = field(default_factory=dict)
    self_attention: tuple[int, ...] = (0,)
    in_place: bool = False
    whole_if: tuple[str, ...] = ()

    @property
    def stream(self) -> str:
        """Blocks on different streams never share a cached update."""
        return f"{self.tokens}:{self.text}:{self.text_length is not None}:{','.join(self.whole_if)}"


@lru_cache(maxsize=64)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


def _bind(method: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name. Cached by the class's function, so that no module is kept alive."""
    function = getattr(method, "__func__", None)
    if function is None:
        bound = inspect.signature(method).bind(*args, **kwargs)
    else:
        bound = _signature(function).bind(method.__self__, *args, **kwargs)
    arguments: dict[str, Any] = {}
    for position, (name, value) in enumerate(bound.arguments.items()):
        if function is not None and position == 0:
            continue
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            arguments.update(value)
        else:
            arguments[name] = value
    return arguments


class BlockCall:
    """One call of one block, its arguments sorted out by the spec. compiled: computes what `method`, the block's own, does."""

    def __init__(
        self, spec: BlockSpec, method: Callable[..., Any], args: tuple, kwargs: dict[str, Any], compiled: Callable[..., Any] | None = None,
    ) -> None:
        self.spec, self.function = spec, compiled or method
        self.arguments = _bind(method, args, kwargs)
        self.tokens: Tensor = self.arguments[spec.tokens]
        self.n_text = spec.text_length(self.arguments) if spec.text_length else 0

    @property
    def text(self) -> Tensor | None:
        return self.arguments[self.spec.text] if self.spec.text else None

    @property
    def n_image(self) -> int:
        """Image tokens, without the text tokens of a joint stream."""
        return self.tokens.shape[1] - (0 if self.spec.text else self.n_text)

    @property
    def must_run_whole(self) -> bool:
        return any(self.arguments.get(name) is not None for name in self.spec.whole_if)

    def run(self) -> Any:
        """The block itself on its own arguments."""
        return self.function(**self.arguments)

    def run_on(self, tokens: Tensor, compute: TokenIndex) -> Any:
        """The block on `tokens`, its per-token arguments cut to the image tokens `compute`."""
        arguments = dict(self.arguments)
        arguments[self.spec.tokens] = tokens
        for name, where in self.spec.per_token.items():
            if arguments.get(name) is not None:
                index = compute.with_text(self.n_text) if where.joint else compute
                arguments[name] = index.gather(arguments[name], where.dim)
        return self.function(**arguments)

    def output_tokens(self, output: Any) -> Tensor:
        return output if self.spec.output is None else output[self.spec.output]

    def output_text(self, output: Any) -> Tensor | None:
        return None if self.spec.text_output is None else output[self.spec.text_output]

    def as_output(self, tokens: Tensor, text: Tensor | None) -> Any:
        """Tokens (and text) in the form in which the block returns them."""
        if self.spec.output is None:
            return tokens
        parts = {self.spec.output: tokens}
        if self.spec.text_output is not None:
            parts[self.spec.text_output] = text
        return tuple(parts[i] for i in range(len(parts)))
