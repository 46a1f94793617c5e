"""The tuner's search space: how P-steps are run, and how many steps at the start are I-steps.

The number of I-steps is searched separately. Known caches are corners of this space: FORA (arXiv 2407.01425) reuses
everything, TaylorSeer (arXiv 2503.06923) forecasts everything, TokenCache computes a share of the tokens and the last
blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..engine.allocation import compute_share
from ..schedules.known_models import known_places
from ..schedules.run_simulator import USUAL_FADING, Fading
from ..settings import DEFAULTS, CacheSettings


@dataclass(frozen=True)
class Choice:
    """One point of the search space.

    name: for people; a corner of the space is named for the known method that it is.
    settings: of its runs.
    warmup: how many I-steps the run starts with.
    p_step: the share of all block-tokens that a P-step computes.
    fading: of the model that is run.
    """

    name: str
    settings: CacheSettings
    warmup: int = 1
    p_step: float = 0.0
    fading: Fading = USUAL_FADING

    def i_steps(self, count: int, taus: Sequence[float]) -> tuple[int, ...]:
        """`count` I-steps of a run at the noise times `taus`, where they would lie on known models."""
        return known_places(count, taus, self.warmup, self.fading)


DEFAULT_CHOICE = Choice("fitted forecast with corrector", DEFAULTS)
_PLAIN = replace(DEFAULTS, fitted=False, corrector=0.0, reach=1.0)
CORNERS = (
    Choice("forecast of order 2 (TaylorSeer)", replace(_PLAIN, order=2), warmup=3),
    Choice("forecast of order 1 (TaylorSeer)", _PLAIN, warmup=2),
    Choice("reuse (FORA)", replace(_PLAIN, order=0)),
)


def space(n_blocks: int, corrects: bool, fading: Fading = USUAL_FADING) -> tuple[Choice, ...]:
    """All choices for a model of `n_blocks` blocks: the default, and the others, the most promising first.

    corrects: whether the corrector can act on the run's sampler.
    fading: of the model that is run.
    """
    ours = DEFAULTS
    named = (
        {
            "corrector 0.15": replace(ours, corrector=0.15),
            "corrector 0.45": replace(ours, corrector=0.45),
            "order 2": replace(ours, order=2),
        }
        if corrects
        else {"order 2": replace(ours, order=2)}
    )
    named["forecasts no further than their step"] = replace(ours, reach=1.0)
    named["last block in full"] = replace(ours, last_blocks=1)
    for order in (1, 2):
        named[f"a tenth of the tokens of every block, order {order}"] = replace(
            ours, cache_ratio=0.9, shares="uniform", order=order
        )
    named |= {
        "a tenth of the tokens, the first blocks": replace(ours, cache_ratio=0.9, shares="early"),
        "a tenth of the tokens of every block, among themselves": replace(
            ours, cache_ratio=0.9, shares="uniform", context="computed"
        ),
        "three tenths of the tokens of every block": replace(ours, cache_ratio=0.7, shares="uniform"),
        "a tenth of the tokens, the last blocks in full": replace(
            ours, cache_ratio=0.9, shares="uniform", last_blocks=round(n_blocks / 7)
        ),
    }
    one_more = Choice("one more full step first", ours, warmup=2)
    others = (Choice(name, settings, p_step=compute_share(settings, n_blocks)) for name, settings in named.items())
    return tuple(replace(choice, fading=fading) for choice in (DEFAULT_CHOICE, *CORNERS, one_more, *others))
