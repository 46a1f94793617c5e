"""What lies outside of the core and `bench` measures where it is there: others' methods, the host's solvers and its
families' shapes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType

import torch
from torch import Tensor

from ..bench.methods import HOST_METHODS
from ..bench.turns import Candidate
from ..bench.workload import Workload
from .options import CommandError

ALL = "all"


def peers_asked(text: str) -> tuple[dict[str, str], Callable[[Workload, float], list[Candidate]]]:
    """Others' methods by name, with their sources, and their sweeps: they are outside of the core, which needs none of
    their libraries.
    """
    try:
        registry, sweep = importlib.import_module("peers.registry"), importlib.import_module("peers.sweep")
    except ModuleNotFoundError:
        raise CommandError("--peers: the package peers is not here; run this in a checkout of the repository") from None
    try:
        found = registry.peers_named(registry.MODULES if text == ALL else [name.strip() for name in text.split(",")])
    except ValueError as error:
        raise CommandError(f"--peers: {error}") from None
    sources = {peer.name: peer.source for peer in found}
    return sources, lambda workload, full_step: [
        candidate for peer in found for candidate in sweep.candidates_of(peer, workload, full_step)
    ]


def with_host(
    methods: list[str], device: torch.device, asked: str | None, is_dit: bool
) -> tuple[list[str], Mapping[str, Callable[[Workload, int], Tensor]]]:
    """The methods, and the host's solvers for those that need them; without a host, or a DiT, they are left out, or
    refused where they were asked for.
    """
    needing = [name for name in methods if name in HOST_METHODS]
    if not needing:
        return methods, {}
    try:
        if not is_dit:
            raise RuntimeError("they are run on DiTs alone")
        return methods, importlib.import_module("peers.host_solvers").host_solvers(device)
    except (ImportError, RuntimeError) as error:
        why = f"{', '.join(needing)}: ComfyUI's solvers are not to be had here ({error})"
    if asked is not None:
        raise CommandError(f"--methods {why}; run `make setup` in a checkout of the repository, or leave them out")
    print(f"left out {why}", file=sys.stderr)
    return [name for name in methods if name not in needing], {}


def host_shapes() -> ModuleType | None:
    """Shapes of other families, which only the host can build; None where there is no host."""
    try:
        return importlib.import_module("peers.host_shapes")
    except (ModuleNotFoundError, RuntimeError):
        return None
