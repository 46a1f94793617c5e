"""The house rules that a reader relies on."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST_MODULES = {"comfy", "comfy_api", "comfy_extras", "folder_paths", "server", "execution", "nodes"}
CORE = sorted((ROOT / "tokencache_core").rglob("*.py"))
NODE_FILES = sorted((ROOT / "nodes").glob("nodes_*.py"))
SOURCES = [
    *CORE, *sorted((ROOT / "nodes").rglob("*.py")), *sorted((ROOT / "reference").glob("*.py")), *sorted((ROOT / "scripts").glob("*.py")),
    *sorted((ROOT / "peers").glob("*.py")),
]


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of all modules imported absolutely, anywhere in the file."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("file", CORE, ids=lambda file: file.name)
def test_the_core_knows_no_host(file: Path):
    assert not imported(ast.parse(file.read_text())) & HOST_MODULES


@pytest.mark.parametrize("file", NODE_FILES, ids=lambda file: file.name)
def test_node_files_hold_no_tensor_arithmetic(file: Path):
    tree = ast.parse(file.read_text())
    assert not imported(tree) & {"torch", "numpy", "einops"}
    operators = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.BitOr)]
    assert not operators


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_files_stay_readable(file: Path):
    assert len(file.read_text().splitlines()) <= 300
    assert file.name != "utils.py"
