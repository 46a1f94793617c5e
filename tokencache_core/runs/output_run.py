"""A run whose model is forecast as a whole, as if nothing were known of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

from torch import Tensor

from ..engine import output_forecast
from ..engine.learned_parts import NOTHING_LEARNED, LearnedParts
from ..engine.session import Session, open_session
from ..engine.token_choice import Planner
from ..sampling.samplers import Denoise
from ..schedules.run_simulator import Fading
from ..schedules.schedule import Schedule
from ..settings import CacheSettings
from .run import Run


class OutputRun:
    """A wrapper of another run that forecasts the model's output on P-steps instead of its blocks' updates
    (`engine.output_forecast`).
    """

    def __init__(self, run: Run) -> None:
        self.run, self.sigmas, self.images = run, run.sigmas, run.images
        self.session: Session | None = None  # of the evaluation under way

    @property
    def euler(self) -> bool:
        return self.run.euler

    def open_session(
        self,
        settings: CacheSettings,
        schedule: Schedule,
        *,
        planner: Planner | None = None,
        learned: LearnedParts = NOTHING_LEARNED,
    ) -> Session:
        """A session for this run. learned: is not used, since learned parts act on blocks."""
        return open_session(
            settings,
            schedule,
            sigmas=self.sigmas[:-1].tolist(),
            tau=self.noise_time,
            input_scale=self.input_scale,
            streams=output_forecast.STREAMS,
            planner=planner,
            end=float(self.sigmas[-1]),
            euler=self.euler,
            fading=self.fading,
        )

    @contextmanager
    def cached(self, session: Session) -> Generator[None, None, None]:
        """While active, the model's predictions go through `session`."""
        self.session = session
        try:
            yield
        finally:
            self.session = None

    def sample(self, around: Callable[[Denoise], Denoise] = lambda denoise: denoise) -> Tensor:
        """The samples (B, ...), with `around(denoise)` in place of the plain denoiser."""
        return self.run.sample(lambda denoise: around(self._forecasting(denoise)))

    @property
    def fading(self) -> Fading:
        return self.run.fading

    def noise_time(self, sigma: float) -> float:
        return self.run.noise_time(sigma)

    def input_scale(self, sigma: float) -> float:
        return self.run.input_scale(sigma)

    def _forecasting(self, denoise: Denoise) -> Denoise:
        def predict(x: Tensor, sigma: Tensor) -> Tensor:
            if self.session is None:
                return denoise(x, sigma)
            levels, given = sigma.to(x.device).expand(len(x)), x * self.input_scale(float(sigma))
            return output_forecast.forecast_output(
                self.session, x, levels, given, lambda: denoise(x, sigma), key="rows"
            )

        return predict
