"""What an error says, on one line, as a part of the message of another error."""

from __future__ import annotations

_LONGEST = 120  # characters


def error_line(error: Exception) -> str:
    """The error's kind and the first line of its message, cut where it is long."""
    return f"{type(error).__name__}: {error}".split("\n")[0][:_LONGEST]
