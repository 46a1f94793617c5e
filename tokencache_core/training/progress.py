"""What others may see of a training while it runs: numbers alone, and how they ask it to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from ..predictor.trained_cache import TrainingPoint

SHOWN = 300  # points of a line, at most


class TrainingProgress:
    """Written by the thread that trains; any other may look at its `numbers` or ask it to `stop`.

    minutes: that it was given. predicted: the speed-up by counting. node, workflow: by which the host knows who trains.
    It holds no more than it shows.
    """

    def __init__(self, minutes: float, predicted: float, node: str = "", workflow: str = "") -> None:
        self.minutes, self.predicted, self.node, self.workflow = minutes, predicted, node, workflow
        self._lock = threading.Lock()
        self._phase = "preparing"
        self._started: float | None = None  # the clock's, when the first iteration began
        self._ended: float | None = None
        self._stopping = False
        self._iteration = 0
        self._loss: list[list[float]] = []
        self._held_out: list[list[float]] = []
        self._speedup: float | None = None

    def begin(self) -> None:
        """The first iteration begins now, and the clock with it."""
        with self._lock:
            self._phase, self._started = "training", time.monotonic()

    def add(self, log: Sequence[TrainingPoint], speedup: float | None) -> None:
        """What is known after another iteration. speedup: on the held-out run by the clock, None while it has not been
        measured.
        """
        loss = thinned([(point.seconds, point.loss) for point in log])
        held_out = thinned([(point.seconds, point.held_out) for point in log if point.held_out is not None])
        with self._lock:
            self._iteration, self._loss, self._held_out, self._speedup = log[-1].iteration, loss, held_out, speedup

    def measure(self) -> None:
        """The last iteration is done."""
        with self._lock:
            self._phase = "measuring"

    def end(self) -> None:
        with self._lock:
            self._phase, self._ended = "over", time.monotonic()

    def stop(self) -> bool:
        """Ask for the iteration under way to be the last; False where there is none to come."""
        with self._lock:
            asked = self._phase in ("preparing", "training")
            self._stopping |= asked
            return asked

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def seconds(self) -> float:
        """Since the first iteration began."""
        started, ended = self._started, self._ended
        if started is None:
            return 0.0
        return (time.monotonic() if ended is None else ended) - started

    @property
    def share(self) -> float:
        """Of its time."""
        return min(1.0, self.seconds / (60 * self.minutes))

    def numbers(self) -> dict[str, Any]:
        """For a page, as JSON has them. loss, held_out: pairs of seconds and value."""
        with self._lock:
            running, seconds = self._phase != "over", self.seconds
            return {
                "running": running,
                "phase": self._phase,
                "stopping": self._stopping,
                "node": self.node,
                "workflow": self.workflow,
                "iteration": self._iteration,
                "seconds": round(seconds, 1),
                "seconds_left": round(max(0.0, 60 * self.minutes - seconds), 1) if running else 0.0,
                "loss": self._loss,
                "held_out": self._held_out,
                "predicted": round(self.predicted, 2),
                "speedup": None if self._speedup is None else round(self._speedup, 2),
            }


def thinned(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    """At most SHOWN of them at equal distances, the newest among them, to four digits."""
    every = -(-len(points) // SHOWN) or 1
    return [[round(seconds, 2), float(f"{value:.4g}")] for seconds, value in points[::-every][::-1]]
