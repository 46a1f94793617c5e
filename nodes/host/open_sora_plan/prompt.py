"""Prompts of Open-Sora-Plan as conditionings: by the host's T5-XXL (1.1, 1.0), by mT5-XXL (1.3, 1.2), or by the words
that a small model brings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP

from .mt5 import NAME as MT5
from .video_model import HostSkipSparseTransformer, VideoModel, video_network

MOST_TOKENS, MOST_MT5_TOKENS = 300, 512  # that the models were trained on, the end of the text included
ENCODER = "t5xxl"  # as the host calls it
PAD = (0, 1.0)  # token, weight
CONNECT = "connect CLIPLoader with a t5xxl file and the type pixart"
CONNECT_MT5 = "connect Load mT5-XXL"


def prompt_conditionings(model: ModelPatcher, clip: CLIP | None, prompt: str, negative: str) -> tuple[list, list]:
    """The positive and the negative CONDITIONING.

    clip: a T5-XXL, or an mT5-XXL for 1.3 and 1.2; not needed by a model that brings its own words.
    """
    network, sampled = video_network(model), model.model
    assert isinstance(sampled, VideoModel)
    if sampled.encode_words is not None:
        tokens, _ = sampled.encode_words([prompt, negative])
        return [[tokens[:1], {}]], [[tokens[1:], {}]]
    if isinstance(network, HostSkipSparseTransformer):
        if clip is None:
            raise ValueError(
                f"this model reads the text of mT5-XXL, {network.config.caption_channels} wide: {CONNECT_MT5}"
            )
        return mt5_conditionings(clip, prompt, negative)
    if clip is None:
        raise ValueError(f"this model reads the text of T5-XXL, {network.config.caption_channels} wide: {CONNECT}")
    return text_conditionings(clip, prompt, negative)


def text_conditionings(clip: CLIP, prompt: str, negative: str) -> tuple[list, list]:
    """The texts encoded by T5 as in the release's sampling: in small letters, the negative as long as the prompt.

    A shorter negative, such as an empty one, is filled up with what T5 makes of padding that no other token sees; a
    longer one is cut. The model attends to all of it.
    """
    positive, other = (_tokens(clip, text) for text in (prompt, negative))
    other += [PAD] * (len(positive) - len(other))
    with _padding_unseen(clip):
        encoded = clip.encode_from_tokens_scheduled({ENCODER: [other]})
    return (
        clip.encode_from_tokens_scheduled({ENCODER: [positive]}),
        [[text[:, : len(positive)], extra] for text, extra in encoded],
    )


def mt5_conditionings(clip: CLIP, prompt: str, negative: str) -> tuple[list, list]:
    """The texts encoded by mT5 as in the release's sampling, which masks what it pads: each as long as it is."""

    def encoded(text: str) -> list:
        tokens = clip.tokenize(text.strip())
        if set(tokens) != {MT5}:
            made_of = ", ".join(sorted(tokens))
            raise ValueError(
                f"Open-Sora-Plan 1.3 and 1.2 read mT5-XXL alone, but this CLIP is made of {made_of}: {CONNECT_MT5}"
            )
        (row,) = tokens[MT5]
        return clip.encode_from_tokens_scheduled({MT5: [_cut(row, MOST_MT5_TOKENS)]})

    return encoded(prompt), encoded(negative)


def _tokens(clip: CLIP, text: str) -> list[Any]:
    """At most MOST_TOKENS tokens with their weights, of which the last is the end of the text."""
    tokens = clip.tokenize(text.lower().strip())
    if set(tokens) != {ENCODER}:
        made_of = ", ".join(sorted(tokens))
        raise ValueError(f"Open-Sora-Plan reads T5-XXL alone, but this CLIP is made of {made_of}: {CONNECT}")
    (row,) = tokens[ENCODER]
    return _cut(row, MOST_TOKENS)


def _cut(row: list[Any], most: int) -> list[Any]:
    """The tokens, cut to `most` of them; the last one stays."""
    return row if len(row) <= most else [*row[: most - 1], row[-1]]


@contextmanager
def _padding_unseen(clip: CLIP) -> Iterator[None]:
    """While active, the encoder's tokens do not attend to what follows the end of the text."""
    encoder = getattr(clip.cond_stage_model, ENCODER)
    before, encoder.enable_attention_masks = encoder.enable_attention_masks, True
    try:
        yield
    finally:
        encoder.enable_attention_masks = before
