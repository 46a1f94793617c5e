"""The example workflows, which the page offers as templates."""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "example_workflows"
EVERY = sorted(FOLDER.glob("*.json"))
for_every_workflow = pytest.mark.parametrize("file", EVERY, ids=lambda file: file.stem)
