"""The chart of a training's log: points lie where its round numbers say."""

from __future__ import annotations

import pytest
from PIL.ImageColor import getrgb

from tokencache_core.predictor.trained_cache import TrainingPoint
from tokencache_core.training.chart import HELD_OUT, MARGIN, SIZE, TRAINING, draw_training, training_chart

LEFT, TOP = MARGIN[:2]
RIGHT, BOTTOM = SIZE[0] - MARGIN[2], SIZE[1] - MARGIN[3]


def test_points_lie_between_round_numbers():
    """Values from 0.3 to 4 are drawn from 0.2 to 5, whose middle on a logarithmic scale is 1."""
    points = [(0, 4.0, None), (60, 1.0, None), (120, 3.0, 0.3), (240, 2.0, 1.0)]
    picture = draw_training([TrainingPoint(number, *point) for number, point in enumerate(points)])
    middle = (TOP + BOTTOM) // 2
    assert picture.getpixel((LEFT + (RIGHT - LEFT) // 4, middle)) == getrgb(TRAINING)
    assert picture.getpixel((RIGHT - 3, middle)) == getrgb(HELD_OUT)


def test_one_point_is_drawn():
    picture = draw_training([TrainingPoint(1, 60.0, 0.2, 0.2)])
    assert picture.getpixel((RIGHT, BOTTOM)) == getrgb(HELD_OUT)


def test_an_empty_log_is_refused():
    with pytest.raises(ValueError, match="no training log"):
        training_chart([])
