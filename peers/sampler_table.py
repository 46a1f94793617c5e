"""What a P-step should say under ComfyUI's samplers that add noise, or that call the model several times a step
(docs/outputs.md): `python -m peers.sampler_table --model FILE`.

Sampled as by KSampler, with Apply TokenCache's own hooks and places. Every run of a sampler has the same seed, and so
the same noise from step to step, but for those of fewer steps, which add theirs elsewhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tokencache_core.bench.rows import mean_psnr
from tokencache_core.bench.workload import Protocol, SampledWorkload
from tokencache_core.cli.options import CommandError, Help, device_named, number_in, sampled_model, whole_number
from tokencache_core.runs.run import HELD_OUT_SEEDS
from tokencache_core.runs.sampled_model import SampledModel
from tokencache_core.settings import DEFAULTS, CacheSettings

from .host_cache import apply_on_host
from .host_models import host_conditionings, host_model, host_module, import_host

NOISE_SEED = 7  # of what samplers add
BLOCKS, OUTPUT, CLEAN = "blocks", "output", "clean"  # of `under_noise` in the pack's nodes/host/model_hooks.py
SAYS = {
    BLOCKS: "blocks' updates, forecast (order {order})",
    OUTPUT: "the output, forecast (order {order})",
    CLEAN: "the last clean picture, held (what is done)",
}


@dataclass(frozen=True)
class SamplerRow:
    """says: what P-steps say, in words. calls: of the model that were computed. psnr_db: to the full run, a mean."""

    says: str
    calls: int
    psnr_db: float


class SamplerRuns:
    """Runs of one model in the host.

    steps: of the full run.
    scheduler: of the host's.
    samples: all in one batch.
    """

    def __init__(self, model: SampledModel, steps: int, scheduler: str, cfg: float, samples: int) -> None:
        _, held_out = model.conditions_apart(None)
        protocol = Protocol(steps=steps, samples=samples, cfg=cfg, schedule=model.exact_schedule)
        workload = SampledWorkload(model, protocol, held_out)
        self.model, self.steps, self.scheduler, self.cfg = host_model(workload), steps, scheduler, cfg
        self.positive, self.negative = host_conditionings(self.model, workload)
        self.is_pixels = model.is_pixels
        each = [torch.Generator().manual_seed(HELD_OUT_SEEDS + sample) for sample in range(samples)]
        self.noise = torch.stack([torch.randn(workload.noise.shape[1:], generator=one) for one in each])

    def rows(self, sampler: str, counts: Sequence[int]) -> Iterator[SamplerRow]:
        """The full run, and for each number of I-steps as many full steps and what P-steps may say."""
        full, calls = self._whole(sampler, self.steps)
        yield SamplerRow("the full run", calls, mean_psnr(full, full, self.is_pixels))
        for count in counts:
            fewer, calls = self._whole(sampler, count)
            yield SamplerRow(f"{count} full steps", calls, mean_psnr(fewer, full, self.is_pixels))
            for says, settings in self._to_try(sampler):
                samples, calls = self._cached(sampler, count, settings, says)
                words = SAYS[says].format(order=settings.order)
                yield SamplerRow(f"{count} I-steps: {words}", calls, mean_psnr(samples, full, self.is_pixels))

    def _to_try(self, sampler: str) -> Iterator[tuple[str, CacheSettings]]:
        import comfy.samplers

        found = comfy.samplers.sampler_object(sampler)
        several = host_module("sampler_kind").evaluates_several_times(found)
        if not host_module("sampler_noise").adds_noise(found) or several:
            yield BLOCKS, DEFAULTS
            return
        for order in (2, 1, 0):
            yield BLOCKS, replace(DEFAULTS, order=order)
        yield OUTPUT, DEFAULTS
        yield CLEAN, DEFAULTS

    def _whole(self, sampler: str, steps: int) -> tuple[Tensor, int]:
        calls = 0

        def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return executor(*args, **kwargs)

        from comfy.patcher_extension import WrappersMP

        model = self.model.clone()
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "count", count)
        return self._sampled(model, sampler, steps), calls

    def _cached(self, sampler: str, count: int, settings: CacheSettings, says: str) -> tuple[Tensor, int]:
        model, handle = apply_on_host(self.model, settings, count, under_noise=says)
        samples = self._sampled(model, sampler, self.steps)
        return samples, sum(step.computed > 0 for step in handle.latest().steps)

    @torch.inference_mode()
    def _sampled(self, model: Any, sampler: str, steps: int) -> Tensor:
        import comfy.sample

        latent = comfy.sample.sample(
            model,
            self.noise,
            steps,
            self.cfg,
            sampler,
            self.scheduler,
            self.positive,
            self.negative,
            torch.zeros_like(self.noise),
            disable_pbar=True,
            seed=NOISE_SEED,
        )
        return self.model.model.process_latent_in(latent)


def table(sampler: str, rows: Iterator[SamplerRow]) -> Iterator[str]:
    """A Markdown table, line by line."""
    yield f"| `{sampler}` | calls of the model computed | PSNR |"
    yield "|---|---|---|"
    for row in rows:
        yield f"| {row.says} | {row.calls} | {row.psnr_db:.1f} dB |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m peers.sampler_table", description=__doc__, formatter_class=Help)
    parser.add_argument("--model", required=True, metavar="FILE", help="a DiT or a text-to-image model (see `info`)")
    parser.add_argument("--samplers", default="er_sde,euler_ancestral", metavar="LIST", help="of ComfyUI's, by name")
    parser.add_argument("--scheduler", default="simple", metavar="NAME", help="of ComfyUI's")
    parser.add_argument("--steps", type=whole_number(3), default=20, metavar="N", help="of the full run")
    parser.add_argument("--i-steps", default="8", metavar="N,N...", help="of its steps")
    parser.add_argument("--cfg", type=number_in(0, 100), default=4.0, metavar="SCALE", help="classifier-free guidance")
    parser.add_argument("--samples", type=whole_number(1), default=4, metavar="N", help="all in one batch")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    try:
        device = device_named(options.device)
        import_host(device)
        runs = SamplerRuns(
            sampled_model(options.model, device), options.steps, options.scheduler, options.cfg, options.samples
        )
    except (CommandError, RuntimeError) as error:
        parser.error(str(error))
    for sampler in options.samplers.split(","):
        for line in table(sampler, runs.rows(sampler, [int(count) for count in options.i_steps.split(",")])):
            print(line, flush=True)
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
