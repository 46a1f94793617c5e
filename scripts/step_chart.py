"""Draws the steps of a workflow that is not run here: which its schedule computes whole, and which are forecast."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from comfy_location import ROOT
from PIL import Image, ImageDraw, ImageFont

sys.path.append(str(ROOT))
from tokencache_core.sampling.noise_time import noise_time
from tokencache_core.sampling.sigma_schedule import SigmaSchedule
from tokencache_core.schedules.automatic import AutomaticSchedule

SIDE, MARGIN = 480, 32  # pixels
WHOLE, FORECAST, INK = "#e69f00", "#56b4e9", "#f4f4f4"
GROUNDS = ("#1d2733", "#2a2230", "#1f2d25", "#33261d", "#1c2d33", "#2f2a1c", "#23233a")
HEIGHTS = {True: 190, False: 46}  # of the bars of steps that are computed whole, and of others


def step_chart(file: Path, ground: int) -> Image.Image:
    """The chart of a workflow's KSampler and Apply TokenCache. ground: the number of its colour."""
    nodes = json.loads(file.read_text(encoding="utf-8"))["nodes"]
    steps, speed_up = _value(nodes, "KSampler", 2), _value(nodes, "TokenCacheApply", 0)
    taus = [noise_time(sigma) for sigma in SigmaSchedule("flow", 3.0).sigmas(steps)[:-1].tolist()]
    whole = AutomaticSchedule(speedup=speed_up).i_steps(taus)
    picture = Image.new("RGB", (SIDE, SIDE), GROUNDS[ground % len(GROUNDS)])
    draw = ImageDraw.Draw(picture)
    title, _, promise = file.stem.partition(", ")
    draw.multiline_text((MARGIN, MARGIN), textwrap.fill(title, 16), INK, ImageFont.load_default(48), spacing=6)
    draw.text((MARGIN, 160), promise, WHOLE, ImageFont.load_default(40))
    width = (SIDE - 2 * MARGIN) / steps
    for step in range(steps):
        left, bottom = MARGIN + step * width, SIDE - 72
        box = [left, bottom - HEIGHTS[step in whole], left + width - 2, bottom]
        draw.rectangle(box, fill=WHOLE if step in whole else FORECAST)
    draw.text((MARGIN, SIDE - 58), f"{len(whole)} of {steps} steps whole", INK, ImageFont.load_default(26))
    return picture


def _value(nodes: list[dict[str, Any]], kind: str, place: int) -> Any:
    return next(node["widgets_values"][place] for node in nodes if node["type"] == kind)
