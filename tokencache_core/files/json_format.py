"""Small JSON files that users share. They name their format and version; other files are refused with a clear error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..words.message import say
from . import strict_json

T = TypeVar("T")


class NewerFormatError(ValueError):
    """A valid file that only a later version of this package can read."""


@dataclass(frozen=True)
class JsonFormat:
    """A file format.

    kind: its name for users, such as "preset".
    version: its current version.
    writers: what writes such files, for error messages.
    error: raised, with the file's name in the message, for files that are not of this format.
    """

    kind: str
    version: int
    writers: str
    error: type[ValueError]

    @property
    def name(self) -> str:
        """The format's name as it stands in the files."""
        return f"tokencache {self.kind}"

    def read(self, text: str, name: str, read: Callable[[Any], T]) -> T:
        """Parse `text`, check its format, and convert its content with `read`. name: the file's name, for errors."""
        try:
            content = strict_json.parsed(text)
            self._check(content)
            return read(content)
        except NewerFormatError as error:
            raise self.error(f"{name}: {error}") from None
        except ValueError as error:
            raise self.error(
                say(
                    "file_of_no_such_kind",
                    "{name} is not a TokenCache {kind}: {why}; {writers} makes them",
                    name=name,
                    kind=self.kind,
                    why=error.args[0],
                    writers=self.writers,
                )
            ) from None

    def load(self, file: Path | str, read: Callable[[Any], T]) -> T:
        """Read a file as in `read`."""
        try:
            if not Path(file).is_file():  # a device or a pipe might never end
                raise FileNotFoundError(2, "there is no such file")
            with Path(file).open("rb") as opened:
                text = opened.read(4 * strict_json.MAX_LENGTH + 1).decode()  # 4 bytes a character at most
        except UnicodeDecodeError:
            raise self.error(f"{file} is not a TokenCache {self.kind}: it is not text") from None
        except OSError as error:
            raise self.error(f"{file} could not be read ({error.strerror or error}): check the path") from None
        return self.read(text, str(file), read)

    def _check(self, content: object) -> None:
        if not strict_json.is_object(content) or content.get("format") != self.name:
            raise ValueError(f"it does not say that its format is '{self.name}'")
        version = strict_json.whole(content.get("version"), "its version", 1)
        if version > self.version:
            raise NewerFormatError(
                f"its format is {version}, newer than the {self.version} known here: update TokenCache"
            )
