"""What the family tests have proven, and the page that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from comfyui_version import __version__ as HOST
from tiny_families.tiny_model import TinyModel
from tokencache_pack.nodes.families import family_of

PROOFS = {
    "permutation": "permuting the image tokens, with all that belongs to them, permutes every block's output (to 1e-5 "
    "of the block's update)",
    "subset": "recomputing 40 % of the tokens on unchanged input gives every block's output of the full pass (to 1e-5 "
    "of its update; what was stored of these tokens is NaN)",
    "ratio 0, batched": "with cache ratio 0, KSampler's samples are bit-identical to the plain model's, both "
    "conditionings in one batch",
    "ratio 0, split": "the same, each conditioning in a call of its own",
    "ratio 0.9": "with cache ratio 0.9, P-steps compute a tenth of the image tokens, and samples are finite",
    "nothing left": "afterwards the model is as it was, and the next run begins anew",
}


@dataclass
class Proof:
    passed: bool = False
    error: float | None = None


@dataclass
class Entry:
    family: str
    blocks: tuple[str, ...]
    detected: bool
    proofs: dict[str, Proof]


MATRIX: dict[str, Entry] = {}


@contextmanager
def proven(tiny: TinyModel, name: str) -> Iterator[Proof]:
    """Around a proof: it counts as passed when nothing is raised."""
    network = tiny.model.model.diffusion_model
    family = family_of(network)
    blocks = () if family is None else tuple(dict.fromkeys(type(block).__name__ for block, _ in family.blocks(network)))
    entry = MATRIX.setdefault(tiny.name, Entry(type(network).__name__, blocks, tiny.detected, {}))
    proof = entry.proofs[name] = Proof()
    yield proof
    proof.passed = True


def matrix_page() -> str:
    header = ["model", "network", "blocks", "loaded by", *PROOFS]
    lines = [
        "# Model families",
        "",
        f"What `pytest tests/host/test_families.py` proved on ComfyUI {HOST}, on the CPU, with tiny models of random "
        "weights in the real host. "
        "The page is written by that test (`--write-matrix`).",
        "",
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
    ]
    for name, entry in MATRIX.items():
        cells = [name, entry.family, ", ".join(entry.blocks), "detection" if entry.detected else "configuration"]
        cells += ["yes" if (proof := entry.proofs.get(kind)) and proof.passed else "**no**" for kind in PROOFS]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *[f"- **{kind}**: {meaning}." for kind, meaning in PROOFS.items()]]
    lines += [
        "- **loaded by**: *detection*, the host recognised the model by its state dict, as it does with a user's file; "
        "*configuration*, it was given the model's configuration, because it detects only models of the released "
        "sizes.",
        "",
    ]
    return "\n".join(lines)
