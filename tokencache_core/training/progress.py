"""The progress of a training while it is under way: numbers for other threads to read, and a way to stop it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from ..predictor.trained_cache import TrainingPoint
from .verdict import EqualCompute

# the held-out error without what was learned, and PSNR with it, without it and with random tokens at equal compute
OUTCOME = ("held_out_without", "psnr", "psnr_without", "psnr_random")
SHOWN = 300  # the most points of a line


class TrainingProgress:
    """The progress of one training; the training thread writes it, others read its `numbers` or ask it to `stop`.

    It holds numbers only, never tensors or the model.

    minutes: the time that the training was given.
    predicted: the speed-up to expect, from counting computed tokens.
    node, workflow: the host's names of the node and the workflow that train.
    """

    def __init__(self, minutes: float, predicted: float, node: str = "", workflow: str = "") -> None:
        self.minutes, self.predicted, self.node, self.workflow = minutes, predicted, node, workflow
        self._lock = threading.Lock()
        self._phase = "preparing"
        self._started: float | None = None  # the clock's time when the first iteration began
        self._ended: float | None = None
        self._stopping = False
        self._iteration = 0
        self._loss: list[list[float]] = []
        self._held_out: list[list[float]] = []
        self._speedup: float | None = None
        self._outcome: dict[str, float | None] = dict.fromkeys(OUTCOME)

    def begin(self) -> None:
        """Start the clock: the first iteration begins now."""
        with self._lock:
            self._phase, self._started = "training", time.monotonic()

    def add(self, log: Sequence[TrainingPoint], speedup: float | None) -> None:
        """Take the numbers after another iteration.

        log: the training's.
        speedup: of the held-out run by the clock; None while it has not been measured.
        """
        loss = thinned([(point.seconds, point.loss) for point in log])
        held_out = thinned([(point.seconds, point.held_out) for point in log if point.held_out is not None])
        with self._lock:
            self._iteration, self._loss, self._held_out, self._speedup = log[-1].iteration, loss, held_out, speedup

    def outcome(self, without: float, likeness: EqualCompute) -> None:
        """Take the final measurements. without: the held-out error without what was learned."""
        values = (without, likeness.trained, likeness.without, likeness.random)
        found = {name: None if value is None else float(f"{value:.4g}") for name, value in zip(OUTCOME, values)}
        with self._lock:
            self._outcome = found

    def measure(self) -> None:
        """Enter the phase of the final measurement: the last iteration is done."""
        with self._lock:
            self._phase = "measuring"

    def end(self) -> None:
        with self._lock:
            self._phase, self._ended = "over", time.monotonic()

    def stop(self) -> bool:
        """Ask that no iteration follow the current one; False if none would follow anyway."""
        with self._lock:
            asked = self._phase in ("preparing", "training")
            self._stopping |= asked
            return asked

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def seconds(self) -> float:
        """Seconds since the first iteration began."""
        started, ended = self._started, self._ended
        if started is None:
            return 0.0
        return (time.monotonic() if ended is None else ended) - started

    @property
    def share(self) -> float:
        """The share of its time that has passed, in [0, 1]."""
        return min(1.0, self.seconds / (60 * self.minutes))

    def numbers(self) -> dict[str, Any]:
        """All numbers, as JSON for a page. "loss" and "held_out" are lists of [seconds, value]."""
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
                **self._outcome,
            }


def thinned(points: Sequence[tuple[float, float]]) -> list[list[float]]:
    """At most SHOWN of `points`, equally spaced and including the newest, as [seconds, value] to four digits."""
    every = -(-len(points) // SHOWN) or 1
    return [[round(seconds, 2), float(f"{value:.4g}")] for seconds, value in points[::-every][::-1]]
