"""A chart of a training's log: drift on a logarithmic scale against minutes."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..predictor.trained_cache import TrainingPoint

SIZE, MARGIN = (720, 480), (96, 60, 40, 92)  # pixels; margins left, top, right, bottom
FONT = ImageFont.load_default(26)  # legible where a node shows the chart at half its size
MOST_LABELS = 5  # intervals between the labels of the minutes
TRAINING, HELD_OUT, INK = "#0072b2", "#d55e00", "#202020"  # blue and vermilion, distinct to colour-blind people too


def training_chart(log: Sequence[TrainingPoint]) -> Tensor:
    """The chart (1, H, W, 3) in [0, 1]: drift of the training runs and of the held-out run; ValueError if empty."""
    if not log:
        raise ValueError("this predictor has no training log to draw")
    return torch.from_numpy(np.asarray(draw_training(log)).astype(np.float32) / 255)[None]


def draw_training(log: Sequence[TrainingPoint]) -> Image.Image:
    """The same chart as a PIL image."""
    held_out = [(point.seconds / 60, point.held_out) for point in log if point.held_out]
    training = [(point.seconds / 60, point.loss) for point in log if point.loss > 0]
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    axes = _Axes(draw, [*training, *held_out])
    axes.line(training, TRAINING, 2)
    axes.line(held_out, HELD_OUT, 5)
    draw.text((MARGIN[0], 28), "training runs", TRAINING, FONT, anchor="lm")
    draw.text((SIZE[0] - MARGIN[2], 28), "held-out run", HELD_OUT, FONT, anchor="rm")
    draw.text((SIZE[0] // 2, SIZE[1] - 24), "minutes", INK, FONT, anchor="mm")
    return picture


class _Axes:
    """The chart's axes, with lines and labels at round numbers: maps values to pixels and draws lines through them."""

    def __init__(self, draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]]) -> None:
        left, top, right, bottom = MARGIN
        self.draw = draw
        self.box = left, top, SIZE[0] - right, SIZE[1] - bottom
        self.longest = max((minutes for minutes, _ in points), default=0.0) or 1.0
        values = [value for _, value in points] or [1.0]
        ticks = _round_numbers(min(values), max(values))
        self.low, self.high = ticks[0], ticks[-1]
        for value in ticks:
            y = self._place(0.0, value)[1]
            draw.line([(self.box[0], y), (self.box[2], y)], "#d8d8d8")
            draw.text((self.box[0] - 10, y), f"{value:g}", INK, FONT, anchor="rm")
        least_step = self.longest / MOST_LABELS
        step = next(number for number in _round_numbers(least_step, least_step) if number >= least_step)
        for number in range(int(self.longest / step * 1.001) + 1):
            place = (self._place(number * step, self.low)[0], self.box[3] + 24)
            draw.text(place, f"{number * step:g}", INK, FONT, anchor="mm")
        draw.rectangle(self.box, outline=INK)

    def line(self, points: Sequence[tuple[float, float]], colour: str, width: int) -> None:
        places = [self._place(*point) for point in points]
        if len(places) > 1:
            self.draw.line(places, colour, width)
        for x, y in places:
            self.draw.ellipse([x - width, y - width, x + width, y + width], fill=colour)

    def _place(self, minutes: float, value: float) -> tuple[float, float]:
        left, top, right, bottom = self.box
        height = math.log(value / self.low) / math.log(self.high / self.low)
        return left + (right - left) * minutes / self.longest, bottom - (bottom - top) * height


def _round_numbers(least: float, most: float) -> list[float]:
    """Those of ..., 0.1, 0.2, 0.5, 1, 2, 5, 10, ... from the last that is not above `least` to the first that is not
    below `most`; at least two.
    """
    powers = range(math.floor(math.log10(least)), math.floor(math.log10(most)) + 2)
    numbers = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    first = bisect_right(numbers, least) - 1
    return numbers[first : max(bisect_left(numbers, most), first + 1) + 1]
