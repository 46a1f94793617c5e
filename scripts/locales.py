"""Writes locales/en from the nodes' own definitions, the panels' words, what Python says and what stands in the
templates, and reports what other languages lack.

    .venv/bin/python scripts/locales.py

English is never edited by hand. The other languages (locales/<language>/) are written by people, with the same keys in
any order. ComfyUI serves the files at /i18n, and its page looks texts up in them.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "locales"
ENGLISH = "en"
FILES = ("main.json", "nodeDefs.json")
PANEL_WORDS = ROOT / "web" / "js" / "shared" / "english.js"
TEMPLATES = ROOT / "example_workflows"
PANELS = "tokencache"  # in main.json, as web/js/shared/texts.js looks them up
NOTES, TITLES = "tokencache_notes", "tokencache_titles"  # in main.json, as web/js/template_texts.js looks them up
SAID = "tokencache_said"  # in main.json, as nodes/host/language.py looks them up
SPEAKING = ("tokencache_core", "nodes")
PLACE = re.compile(r"\{(\w+)\}")
WORD = re.compile(r'  (\w+): ("(?:[^"\\]|\\.)*"),')

Texts = dict[str, Any]  # texts, or further dictionaries, by key


def english(pack: ModuleType) -> dict[str, Texts]:
    """The contents of locales/en for the current pack, by file name."""
    found = schemas(pack)
    return {
        "main.json": {
            "nodeCategories": {part: part for schema in found for part in schema.category.split("/")},
            PANELS: panel_words(),
            SAID: said(),
            NOTES: notes(),
            TITLES: titles(),
        },
        "nodeDefs.json": {_key(schema.node_id): _node(schema) for schema in found},
    }


def schemas(pack: ModuleType) -> list[Any]:
    """The schemas of the pack's nodes."""
    return [node.GET_SCHEMA() for node in asyncio.run(_nodes(pack))]


def panel_words(file: Path = PANEL_WORDS) -> dict[str, str]:
    """The words of the panels of web/js by key, one per line of `file`, after the line that opens the object."""
    _, _, lines = file.read_text(encoding="utf-8").partition("= {\n")
    words = {}
    for line in lines.rstrip().removesuffix("}").splitlines():
        if not line.strip() or line.strip().startswith("//"):
            continue
        found = WORD.fullmatch(line)
        if not found:
            raise ValueError(
                f'{file.name}: write each text on a line of its own, as `  key: "text",`, and not as {line!r}'
            )
        words[found[1]] = json.loads(found[2])
    return words


def said(folders: Iterable[Path] = tuple(ROOT / name for name in SPEAKING)) -> dict[str, str]:
    """The English sentences of all calls of `say` in the Python files of `folders`, by key."""
    found: dict[str, str] = {}
    for file in sorted(file for folder in folders for file in folder.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "say":
                continue
            values = [getattr(argument, "value", None) for argument in call.args]
            literals = [value for value in values if isinstance(value, str)]
            if not len(values) == len(literals) == 2:
                raise ValueError(f"{file.name}, line {call.lineno}: say takes two literals, a key and its sentence")
            key, sentence = literals
            places = {argument.arg for argument in call.keywords}
            known = None in places or set(PLACE.findall(sentence)) == places  # None: a dictionary of values
            if found.setdefault(key, sentence) != sentence or not known:
                raise ValueError(
                    f"{file.name}, line {call.lineno}: {key} has two sentences, or other values than places"
                )
    return dict(sorted(found.items()))


def notes() -> dict[str, str]:
    """The texts of the templates' notes, by the template's name."""
    return {
        _key(file.stem): node["widgets_values"][0]
        for file, node in _template_nodes()
        if node["type"] in ("Note", "MarkdownNote")
    }


def titles() -> dict[str, str]:
    """The titles that nodes of the templates have instead of their kind's name."""
    return {_key(node["title"]): node["title"] for _, node in _template_nodes() if node.get("title")}


def _template_nodes() -> Iterator[tuple[Path, Texts]]:
    for file in sorted(TEMPLATES.glob("*.json")):
        for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]:
            yield file, node


async def _nodes(pack: ModuleType) -> list[Any]:
    return await (await pack.comfy_entrypoint()).get_node_list()


def _node(schema: Any) -> Texts:
    inputs = {_key(item.id): {"name": item.display_name or item.id, "tooltip": item.tooltip} for item in schema.inputs}
    outputs = {}
    for place, item in enumerate(schema.outputs):  # one without a name is called by its type, which ComfyUI translates
        outputs[str(place)] = ({"name": item.display_name} if item.display_name else {}) | {"tooltip": item.tooltip}
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": inputs,
        "outputs": outputs,
    }


def _key(name: str) -> str:
    """A name as the page writes it into the path of a text, in which a dot would separate levels."""
    return name.replace(".", "_")


def texts(folder: Path) -> dict[str, str]:
    """All texts of a language by path, such as `nodeDefs.TokenCacheApply.inputs.model.name`."""
    return flat(
        {name: json.loads((folder / name).read_text(encoding="utf-8")) for name in FILES if (folder / name).is_file()}
    )


def flat(files: dict[str, Texts]) -> dict[str, str]:
    return {
        path: text
        for name, content in files.items()
        for path, text in _paths(content, () if name == "main.json" else (name[:-5],))
    }


def _paths(content: Texts, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))
        else:
            yield ".".join((*above, key)), value


def complaints(folder: Path, wanted: dict[str, str]) -> list[str]:
    """The differences between the texts of the language in `folder` and those that are wanted."""
    present = texts(folder)
    return [
        *(f"locales/{folder.name} lacks {path}: {wanted[path]!r}" for path in wanted if path not in present),
        *(f"locales/{folder.name} has {path}, which English does not have" for path in present if path not in wanted),
    ]


def main() -> int:
    sys.path.append(str(ROOT / "tests" / "support"))
    import pack_in_process  # pyright: ignore[reportMissingImports]

    pack_in_process.load_pack()
    files = english(sys.modules[pack_in_process.PACK])
    before, now = texts(FOLDER / ENGLISH), flat(files)
    (FOLDER / ENGLISH).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (FOLDER / ENGLISH / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in now:
        if path in before and before[path] != now[path]:
            print(f"changed, check its translations: {path}: {now[path]!r}")
    found = [text for folder in sorted(FOLDER.iterdir()) if folder.is_dir() for text in complaints(folder, now)]
    print("\n".join(found) or f"{len(now)} texts, and every language has them")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
