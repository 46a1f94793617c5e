"""A kind of small JSON file that people share: it names its format and version, and what is none of it is refused in
words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from . import strict_json

T = TypeVar("T")


class NewerFormatError(ValueError):
    """Nothing is wrong with the file, but only a later version of this package can read it."""


@dataclass(frozen=True)
class JsonFormat:
    """kind: for people, such as "preset". writers: what writes such files, in words. error: raised, quoting the file's
    name, for what is no such file.
    """

    kind: str
    version: int
    writers: str
    error: type[ValueError]

    @property
    def name(self) -> str:
        """As the files say it."""
        return f"tokencache {self.kind}"

    def read(self, text: str, name: str, read: Callable[[Any], T]) -> T:
        """What `read` makes of the content of `text`, called `name`."""
        try:
            content = strict_json.parsed(text)
            self._check(content)
            return read(content)
        except NewerFormatError as error:
            raise self.error(f"{name}: {error}") from None
        except ValueError as error:
            raise self.error(
                f"{name} is not a TokenCache {self.kind}: {error}; take a file that {self.writers} has written"
            ) from None

    def load(self, file: Path | str, read: Callable[[Any], T]) -> T:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise self.error(f"{file} is not a TokenCache {self.kind}: it is not text") from None
        except OSError as error:
            raise self.error(f"{file} could not be read ({error.strerror or error}): check the path") from None
        return self.read(text, str(file), read)

    def _check(self, content: Any) -> None:
        if not isinstance(content, dict) or content.get("format") != self.name:
            raise ValueError(f"it does not say that its format is '{self.name}'")
        version = strict_json.whole(content.get("version"), "its version", 1)
        if version > self.version:
            raise NewerFormatError(
                f"its format is {version}, newer than the {self.version} known here: update TokenCache"
            )
