"""The help pages in other languages: one for each English page, where ComfyUI looks for it, with the same inputs,
outputs, sections, figures and files.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tokencache_pack

import locales

HELP = locales.ROOT / "web" / "docs"
PAGES = sorted(HELP.glob("*.md"))
LANGUAGES = sorted(folder.name for folder in locales.FOLDER.iterdir() if folder.name != locales.ENGLISH)
SCHEMAS = {schema.node_id: schema for schema in locales.schemas(tokencache_pack)}
CODE, LINK, NUMBER = re.compile(r"`[^`]+`"), re.compile(r"\]\(([^)]+)\)"), re.compile(r"\d[\d.,]*\d|\d")
ENGLISH_INPUT, OTHER_INPUT = re.compile(r"\*\*(\w+)\*\*"), re.compile(r"\*\*([^*]+)\*\*（`(\w+)`")
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda file: file.stem)
EVERY_LANGUAGE = pytest.mark.parametrize("language", LANGUAGES)


def other(page: Path, language: str) -> str:
    """The page of the same node in another language: ComfyUI's page asks for docs/NODE/LANGUAGE.md first."""
    return (HELP / page.stem / f"{language}.md").read_text(encoding="utf-8")


def inputs_of(page: Path) -> list[str]:
    """The inputs that the English page lists, in its order."""
    section = re.search(r"^## Inputs?\n(.*?)(?=^## |\Z)", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    own = {given.id for given in SCHEMAS[page.stem].inputs}
    return [name for name in ENGLISH_INPUT.findall(section[1]) if name in own] if section else []


def outline(text: str) -> list[str]:
    """The kind of each line that begins a heading, an item or a row."""
    return [mark[1] for mark in re.finditer(r"^(#+ | *- |\d\. |\|)", text, re.MULTILINE)]


def texts(language: str, node: str) -> dict[str, Any]:
    return json.loads((locales.FOLDER / language / "nodeDefs.json").read_text(encoding="utf-8"))[node]


def test_there_is_chinese_and_no_page_is_left_over():
    assert "zh" in LANGUAGES
    wanted = {Path(page.stem, f"{language}.md") for page in PAGES for language in LANGUAGES}
    assert {file.relative_to(HELP) for file in HELP.glob("*/*.md")} == wanted


@EVERY_PAGE
def test_english_lists_every_input_and_output(page: Path):
    schema = SCHEMAS[page.stem]
    assert sorted(inputs_of(page)) == sorted(given.id for given in schema.inputs)
    text = page.read_text(encoding="utf-8")
    assert not [output for output in schema.outputs if f"**{output.display_name or output.io_type}**" not in text]


@EVERY_LANGUAGE
@EVERY_PAGE
def test_a_translation_lists_the_same_by_their_names_in_its_language(page: Path, language: str):
    text, words = other(page, language), texts(language, page.stem)
    lines = text.splitlines()
    assert lines[0] == f"# {words['display_name']}" and LINK.findall(lines[2]) == [f"images/{page.stem}.png"]
    names = {name: found["name"] for name, found in words.get("inputs", {}).items()}
    assert OTHER_INPUT.findall(text) == [(names[name], name) for name in inputs_of(page)]
    for place, output in enumerate(SCHEMAS[page.stem].outputs):
        kind = output.io_type  # ComfyUI translates it where an output has no name of its own
        name = words.get("outputs", {}).get(str(place), {}).get("name") or kind
        assert f"**{name}**" in text or f"**（{kind}）" in text


@EVERY_LANGUAGE
@EVERY_PAGE
def test_a_translation_is_complete(page: Path, language: str):
    """It has the same outline, code, links and figures."""
    english, translated = page.read_text(encoding="utf-8"), other(page, language)
    assert outline(translated) == outline(english)
    assert LINK.findall(translated) == LINK.findall(english)
    for kind in (CODE, NUMBER):
        assert set(kind.findall(english)) <= set(kind.findall(translated))
