"""An Inception of random weights, statistics of its features, and `bench --fid-stats` with both."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from commands import here
from safetensors.torch import load_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def call(*args: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command in this process."""
    done = here(*args)
    return done.returncode, done.stdout, done.stderr


def save_statistics(path: Path, pool: torch.Tensor, spatial: torch.Tensor, **changed: np.ndarray | None) -> Path:
    """An .npz as ADM's, of features (N, 2048) and (N, 2023); `changed` takes an array's place, or leaves it out."""
    pool, spatial = pool.double().numpy(), spatial.double().numpy()
    arrays = {
        "mu": pool.mean(0),
        "sigma": np.cov(pool, rowvar=False),
        "mu_s": spatial.mean(0),
        "sigma_s": np.cov(spatial, rowvar=False),
    }
    np.savez(path, **{name: array for name, array in (arrays | changed).items() if array is not None})
    return path


def save_random_inception(path: Path) -> Path:
    """A file of weights for torch-fidelity's network, so large that no layer drowns what the pictures differ in."""

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, weights):
            pass

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    weights = Unloaded("random", ["2048"], feature_extractor_weights_path=nothing).state_dict()
    generator = torch.Generator().manual_seed(0)
    for tensor in weights.values():
        if tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
    torch.save(weights, path)
    return path


def table(*args: object) -> dict[str, list[str]]:
    """The printed cells by method, speed-up first."""
    code, out, err = call(*args)
    assert code == 0, err
    lines = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ")]
    assert lines[0] == ["method", "speed-up", "FID", "from full", "sFID", "from full", "IS", "from full"]
    return {cells[0]: cells[1:] for cells in lines[1:]}


def statistics_of(full: Path, stats: Path) -> Path:
    """Of the full run's own samples, which were measured into the folder `full`."""
    parts = [load_file(file) for file in sorted(full.iterdir())]
    return save_statistics(stats, *(torch.cat([part[name] for part in parts]) for name in ("pool", "spatial")))
