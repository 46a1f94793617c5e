"""The rules that a reader relies on: which room may import which, and what node files leave to others."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "tokencache_core"
HOST_MODULES = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "server", "execution", "nodes"}
CORE_FILES = sorted(CORE.rglob("*.py"))
NODE_FILES = [file for file in sorted((ROOT / "nodes").glob("*.py")) if file.name not in ("__init__.py", "sockets.py")]
SOURCES = [
    file
    for folder in ("tokencache_core", "nodes", "reference", "scripts", "peers", "tests")
    for file in sorted((ROOT / folder).rglob("*.py"))
]

_BASE = {"files", "blocks", "sampling", "settings", "words"}
_ENGINE = _BASE - {"files"} | {"schedules"}
_RUNS = _ENGINE | {"engine"}
_LEARNED = _RUNS | {"files", "predictor", "runs"}
MAY_IMPORT = {
    "words": set(),
    "files": {"words"},
    "blocks": {"words"},
    "sampling": set(),
    "settings": {"words"},
    "likeness": {"words"},
    "schedules": {"files", "sampling", "settings", "words"},
    "engine": _ENGINE,
    "reporting": {"blocks", "engine", "words"},
    "predictor": _RUNS | {"files"},
    "runs": _RUNS,
    "dit": _RUNS | {"files", "runs"},
    "flux": _RUNS | {"files", "runs"},
    "open_sora_plan": _RUNS | {"files", "runs", "flux"},
    "open_sora_plan/vae": {"files", "open_sora_plan"},
    "training": _LEARNED | {"likeness"},
    "tuning": _LEARNED | {"likeness"},
    "redundancy": _RUNS | {"runs", "reporting"},
    "bench": _LEARNED | {"dit", "likeness", "tuning"},
    "experiments": _LEARNED | {"bench", "dit", "likeness", "training", "tuning"},
    "cli": _LEARNED
    | {"bench", "dit", "experiments", "flux", "likeness", "open_sora_plan"}
    | {"redundancy", "reporting", "training", "tuning"},
    "__main__": {"cli"},
}


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of all modules imported absolutely, anywhere in the file."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def room_of(where: tuple[str, ...]) -> str:
    """The innermost room of a module of the core. where: its names from the core on."""
    inner = "/".join(where[:2])
    return inner if inner in MAY_IMPORT else where[0]


def rooms_of(file: Path) -> tuple[str, set[str]]:
    """The room of a file of the core, and the other rooms that it imports from, anywhere in it."""
    where = file.relative_to(CORE).with_suffix("").parts
    others = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = where[: len(where) - node.level]
            others |= {room_of((*base, *(node.module or alias.name).split("."))) for alias in node.names}
    return room_of(where), others - {room_of(where)}


def test_every_room_says_what_it_is_for():
    folders = [folder for folder in CORE.rglob("*") if folder.is_dir() and folder.name != "__pycache__"]
    rooms = {folder.relative_to(CORE).as_posix() for folder in folders}
    assert rooms == set(MAY_IMPORT) - {"settings", "__main__"}
    assert all(ast.get_docstring(ast.parse((CORE / room / "__init__.py").read_text())) for room in rooms)


def test_the_rooms_have_an_order():
    below = dict(MAY_IMPORT)
    while below:
        lowest = [room for room, others in below.items() if not others & set(below)]
        assert lowest, f"a circle among {sorted(below)}"
        below = {room: others for room, others in below.items() if room not in lowest}


@pytest.mark.parametrize(
    "file", [file for file in CORE_FILES if file != CORE / "__init__.py"], ids=lambda file: str(file.relative_to(CORE))
)
def test_a_room_imports_only_rooms_below_it_and_no_host(file: Path):
    room, others = rooms_of(file)
    assert others <= MAY_IMPORT[room]
    assert not imported(ast.parse(file.read_text())) & HOST_MODULES


@pytest.mark.parametrize("file", NODE_FILES, ids=lambda file: file.name)
def test_node_files_hold_no_tensor_arithmetic(file: Path):
    tree = ast.parse(file.read_text())
    assert not imported(tree) & {"torch", "numpy", "einops"}
    operators = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.BitOr)]
    assert not operators


def test_a_file_is_named_for_its_idea():
    assert not [file for file in SOURCES if file.stem in ("utils", "util", "helpers", "common", "misc")]
