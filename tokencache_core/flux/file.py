"""Reads, checks and writes files of text-to-image models.

A `.safetensors` file with the host's keys for the network, the words' table under `prompt_table.` and, in the metadata,
one JSON text (metadata.py). Weights are stored in bfloat16 unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..files.error_line import error_line
from ..files.whole_file import whole_file
from .config import FluxConfig
from .metadata import FluxMetadata
from .model import Flux
from .prompts import PromptTable
from .text_to_image import TextToImage

METADATA_KEY = "tokencache_text_to_image"
TABLE = "prompt_table."


class FluxFileError(ValueError):
    """A text-to-image file cannot be used. The message is one line that names the file and the remedy."""


def is_flux_file(path: str | Path) -> bool:
    """Whether a file says that it holds a text-to-image model; False for a damaged file."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def save_flux(model: TextToImage, path: str | Path, *, licence: str, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write `model` to `path`, completely or not at all."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise FluxFileError(f"{path}: a text-to-image model is saved as .safetensors; change the name's ending")
    network, prompts = model.network, model.prompts
    table = {TABLE + key: tensor for key, tensor in prompts.state_dict().items()}
    tensors = {key: tensor.detach().to("cpu", dtype) for key, tensor in (network.state_dict() | table).items()}
    said = FluxMetadata(network.config, prompts.words, prompts.length, prompts.examples, licence)
    with whole_file(path) as part:
        contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
        save_file(contiguous, part, metadata={"format": "pt", METADATA_KEY: said.as_text()})


def load_flux(
    path: str | Path,
    *,
    operations: Any = nn,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> TextToImage:
    """The model of a file, in eval mode, in float32 unless `dtype` says otherwise."""
    dtype = dtype or torch.float32
    tensors, config, prompts = network_and_prompts(path)
    network = Flux(config, operations=operations, dtype=dtype, device="meta")
    network.load_state_dict(
        {key: tensor.to(device=device, dtype=dtype) for key, tensor in tensors.items()}, assign=True
    )
    model = TextToImage(network, prompts.to(device=device, dtype=dtype))
    return model.eval().requires_grad_(False)


def network_and_prompts(path: str | Path) -> tuple[dict[str, Tensor], FluxConfig, PromptTable]:
    """A file's network as a state dict, with its weights as stored, its sizes, and its table of words in float32."""
    tensors, said = read_flux(path)
    prompts = said.table(device="meta")
    weights = {key.removeprefix(TABLE): tensors.pop(key).float() for key in list(tensors) if key.startswith(TABLE)}
    prompts.load_state_dict(weights, assign=True)
    return tensors, said.config, prompts.requires_grad_(False)


def read_flux(path: str | Path) -> tuple[dict[str, Tensor], FluxMetadata]:
    """A file's tensors as stored, and its metadata."""
    path = Path(path)
    try:
        tensors, metadata = _read_tensors(path)
        if METADATA_KEY not in metadata:
            raise ValueError(f"it is not a text-to-image model of this kind: its metadata has no '{METADATA_KEY}'")
        said = FluxMetadata.from_text(metadata[METADATA_KEY])
        _check_tensors(tensors, said)
    except ValueError as error:
        raise FluxFileError(f"{path}: {error}") from None
    return tensors, said


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    if not path.is_file():
        raise ValueError("there is no such file; check its name and folder")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"it is truncated or damaged ({error_line(error)}); download or save it again") from None
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"'{key}' holds {tensor.dtype}, not floating-point weights; save it unquantised")
        if not (tensor if tensor.itemsize > 1 else tensor.float()).isfinite().all():
            raise ValueError(f"'{key}' holds NaN or infinity; download or save it again")
    return tensors, metadata


def _check_tensors(tensors: Mapping[str, Tensor], said: FluxMetadata) -> None:
    table = said.table(device="meta").state_dict()
    network = Flux(said.config, device="meta").state_dict()
    expected = network | {TABLE + key: tensor for key, tensor in table.items()}
    _refuse([key for key in expected if key not in tensors], "it is not whole: {} missing; download or save it again")
    _refuse([key for key in tensors if key not in expected], "it holds more than such a model: {} unknown")
    for key, tensor in expected.items():
        if tensors[key].shape != tensor.shape:
            raise ValueError(
                f"'{key}' has shape {tuple(tensors[key].shape)} where its sizes ask for {tuple(tensor.shape)}; "
                "save it again"
            )


def _refuse(keys: list[str], message: str) -> None:
    if keys:
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        some = ", ".join(f"'{key[:80]}'" for key in keys[:3])
        raise ValueError(message.format(some + more + (" is" if len(keys) == 1 else " are")))
