"""The language of the page, for what Python says to its user."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import folder_paths

from ...tokencache_core.words.message import translated

LOCALES = Path(__file__).resolve().parents[2] / "locales"
SETTINGS = "comfy.settings.json"  # of the page, in its user's folder; the host's only user is called "default"
SETTING = "Comfy.Locale"
SENTENCES = "tokencache_said"  # in main.json, as scripts/locales.py writes it
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z]{2,4})?")
Data = TypeVar("Data")


def in_users_language(data: Data) -> Data:
    """A message, or data for the page with messages anywhere in it, in the language that the page is set to."""
    return _translated(data, _sentences(_language()))


def _translated(data: Any, sentences: dict[str, str]) -> Any:
    if isinstance(data, str):
        return str(translated(data, sentences))
    if isinstance(data, dict):
        return {name: _translated(value, sentences) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data)(_translated(item, sentences) for item in data)
    return data


def _language() -> str:
    file = Path(folder_paths.get_user_directory()) / "default" / SETTINGS
    try:
        language = json.loads(file.read_text(encoding="utf-8")).get(SETTING, "")
    except (OSError, ValueError, AttributeError):  # none was ever set, or the host is just writing the file
        return ""
    return language if isinstance(language, str) and LANGUAGE.fullmatch(language) else ""


@lru_cache(maxsize=8)
def _sentences(language: str) -> dict[str, str]:
    file = LOCALES / language / "main.json"
    return json.loads(file.read_text(encoding="utf-8"))[SENTENCES] if language and file.is_file() else {}
