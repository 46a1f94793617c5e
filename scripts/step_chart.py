"""Draws the steps of a workflow that is not run here: which its schedule computes in full, and which are forecast."""

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
from tokencache_core.schedules.run_simulator import FLOW_FADING, USUAL_FADING

DDPM = ("DiT-XL", "Open-Sora-Plan", "PixArt")  # workflows of models that were not trained as flows
SIDE, MARGIN = 480, 32  # pixels
WHOLE, FORECAST, INK = "#e69f00", "#56b4e9", "#f4f4f4"
GROUNDS = ("#1d2733", "#2a2230", "#1f2d25", "#33261d", "#1c2d33", "#2f2a1c", "#23233a")
HEIGHTS = {True: 190, False: 46}  # of the bars of steps that are computed in full, and of others


def step_chart(file: Path, ground: int) -> Image.Image:
    """The chart of a workflow's samplers and its Apply TokenCache. ground: the number of its colour."""
    nodes = json.loads(file.read_text(encoding="utf-8"))["nodes"]
    steps, parts = _parts(nodes)
    ddpm = file.stem.startswith(DDPM)
    sigmas = (SigmaSchedule("ddpm") if ddpm else SigmaSchedule("flow", 3.0)).sigmas(steps)
    taus = [noise_time(sigma) for sigma in sigmas[:-1].tolist()]
    speedup = _values(nodes, "TokenCacheApply")[0][0]
    schedule = AutomaticSchedule(speedup=speedup, fading=USUAL_FADING if ddpm else FLOW_FADING)
    whole = {start + step for start, end in parts for step in schedule.i_steps(taus[start:end])}
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
    draw.text((MARGIN, SIDE - 58), f"{len(whole)} of {steps} steps in full", INK, ImageFont.load_default(26))
    return picture


def _parts(nodes: list[dict[str, Any]]) -> tuple[int, list[tuple[int, int]]]:
    """The number of steps, and the first step and the end of each sampler's part of them."""
    samplers = _values(nodes, "KSampler")
    if samplers:
        return samplers[0][2], [(0, samplers[0][2])]
    parts = _values(nodes, "KSamplerAdvanced")  # one a model
    steps = parts[0][3]
    return steps, sorted((start, min(end, steps)) for *_, start, end, _ in parts)


def _values(nodes: list[dict[str, Any]], kind: str) -> list[list[Any]]:
    return [node["widgets_values"] for node in nodes if node["type"] == kind]
