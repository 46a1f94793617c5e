"""Reads and checks what a file with a table of words says about its prompts."""

from __future__ import annotations

from typing import Any

from ..files.strict_json import MAX_ITEMS, Record, items, shown, text
from .prompts import words_of

MOST_AT_ONCE = 1024  # largest number of words that a file may allow in a prompt


def read_prompts(said: Any) -> tuple[tuple[str, ...], int, tuple[str, ...]]:
    """Words, length and examples, as in `PromptTable`; ValueError, whose message follows the file's name, if invalid.

    said: the JSON object.
    """
    prompts = Record(said, "its prompts", ("words", "length", "examples"))
    words, length = _words(prompts), prompts.whole("length", 1, MOST_AT_ONCE)
    return words, length, _examples(prompts, set(words), length)


def _words(prompts: Record) -> tuple[str, ...]:
    words = [text(word, "one of its words", 100) for word in prompts.list("words")]
    for word in words:
        if words_of(word) != [word]:
            raise ValueError(f"one of its words, {shown(word)}, is no single word of small letters and digits")
    if not words or len(set(words)) < len(words):
        raise ValueError("it has no words, or one of them twice")
    return tuple(words)


def _examples(prompts: Record, known: set[str], length: int) -> tuple[str, ...]:
    examples = [
        text(example, "one of its examples", 1000) for example in items(prompts.value["examples"], "its examples")
    ]
    for example in examples:
        if "," in example or not 0 < len(known.intersection(words_of(example))) <= length:
            raise ValueError(f"one of its examples, {shown(example)}, is no prompt for it")
    if not examples:
        raise ValueError(f"its examples must be a list of 1 to {MAX_ITEMS:,} prompts")
    return tuple(examples)
