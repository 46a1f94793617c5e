"""Makes tokencache_core/known_models.safetensors: records of whole runs of a few models, from which the default places
of I-steps are found.

    python -m reference.known_runs reference/emoji-dit.safetensors another.safetensors

The shipped file was made from two versions of reference/emoji-dit.safetensors, the current one and that of commit
d2c7fb5, which was trained on nine classes, at guidance 4.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tqdm import tqdm

from tokencache_core.cli.options import model_and_names
from tokencache_core.dit.model import DiT
from tokencache_core.dit.run import DiTRun
from tokencache_core.sampling.noise_schedule import train_sigmas
from tokencache_core.sampling.noise_time import noise_ratio, noise_time
from tokencache_core.sampling.samplers import starting_noise
from tokencache_core.schedules.known_models import FILE
from tokencache_core.schedules.run_record import RunRecorder

CFG, BATCH, BATCHES, FIRST_SEED = 4.0, 4, 3, 5000
# EVEN evenly spaced times; those below sigma LEAST are replaced by TAIL sigmas in equal ratios, down to SMALLEST
EVEN, LEAST, TAIL, SMALLEST = 64, 0.03, 9, 0.006


def sigmas() -> torch.Tensor:
    """The sigmas (steps + 1,) at which the models are run, falling to 0."""
    largest = float(train_sigmas()[-1])
    even = [noise_ratio(noise_time(largest) * (1 - step / EVEN)) for step in range(EVEN)]
    even = [largest, *(sigma for sigma in even[1:] if sigma > LEAST)]
    return torch.tensor(
        [*even, *(even[-1] * (SMALLEST / even[-1]) ** (step / TAIL) for step in range(1, TAIL + 1)), 0.0]
    )


@torch.no_grad()
def directions_of(model: DiT, advance: tqdm) -> np.ndarray:
    """Each sample's directions (samples, steps, steps), float32, in as many coordinates as there are steps."""
    found = []
    for batch in range(BATCHES):
        labels = torch.tensor([(5 * (batch * BATCH + row) + 1) % model.config.num_classes for row in range(BATCH)])
        run = DiTRun(
            model,
            labels,
            noise=starting_noise(model.noise_shape(BATCH), FIRST_SEED + batch * BATCH, sigmas()[0]),
            sigmas=sigmas(),
            cfg=CFG,
            solver="ddim",
        )
        recorder = RunRecorder(run.sigmas.tolist())
        run.sample(recorder.around)
        found.append(recorder.record(run.noise_time).products)
        advance.update()
    values, vectors = np.linalg.eigh(np.concatenate(found))
    return (vectors * np.sqrt(np.maximum(values, 0))[:, None]).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="FILE", help="DiTs as .safetensors or .pt")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE")
    args = parser.parse_args()
    with tqdm(total=len(args.models) * BATCHES, unit="run") as bar:
        directions = np.concatenate(
            [directions_of(model_and_names(file, torch.device("cpu"))[0], bar) for file in args.models]
        )
    times = np.array([noise_time(sigma) for sigma in sigmas()[:-1].tolist()])
    save_file({"times": times[::-1].copy(), "directions": directions[:, ::-1].copy()}, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
