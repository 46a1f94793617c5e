"""A cached run of a network whose output is forecast, by a formula instead of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokencache_core.engine import output_forecast
from tokencache_core.engine.output_forecast import forecast_output
from tokencache_core.engine.session import open_session
from tokencache_core.schedules.schedule import ExplicitSchedule
from tokencache_core.settings import CacheSettings


@dataclass(frozen=True)
class ToyRun:
    """added: what the network was taken to add to its input, step by step. calls: how often it was called. kinds: of
    the steps.
    """

    added: list[float]
    calls: int
    kinds: list[str]


def toy_output_run(
    i_steps: tuple[int, ...], network: Callable[[float], float], sigmas: Sequence[float], **settings: object
) -> ToyRun:
    """The run at these sigmas of a network that adds `network(sigma)` to its input."""
    session = open_session(
        CacheSettings(**{"order": 1, "reach": 1.0, **settings}),
        ExplicitSchedule(i_steps),
        sigmas=sigmas,
        tau=lambda sigma: sigma,
        input_scale=lambda sigma: 1.0,
        streams=output_forecast.STREAMS,
    )
    added, calls = [], []

    def predicted(x: Tensor, sigma: float) -> Tensor:
        calls.append(sigma)
        return x - sigma * (x + network(sigma))

    for step, sigma in enumerate(sigmas):
        x = torch.full((2, 1, 2, 2), 10.0 * step**3)  # wherever it is: the network's input is exact
        with session.evaluation(sigma, x):
            clean = forecast_output(session, x, torch.full((2,), sigma), x, lambda: predicted(x, sigma), key="rows")
        session.corrected(x, clean)
        added.append(float(((x - clean) / sigma - x)[0, 0, 0, 0]))
    return ToyRun(added, len(calls), [step.kind for step in session.close().steps])
