"""The progress of a tuning while it is under way: numbers for other threads to read."""

from __future__ import annotations

from typing import Any

from .tuner import Tuner


class TuningProgress:
    """What one tuning has tried so far; the tuning thread writes it, others read its `numbers`.

    node, workflow: the host's names of the node and the workflow that tune.
    """

    def __init__(self, node: str = "", workflow: str = "") -> None:
        self._names = {"node": node, "workflow": workflow}
        self._numbers: dict[str, Any] = {"running": True, "phase": "preparing", "trials": [], **self._names}

    def take(self, tuner: Tuner) -> None:
        """Take the tuner's numbers as they are now."""
        self._numbers = {"running": True, **tuner.numbers(), **self._names}

    def end(self) -> None:
        self._numbers = {**self._numbers, "running": False}

    def numbers(self) -> dict[str, Any]:
        """All numbers, as JSON for a page (see `Tuner.numbers`)."""
        return self._numbers
