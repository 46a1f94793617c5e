"""FID and sFID: the Frechet distance of samples' Inception features from statistics in a file.

The file is the .npz of ADM's evaluator (openai/guided-diffusion, folder evaluations): the mean `mu` and covariance `sigma`
of pool features, `mu_s` and `sigma_s` of spatial ones (inception_features.py). Whatever else it holds is not read.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

POOL_WIDTH, SPATIAL_WIDTH = 2048, 2023
FIELDS = {"mu": (POOL_WIDTH,), "sigma": (POOL_WIDTH,) * 2, "mu_s": (SPATIAL_WIDTH,), "sigma_s": (SPATIAL_WIDTH,) * 2}
LARGEST = 8 * POOL_WIDTH**2 + 2**16     # bytes of one array: float64, and its header
SYMMETRY = 1e-4                         # of the largest value


class StatisticsError(ValueError):
    """A statistics file that cannot be used: one line that names the file and the remedy."""


@dataclass(frozen=True)
class Gaussian:
    """What is known of features of width D: mean (D,) and covariance (D, D), both float64."""

    mean: Tensor
    covariance: Tensor


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
                f"{path}: it lacks {', '.join(missing)}; a file of ADM's evaluator holds {', '.join(FIELDS)} (docs/fid.md)"
            )
        for name in FIELDS:
            if sizes[name] > LARGEST:
                raise StatisticsError(f"{path}: its {name} has {sizes[name]:,} bytes, which is too many for {FIELDS[name]}")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: _checked(path, name, file[name]) for name in FIELDS}
    except StatisticsError:
        raise
    except (OSError, ValueError, EOFError, MemoryError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error):
        raise StatisticsError(f"{path}: it is no .npz file of plain numbers, or damaged; download it again") from None
    return Statistics(Gaussian(arrays["mu"], arrays["sigma"]), Gaussian(arrays["mu_s"], arrays["sigma_s"]))


def _checked(path: Path, name: str, array: np.ndarray) -> Tensor:
    if array.shape != FIELDS[name] or array.dtype.kind != "f":
        raise StatisticsError(f"{path}: its {name} is {array.dtype} of shape {array.shape}, not floating-point of {FIELDS[name]}")
    if not np.isfinite(array).all():
        raise StatisticsError(f"{path}: its {name} holds values that are no finite numbers")
    array = array.astype(np.float64)
    if array.ndim == 2 and (np.diagonal(array).min() < 0 or np.abs(array - array.T).max() > SYMMETRY * np.abs(array).max()):
        raise StatisticsError(f"{path}: its {name} is no covariance: it is not symmetric, or a variance is below 0")
    return torch.from_numpy(array)


def distance_from(features: Tensor, known: Gaussian) -> float:
    """The Frechet distance of features (N, D) from what is `known`: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).

    With C = A^T A, C C' has the eigenvalues of A C' A^T. A is (N, D), the centred features by sqrt(N - 1), where these are
    fewer than D, and else a (D, D) root of C; so no root of a matrix that is not symmetric is ever taken.
    """
    count, width = features.shape
    if count < 2 or width != len(known.mean):
        raise ValueError(f"at least 2 features of width {len(known.mean)} are compared, not {tuple(features.shape)}")
    features = features.double()
    mean = features.mean(dim=0)
    factor = (features - mean) / (count - 1) ** 0.5
    trace = factor.square().sum()
    if count > width:
        values, vectors = torch.linalg.eigh(factor.T @ factor)
        factor = values.clamp(min=0).sqrt()[:, None] * vectors.T
    shared = torch.linalg.eigvalsh(factor @ known.covariance @ factor.T).clamp(min=0).sqrt().sum()
    return float((mean - known.mean).square().sum() + trace + known.covariance.trace() - 2 * shared)
