"""Reads weights in the layout in which diffusers releases them: one `.safetensors` file, or shards with an index, and a
`config.json` beside them; or a pickle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..files.error_line import error_line
from ..files.strict_json import mapping, parsed, shown, text
from .pickled_weights import SUFFIXES, read_pickled_weights

INDEX = ".safetensors.index.json"
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
MOST_TENSORS = 100_000


class VideoFileError(ValueError):
    """A file of a video model or of its VAE cannot be used: one line that names the file and the remedy."""


@dataclass(frozen=True)
class ReleasedWeights:
    """Tensors as stored, on the CPU; what the config.json beside them says (empty: there is none); and the metadata of
    a single file.
    """

    tensors: dict[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_released(path: str | Path) -> ReleasedWeights:
    """The weights at `path`: a folder, a file, an index, or any of several shards.

    The message of a ValueError follows the path.
    """
    path = Path(path)
    if path.is_dir():
        path = _weights_in(path)
    if not path.is_file():
        raise ValueError("there is no such file; check its name and folder")
    if (shard := SHARD.fullmatch(path.name)) is not None:
        index = path.with_name(shard[1] + INDEX)
        if not index.is_file():
            raise ValueError(f"it is one of {int(shard[3])} shards, and their index {index.name} is not beside it")
        path = index
    config = _config_beside(path)
    if path.name.endswith(INDEX):
        return ReleasedWeights(_read_shards(path), config)
    if path.suffix in SUFFIXES:
        return ReleasedWeights(read_pickled_weights(path), config)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are read from .safetensors files, not from '{path.suffix}'; convert it first")
    tensors, metadata = _read_file(path)
    return ReleasedWeights(tensors, config, metadata)


def is_first_shard_or_whole(name: str) -> bool:
    """Whether a file's name should be offered to users: of several shards, only the first one is."""
    shard = SHARD.fullmatch(Path(name).name)
    return shard is None or int(shard[2]) == 1


def _weights_in(folder: Path) -> Path:
    kinds = (f"*{INDEX}", "*.safetensors", *(f"*{suffix}" for suffix in SUFFIXES))
    found = next((files for kind in kinds if (files := sorted(folder.glob(kind)))), [])
    if len(found) != 1:
        raise ValueError(f"the folder has {len(found)} files of weights where one, or one index of shards, is expected")
    return found[0]


def _config_beside(path: Path) -> Mapping[str, Any]:
    file = path.with_name("config.json")
    if not file.is_file():
        return {}
    try:
        return mapping(parsed(file.read_text(encoding="utf-8")), "it")
    except (ValueError, OSError) as error:
        raise ValueError(f"the config.json beside it cannot be read: {error}") from None


def _read_shards(index: Path) -> dict[str, Tensor]:
    try:
        said = mapping(parsed(index.read_text(encoding="utf-8")), "it")
        files = mapping(said.get("weight_map"), "its weight_map")
        by_file: dict[str, list[str]] = {}
        for key, name in files.items():
            by_file.setdefault(text(name, "a file in its weight_map", 255), []).append(key)
    except (ValueError, OSError) as error:
        raise ValueError(f"the index {index.name} cannot be read: {error}") from None
    tensors: dict[str, Tensor] = {}
    for name, keys in sorted(by_file.items()):
        shard = index.with_name(name)
        if shard.name != name or shard.parent != index.parent or not shard.is_file():
            raise ValueError(
                f"the index {index.name} names the shard {shown(name)}, which is not beside it; download it as well"
            )
        of_shard, _ = _read_file(shard)
        missing = [key for key in keys if key not in of_shard]
        if missing:
            raise ValueError(f"{some(missing)} missing in the shard {name}; download it again")
        tensors.update(of_shard)
    return tensors


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys())
            if len(names) > MOST_TENSORS:
                raise ValueError(f"{path.name} holds {len(names):,} tensors, which no such model has")
            tensors, metadata = {key: file.get_tensor(key) for key in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path.name} is truncated or damaged ({error_line(error)}); download or save it again"
        ) from None
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"'{key}' holds {tensor.dtype}, not floating-point weights; save it unquantised")
    return tensors, metadata


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """ValueError unless the tensors are those of the state dict `expected`. what: its name in messages, as `an X`."""
    missing = [key for key in expected if key not in tensors]
    if missing:
        raise ValueError(f"it is not the whole of {what}: {some(missing)} missing; download or save it again")
    unexpected = [key for key in tensors if key not in expected]
    if unexpected:
        raise ValueError(f"it is not {what}: {some(unexpected)} unknown")
    for key, tensor in expected.items():
        if tensors[key].shape != tensor.shape:
            raise ValueError(
                f"'{key}' has shape {tuple(tensors[key].shape)}, but the other tensors require {tuple(tensor.shape)}; "
                "download or save it again"
            )


def some(keys: list[str]) -> str:
    """At most three of the keys as text, with the verb that follows them."""
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(f"'{key[:80]}'" for key in keys[:3]) + more + (" is" if len(keys) == 1 else " are")
