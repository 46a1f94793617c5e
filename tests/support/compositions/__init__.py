"""The composition matrix: Apply TokenCache together with what else the host offers, each cell run and judged.

`scripts/compatibility.py` runs all of it and writes docs/compatibility.md; a sample of it is a test
(tests/host/test_compositions.py).
"""

from __future__ import annotations

from . import conditionings, guidance, latents, samplers, together, weights  # noqa: F401 - each adds its cells
from .cell import CELLS, Cell

BY_NAME: dict[str, Cell] = {cell.name: cell for cell in CELLS}
assert len(BY_NAME) == len(CELLS)
