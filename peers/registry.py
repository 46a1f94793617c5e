"""All peers by name. A peer's module is imported only when it is used, so that no other peer's libraries are needed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from .peer import Peer

MODULES: dict[str, str] = {  # name of the peer -> the module of this package that has it in PEERS
    "first-block-cache": "diffusers_caches",
    "taylorseer": "diffusers_caches",
    "taylorseer-even": "taylorseer",
    "magcache": "diffusers_caches",
    "dbcache": "cache_dit_caches",
    "dbcache-taylor": "cache_dit_caches",
    "toca": "toca",
    "bwcache": "bwcache",
    "fastcache": "fastcache",
    "learning-to-cache": "learning_to_cache",
    "spectrum": "spectrum",
    "meancache": "meancache",
    "full-host": "comfy_caches",
    "easycache": "comfy_caches",
    "lazycache": "comfy_caches",
}
REMEDIES: dict[str, str] = {  # module -> how to get the library that it needs
    "diffusers_caches": 'pip install "diffusers>=0.38"',
    "cache_dit_caches": 'pip install "cache-dit==1.5.3"',
    "comfy_caches": "run `make setup`, or let COMFYUI_PATH name a ComfyUI with its requirements installed",
}


def peers_named(names: Iterable[str]) -> list[Peer]:
    """The peers with these names, after those that are baselines of others; ValueError for one that is not available.

    A method that is swept along two knobs is two peers with one name.
    """
    asked = [peer for name in dict.fromkeys(names) for peer in _peers(name)]
    baselines = dict.fromkeys(peer.baseline for peer in asked if peer.baseline != "full")
    return [peer for name in baselines for peer in _peers(name)] + [
        peer for peer in asked if peer.name not in baselines
    ]


def _peers(name: str) -> list[Peer]:
    if name not in MODULES:
        raise ValueError(f"there is no peer {name!r}: choose from {', '.join(MODULES)}")
    module = MODULES[name]
    try:
        peers = import_module(f"{__package__}.{module}").PEERS
    except (ImportError, RuntimeError) as error:
        if module not in REMEDIES:
            raise
        raise ValueError(f"the peer {name} cannot run here ({error}): {REMEDIES[module]}") from error
    return [peer for peer in peers if peer.name == name]
