"""JSON from a stranger, read field by field: each must be there, be of its kind and lie within limits.

Errors quote at most a few characters of the file, without control characters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from typing import Any, NoReturn

MAX_LENGTH = 2**23  # characters of a JSON text: far above any training log
MAX_ITEMS = 100_000  # of one list
MAX_TEXT = 20_000  # characters of one text
MAX_DIGITS = 40  # of a whole number
LARGEST = 2**63 - 1  # whole number


def shown(value: Any, most: int = 60) -> str:
    """`value` for an error message: on one line, about `most` characters at most, none of them a control character."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def parsed(text: str) -> Any:
    """The value of a JSON text that is no longer or deeper than is sane and holds no NaN or Infinity."""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"it has {len(text):,} characters, more than the {MAX_LENGTH:,} that are read")
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_int)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at character {error.pos})") from None


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it holds a number of {len(digits):,} digits")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number")


class Record:
    """A JSON object called `name`, that has the fields `required`, perhaps some of `optional`, and no others."""

    def __init__(self, value: Any, name: str, required: Collection[str], optional: Collection[str] = ()) -> None:
        if not isinstance(value, dict):
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
        if type(self.value[key]) is not bool:
            raise ValueError(f"{self.name}'s {key} must be true or false, not {shown(self.value[key])}")
        return self.value[key]

    def list(self, key: str) -> list:
        return items(self.value[key], f"{self.name}'s {key}")

    def numbers(self, key: str) -> tuple[float, ...]:
        return tuple(number(value, f"{self.name}'s {key}") for value in self.list(key))


def whole(value: Any, name: str, least: int = 0, most: int = LARGEST) -> int:
    if type(value) is not int or not least <= value <= most:  # bool is an int
        raise ValueError(f"{name} must be a whole number from {least} to {most}, not {shown(value)}")
    return value


def number(value: Any, name: str) -> float:
    if type(value) is int and abs(value) <= LARGEST:
        return float(value)
    if type(value) is not float or not math.isfinite(value):  # 1e999 is read as infinity
        raise ValueError(f"{name} must be a finite number, not {shown(value)}")
    return value


def text(value: Any, name: str, most: int = MAX_TEXT) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{name} must be a text of at most {most:,} characters, not {shown(value)}")
    return value


def items(value: Any, name: str) -> list:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise ValueError(f"{name} must be a list of at most {MAX_ITEMS:,}, not {shown(value)}")
    return value


def mapping(value: Any, name: str) -> dict[str, Any]:
    """An object whose keys are free; they are no part of an error's message unless `shown`."""
    if not isinstance(value, dict) or len(value) > MAX_ITEMS:
        raise ValueError(f"{name} must be an object of at most {MAX_ITEMS:,}, not {shown(value)}")
    return value
