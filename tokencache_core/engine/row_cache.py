"""What one set of batch rows keeps between the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator

from .allocation import Unit
from .attention_context import AttentionContext
from .forecast import RunHistory, TokenHistory
from .memory_budget import RowsShape


class RowCache:
    """Updates by the first block of a run, and keys and values by block."""

    def __init__(self) -> None:
        self.n_tokens = 0                       # image tokens per row
        self.shape: RowsShape | None = None
        self.units: tuple[Unit, ...] = ()       # one entry a block; empty until the first I-step knows the token count
        self.text_first = True                  # in joint streams
        self.runs: dict[int, list[RunHistory]] = {}          # one history a stream (image, text)
        self.tokens: dict[int, TokenHistory] = {}
        self.last_blocks: dict[int, int] = {}                # the last block of a run that the host called
        self.contexts: dict[int, AttentionContext] = {}

    @property
    def memory_bytes(self) -> int:
        return sum(kept.memory_bytes for kept in self._all())

    def _all(self) -> Iterator[RunHistory | TokenHistory | AttentionContext]:
        yield from (history for streams in self.runs.values() for history in streams)
        yield from self.tokens.values()
        yield from self.contexts.values()

    def keep_again(self) -> None:
        """In the storage's present form."""
        for kept in self._all():
            kept.keep_again()

    def forget(self) -> None:
        """All but its shape: the next evaluation computes everything, whatever its kind."""
        self.units = ()
        for kept in (self.runs, self.tokens, self.last_blocks, self.contexts):
            kept.clear()
