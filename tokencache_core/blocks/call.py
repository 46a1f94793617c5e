"""One call of one block, with its arguments interpreted by the block's spec."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..words.message import say
from .misfit import Misfit
from .spec import BlockSpec, TokenArgument
from .token_index import TokenIndex


@lru_cache(maxsize=256)
def _names(
    function: Callable[..., Any], skipped: int, count: int, keywords: tuple[str, ...], positional: tuple[str, ...]
) -> tuple[str, ...]:
    """The parameter names of positional arguments. TypeError if `function` cannot be called in this way.

    skipped: number of leading arguments to leave out (self).
    count: number of positional arguments after these.
    keywords: names of the keyword arguments in the same call.
    positional: names for arguments that the function takes as *args.
    """
    bound = inspect.signature(function).bind(*[None] * (skipped + count), **dict.fromkeys(keywords))
    names: list[str] = []
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            names += [each for each, _ in zip(positional, value, strict=True)]
        elif len(names) < skipped + count:
            names.append(name)
    return tuple(names[skipped:])


def _bind(
    method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], positional: tuple[str, ...]
) -> dict[str, Any]:
    """The arguments of a call by name.

    A method's names are cached under its class's function, so that the cache keeps no module alive.
    """
    function = getattr(method, "__func__", None)
    if function is None:
        names = _names.__wrapped__(method, 0, len(args), tuple(kwargs), positional)
    else:
        names = _names(function, 1, len(args), tuple(kwargs), positional)
    return dict(zip(names, args, strict=True)) | kwargs


class BlockCall:
    """One call of one block.

    method: the block's own forward.
    args, kwargs: the arguments of the call.
    compiled: a function that computes the same as `method`, to be called instead.

    Its `tokens` are (R, N, D), even if the block has them as a grid; `n_text` counts the text tokens that take part in
    the self-attention.
    """

    def __init__(
        self,
        spec: BlockSpec,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        compiled: Callable[..., Any] | None = None,
    ) -> None:
        self.spec, self.function = spec, compiled or method
        self.args, self.kwargs = args, kwargs
        self.arguments = {} if spec.whole else _bind(method, args, kwargs, spec.positional)
        given = next(_tensors([*args, *kwargs.values()])) if spec.whole else self.arguments[spec.tokens]
        self.grid = given.shape[1:-1] if spec.grid else None
        self.tokens: Tensor = given if self.grid is None else given.flatten(1, -2)
        self.n_text = 0 if spec.whole else self._text_length()

    def _text_length(self) -> int:
        if self.spec.text_length is not None:
            length = self.spec.text_length(self.arguments)
            if not 0 <= length < self.tokens.shape[1]:
                raise Misfit(f"of {self.tokens.shape[1]} tokens {length} would be text")
            return length
        return 0 if self.text is None else self.text.shape[1]

    @property
    def text(self) -> Tensor | None:
        """The second stream, of text tokens, if there is one."""
        return self.arguments[self.spec.text] if self.spec.text else None

    @property
    def n_image(self) -> int:
        """Number of image tokens, without the text tokens of a joint stream."""
        return self.tokens.shape[1] - (0 if self.spec.text else self.n_text)

    @property
    def image_tokens(self) -> Tensor:
        """(R, N, D): the tokens without the text tokens of a joint stream."""
        return self.of_image(self.tokens)

    def of_image(self, tokens: Tensor) -> Tensor:
        """The image tokens of the block's stream (R, N, D)."""
        return tokens[:, -self.n_image :] if self.spec.text_first else tokens[:, : self.n_image]

    @property
    def why_whole(self) -> str | None:
        """Why the block must compute all its tokens (the end of a sentence); None if it need not."""
        if self.spec.whole:
            return say("whole_unknown", "TokenCache does not know how to compute only some of their tokens")
        given = [name for name in self.spec.whole_if if self.arguments.get(name) is not None]
        if given:
            return say("whole_given", "they were given {arguments}", arguments=" and ".join(given))
        odd = [name for name, where in self.spec.per_token.items() if not self._fits(self.arguments.get(name), where)]
        if not odd:
            return None
        return say(
            "whole_odd_length", "the length of {arguments} does not match their tokens", arguments=" and ".join(odd)
        )

    def _fits(self, value: Any, where: TokenArgument) -> bool:
        """Whether every tensor in `value` can be reduced to the chosen tokens."""
        full = self.n_image + (self.n_text if where.joint else 0)
        counts = [
            tensor.shape[dim] for tensor in _tensors([value]) for dim in where.dims if -tensor.ndim <= dim < tensor.ndim
        ]
        return all(count in (1, full) or (where.frames and count < full) for count in counts)

    @property
    def wants_rows_alike(self) -> bool:
        """Whether some argument can only be reduced to the chosen tokens if all rows compute the same tokens."""
        if any(self.arguments.get(name) is not None for name in self.spec.bounds):
            return True
        rows = self.tokens.shape[0]
        return any(
            tensor.shape[dim] > 1 and (dim % tensor.ndim == 0 or tensor.shape[0] not in (1, rows))
            for name, where in self.spec.per_token.items()
            for tensor in _tensors([self.arguments.get(name)])
            for dim in where.dims
        )

    def joint(self, index: TokenIndex) -> TokenIndex:
        """The chosen image tokens and all text tokens, as indices into the tokens of the self-attention."""
        return index.with_text(self.n_text, self.spec.text_first)

    def run(self) -> Any:
        """Run the block on its own arguments."""
        return self.function(*self.args, **self.kwargs) if self.spec.whole else self._call(self.arguments)

    def run_on(self, tokens: Tensor, compute: TokenIndex) -> Any:
        """Run the block on `tokens` (R, n, D), with per-token arguments reduced to the image tokens `compute`."""
        arguments = dict(self.arguments)
        arguments[self.spec.tokens] = tokens if self.grid is None else tokens[:, :, None, None]
        for name, where in self.spec.per_token.items():
            if arguments.get(name) is not None:
                arguments[name] = _cut(arguments[name], where, self.joint(compute) if where.joint else compute)
        for name, where in self.spec.bounds.items():
            if arguments.get(name) is not None:
                arguments[name] = _moved(arguments[name], self.joint(compute) if where.joint else compute)
        return self._call(arguments)

    def run_in(self, block: Callable[..., Any], dtype: torch.dtype) -> Any:
        """Run another block of the same class, with weights of `dtype`, on copies of the arguments."""

        def copied(value: Any) -> Any:
            return (
                value.to(dtype if value.is_floating_point() else value.dtype, copy=True)
                if isinstance(value, Tensor)
                else value
            )

        return self._call({name: copied(value) for name, value in self.arguments.items()}, block)

    def _call(self, arguments: dict[str, Any], function: Callable[..., Any] | None = None) -> Any:
        named = dict(arguments)
        return (function or self.function)(*[named.pop(name) for name in self.spec.positional], **named)

    def output_tokens(self, output: Any) -> Tensor:
        """The tokens in the block's output, (R, N or n, D)."""
        tokens = output if self.spec.output is None else output[self.spec.output]
        return tokens if self.grid is None else tokens.flatten(1, -2)

    def output_text(self, output: Any) -> Tensor | None:
        """The text stream in the block's output, if it returns one."""
        return None if self.spec.text_output is None else output[self.spec.text_output]

    def as_output(self, tokens: Tensor, text: Tensor | None) -> Any:
        """Tokens (R, N, D), and text, in the form in which the block returns them."""
        if self.grid is not None:
            tokens = tokens.unflatten(1, self.grid)
        if self.spec.output is None:
            return tokens
        parts: dict[int, Tensor | None] = {self.spec.output: tokens}
        if self.spec.text_output is not None:
            parts[self.spec.text_output] = text
        return tuple(parts[i] for i in range(len(parts)))


def _tensors(values: list[Any] | tuple[Any, ...]) -> Iterator[Tensor]:
    """The tensors among `values`, and in tuples and lists among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _cut(value: Any, where: TokenArgument, index: TokenIndex) -> Any:
    """A per-token argument, reduced to the chosen tokens."""
    if isinstance(value, (tuple, list)):
        return type(value)(_cut(part, where, index) for part in value)
    if isinstance(value, Tensor):
        for dim in where.dims:
            if -value.ndim <= dim < value.ndim and value.shape[dim] > 1:
                value = index.gather(value, dim, where.frames)
    return value


def _moved(bounds: Any, index: TokenIndex) -> Any:
    """The bounds of token ranges, counted among the chosen tokens only."""
    if isinstance(bounds, int):
        return index.chosen_before(bounds)
    return [
        type(part)((*(None if bound is None else index.chosen_before(bound) for bound in part[:2]), *part[2:]))
        for part in bounds
    ]
