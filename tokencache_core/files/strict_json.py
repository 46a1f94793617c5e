"""Strict reading of untrusted JSON: every field must be present, have the right type and lie within limits.

Error messages quote at most a few characters of the file, and no control characters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any, NoReturn, TypeGuard

from ..words.message import say

MAX_LENGTH = 2**23  # characters of a JSON text: far above any training log
MAX_ITEMS = 100_000  # of one list or object
MAX_TEXT = 20_000  # characters of one string
MAX_DIGITS = 40  # of a whole number
LARGEST = 2**63 - 1  # largest whole number


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a parsed JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a parsed JSON value is a list."""
    return isinstance(value, list)


def shown(value: object, max_length: int = 60) -> str:
    """`value` for an error message: one line of about `max_length` characters at most, without control characters."""
    if is_object(value):
        return f"an object of {len(value)}"
    if is_list(value):
        return f"a list of {len(value)}"
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= max_length else f"{text[: max_length - 3]}..."


def parsed(text: str) -> Any:
    """The value of a JSON text. ValueError if it is too long or too deeply nested, or contains NaN or Infinity."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"it has {len(text):,} characters, more than the {MAX_LENGTH:,} that are allowed")
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_int)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(_what_is_wrong(text, error.pos)) from None


def _what_is_wrong(text: str, place: int) -> str:
    """What keeps a text from being JSON, for people who copied it. place: the character where reading it failed."""
    if not text.strip():
        return say("json_empty", "it is empty")
    if not text.lstrip().startswith(("{", "[")):
        return say("json_no_beginning", "it does not begin with a brace")
    if place >= len(text.rstrip()) or '"' not in text[place + 1 :]:
        return say("json_no_end", "its end is missing: copy all of it, down to the last brace")
    line = text.count("\n", 0, place) + 1
    return say("json_damaged", "it is damaged in line {line}, near {text}", line=line, text=shown(text[place:][:30]))


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it holds a number of {len(digits):,} digits")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is not a number")


class Record:
    """A JSON object that has all the fields `required`, perhaps some of `optional`, and no others.

    name: the object's name in error messages.
    """

    def __init__(self, value: object, name: str, required: Collection[str], optional: Collection[str] = ()) -> None:
        if not is_object(value):
            raise ValueError(f"{name} must be an object, not {shown(value)}")
        for key in required:
            if key not in value:
                raise ValueError(f"{name} lacks '{key}'")
        for key in value:
            if key not in required and key not in optional:
                raise ValueError(f"{name} has an unknown field {shown(key)}")
        self.value, self.name = value, name

    def __contains__(self, key: str) -> bool:
        return key in self.value

    def whole(self, key: str, least: int = 0, most: int = LARGEST) -> int:
        return whole(self.value[key], f"{self.name}'s {key}", least, most)

    def number(self, key: str) -> float:
        return number(self.value[key], f"{self.name}'s {key}")

    def text(self, key: str, most: int = MAX_TEXT) -> str:
        return text(self.value[key], f"{self.name}'s {key}", most)

    def flag(self, key: str) -> bool:
        value = self.value[key]
        if not isinstance(value, bool):
            raise ValueError(f"{self.name}'s {key} must be true or false, not {shown(value)}")
        return value

    def list(self, key: str) -> list[Any]:
        return items(self.value[key], f"{self.name}'s {key}")

    def numbers(self, key: str) -> tuple[float, ...]:
        return tuple(number(value, f"{self.name}'s {key}") for value in self.list(key))


def whole(value: object, name: str, least: int = 0, most: int = LARGEST) -> int:
    """`value`, if it is a whole number within limits."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {shown(value)}")
    return value


def number(value: object, name: str) -> float:
    """`value` as a float, if it is a finite number."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return float(value)
    if not isinstance(value, float) or not math.isfinite(value):  # 1e999 is read as infinity
        raise ValueError(f"{name} must be a finite number, not {shown(value)}")
    return value


def text(value: object, name: str, most: int = MAX_TEXT) -> str:
    """`value`, if it is a string of at most `most` characters."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{name} must be a text of at most {most:,} characters, not {shown(value)}")
    return value


def items(value: object, name: str) -> list[Any]:
    """`value`, if it is a list of at most MAX_ITEMS items."""
    if not is_list(value) or len(value) > MAX_ITEMS:
        raise ValueError(f"{name} must be a list of at most {MAX_ITEMS:,}, not {shown(value)}")
    return value


def mapping(value: object, name: str) -> dict[str, Any]:
    """`value`, if it is an object of at most MAX_ITEMS entries, with any keys."""
    if not is_object(value) or len(value) > MAX_ITEMS:
        raise ValueError(f"{name} must be an object of at most {MAX_ITEMS:,}, not {shown(value)}")
    return value
