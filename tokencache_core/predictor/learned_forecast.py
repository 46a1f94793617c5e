"""A learned forecast: a small network that corrects the extrapolated update of a span of reused blocks.

The polynomial through the last refreshes (engine/forecast.py) knows nothing about the model. How this model's updates
continue from a given history can be learned from its own runs: a gain for every channel of every term of the
polynomial, and a small network with one hidden layer over the token's last refreshes. It starts as the plain
polynomial, and costs about one per cent of a full step's arithmetic (up to a tenth of its time on a CPU). TokenCache's
own repair of a forecast is LoRA on the last blocks (predictor/lora.py), which costs running those blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from ..settings import MAX_ORDER

_TIMES = 6  # features that `_time_features` returns


class LearnedForecast(nn.Module):
    """The correction of the forecast of one span of blocks.

    width: D, the tokens' width.
    order: the forecast's order.
    hidden: the width of the network's hidden layer.
    """

    def __init__(self, width: int, order: int, hidden: int) -> None:
        super().__init__()
        self.order = order
        self.gains = nn.Linear(_TIMES, (order + 1) * width)
        self.into = nn.Linear((order + 1) * width, hidden)
        self.time = nn.Linear(_TIMES, hidden, bias=False)
        self.out = nn.Linear(hidden, width)
        for layer in (self.gains, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, terms: Sequence[Tensor], taus: Sequence[float], tau: float) -> Tensor:
        """The correction (R, N, D), float32, at `tau`.

        terms: the newest update (R, N, D), then what each further refresh adds to the forecast
            (`engine.forecast.forecast_terms`); terms that do not exist yet count as zero.
        taus: the times of the refreshes, the newest first.
        tau: the time to forecast for.
        """
        missing = self.order + 1 - len(terms)
        terms = [*terms, *[torch.zeros_like(terms[0])] * missing]
        moving = terms[1:] or terms
        # a token that does not move needs no correction
        scale = reduce(torch.add, [_rms(term).square() for term in moving]).sqrt()
        known = [_normed(terms[0]), *[term / (scale + 1e-6) for term in terms[1:]]]
        times = _time_features(taus, tau, terms[0].device)
        hidden = gelu(self.into(torch.cat(known, dim=-1)) + self.time(times), approximate="tanh")
        gains = self.gains(times).view(self.order + 1, -1)
        return torch.addcmul(
            reduce(torch.add, [gain * term for gain, term in zip(gains, terms)]), scale, self.out(hidden)
        )


def _rms(x: Tensor) -> Tensor:
    return (x.square().mean(dim=-1, keepdim=True) + 1e-12).sqrt()  # the square root has no gradient at 0


def _normed(x: Tensor) -> Tensor:
    return x / (_rms(x) + 1e-6)


def _time_features(taus: Sequence[float], tau: float, device: torch.device) -> Tensor:
    """(_TIMES,) features: the time, and its distance from the newest refresh, absolute and in units of the last gap."""
    gap = taus[0] - taus[1] if len(taus) > 1 else 0.0
    gaps = max(-4.0, min(4.0, (tau - taus[0]) / gap if gap else 1.0))
    return torch.tensor([tau, tau**2, 10 * (tau - taus[0]), gaps, gaps**2, tau * gaps], device=device)


def forecast_from_tensors(tensors: Mapping[str, Tensor]) -> LearnedForecast:
    """The module with this state dict, its sizes inferred from the shapes; ValueError if they are inconsistent."""
    try:
        hidden, width = tensors["time.weight"].shape[0], tensors["out.weight"].shape[0]
        order = tensors["gains.weight"].shape[0] // width - 1
        if not 0 <= order <= MAX_ORDER:
            raise ValueError(f"a learned forecast is of order 0 to {MAX_ORDER}, not {order}")
        with torch.device("meta"):  # nothing is allocated before the shapes are known to fit
            module = LearnedForecast(width, order, hidden)
        module.load_state_dict(dict(tensors), assign=True)
    except (KeyError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise ValueError(
            f"a learned forecast's tensors do not fit together ({str(error).splitlines()[0][:120]})"
        ) from None
    return module.requires_grad_(False)
