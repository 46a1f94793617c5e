"""Files of text-to-image models: read and checked, and written.

A `.safetensors` file with the host's keys for the network, the words' table under `prompt_table.` and, in the metadata,
one JSON text of the sizes, the words and the licence. Weights are stored in bfloat16 unless told otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..files.whole_file import whole_file
from .config import FluxConfig
from .model import Flux
from .prompts import PromptTable, words_of
from .text_to_image import TextToImage

METADATA_KEY = "tokencache_text_to_image"
FORMAT = "tokencache text-to-image"
VERSION = 1
TABLE = "prompt_table."
MOST_WORDS, MOST_EXAMPLES = 100_000, 100_000
MOST_JSON = 2**22  # characters of the metadata
_LIMITS = {  # of whole numbers in the configuration
    "hidden_size": 16_384,
    "num_heads": 256,
    "depth": 200,
    "depth_single_blocks": 200,
    "context_in_dim": 16_384,
    "vec_in_dim": 16_384,
    "in_channels": 256,
    "patch_size": 64,
    "input_size": 16_384,
    "theta": 10**9,
}


class FluxFileError(ValueError):
    """A text-to-image file that cannot be used: one line that names the file and the remedy."""


def is_flux_file(path: str | Path) -> bool:
    """Whether it says of itself that it holds a text-to-image model; False of a damaged file too."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def save_flux(model: TextToImage, path: str | Path, *, licence: str, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write `model` to `path`, whole or not at all."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise FluxFileError(f"{path}: a text-to-image model is saved as .safetensors; change the name's ending")
    table = {TABLE + key: tensor for key, tensor in model.prompts.state_dict().items()}
    tensors = {
        key: tensor.detach().to("cpu", dtype).contiguous()
        for key, tensor in (model.network.state_dict() | table).items()
    }
    said = {
        "format": FORMAT,
        "version": VERSION,
        "licence": licence,
        "network": asdict(model.network.config),
        "prompts": {"words": model.prompts.words, "length": model.prompts.length, "examples": model.prompts.examples},
    }
    with whole_file(path) as part:
        save_file(tensors, part, metadata={"format": "pt", METADATA_KEY: json.dumps(said)})


def load_flux(
    path: str | Path,
    *,
    operations: Any = nn,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> TextToImage:
    """The model of a file, in eval mode, in float32 unless `dtype` says otherwise."""
    tensors, config, said = read_flux(path)
    dtype = dtype or torch.float32
    network = Flux(config, operations=operations, dtype=dtype, device="meta")
    model = TextToImage(network, PromptTable(**said, width=config.context_in_dim, dtype=dtype, device="meta"))
    weights = {key: tensor.to(device=device, dtype=dtype) for key, tensor in tensors.items()}
    network.load_state_dict({key: tensor for key, tensor in weights.items() if not key.startswith(TABLE)}, assign=True)
    model.prompts.load_state_dict(
        {key[len(TABLE) :]: tensor for key, tensor in weights.items() if key.startswith(TABLE)}, assign=True
    )
    return model.eval().requires_grad_(False)


def read_flux(path: str | Path) -> tuple[dict[str, Tensor], FluxConfig, dict[str, Any]]:
    """A file's tensors as stored, the network's sizes, and of its prompts what `PromptTable` is made of."""
    path = Path(path)
    try:
        tensors, metadata = _read_tensors(path)
        config, said = _read_metadata(metadata)
        _check_tensors(tensors, config, said)
    except ValueError as error:
        raise FluxFileError(f"{path}: {error}") from None
    return tensors, config, said


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    if not path.is_file():
        raise ValueError("there is no such file; check its name and folder")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        reason = f"{type(error).__name__}: {error}".split("\n")[0][:120]
        raise ValueError(f"it is truncated or damaged ({reason}); download or save it again") from None
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"'{key}' holds {tensor.dtype}, not floating-point weights; save it unquantised")
    return tensors, metadata


