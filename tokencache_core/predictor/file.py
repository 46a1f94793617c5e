"""Predictor files: a trained cache in one `.safetensors` file, checked in full before any of it is used.

Tensors are named "predictor.<name>", "lora.<block>.<layer's path>.down" or ".up" and
"forecast.<first block>-<last block>.<name>", and stored in float16 where their values allow it. Everything else is one
JSON text in the file's metadata (predictor/metadata.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..files.json_format import NewerFormatError
from ..files.strict_json import shown
from ..files.whole_file import whole_file
from . import metadata as predictor_metadata
from .learned_forecast import forecast_from_tensors
from .lora import LoraPair, LoraRepair
from .metadata import PredictorMetadata
from .trained_cache import PredictorWeights, TrainedCache

SUFFIX = ".safetensors"
METADATA_KEY = "tokencache"
DTYPES = ("F16", "F32")
PREDICTOR_KEY = re.compile(r"predictor\.([\w.]{1,200})", re.ASCII)
LORA_KEY = re.compile(r"lora\.(0|[1-9][0-9]{0,4})\.([\w.]{1,200})\.(down|up)", re.ASCII)
FORECAST_KEY = re.compile(r"forecast\.(0|[1-9][0-9]{0,4})-(0|[1-9][0-9]{0,4})\.([\w.]{1,40})", re.ASCII)
CHOOSE = "choose a file that Save Cache Predictor wrote"
AGAIN = "download it again, or train and save it again"


class PredictorFileError(ValueError):
    """A predictor file cannot be read or written: one line that names the file and the remedy."""


def read_trained_cache(path: str | Path) -> TrainedCache:
    """The trained cache in the file at `path`, its tensors in float32 on the CPU; PredictorFileError if unusable."""
    path = Path(path)
    try:
        _check_name(path)
        if not path.is_file():
            raise ValueError("there is no such file; check its name and folder")
        return _read(path)
    except ValueError as error:
        raise PredictorFileError(f"{path}: {error}") from None


def save_trained_cache(trained: TrainedCache, path: str | Path) -> None:
    """Write `trained` to a `.safetensors` file: completely or not at all, and only if it can be read back."""
    path = Path(path)
    try:
        _check_name(path)
        tensors = {key: _for_file(key, tensor) for key, tensor in _tensors(trained).items()}
        text = predictor_metadata.to_text(trained, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
        with whole_file(path) as part:
            save_file(tensors, part, metadata={METADATA_KEY: text})  # a single entry: the order of several would vary
            _read(part)
    except (SafetensorError, OSError) as error:
        reason = f"it cannot be written ({_one_line(error)}); check the folder and its free space"
        raise PredictorFileError(f"{path}: {reason}") from None
    except (TypeError, ValueError) as error:
        raise PredictorFileError(f"{path}: it was not saved, because it could not be read back: {error}") from None


def holds_predictor(path: str | Path) -> bool:
    """Whether a file is meant to be a predictor (even a damaged one) rather than a model or anything else."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return METADATA_KEY in (file.metadata() or {}) or any(_is_ours(key) for key in file.keys())
    except (SafetensorError, OSError):
        return False


def _check_name(path: Path) -> None:
    if path.suffix.lower() != SUFFIX:
        raise ValueError(
            f"a predictor is a {SUFFIX} file, not '{path.suffix}'; other types may run code when they are read and are "
            f"never opened; choose a {SUFFIX} file, as Save Cache Predictor writes them"
        )


def _read(path: Path) -> TrainedCache:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            keys, texts = list(file.keys()), file.metadata() or {}
            if METADATA_KEY not in texts:
                raise ValueError(_what_else(keys))
            metadata = _metadata(texts[METADATA_KEY])
            heads = {key: file.get_slice(key) for key in keys}
            found = {key: (head.get_dtype(), tuple(head.get_shape())) for key, head in heads.items()}
            _check_tensors(metadata.shapes, found)
            tensors = {key: _finite(key, file.get_tensor(key).to(torch.float32, copy=True)) for key in keys}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"it is truncated or damaged ({_one_line(error)}); {AGAIN}") from None
    return _trained_cache(metadata, tensors)


def _what_else(keys: Iterable[str]) -> str:
    """What a file without our metadata seems to be, and what to do with it."""
    keys = list(keys)
    if any(_is_ours(key) for key in keys):
        return f"its metadata have lost the entry '{METADATA_KEY}', without which its tensors are meaningless; {AGAIN}"
    if any(key.endswith("x_embedder.proj.weight") for key in keys):
        return f"this is a DiT model, not a predictor; load it as a model, and {CHOOSE}"
    if any("lora_" in key for key in keys):
        return f"this is a plain LoRA, not a predictor; load it as a LoRA, and {CHOOSE}"
    return f"this is not a predictor: its metadata have no entry '{METADATA_KEY}'; {CHOOSE}"


def _is_ours(key: str) -> bool:
    return any(pattern.fullmatch(key) for pattern in (PREDICTOR_KEY, LORA_KEY, FORECAST_KEY))


