"""The layout of spans: which neighbouring blocks do the same on P-steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["whole", "tokens", "reuse"]


@dataclass(frozen=True)
class SpanLayout:
    """Blocks first..last, and what they do on P-steps.

    kind: "whole": compute all tokens; "tokens": compute `tokens` image tokens; "reuse": reuse the update of all tokens.
    """

    kind: Kind
    first: int
    last: int
    tokens: int


def span_layouts(
    counts: Sequence[int], n_tokens: int, streams: Sequence[str], may_join: bool
) -> tuple[SpanLayout, ...]:
    """The spans of a model whose blocks compute `counts` of `n_tokens` image tokens on P-steps.

    Neighbouring blocks on the same stream form one span if they reuse everything, or if they compute equally many
    tokens and `may_join` holds.

    streams: `BlockSpec.stream` of every block.
    may_join: blocks that compute equally many tokens compute the same ones, and nothing but them touches the tokens.
    """
    spans: list[SpanLayout] = []
    for index, (count, stream) in enumerate(zip(counts, streams, strict=True)):
        kind: Kind = "reuse" if count == 0 else "whole" if count == n_tokens else "tokens"
        joins = kind == "reuse" or (kind == "tokens" and may_join)
        if (
            joins
            and spans
            and (spans[-1].kind, spans[-1].tokens) == (kind, count)
            and streams[spans[-1].last] == stream
        ):
            spans[-1] = SpanLayout(kind, spans[-1].first, index, count)
        else:
            spans.append(SpanLayout(kind, index, index, count))
    return tuple(spans)
