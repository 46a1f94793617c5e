"""Prompts of Open-Sora-Plan as conditionings: by the host's T5-XXL, or by the words that a small model brings itself."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
from comfy.sd import CLIP

from .video_model import VideoModel, video_network

MOST_TOKENS = 300  # that the models were trained on, the end of the text included
TEXT_WIDTH = 4096  # of T5-XXL


def prompt_conditionings(
    model: comfy.model_patcher.ModelPatcher, clip: CLIP | None, prompt: str, negative: str
) -> tuple[list, list]:
    """The positive and the negative CONDITIONING.

    clip: a T5-XXL; not needed by a model that brings its own words.
    """
    network, said = video_network(model), model.model
    assert isinstance(said, VideoModel)
    if said.encode_words is not None:
        positive, empty = (said.encode_words([text])[0] for text in (prompt, negative))
        return [[positive, {}]], [[empty, {}]]
    if clip is None:
        raise ValueError(
            f"this model reads the text of T5-XXL (width {network.config.caption_channels}): connect CLIPLoader with a "
            "t5xxl file and the type pixart"
        )
    return _encoded(clip, prompt), _encoded(clip, negative)


def _encoded(clip: CLIP, text: str) -> list:
    """The text in small letters, as in training, cut to MOST_TOKENS with the end of the text last."""
    tokens = clip.tokenize(text.lower().strip())
    if set(tokens) != {"t5xxl"}:
        raise ValueError(
            f"Open-Sora-Plan reads T5-XXL alone, but this CLIP is made of {', '.join(sorted(tokens))}: connect "
            "CLIPLoader with a t5xxl file and the type pixart"
        )
    return clip.encode_from_tokens_scheduled({"t5xxl": [cut(row) for row in tokens["t5xxl"]]})


def cut(row: list[Any]) -> list[Any]:
    """A text's tokens, of which the last is its end, cut to MOST_TOKENS."""
    return row if len(row) <= MOST_TOKENS else [*row[: MOST_TOKENS - 1], row[-1]]
