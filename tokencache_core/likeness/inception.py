"""Inception's features of pictures, and the Inception score, by torch-fidelity with weights from a local file.

torch-fidelity's network is the TensorFlow one of 2015-12-05 that ADM's evaluator runs, its resizing included. It
unpickles a file of weights whatever it holds; so the file is read here, as tensors alone, and the network is given a
copy of these.
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
WEIGHTS_HASH = "6726825d"  # how the SHA-256 of the published file begins
LOGITS = 1008
WIDTHS = {"pool": POOL_WIDTH, "spatial": SPATIAL_WIDTH, "logits": LOGITS}
SPATIAL_CHANNELS = 7  # of the 192; on 17 x 17 places that makes 2,023 values
SCORE_SPLIT = 5000  # samples of one split of the Inception score


class InceptionError(ValueError):
    """Weights, or a library, that cannot be used: one line with the remedy."""


def _library(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    except ModuleNotFoundError:
        raise InceptionError("torch-fidelity is not installed; pip install torch-fidelity==0.4.0") from None


class InceptionFeatures:
    """Of uint8 pictures, what FID, sFID and the Inception score are computed from. sha256: of the file of weights."""

    def __init__(self, network: nn.Module, sha256: str) -> None:
        self.network, self.sha256 = network, sha256

    @property
    def published(self) -> bool:
        return self.sha256.startswith(WEIGHTS_HASH)

    @torch.no_grad()
    def of(self, pictures: Tensor) -> dict[str, Tensor]:
        """pictures: (B, 3, H, W) uint8. Gives float32 on the CPU: pool (B, 2048), spatial (B, 2023), logits (B, 1008).

        spatial: the tensor `mixed_6/conv` of the TensorFlow graph, here the 1 x 1 branch of Mixed_6d after its ReLU,
        the first 7 channels, flattened rows first and channels last as the evaluator does. logits: without the bias,
        likewise.
        """
        seen: list[Tensor] = []
        hook = self.network.Mixed_6d.branch1x1.register_forward_hook(lambda module, args, output: seen.append(output))
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
    """The network with the weights of a file; nothing in it but tensors is read, and no network connection is made."""
    path, library = Path(path), _library("feature_extractor_inceptionv3")
    if not path.is_file():
        raise InceptionError(f"{path}: there is no such file; get {WEIGHTS_URL}")
    content = path.read_bytes()
    try:
        weights = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InceptionError(
            f"{path}: it holds more than plain tensors (or is damaged); it was not loaded, since such a file can run "
            f"code; get {WEIGHTS_URL}"
        ) from None
    except Exception:  # foreign bytes: the reader fails in a dozen ways
        raise InceptionError(f"{path}: it is truncated or no file of weights; get {WEIGHTS_URL}") from None
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    ):
        raise InceptionError(f"{path}: it is no dictionary of tensors; get {WEIGHTS_URL}")
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
    """The mean over splits of 5,000 samples (one split, where they are fewer), in their order, of logits (N, 1008)."""
    splits = max(1, len(logits) // SCORE_SPLIT)
    found = _library("metric_isc").isc_features_to_metric(logits, splits=splits, shuffle=False)
    return found["inception_score_mean"]
