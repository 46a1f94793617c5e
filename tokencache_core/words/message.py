"""A sentence for the user: English, and what is needed to say it in another language.

`scripts/locales.py` collects all calls of `say` into locales/en/main.json, under their keys; the other languages have
the same keys there. Where no language is known, as on the command line and in the log, a message is its English text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

VALUE = re.compile(r"\{(\w+)\}")


class Message(str):
    """An English text that can be translated.

    key: of its sentence in the locale files; "": the message is its `parts`, joined by `between`.
    values: what stands in the sentence's {places}; these may be messages themselves.
    """

    key: str
    english: str
    values: Mapping[str, str]
    parts: tuple[str, ...]
    between: str

    def __new__(
        cls,
        english: str,
        key: str = "",
        values: Mapping[str, str] | None = None,
        parts: tuple[str, ...] = (),
        between: str = "",
    ) -> Message:
        text = between.join(parts) if parts else _filled(english, values or {})
        message = super().__new__(cls, text)
        message.key, message.english, message.values = key, english, values or {}
        message.parts, message.between = parts, between
        return message


def say(key: str, english: str, /, **values: object) -> Message:
    """The sentence `key`, whose English text has a {place} for each of the values.

    Both texts must be literals: the locale files are made from them.
    """
    said = {name: value if isinstance(value, str) else str(value) for name, value in values.items()}
    return Message(english, key, said)


def joined(between: str, parts: Iterable[str]) -> Message:
    """Several messages as one."""
    return Message("", parts=tuple(parts), between=between)


def lines(*parts: str) -> Message:
    """Messages one below the other, without the empty ones."""
    return joined("\n", (part for part in parts if part))


def translated(text: str, sentences: Mapping[str, str]) -> str:
    """A text in another language: a message by its key in `sentences`, if they have it; any other text as it is."""
    if not isinstance(text, Message):
        return text
    if text.parts:
        return text.between.join(translated(part, sentences) for part in text.parts)
    values = {name: translated(value, sentences) for name, value in text.values.items()}
    return _filled(sentences.get(text.key, text.english), values)


def _filled(sentence: str, values: Mapping[str, str]) -> str:
    return VALUE.sub(lambda place: values.get(place[1], place[0]), sentence)
