"""The models of the composition matrix: the reference DiT, with trained weights, and tiny ones with random weights.

A matrix of hundreds of cells wants them tinier still than the families' tests: "Flux 1" is narrower here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from tiny_families import TINY as FAMILIES
from tiny_families.tiny_model import TinyModel
from tiny_models import tiny_flux

REFERENCE, TINIEST = "reference DiT", "DiT"
_FILE = Path(__file__).resolve().parents[3] / "reference" / "emoji-dit.safetensors"


def _reference() -> TinyModel:
    from tokencache_pack.nodes.dit import DiTClassLabel
    from tokencache_pack.nodes.host.dit_model import load_dit_model

    model = load_dit_model(str(_FILE))
    positive, negative = (DiTClassLabel.execute(model, label).result[0] for label in ("2", ""))
    return TinyModel(REFERENCE, model, positive, negative, (3, 32, 32))


TINY: dict[str, Callable[[], TinyModel]] = {
    **FAMILIES,
    REFERENCE: _reference,
    "Flux 1": lambda: replace(tiny_flux(), name="Flux 1", latent=(16, 10, 12)),
}


@cache
def model(name: str) -> TinyModel:
    """One for all cells: what a cell leaves on it shows in the next."""
    return TINY[name]()
