"""A host's recording of what a block allocates, from which everything that is kept past the block must be left out.

Newer hosts record a block's allocations once and replay them. A tensor that outlives the block would be overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager


class Recording:
    """The recording during one call of the network.

    pause: from nothing to a context in which allocations are not recorded; None: nothing is recorded.
    """

    def __init__(self, pause: Callable[[], AbstractContextManager[object]] | None = None) -> None:
        self.pause = pause
        self.open: AbstractContextManager[object] | None = None  # the pause that is under way

    @contextmanager
    def paused(self) -> Generator[None, None, None]:
        """While active, allocations are not recorded: for what the cache does around a block."""
        if self.pause is None or self.open is not None:
            yield
            return
        self._begin(self.pause)
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def resumed(self) -> Generator[None, None, None]:
        """While active, within a pause, allocations are recorded again: for the block itself."""
        if self.pause is None or self.open is None:
            yield
            return
        self._end()
        try:
            yield
        finally:
            self._begin(self.pause)

    def _begin(self, pause: Callable[[], AbstractContextManager[object]]) -> None:
        self.open = pause()
        self.open.__enter__()

    def _end(self) -> None:
        assert self.open is not None
        ended, self.open = self.open, None
        ended.__exit__(None, None, None)
