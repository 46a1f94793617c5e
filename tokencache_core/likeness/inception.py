"""Inception features of pictures, and the Inception score, computed by torch-fidelity with weights from a local file.

torch-fidelity's network is the TensorFlow one of 2015-12-05 that ADM's evaluator uses, including its resizing. It would
unpickle anything in a file of weights. So the file is read here, as tensors only, and the network receives a copy.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from .fid import POOL_WIDTH, SPATIAL_WIDTH

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}"
WEIGHTS_HASH = "6726825d"  # first digits of the published file's SHA-256
LOGITS = 1008
WIDTHS = {"pool": POOL_WIDTH, "spatial": SPATIAL_WIDTH, "logits": LOGITS}
SPATIAL_CHANNELS = 7  # of 192; with 17 x 17 positions these are 2,023 values
SCORE_SPLIT = 5000  # samples in one split of the Inception score


class InceptionError(ValueError):
    """Weights or a library cannot be used. The message is one line with the remedy."""


def _library(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    except ModuleNotFoundError:
        raise InceptionError("torch-fidelity is not installed; pip install torch-fidelity==0.4.0") from None


class InceptionFeatures:
    """Extracts from uint8 pictures the features for FID, sFID and the Inception score.

    network: torch-fidelity's Inception network.
    sha256: of the file of weights.
    """

    def __init__(self, network: nn.Module, sha256: str) -> None:
        self.network, self.sha256 = network, sha256

    @property
    def published(self) -> bool:
        """Whether the weights are the published ones."""
        return self.sha256.startswith(WEIGHTS_HASH)

    @torch.no_grad()
    def of(self, pictures: Tensor) -> dict[str, Tensor]:
        """The features of pictures (B, 3, H, W) uint8, float32 on the CPU.

        "pool": (B, 2048).
        "spatial": (B, 2023), the tensor `mixed_6/conv` of the TensorFlow graph: the first 7 channels of the 1 x 1
            branch of Mixed_6d after its ReLU, flattened in the order rows, columns, channels, as in ADM's evaluator.
        "logits": (B, 1008), without the bias, as in ADM's evaluator.
        """
        seen: list[Tensor] = []
        branch = self.network.get_submodule("Mixed_6d.branch1x1")

        def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen.append(output)

        hook = branch.register_forward_hook(keep)
        try:
            pool, logits = self.network(pictures)
        finally:
            hook.remove()
        spatial = seen[0][:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)  # (B, 7, 17, 17) -> (B, 17 * 17 * 7)
        return {
            name: values.float().cpu().contiguous()
            for name, values in (("pool", pool), ("spatial", spatial), ("logits", logits))
        }


def load_inception(path: str | Path, device: torch.device) -> InceptionFeatures:
    """Load the network with the weights of a file, reading only tensors and opening no network connection."""
    path, library = Path(path), _library("feature_extractor_inceptionv3")
    if not path.is_file():
        raise InceptionError(f"{path}: there is no such file; get {WEIGHTS_URL}")
    content = path.read_bytes()
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InceptionError(
            f"{path}: it holds more than plain tensors (or is damaged) and was not loaded, since such a file can run "
            f"code; get {WEIGHTS_URL}"
        ) from None
    except Exception:  # other bytes make the reader fail in a dozen ways
        raise InceptionError(f"{path}: it is truncated or not a file of weights; get {WEIGHTS_URL}") from None
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    ):
        raise InceptionError(f"{path}: it is not a dictionary of tensors; get {WEIGHTS_URL}")
    copy = io.BytesIO()
    torch.save(dict(weights), copy)
    copy.seek(0)
    try:
        network = library.FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=copy
        )
    except RuntimeError:  # its message lists every key
        raise InceptionError(
            f"{path}: these are not the weights of torch-fidelity's Inception network; get {WEIGHTS_URL}"
        ) from None
    return InceptionFeatures(network.to(device), hashlib.sha256(content).hexdigest())


def inception_score(logits: Tensor) -> float:
    """The Inception score of logits (N, 1008): the mean over splits of 5,000 samples in order (one split if fewer)."""
    splits = max(1, len(logits) // SCORE_SPLIT)
    found = _library("metric_isc").isc_features_to_metric(logits, splits=splits, shuffle=False)
    return found["inception_score_mean"]
