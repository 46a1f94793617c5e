"""Random runs of a DiT, for training and measuring: classes and noise are drawn from a seed."""

from __future__ import annotations

from typing import Any

from ..runs.sampled_model import RandomRuns, kept_apart
from .class_labels import parse_labels
from .model import DiT
from .sampled import SampledDiT


class DrawnRuns(RandomRuns):
    """`RandomRuns` of a DiT's classes."""

    def __init__(self, model: DiT, training: list[int], measuring: list[int], **how: Any) -> None:
        super().__init__(SampledDiT(model), training, measuring, **how)


def labels_apart(text: str | None, num_classes: int, names: tuple[str, ...] | None) -> tuple[list[int], list[int]]:
    """The classes to train on and to measure on: those in `text` for both, or every fourth only for measuring."""
    if text is not None:
        chosen = parse_labels(text, num_classes, names)
        return chosen, chosen
    return kept_apart(range(num_classes))
