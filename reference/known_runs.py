"""Makes tokencache_core/schedules/known_models.safetensors: full runs of a few models, from which the default places
of I-steps are found.

    python -m reference.known_runs reference/emoji-dit.safetensors nine-classes-dit.safetensors \\
        reference/emoji-flux.safetensors reference/emoji-clips.safetensors --references reference/edits

The shipped file was made from these, at the guidance that is usual for each. The second is an older version of the
first, which was trained on nine classes (git show d2c7fb5:reference/emoji-dit.safetensors).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from tqdm import tqdm

from tokencache_core.cli.options import add_references_argument, sampled_model
from tokencache_core.runs.sampled_model import SampledModel
from tokencache_core.sampling.noise_schedule import train_sigmas
from tokencache_core.sampling.noise_time import noise_ratio, noise_time
from tokencache_core.schedules.known_models import FILE, FLOW, TIMES

BATCH, BATCHES, FIRST_SEED = 4, 3, 5000
GUIDANCE = {"Flux": 3.5, "DiT": 4.0, "Open-Sora-Plan": 3.0}  # of models of each architecture
COORDINATES = 32  # of a sample's own, in which its directions are kept
# EVEN evenly spaced times; those below sigma LEAST are replaced by TAIL sigmas in equal ratios, down to SMALLEST
EVEN, LEAST, TAIL, SMALLEST = 64, 0.03, 9, 0.006


def noise_levels() -> torch.Tensor:
    """(steps + 1,): the noise in units of the signal at which the models are run, falling to 0."""
    largest = float(train_sigmas()[-1])
    even = [noise_ratio(noise_time(largest) * (1 - step / EVEN)) for step in range(EVEN)]
    even = [largest, *(sigma for sigma in even[1:] if sigma > LEAST)]
    return torch.tensor(
        [*even, *(even[-1] * (SMALLEST / even[-1]) ** (step / TAIL) for step in range(1, TAIL + 1)), 0.0]
    )


@torch.no_grad()
def runs_of(model: SampledModel, is_flow: bool, advance: tqdm) -> tuple[np.ndarray, np.ndarray]:
    """Each sample's directions, and what its network added to its input, (samples, steps, COORDINATES) float32."""
    levels = noise_levels()
    sigmas = levels / (1 + levels) if is_flow else levels
    kept: list[np.ndarray] = []
    for batch in range(BATCHES):
        first = batch * BATCH
        conditions = [model.every[(5 * (first + row) + 1) % len(model.every)] for row in range(BATCH)]
        noise = model.starting_noise(BATCH, FIRST_SEED + first, sigmas)
        run = model.run(conditions, noise=noise, sigmas=sigmas, cfg=GUIDANCE[model.architecture], solver="ddim")
        found: list[torch.Tensor] = []  # (2, B, elements) of each step

        def around(denoise):
            def watched(x, sigma):
                clean = denoise(x, sigma)
                direction = (x - clean) / sigma
                found.append(torch.stack([direction, direction - run.input_scale(float(sigma)) * x]).flatten(2))
                return clean

            return watched

        run.sample(around)
        kept += [_in_own_coordinates(sample) for sample in torch.stack(found, dim=2).double().numpy().swapaxes(0, 1)]
        advance.update()
    directions, added = np.stack(kept, axis=1).astype(np.float32)
    return directions, added


def _in_own_coordinates(vectors: np.ndarray) -> np.ndarray:
    """(2, steps, COORDINATES) with the inner products of `vectors` (2, steps, elements), as means over elements."""
    parts, steps, elements = vectors.shape
    rows = vectors.reshape(-1, elements)
    values, axes = np.linalg.eigh(rows @ rows.T / elements)
    return (axes * np.sqrt(np.maximum(values, 0)))[:, -COORDINATES:].reshape(parts, steps, COORDINATES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="FILE", help="models that the core samples (see `info`)")
    add_references_argument(parser)
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE")
    args = parser.parse_args()
    cpu = torch.device("cpu")
    models = {Path(file).stem: sampled_model(file, cpu, None) for file in args.models}
    for file in args.models if args.references is not None else ():
        if models[Path(file).stem].architecture == "Flux":
            models[f"{Path(file).stem}-edits"] = sampled_model(file, cpu, args.references)
    tensors = {TIMES: np.array([noise_time(level) for level in noise_levels()[:-1].tolist()])[::-1].copy()}
    with tqdm(total=len(models) * BATCHES, unit="run") as bar:
        for name, model in models.items():
            is_flow = model.architecture == "Flux"
            for part, values in zip(("directions", "added"), runs_of(model, is_flow, bar)):
                tensors[f"{FLOW if is_flow else 'noise'}/{name}/{part}"] = values[:, ::-1].copy()
    save_file(tensors, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