def _read_metadata(metadata: Mapping[str, str]) -> tuple[FluxConfig, dict[str, Any]]:
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise ValueError(f"it is not a text-to-image model of this kind: its metadata has no '{METADATA_KEY}'")
    if len(text) > MOST_JSON:
        raise ValueError(f"its metadata has {len(text):,} characters, more than the {MOST_JSON:,} that are read")
    try:
        said = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("its metadata is not JSON; save it again") from None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise ValueError(f"its metadata does not say that its format is '{FORMAT}'")
    if said.get("version") != VERSION:
        raise ValueError(f"its format is not {VERSION}, the one known here: update TokenCache")
    prompts = _object(said, "prompts")
    words = prompts.get("words")
    if (
        not isinstance(words, list)
        or not 0 < len(words) <= MOST_WORDS
        or not all(isinstance(w, str) and words_of(w) == [w] for w in words)
    ):
        raise ValueError(f"its words are not a list of 1 to {MOST_WORDS:,} words of small letters and digits")
    if len(set(words)) != len(words):
        raise ValueError("one of its words is there twice")
    length, examples = _whole(prompts, "length", 1024), prompts.get("examples")
    if (
        not isinstance(examples, list)
        or not 0 < len(examples) <= MOST_EXAMPLES
        or not all(isinstance(each, str) for each in examples)
    ):
        raise ValueError(f"its examples are not a list of 1 to {MOST_EXAMPLES:,} prompts")
    known = set(words)
    for example in examples:
        if "," in example or not 0 < len(known.intersection(words_of(example))) <= length:
            raise ValueError(f"one of its examples, {ascii(example)[:60]}, is no prompt for it")
    return _config(_object(said, "network")), {"words": tuple(words), "length": length, "examples": tuple(examples)}


def _config(said: dict[str, Any]) -> FluxConfig:
    known = {field.name for field in fields(FluxConfig)}
    if set(said) != known:
        raise ValueError(
            f"its sizes of the network lack, or have too much: {', '.join(sorted(set(said) ^ known)[:3])[:100]}"
        )
    whole = {name: _whole(said, name, most) for name, most in _LIMITS.items()}
    ratio, axes = said["mlp_ratio"], said["axes_dim"]
    if type(ratio) not in (int, float) or not 0 < ratio <= 64:
        raise ValueError("its mlp_ratio is not a number above 0 and up to 64")
    if not isinstance(axes, list) or not all(type(n) is int and 0 < n <= 1024 for n in axes):
        raise ValueError("its axes_dim is not a list of whole numbers")
    return FluxConfig(**whole, mlp_ratio=float(ratio), axes_dim=tuple(axes))


def _object(said: dict[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(said.get(name), dict):
        raise ValueError(f"its metadata has no object '{name}'; save it again")
    return said[name]


def _whole(said: dict[str, Any], name: str, most: int) -> int:
    value = said.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"its {name} is not a whole number from 1 to {most}")
    return value


def _check_tensors(tensors: Mapping[str, Tensor], config: FluxConfig, said: Mapping[str, Any]) -> None:
    table = PromptTable(**said, width=config.context_in_dim, device="meta").state_dict()
    if config.vec_in_dim != config.context_in_dim:
        raise ValueError("its text tokens and its pooled text are not of one width")
    expected = Flux(config, device="meta").state_dict() | {TABLE + key: tensor for key, tensor in table.items()}
    _refuse([key for key in expected if key not in tensors], "it is not whole: {} missing; download or save it again")
    _refuse(
        [key for key in tensors if key not in expected], "it holds more than such a model: {} unknown; save it again"
    )
    for key, tensor in expected.items():
        if tensors[key].shape != tensor.shape:
            raise ValueError(
                f"'{key}' has shape {tuple(tensors[key].shape)} where its sizes ask for {tuple(tensor.shape)}; "
                "save it again"
            )


def _refuse(keys: list[str], message: str) -> None:
    if keys:
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        raise ValueError(
            message.format(", ".join(f"'{key}'" for key in keys[:3]) + more + (" is" if len(keys) == 1 else " are"))
        )
