"""Optional parts of `bench` that lie outside the core: others' methods, the host's solvers, and shapes of its
families.
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
from ..bench.workload import SampledWorkload
from .options import CommandError

ALL = "all"


def peers_asked(
    text: str, workload: SampledWorkload
) -> tuple[dict[str, str], Callable[[SampledWorkload, float], list[Candidate]]]:
    """The sources of others' methods by name, and a function that plans their sweeps (see `run_bench`).

    They lie outside the core, which needs none of their libraries.

    text: names, separated by commas, or ALL: those that can sample the workload.
    """
    try:
        registry, sweep = importlib.import_module("peers.registry"), importlib.import_module("peers.sweep")
    except ModuleNotFoundError:
        raise CommandError("--peers: the package peers is not here; run this in a checkout of the repository") from None
    try:
        found = registry.peers_named(registry.MODULES if text == ALL else [name.strip() for name in text.split(",")])
    except ValueError as error:
        raise CommandError(f"--peers: {error}") from None
    unfit = [peer.name for peer in found if not isinstance(workload, peer.models)]
    if unfit and text != ALL:
        raise CommandError(f"--peers: {unfit[0]} samples DiTs alone, and this model is none; leave it out")
    found = [peer for peer in found if peer.name not in unfit]
    sources = {peer.name: peer.source for peer in found}
    return sources, lambda workload, full_step: [
        candidate for peer in found for candidate in sweep.candidates_of(peer, workload, full_step)
    ]


def with_host(
    methods: list[str], device: torch.device, asked: str | None
) -> tuple[list[str], Mapping[str, Callable[[SampledWorkload, int], Tensor]]]:
    """The methods, and the host's solvers for those that need them; without a host, they are left out, or refused
    where they were asked for.
    """
    of_host = [name for name in methods if name in HOST_METHODS]
    if not of_host:
        return methods, {}
    try:
        return methods, importlib.import_module("peers.host_solvers").host_solvers(device)
    except (ImportError, RuntimeError) as error:
        why = f"{', '.join(of_host)}: ComfyUI's solvers are not available here ({error})"
    if asked is not None:
        raise CommandError(f"--methods {why}; run `make setup` in a checkout of the repository, or omit them")
    print(f"left out {why}", file=sys.stderr)
    return [name for name in methods if name not in of_host], {}


def host_shapes() -> ModuleType | None:
    """The module with shapes of other families, which only the host can build; None without a host."""
    try:
        return importlib.import_module("peers.host_shapes")
    except (ModuleNotFoundError, RuntimeError):
        return None
