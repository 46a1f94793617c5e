"""The overhead of a P-step at the true shape of the published DiTs, with random weights.

A P-step that computes a share s of the block-tokens would ideally take s times as long as an I-step; the ratio of its
real seconds to that is the overhead of gathering, forecasting and scattering.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch

from ..blocks.call import BlockCall
from ..dit.model import DiT, DiTConfig, sincos_pos_embed
from ..dit.run import DIT_BLOCK
from ..engine.stopwatch import timed
from ..predictor.token_scores import KINDS, new_predictor
from ..settings import CacheSettings
from .workload import Protocol, Workload

SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}  # width, depth, heads
VAE_FACTOR = 8
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CFG_ROWS = 2  # every image has a conditional and an unconditional row
SETTINGS = CacheSettings(cache_ratio=0.9, order=1, last_blocks=4, context="forecast", shares="uniform")
VARIANTS = (
    SETTINGS,
    replace(SETTINGS, context="stale"),
    replace(SETTINGS, context="computed"),
    replace(SETTINGS, shares="early"),
)
STEPS, I_STEPS, FULL_STEPS = 5, (0, 1, 3), 2  # I I P I P: a forecast of order 1 needs two refreshes


@dataclass(frozen=True)
class ShapeRow:
    """The times of one shape under one setting: median seconds of one step of each kind.

    batch: rows; under guidance two per image.
    predictor_seconds: of one pass of a Cache Predictor, by kind; it would run once per window, on the first P-step
        after an I-step.
    """

    shape: str
    dtype: str
    batch: int
    settings: dict[str, Any]
    full_seconds: float
    i_step_seconds: float
    p_step_seconds: float
    compute: float  # share of the block-tokens that the P-step computes
    overhead: float  # p_step / (compute * i_step)
    overhead_to_full: float  # p_step / (compute * full)
    predictor_seconds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        return (
            f"{self.shape} {self.dtype} batch {self.batch}, "
            f"{self.settings['shares']} shares, context {self.settings['context']}: "
            f"full step {self.full_seconds:.3f} s, I-step {self.i_step_seconds:.3f} s, "
            f"P-step {self.p_step_seconds:.3f} s at compute {self.compute:.3f}; "
            f"overhead {self.overhead:.2f} to the I-step, {self.overhead_to_full:.2f} to the full step"
            + "".join(
                f"; a {kind} predictor's look, once a window: {seconds:.4f} s"
                for kind, seconds in self.predictor_seconds.items()
            )
        )


def parse_shape(name: str) -> DiTConfig:
    """The shape for a name such as `DiT-XL/2-256`: size, patch, and the side in pixels of pictures, whose VAE latents
    are 8 times smaller. ValueError for other names.
    """
    match = re.fullmatch(rf"DiT-({'|'.join(SIZES)})/([248])-(\d+)", name)
    if match is None or int(match[3]) % (VAE_FACTOR * int(match[2])) or int(match[3]) == 0:
        raise ValueError(
            f"unknown shape '{name}': write DiT-<S|B|L|XL>/<2|4|8>-<pixels>, for example DiT-XL/2-256 or DiT-XL/2-512"
        )
    width, depth, heads = SIZES[match[1]]
    patch_size, input_size = int(match[2]), int(match[3]) // VAE_FACTOR
    return DiTConfig(width=width, depth=depth, heads=heads, patch_size=patch_size, input_size=input_size)


def random_dit(config: DiTConfig, dtype: torch.dtype, device: torch.device) -> DiT:
    torch.manual_seed(0)
    model = DiT(config, dtype=dtype, device=device)
    grid = config.input_size // config.patch_size
    model.pos_embed.data.copy_(sincos_pos_embed(config.width, grid, grid))
    return model.eval()


def measure_shape(
    shape: str,
    *,
    dtype: str,
    batch: int,
    repeats: int,
    device: torch.device,
    on_run: Callable[[], object] = lambda: None,
) -> list[ShapeRow]:
    """One row per variant. Full steps and short cached runs alternate, `repeats` times after a first warm-up round.

    shape: a name for `parse_shape`.
    dtype: one of DTYPES.
    batch: rows (see ShapeRow).
    on_run: called after every run; `runs_per_shape` says how often.
    """
    protocol = Protocol(steps=STEPS, samples=max(1, batch // CFG_ROWS), cfg=4.0 if batch > 1 else 1.0)
    workload = Workload(random_dit(parse_shape(shape), DTYPES[dtype], device), protocol)
    full: list[float] = []
    steps: dict[CacheSettings, dict[str, list[float]]] = {settings: {"I": [], "P": []} for settings in VARIANTS}
    compute: dict[CacheSettings, float] = {}
    for repeat in range(repeats + 1):
        seconds = _full_step_seconds(workload)
        on_run()
        if repeat:
            full.append(seconds)
        for settings, seen in steps.items():
            _, report = workload.cached(settings, I_STEPS)
            on_run()
            if repeat:
                for step in report.steps:
                    seen[step.kind].append(step.seconds)
            compute[settings] = report.steps[-1].compute
    predictors = {kind: _predictor_seconds(workload, kind, repeats) for kind in KINDS}
    return [
        _row(
            shape,
            dtype,
            batch,
            settings,
            median(full),
            median(seen["I"]),
            median(seen["P"]),
            compute[settings],
            predictors,
        )
        for settings, seen in steps.items()
    ]


def runs_per_shape(repeats: int) -> int:
    return (repeats + 1) * (1 + len(VARIANTS))


def _full_step_seconds(workload: Workload) -> float:
    workload.synchronize()
    started = time.perf_counter()
    workload.full(FULL_STEPS, workload.protocol.solver)
    workload.synchronize()
    return (time.perf_counter() - started) / FULL_STEPS


@torch.no_grad()
def _predictor_seconds(workload: Workload, kind: str, repeats: int) -> float:
    model, config = workload.model, workload.model.config
    predictor = new_predictor(kind, model.blocks[0], config.width, config.depth - SETTINGS.last_blocks).to(
        workload.device, torch.float32
    )
    rows = len(workload.labels) * (1 if workload.protocol.cfg == 1.0 else CFG_ROWS)
    tokens = torch.randn(
        rows, (config.input_size // config.patch_size) ** 2, config.width, device=workload.device, dtype=model.dtype
    )
    first_block = model.blocks[0]
    call = BlockCall(DIT_BLOCK, first_block.forward, (tokens, tokens[:, 0]), {"transformer_options": {}})
    rate, seconds = torch.ones(tokens.shape[:2], device=workload.device), []
    for repeat in range(repeats + 1):
        _, took = timed(lambda: predictor(call, 0.5, rate))
        seconds += [took] if repeat else []
    return median(seconds)


def _row(
    shape: str,
    dtype: str,
    batch: int,
    settings: CacheSettings,
    full: float,
    i_step: float,
    p_step: float,
    compute: float,
    predictors: dict[str, float],
) -> ShapeRow:
    chosen = {name: value for name, value in asdict(settings).items() if name != "seed"}
    return ShapeRow(
        shape=shape,
        dtype=dtype,
        batch=batch,
        settings=chosen,
        full_seconds=full,
        i_step_seconds=i_step,
        p_step_seconds=p_step,
        compute=compute,
        overhead=p_step / (compute * i_step),
        overhead_to_full=p_step / (compute * full),
        predictor_seconds=predictors,
    )
