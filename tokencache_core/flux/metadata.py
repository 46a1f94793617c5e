"""The metadata of a text-to-image file: sizes, words, examples of prompts, licence."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..files.strict_json import Record, parsed, shown
from .config import FluxConfig
from .prompt_record import read_prompts
from .prompts import PromptTable

FORMAT, VERSION = "tokencache text-to-image", 1
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


@dataclass(frozen=True)
class FluxMetadata:
    """The metadata of a file. words, length, examples: as in `PromptTable`."""

    config: FluxConfig
    words: tuple[str, ...]
    length: int
    examples: tuple[str, ...]
    licence: str

    def table(self, **factory: Any) -> PromptTable:
        return PromptTable(self.words, self.config.context_in_dim, self.length, self.examples, **factory)

    def as_text(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "licence": self.licence,
                "network": asdict(self.config),
                "prompts": {"words": self.words, "length": self.length, "examples": self.examples},
            }
        )

    @classmethod
    def from_text(cls, content: str) -> FluxMetadata:
        """The metadata in a text; ValueError, whose message follows the file's name, if `as_text` did not write it."""
        value = parsed(content)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValueError(f"its metadata does not say that its format is '{FORMAT}'")
        if value.get("version") != VERSION:
            raise ValueError(
                f"its format is {shown(value.get('version'))}, not the {VERSION} known here: update TokenCache"
            )
        said = Record(value, "its metadata", ("format", "version", "licence", "network", "prompts"))
        words, length, examples = read_prompts(said.value["prompts"])
        config = _config(Record(said.value["network"], "its network", [field.name for field in fields(FluxConfig)]))
        return cls(config, words, length, examples, said.text("licence"))


def _config(said: Record) -> FluxConfig:
    sizes = {name: said.whole(name, 1, most) for name, most in _LIMITS.items()}
    ratio, axes = said.number("mlp_ratio"), Record({"of": said.list("axes_dim")}, "its axes_dim", ("of",))
    if not 0 < ratio <= 64:
        raise ValueError(f"its mlp_ratio must lie between 0 and 64, not at {ratio:g}")
    if sizes["vec_in_dim"] != sizes["context_in_dim"]:
        raise ValueError("its text tokens and its pooled text are not of one width")
    return FluxConfig(**sizes, mlp_ratio=ratio, axes_dim=tuple(map(int, axes.numbers("of"))))
