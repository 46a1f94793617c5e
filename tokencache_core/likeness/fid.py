"""FID and sFID: the Frechet distance of samples' Inception features from statistics in a file.

The file is the .npz of ADM's evaluator (openai/guided-diffusion, folder evaluations): the mean `mu` and covariance
`sigma` of pool features, `mu_s` and `sigma_s` of spatial ones (likeness/inception.py). Whatever else it holds is not
read.
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
LARGEST = 8 * POOL_WIDTH**2 + 2**16  # bytes of one array: float64, and its header
SYMMETRY = 1e-4  # of the largest value


class StatisticsError(ValueError):
    """A statistics file that cannot be used: one line that names the file and the remedy."""


@dataclass(frozen=True)
class Statistics:
    """Of the data that samples are compared with: pool features for FID, spatial ones for sFID."""

    pool: Gaussian
    spatial: Gaussian


def read_statistics(path: str | Path) -> Statistics:
    """The statistics of an .npz file, in which nothing is ever unpickled."""
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
                    f"{path}: its {name} has {sizes[name]:,} bytes, which is too many for {FIELDS[name]}"
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
        raise StatisticsError(f"{path}: it is no .npz file of plain numbers, or damaged; download it again") from None
    return Statistics(Gaussian(arrays["mu"], arrays["sigma"]), Gaussian(arrays["mu_s"], arrays["sigma_s"]))


def _checked(path: Path, name: str, array: np.ndarray) -> Tensor:
    if array.shape != FIELDS[name] or array.dtype.kind != "f":
        raise StatisticsError(
            f"{path}: its {name} is {array.dtype} of shape {array.shape}, not floating-point of {FIELDS[name]}"
        )
    if not np.isfinite(array).all():
        raise StatisticsError(f"{path}: its {name} holds values that are no finite numbers")
    array = array.astype(np.float64)
    if array.ndim == 2 and (
        np.diagonal(array).min() < 0 or np.abs(array - array.T).max() > SYMMETRY * np.abs(array).max()
    ):
        raise StatisticsError(f"{path}: its {name} is no covariance: it is not symmetric, or a variance is below 0")
    return torch.from_numpy(array)
