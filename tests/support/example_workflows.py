"""The example workflows, which the page offers as templates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
EVERY = sorted(FOLDER.glob("*.json"))
OWN_MODEL = re.compile(r"emoji-(clips|dit|flux)\.safetensors")
for_every_workflow = pytest.mark.parametrize("file", EVERY, ids=lambda file: file.stem)


def needs_no_download(workflow: Path) -> bool:
    """Whether its model comes with the pack."""
    return bool(OWN_MODEL.search(workflow.read_text(encoding="utf-8")))
