"""What the family tests have proven, and the page that says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from comfyui_version import __version__ as HOST
from host_networks import host_models
from tiny_families.tiny_model import TinyModel
from tiny_outputs import NOT_SAMPLED, WHY_OUTPUT
from tokencache_pack.nodes.families import FAMILIES, family_of

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
OUTPUT_PROOFS = {
    "ratio 0": "with cache ratio 0, KSampler's samples are bit-identical to the plain model's",
    "forecast": "of 20 steps at most 60 % call the network, and samples are finite",
    "nothing left": PROOFS["nothing left"],
}


@dataclass
class Proof:
    passed: bool = False
    error: float | None = None


@dataclass
class Entry:
    """What was proven of one tiny model.

    network: the class of its network. blocks: the classes of its blocks; empty where only its output is forecast.
    """

    network: type
    blocks: tuple[str, ...]
    detected: bool
    proofs: dict[str, Proof]

    def lacks(self) -> list[str]:
        """The proofs that have not passed."""
        return [
            kind
            for kind in (PROOFS if self.blocks else OUTPUT_PROOFS)
            if not (kind in self.proofs and self.proofs[kind].passed)
        ]


MATRIX: dict[str, Entry] = {}


@contextmanager
def proven(tiny: TinyModel, name: str) -> Iterator[Proof]:
    """Around a proof: it counts as passed when nothing is raised."""
    network = tiny.model.model.diffusion_model
    family = family_of(network)
    blocks = () if family is None else tuple(dict.fromkeys(type(block).__name__ for block, _ in family.blocks(network)))
    entry = MATRIX.setdefault(tiny.name, Entry(type(network), blocks, tiny.detected, {}))
    proof = entry.proofs[name] = Proof()
    yield proof
    proof.passed = True


def matrix_page() -> str:
    lines = [
        "# Model families",
        "",
        f"Every model that ComfyUI {HOST} can load, and what `pytest tests/host/test_families.py` proved of its "
        "network, on the CPU, with tiny models of random weights in the real host. "
        "The page is written by that test (`--write-matrix`).",
        "",
        *_models(),
        "",
        "## Networks whose tokens can be computed",
        "",
        *_proofs({name: entry for name, entry in MATRIX.items() if entry.blocks}, PROOFS),
        "- **loaded by**: *detection*, the host recognised the model by its state dict, as it does with a user's file; "
        "*configuration*, it was given the model's configuration, because it detects only models of the released "
        "sizes.",
        "",
        "## Networks whose output is forecast",
        "",
        *_proofs({name: entry for name, entry in MATRIX.items() if not entry.blocks}, OUTPUT_PROOFS),
        "",
    ]
    return "\n".join(lines)


def _models() -> list[str]:
    """A row for every model of the host."""
    lines = [
        "- **tokens**: P-steps forecast the blocks, and below cache ratio 1 compute some of their tokens.",
        "- **output**: P-steps forecast the network's output as a whole, whatever the cache ratio above 0 "
        "([about as close](outputs.md)). Any network that is not listed here is treated in the same way.",
        "- **not sampled**: no diffusion model; nothing to cache.",
        "",
        "| model | network | P-steps | seen on, or reason |",
        "|---|---|---|---|",
    ]
    for model in host_models():
        how, words = _how(model.network)
        lines.append(f"| {model.name} | {model.network.__name__} | {how} | {words} |")
    return lines


def _how(network: type) -> tuple[str, str]:
    """How runs of a network are cached, and the tiny models that show it, or the reason."""
    if network.__name__ in NOT_SAMPLED:
        return "not sampled", NOT_SAMPLED[network.__name__]
    seen = [name for name, entry in MATRIX.items() if entry.network.__name__ == network.__name__]
    known = any(family.knows(network) for family in FAMILIES)
    lacks = [f"{name} lacks {kind}" for name in seen for kind in MATRIX[name].lacks()]
    assert seen and not lacks, f"{network.__name__} is not proven: {', '.join(lacks) or 'no tiny model has it'}"
    if known:
        return "tokens", ", ".join(seen)
    return "output", f"{WHY_OUTPUT[network.__name__]} ({', '.join(seen)})"


def _proofs(entries: Mapping[str, Entry], proofs: Mapping[str, str]) -> Iterator[str]:
    """A table of tiny models by proofs, and what the proofs mean."""
    with_blocks = proofs is PROOFS
    header = ["model", "network", *(["blocks", "loaded by"] if with_blocks else []), *proofs]
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for name, entry in entries.items():
        cells = [name, entry.network.__name__]
        if with_blocks:
            cells += [", ".join(entry.blocks), "detection" if entry.detected else "configuration"]
        lacks = entry.lacks()
        cells += ["**no**" if kind in lacks else "yes" for kind in proofs]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from (f"- **{kind}**: {meaning}." for kind, meaning in proofs.items())
