"""The metadata of a file of a small video model that brings its own words: sizes, words, examples, licence."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..files.strict_json import Record, parsed, shown
from ..flux.prompt_record import read_prompts
from ..flux.prompts import PromptTable
from .config import VideoConfig

METADATA_KEY = "tokencache_text_to_video"
FORMAT, VERSION = "tokencache text-to-video", 1
_LIMITS = {  # of whole numbers in the configuration
    "width": 16_384,
    "depth": 200,
    "heads": 256,
    "patch_size": 64,
    "in_channels": 256,
    "caption_channels": 16_384,
    "sample_size": 16_384,
    "video_length": 100_000,
    "frame_stride": 100_000,
}


@dataclass(frozen=True)
class ClipMetadata:
    """The metadata of a file. words, length, examples: as in `PromptTable`."""

    config: VideoConfig
    words: tuple[str, ...]
    length: int
    examples: tuple[str, ...]
    licence: str

    def table(self, **factory: Any) -> PromptTable:
        return PromptTable(self.words, self.config.caption_channels, self.length, self.examples, **factory)

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
    def from_text(cls, content: str) -> ClipMetadata:
        """The metadata in a text; ValueError, whose message follows the file's name, if `as_text` did not write it."""
        value = parsed(content)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ValueError(f"its metadata does not say that its format is '{FORMAT}'")
        if value.get("version") != VERSION:
            raise ValueError(
                f"its format is {shown(value.get('version'))}, not the {VERSION} known here: update TokenCache"
            )
        said = Record(value, "its metadata", ("format", "version", "licence", "network", "prompts"))
        network = Record(said.value["network"], "its network", [field.name for field in fields(VideoConfig)])
        sizes = {name: network.whole(name, 1, most) for name, most in _LIMITS.items()}
        flags = {name: network.flag(name) for name in ("learn_sigma", "predicts_velocity")}
        config = VideoConfig(**sizes, **flags)
        if config.width % config.heads or config.width % 4:
            raise ValueError(f"its width {config.width} is not a multiple of 4 and of its {config.heads} heads")
        words, length, examples = read_prompts(said.value["prompts"])
        return cls(config, words, length, examples, said.text("licence"))
