"""Reference statistics for FID and sFID, the Frechet distances of samples' Inception features from those of the data.

The file is the .npz of ADM's evaluator (openai/guided-diffusion, folder evaluations): mean `mu` and covariance `sigma`
of the pool features, and `mu_s` and `sigma_s` of the spatial features (likeness/inception.py). Anything else in it is
ignored.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .frechet import Gaussian

POOL_WIDTH, SPATIAL_WIDTH = 2048, 2023
FIELDS = {"mu": (POOL_WIDTH,), "sigma": (POOL_WIDTH,) * 2, "mu_s": (SPATIAL_WIDTH,), "sigma_s": (SPATIAL_WIDTH,) * 2}
LARGEST = 8 * POOL_WIDTH**2 + 2**16  # largest size of an array in bytes: float64 values and a header
SYMMETRY = 1e-4  # largest asymmetry of a covariance, relative to its largest value


class StatisticsError(ValueError):
    """A statistics file cannot be used. The message is one line that names the file and the remedy."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of the data that samples are compared with: of pool features for FID, and spatial ones for sFID."""

    pool: Gaussian
    spatial: Gaussian


def read_statistics(path: str | Path) -> Statistics:
    """Read the statistics from an .npz file, without unpickling anything."""
    path = Path(path)
    if not path.is_file():
        raise StatisticsError(f"{path}: there is no such file; check its name and folder")
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        missing = [name for name in FIELDS if name not in sizes]
        if missing:
            raise StatisticsError(
                f"{path}: it lacks {', '.join(missing)}; a file of ADM's evaluator holds {', '.join(FIELDS)} "
                "(docs/fid.md)"
            )
        for name in FIELDS:
            if sizes[name] > LARGEST:
                raise StatisticsError(
                    f"{path}: its {name} has {sizes[name]:,} bytes, which is too large for shape {FIELDS[name]}"
                )
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: _checked(path, name, file[name]) for name in FIELDS}
    except StatisticsError:
        raise
    except (
        OSError,
        ValueError,
        EOFError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        raise StatisticsError(
            f"{path}: it is not an .npz file of plain numbers, or is damaged; download it again"
        ) from None
    return Statistics(Gaussian(arrays["mu"], arrays["sigma"]), Gaussian(arrays["mu_s"], arrays["sigma_s"]))


def _checked(path: Path, name: str, array: np.ndarray) -> Tensor:
    """An array of the file as a float64 tensor; StatisticsError if it is not what its name says."""
    if array.shape != FIELDS[name] or array.dtype.kind != "f":
        raise StatisticsError(
            f"{path}: its {name} is {array.dtype} of shape {array.shape}, not floating-point of shape {FIELDS[name]}"
        )
    if not np.isfinite(array).all():
        raise StatisticsError(f"{path}: its {name} holds values that are not finite numbers")
    array = array.astype(np.float64)
    if array.ndim == 2 and (
        np.diagonal(array).min() < 0 or np.abs(array - array.T).max() > SYMMETRY * np.abs(array).max()
    ):
        raise StatisticsError(f"{path}: its {name} is not a covariance: it is asymmetric, or a variance is below 0")
    return torch.from_numpy(array)
