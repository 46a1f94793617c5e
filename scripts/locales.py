"""Writes locales/en from the nodes' own definitions and the panels' words, and names what the other languages lack.

    .venv/bin/python scripts/locales.py

English is never edited by hand. The other languages (locales/<language>/, for ComfyUI's page) are written by people:
the same keys, in any order. The files are those that ComfyUI serves at /i18n and that its page looks texts up in.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "locales"
ENGLISH = "en"
FILES = ("main.json", "nodeDefs.json")
PANEL_WORDS = ROOT / "web" / "js" / "shared" / "english.js"
PANELS = "tokencache"  # in main.json, as web/js/shared/texts.js looks them up
WORD = re.compile(r'  (\w+): ("(?:[^"\\]|\\.)*"),')

Texts = dict[str, Any]  # texts, and such dictionaries, by their keys


def english(pack: ModuleType) -> dict[str, Texts]:
    """What locales/en holds, file by file, for the pack as it is."""
    schemas = [node.GET_SCHEMA() for node in asyncio.run(_nodes(pack))]
    return {
        "main.json": {
            "nodeCategories": {part: part for schema in schemas for part in schema.category.split("/")},
            PANELS: panel_words(),
        },
        "nodeDefs.json": {_key(schema.node_id): _node(schema) for schema in schemas},
    }


def panel_words(file: Path = PANEL_WORDS) -> dict[str, str]:
    """What the panels of web/js show, by their keys: one a line of `file`, after the line that opens the object."""
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


async def _nodes(pack: ModuleType) -> list[Any]:
    return await (await pack.comfy_entrypoint()).get_node_list()


def _node(schema: Any) -> Texts:
    inputs = {_key(item.id): {"name": item.display_name or item.id, "tooltip": item.tooltip} for item in schema.inputs}
    outputs = {}
    for place, item in enumerate(
        schema.outputs
    ):  # one without a name of its own is called as its type, which ComfyUI translates
        outputs[str(place)] = ({"name": item.display_name} if item.display_name else {}) | {"tooltip": item.tooltip}
    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": inputs,
        "outputs": outputs,
    }


def _key(name: str) -> str:
    """As the page writes a name into the path of a text, where a dot would be a step down."""
    return name.replace(".", "_")


def texts(folder: Path) -> dict[str, str]:
    """All texts of a language, by their paths: `nodeDefs.TokenCacheApply.inputs.model.name`."""
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
    """What keeps the language in `folder` from having every text of English, and no other."""
    present = texts(folder)
    return [
        *(f"locales/{folder.name} lacks {path}: {wanted[path]!r}" for path in wanted if path not in present),
        *(f"locales/{folder.name} has {path}, which English has not" for path in present if path not in wanted),
    ]


def main() -> int:
    sys.path.append(str(ROOT / "tests"))
    import conftest  # loads the pack as the tests do

    files = english(sys.modules[conftest.PACK])
    before, now = texts(FOLDER / ENGLISH), flat(files)
    (FOLDER / ENGLISH).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (FOLDER / ENGLISH / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in now:
        if path in before and before[path] != now[path]:
            print(f"changed, look at its translations: {path}: {now[path]!r}")
    found = [said for folder in sorted(FOLDER.iterdir()) if folder.is_dir() for said in complaints(folder, now)]
    print("\n".join(found) or f"{len(now)} texts, and every language has them")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
