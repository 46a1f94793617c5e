"""The texts of the page: English is as the nodes and panels have it, other languages are complete, and a real ComfyUI
shows them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tokencache_pack
from comfy_page import ComfyPage, comfy_page, needs_chromium
from comfy_server import ComfyServer

import locales

OTHERS = sorted(folder for folder in locales.FOLDER.iterdir() if folder.is_dir() and folder.name != locales.ENGLISH)
NAMES = {"TokenCache", "Latent", "VAE", "PSNR", "SSIM", "JSON", "cfg", "dB"}  # the same in every language
SCRIPTS = sorted((locales.ROOT / "web" / "js").rglob("*.js"))
HAN = re.compile(r"[\u4e00-\u9fff]")
KEPT = re.compile(r"\d+(?:\.\d+)?|models/\w+|(?<!\w)\.\w+")  # numbers, folders, suffixes
VALUE = re.compile(r"\{\w+\}")  # in the panels' words, what stands there
LINK, CODE, BOLD = re.compile(r"\]\(([^)]+)\)"), re.compile(r"`[^`]+`"), re.compile(r"\*\*([^*]+)\*\*")  # in notes
# the page reads these as instructions: https://vue-i18n.intlify.dev/guide/essentials/syntax
SYNTAX = re.compile(r"[{}@|]")
NODES = """() => Object.fromEntries(Object.keys(LiteGraph.registered_node_types).filter(type => type.startsWith('TokenCache')).map(type => {
    const node = LiteGraph.createNode(type)
    const shown = {display_name: node.title, category: node.constructor.category, inputs: {}, outputs: {}}
    for (const input of node.inputs) shown.inputs[input.name] = input.localized_name
    for (const widget of node.widgets ?? []) if (widget.label !== undefined) shown.inputs[widget.name] = widget.label
    node.outputs.forEach((output, place) => { shown.outputs[place] = output.localized_name })
    return [type, shown]
}))"""


@pytest.fixture(scope="module")
def english() -> dict[str, str]:
    return locales.flat(locales.english(tokencache_pack))


def has_words(text: str) -> bool:
    """Whether there is anything to translate."""
    return bool(set(re.findall(r"[^\W\d_]+", VALUE.sub("", text))) - NAMES)


def read(language: str, name: str) -> dict[str, Any]:
    return json.loads((locales.FOLDER / language / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", locales.FILES)
def test_english_is_what_the_nodes_say(name: str):
    assert read(locales.ENGLISH, name) == locales.english(tokencache_pack)[name], (
        "run .venv/bin/python scripts/locales.py"
    )


def test_there_is_chinese():
    assert "zh" in {folder.name for folder in OTHERS}


@pytest.mark.parametrize("folder", OTHERS, ids=lambda folder: folder.name)
def test_every_text_is_there(folder: Path, english: dict[str, str]):
    found = locales.complaints(folder, english)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", OTHERS, ids=lambda folder: folder.name)
def test_translations_are_translated_and_keep_numbers_and_files(folder: Path, english: dict[str, str]):
    translated = locales.texts(folder)
    both = {path: (text, translated[path]) for path, text in english.items() if path in translated}
    left = [path for path, (text, other) in both.items() if text == other and has_words(text)]
    lost = [path for path, (text, other) in both.items() if set(KEPT.findall(text)) - set(KEPT.findall(other))]
    mixed = [
        path for path, (text, other) in both.items() if sorted(VALUE.findall(text)) != sorted(VALUE.findall(other))
    ]
    assert not left and not lost and not mixed


@pytest.mark.parametrize("folder", OTHERS, ids=lambda folder: folder.name)
def test_translated_notes_have_the_same_links_and_name_nodes_as_the_page_does(folder: Path):
    notes = read(locales.ENGLISH, "main.json")[locales.NOTES]
    names = {
        text["display_name"]: read(folder.name, "nodeDefs.json")[node]["display_name"]
        for node, text in read(locales.ENGLISH, "nodeDefs.json").items()
    }
    assert notes
    for template, translated in read(folder.name, "main.json")[locales.NOTES].items():
        english = notes[template]
        assert LINK.findall(translated) == LINK.findall(english), template
        assert set(CODE.findall(english)) <= set(CODE.findall(translated)), template
        assert not [name for name in BOLD.findall(english) if name in names and names[name] not in translated], template


@pytest.mark.parametrize("kind", [locales.NOTES, locales.TITLES])
@pytest.mark.parametrize("folder", OTHERS, ids=lambda folder: folder.name)
def test_what_stands_in_templates_can_be_translated_back(folder: Path, kind: str):
    """A workflow that was saved in one language opens in another: no two texts have the same translation."""
    texts = [*read(locales.ENGLISH, "main.json")[kind].values(), *read(folder.name, "main.json")[kind].values()]
    assert len(texts) == len(set(texts))


def test_chinese_is_chinese():
    assert not [
        path for path, text in locales.texts(locales.FOLDER / "zh").items() if not HAN.search(text) and has_words(text)
    ]


@pytest.mark.parametrize("folder", [locales.FOLDER / locales.ENGLISH, *OTHERS], ids=lambda folder: folder.name)
def test_no_text_means_something_else_to_the_page(folder: Path):
    shown = {
        path: VALUE.sub("", text) if path.startswith((f"{locales.PANELS}.", f"{locales.SAID}.")) else text
        for path, text in locales.texts(folder).items()
    }
    assert not [path for path, text in shown.items() if SYNTAX.search(text)]
    assert all(text.strip() for text in locales.texts(folder).values())


def test_the_panels_use_every_word_and_no_other():
    code = "\n".join(file.read_text(encoding="utf-8") for file in SCRIPTS if file != locales.PANEL_WORDS)
    keys = set(locales.panel_words())
    assert not set(re.findall(r'\btext\(\s*"(\w+)"', code)) - keys, "add them to web/js/shared/english.js"
    assert not keys - set(re.findall(r'"(\w+)"', code)), "nothing uses them: take them out of web/js/shared/english.js"


def test_a_panels_word_that_is_no_line_of_its_own_is_named(tmp_path: Path):
    file = tmp_path / "english.js"
    file.write_text('export const ENGLISH = {\n  // in panels\n  one: "a \\"b\\"",\n}\n')
    assert locales.panel_words(file) == {"one": 'a "b"'}
    file.write_text('export const ENGLISH = {\n  one: "a" +\n    "b",\n}\n')
    with pytest.raises(ValueError, match="each text on a line of its own"):
        locales.panel_words(file)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ('say(key, "text")', "two literals"),
        ('say("one", f"text {a}")', "two literals"),
        ('say("one", "{a} and {b}", a=1)', "other values"),
        ('say("one", "text"); say("one", "other text")', "two sentences"),
    ],
)
def test_a_sentence_that_no_locale_file_can_hold_is_named(tmp_path: Path, code: str, why: str):
    file = tmp_path / "speaks.py"
    file.write_text('say("one", "{a} " "and b", a=1)')
    assert locales.said([tmp_path]) == {"one": "{a} and b"}
    file.write_text(code)
    with pytest.raises(ValueError, match=why):
        locales.said([tmp_path])


def test_what_is_missing_or_superfluous_is_named(tmp_path: Path):
    (tmp_path / "nodeDefs.json").write_text('{"A": {"display_name": "a", "inputs": {"old": {"name": "o"}}}}')
    wanted = {"nodeDefs.A.display_name": "A", "nodeDefs.A.inputs.new.name": "new"}
    assert locales.complaints(tmp_path, wanted) == [
        f"locales/{tmp_path.name} lacks nodeDefs.A.inputs.new.name: 'new'",
        f"locales/{tmp_path.name} has nodeDefs.A.inputs.old.name, which English does not have",
    ]


@pytest.mark.server
def test_the_server_serves_them(comfy_server: ComfyServer):
    served = comfy_server.get("/i18n")
    for folder in [locales.FOLDER / locales.ENGLISH, *OTHERS]:
        assert served[folder.name]["nodeDefs"].items() >= read(folder.name, "nodeDefs.json").items()
        for part, wanted in read(folder.name, "main.json").items():
            assert served[folder.name][part].items() >= wanted.items()


@needs_chromium
@pytest.mark.server
def test_the_page_speaks_chinese(comfy_server: ComfyServer):
    comfy_server.post("/settings", {"Comfy.Locale": "zh"})
    try:
        with comfy_page(comfy_server) as page:
            shown = page.page.evaluate(NODES)
            assert_no_setting_without_a_text(page)
            assert not page.errors
    finally:
        comfy_server.post("/settings", {"Comfy.Locale": "en"})
    panels = locales.texts(locales.FOLDER / "zh")
    reasons = [
        re.compile(".+".join(re.escape(part) for part in VALUE.split(text)))
        for path, text in panels.items()
        if path.startswith(f"{locales.PANELS}.overridden_")
    ]
    for node, wanted in read("zh", "nodeDefs.json").items():
        there = shown[node]
        assert there["display_name"] == wanted["display_name"] and there["category"] == "TokenCache"
        for name, text in wanted["inputs"].items():
            label, _, why = there["inputs"][name].partition(": ")  # a setting without effect says why, in Chinese too
            assert label == text["name"] and (not why or any(reason.fullmatch(why) for reason in reasons)), (node, name)
        named = {place: text["name"] for place, text in wanted["outputs"].items() if "name" in text}
        assert named.items() <= there["outputs"].items()


def assert_no_setting_without_a_text(page: ComfyPage) -> None:
    settings = page.page.evaluate(
        "() => app.extensions.flatMap(extension => extension.settings ?? []).map(setting => setting.id)"
    )
    assert not [setting for setting in settings if setting.startswith("TokenCache")], (
        "write locales/*/settings.json for them"
    )
