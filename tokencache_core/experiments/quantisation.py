"""Compares compressed weights and the cache, each alone and both together: do their speed-ups multiply, and do their
errors add up?
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor

from ..bench.rows import mean_psnr
from ..bench.turns import Candidate, Measurement, measure_interleaved
from ..dit.model import DiT
from ..dit.quantised import compressed, has_sparse_kernels, weight_bytes
from ..dit.sampling import cached_sample, sample
from ..predictor.trained_parts import TrainedParts
from ..sampling.samplers import starting_noise
from ..sampling.sigma_schedule import SigmaSchedule
from ..schedules.schedule import CountSchedule
from ..settings import CacheSettings

PLAIN = "plain"
ROUNDS = 3
MIB = 2**20


@dataclass(frozen=True)
class Pair:
    """One variant of the weights, sampled in full and cached.

    weights: the variant's name.
    mib: the size of all weights as stored, in MiB.
    whole_speedups, cached_speedups: of each round by the clock, against the plain model's full runs closest in time.
    whole_db, cached_db: mean PSNR over samples against the plain model's full run.
    cached_own_db: of the cached run against the full run with the same weights.
    is_dense: whether the weights are pruned, but stored and multiplied as dense matrices.
    """

    weights: str
    mib: float
    whole_speedups: tuple[float, ...]
    cached_speedups: tuple[float, ...]
    whole_db: float
    cached_db: float
    cached_own_db: float
    is_dense: bool = False


def runs_per_table(variants: Sequence[str]) -> int:
    return ROUNDS * 2 * (1 + len(variants))


def measure(
    model: DiT,
    variants: Sequence[str],
    labels: Tensor,
    seed: int,
    *,
    steps: int,
    i_steps: int,
    settings: CacheSettings,
    learned: TrainedParts = TrainedParts(),
    schedule: SigmaSchedule = SigmaSchedule(),
    on_run: Callable[[], object] = lambda: None,
) -> list[Pair]:
    """The pair of the plain model, then that of each variant, from DDIM samples at guidance 4.

    variants: names from `dit.quantised.VARIANTS`.
    labels, seed: (B,) of the samples, and of their noise.
    steps, i_steps: of a run.
    settings, learned: of the cached runs.
    on_run: called before each run; `runs_per_table` says how often.
    """
    sigmas = schedule.sigmas(steps)
    noise = starting_noise(model.noise_shape(len(labels)), seed, sigmas[0]).to(labels.device)
    models = {PLAIN: model} | {variant: compressed(model, variant) for variant in variants}

    def whole(model: DiT) -> tuple[Tensor, float]:
        return sample(model, labels, noise=noise, sigmas=sigmas), 1.0

    def cached(model: DiT) -> tuple[Tensor, float]:
        samples, report = cached_sample(
            model,
            labels,
            noise=noise,
            sigmas=sigmas,
            settings=settings,
            schedule=CountSchedule(i_steps),
            learned=learned,
        )
        return samples, report.compute

    def synchronize() -> None:
        if noise.is_cuda:
            torch.cuda.synchronize(noise.device)

    candidates = [
        Candidate(f"{kind} {name}", {}, partial(run, each), 0.0, baseline=f"whole {PLAIN}")
        for name, each in models.items()
        for kind, run in (("whole", whole), ("cached", cached))
    ]
    for each in models.values():  # first calls are slow
        sample(each, labels, noise=noise, sigmas=schedule.sigmas(2))
    found = measure_interleaved(candidates, ROUNDS, synchronize=synchronize, before=lambda _: on_run())
    pair = partial(_pair, plain=found[0], is_pixels=model.is_pixels)
    return [pair(name, each, *found[2 * i : 2 * i + 2]) for i, (name, each) in enumerate(models.items())]


def _pair(
    name: str, model: DiT, whole: Measurement, cached: Measurement, *, plain: Measurement, is_pixels: bool
) -> Pair:
    return Pair(
        name,
        weight_bytes(model) / MIB,
        tuple(whole.speedups),
        tuple(cached.speedups),
        mean_psnr(whole.pictures, plain.pictures, is_pixels),
        mean_psnr(cached.pictures, plain.pictures, is_pixels),
        mean_psnr(cached.pictures, whole.pictures, is_pixels),
        is_dense=name == "2:4" and not has_sparse_kernels(model.pos_embed.device, model.dtype),
    )


def db_of_both(one: float, other: float) -> float:
    """The PSNR, in dB, of two independent errors together: their mean squares add up."""
    return -10 * math.log10(10 ** (-one / 10) + 10 ** (-other / 10))


def table(pairs: Sequence[Pair], errors: bool = True) -> Iterator[str]:
    """Lines of a Markdown table. errors: whether to show errors, which are meaningless for random weights."""
    plain = pairs[0]
    yield _line(
        "weights",
        "MiB",
        "run",
        "speed-up",
        "if they multiply",
        *("PSNR", "if errors add", "cached against full") * errors,
    )
    yield _line(*["---"] * (8 if errors else 5)).replace(" ", "")
    for pair in pairs:
        name = f"{pair.weights}, as dense zeros" if pair.is_dense else pair.weights
        is_plain, size = pair is plain, f"{pair.mib:.1f}"
        product = f"{median(pair.whole_speedups) * median(plain.cached_speedups):.2f}x"
        both = f"{db_of_both(pair.whole_db, plain.cached_db):.1f} dB"
        of_whole = ("-" if is_plain else f"{pair.whole_db:.1f} dB", "", "")
        of_cached = (f"{pair.cached_db:.1f} dB", "" if is_plain else both, f"{pair.cached_own_db:.1f} dB")
        yield _line(name, size, "full", _with_spread(pair.whole_speedups), "", *of_whole * errors)
        yield _line(
            name, size, "cached", _with_spread(pair.cached_speedups), "" if is_plain else product, *of_cached * errors
        )
    if any(pair.is_dense for pair in pairs):
        yield ""
        yield (
            "2:4 as dense zeros: this device or type of number has no kernels for it. Its error counts; its bytes and "
            "time are those of a dense model."
        )


def _with_spread(speedups: Sequence[float]) -> str:
    return f"{median(speedups):.2f}x ({min(speedups):.2f} to {max(speedups):.2f})"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