def _metadata(text: str) -> PredictorMetadata:
    try:
        return predictor_metadata.from_text(text)
    except NewerFormatError:
        raise
    except ValueError as error:
        raise ValueError(f"its metadata cannot be used: {error}; {AGAIN}") from None


def _check_tensors(shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    """ValueError unless the tensors are exactly those that the metadata list, in the listed shapes.

    Called before any tensor is read.

    shapes: listed in the metadata, by key.
    found: (dtype, shape) of the tensors in the file, by key.
    """
    for key in shapes:
        if key not in found:
            raise ValueError(f"its tensor {shown(key)} is missing; {AGAIN}")
    for key, (dtype, shape) in found.items():
        if key not in shapes or not _is_ours(key):
            raise ValueError(f"its tensor {shown(key)} is unknown; {AGAIN}")
        if dtype not in DTYPES:
            raise ValueError(f"its tensor {shown(key)} holds {dtype}, not {' or '.join(DTYPES)}; {AGAIN}")
        if shape != shapes[key]:
            listed = f"not {shapes[key]} as its metadata say"
            raise ValueError(f"its tensor {shown(key)} has shape {shape}, {listed}; {AGAIN}")


def _finite(key: str, tensor: Tensor) -> Tensor:
    if not tensor.isfinite().all():
        raise ValueError(f"its tensor {shown(key)} holds NaN or infinity; {AGAIN}")
    return tensor


def _trained_cache(metadata: PredictorMetadata, tensors: Mapping[str, Tensor]) -> TrainedCache:
    weights = {match[1]: tensor for key, tensor in tensors.items() if (match := PREDICTOR_KEY.fullmatch(key))}
    halves: dict[tuple[int, str], dict[str, Tensor]] = {}
    forecasts: dict[tuple[int, int], dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if match := LORA_KEY.fullmatch(key):
            halves.setdefault((int(match[1]), match[2]), {})[match[3]] = tensor
        elif match := FORECAST_KEY.fullmatch(key):
            forecasts.setdefault((int(match[1]), int(match[2])), {})[match[3]] = tensor
    try:
        return TrainedCache(
            predictor=_predictor(metadata, weights),
            repair=_repair(metadata, halves),
            forecasts={span: forecast_from_tensors(tensors) for span, tensors in sorted(forecasts.items())},
            **metadata.fields,
        )
    except ValueError as error:
        raise ValueError(f"it does not fit together: {error}; {AGAIN}") from None


def _predictor(metadata: PredictorMetadata, weights: dict[str, Tensor]) -> PredictorWeights | None:
    if metadata.kind is not None:
        return PredictorWeights(metadata.kind, weights, metadata.every_step)
    if weights:
        raise ValueError("it has the tensors of a Cache Predictor, but its metadata say that there is none")
    return None


def _repair(metadata: PredictorMetadata, halves: Mapping[tuple[int, str], dict[str, Tensor]]) -> LoraRepair | None:
    rank, alpha = metadata.rank, metadata.alpha
    if (rank is None) != (not halves):
        raise ValueError("either its LoRA tensors or their description in the metadata are missing")
    if rank is None or alpha is None:
        return None
    blocks: dict[int, dict[str, LoraPair]] = {}
    for (block, layer), pair in sorted(halves.items()):
        if len(pair) < 2:
            (missing,) = {"down", "up"} - set(pair)
            raise ValueError(f"the LoRA pair of block {block}, {layer}, has no '{missing}'")
        blocks.setdefault(block, {})[layer] = LoraPair(**pair)
    return LoraRepair(blocks, rank, alpha)


def _tensors(trained: TrainedCache) -> dict[str, Tensor]:
    """A trained cache's tensors, by their keys in the file."""
    weights = trained.predictor.tensors if trained.predictor else {}
    tensors = {f"predictor.{name}": tensor for name, tensor in weights.items()}
    for block, pairs in trained.repair.blocks.items() if trained.repair else ():
        for layer, pair in pairs.items():
            tensors |= {f"lora.{block}.{layer}.down": pair.down, f"lora.{block}.{layer}.up": pair.up}
    for (first, last), module in trained.forecasts.items():
        tensors |= {f"forecast.{first}-{last}.{name}": tensor for name, tensor in module.state_dict().items()}
    return tensors


def _for_file(key: str, tensor: Tensor) -> Tensor:
    """A copy in float16, or in float32 if float16 would overflow or all values are too small for its precision."""
    if not tensor.is_floating_point():
        raise ValueError(f"its tensor {shown(key)} holds {tensor.dtype}, not floating-point weights")
    tensor = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
    limits, largest = torch.finfo(torch.float16), tensor.abs().max() if tensor.numel() else torch.zeros(())
    return tensor.half() if largest <= limits.max and (largest == 0 or largest >= limits.tiny) else tensor


def _one_line(error: Exception) -> str:
    return shown(f"{type(error).__name__}: {error}", 120)
