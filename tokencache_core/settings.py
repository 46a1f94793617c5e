"""The user's cache settings, as one frozen record that is checked once."""

from __future__ import annotations

from dataclasses import dataclass

CONTEXTS = ("forecast", "stale", "computed")
SCORES = ("staleness", "random", "round-robin")
SHARES = ("early", "uniform")
MAX_ORDER = 2
MAX_REACH = 2.0
FORGETTING = 0.5  # weight of an I-step, beside the one after it, in what a fitted term is fitted to


@dataclass(frozen=True)
class CacheSettings:
    """The settings of a run's P-steps.

    cache_ratio: r, the share of the cacheable blocks' block-tokens that a P-step does *not* compute, 0..1.
    order: the forecast's order: reused updates are held (0), or extrapolated through the last 2 or 3 I-steps (1 or 2).
    fitted: whether forecasts below order 2 also take a share of the next order's term, fitted to the run's own I-steps
        (engine/fitted_term.py).
    last_blocks: K, the number of final blocks that are computed in full on every step and never cached.
    context: what computed tokens attend to: the keys and values of all tokens, with those of uncomputed tokens forecast
        to first order ("forecast") or held at their last values ("stale"), or only each other ("computed").
    score: how the computed tokens are chosen when no predictor is connected.
    shares: how the computed tokens are distributed over the blocks: "early" fills the first blocks completely,
        "uniform" gives every block the same number.
    corrector: the share of the P-steps' error that the next I-step corrects, 0..1; only with Euler's method.
    reach: how far forecasts extrapolate, as a multiple of the distance between the P-step and the last I-step, 0..2;
        1 evaluates the polynomial exactly at the P-step.
    seed: the seed of the random score.
    """

    cache_ratio: float = 1.0
    order: int = 1
    fitted: bool = True
    last_blocks: int = 0
    context: str = "forecast"
    score: str = "staleness"
    shares: str = "early"
    corrector: float = 0.3
    reach: float = 1.08
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.cache_ratio <= 1.0:
            raise ValueError(
                f"cache_ratio must lie between 0 (compute everything) and 1 (reuse everything), not {self.cache_ratio}"
            )
        if self.order not in range(MAX_ORDER + 1):
            raise ValueError(f"order must be 0 (reuse), 1 or 2 (forecast), not {self.order}")
        if self.last_blocks < 0:
            raise ValueError(f"last_blocks counts blocks and cannot be negative: {self.last_blocks}")
        if not 0.0 <= self.corrector <= 1.0:
            raise ValueError(f"corrector must lie between 0 (none) and 1, not {self.corrector}")
        if not 0.0 <= self.reach <= MAX_REACH:
            raise ValueError(f"reach must lie between 0 (the last update held) and {MAX_REACH:g}, not {self.reach}")
        for name, choices in (("context", CONTEXTS), ("score", SCORES), ("shares", SHARES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")

    @property
    def takes_fitted_term(self) -> bool:
        return self.fitted and self.order < MAX_ORDER

    @property
    def update_refreshes(self) -> int:
        """Number of I-steps whose updates are kept."""
        return self.order + 1 + self.takes_fitted_term

    @property
    def key_refreshes(self) -> int:
        """Number of I-steps whose keys and values are kept for all tokens, where P-steps compute some tokens."""
        return {"forecast": 2, "stale": 1, "computed": 0}[self.context]

    def text(self) -> str:
        """The settings as text, under the names that they have in Apply TokenCache."""
        towards = f" (fitted towards {self.order + 1})" if self.takes_fitted_term else ""
        values = {
            "cache_ratio": f"{self.cache_ratio:g}",
            "forecast_order": f"{self.order}{towards}",
            "last_blocks": self.last_blocks,
            "context": self.context,
            "score": self.score + (f" (seed {self.seed})" if self.score == "random" else ""),
            "shares": self.shares,
            "corrector": f"{self.corrector:g}",
            "forecast_reach": f"{self.reach:g}",
        }
        return ", ".join(f"{name} {value}" for name, value in values.items())


DEFAULTS = CacheSettings()
